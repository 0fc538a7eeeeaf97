"""Sections of the README on what overlap does not say: errors inside regions, and at landmarks."""

from __future__ import annotations

from statistics import mean
from typing import Any

from benchmarks.markdown import Record, describe_run, markdown_table
from benchmarks.tools.registry import TOOLS

OURS = {"off": "segreg, not refined", "auto": "segreg"}  # cases of the inside benchmark


def inside_section(record: Record) -> str:
    words = (
        "Real images seen through known smooth fields of up to 20 mm, with other contrast and "
        "noise: mean / 95th percentile of the endpoint error inside regions in voxels, and "
        f"seconds; {describe_run(record)}. segreg is given label maps, the others images alone."
    )
    return f"{words}\n\n{inside_table(record)}"


def inside_table(record: Record) -> str:
    """One row an image, the mean over its fields; one column a tool."""
    images: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for case in record["cases"]:
        _, image, _, tool = case["id"].split("/")
        images.setdefault(image, {}).setdefault(tool, []).append(case)
    tools = list(dict.fromkeys(tool for by_tool in images.values() for tool in by_tool))
    rows = []
    for image, by_tool in images.items():
        fields = max(map(len, by_tool.values()))
        rows.append([image, str(fields), *(_errors(by_tool.get(tool, [])) for tool in tools)])
    names = [OURS[tool] if tool in OURS else TOOLS[tool].name for tool in tools]
    return markdown_table(["image", "fields", *names], rows)


def _errors(cases: list[dict[str, Any]]) -> str:
    good = [case for case in cases if "mean_voxels" in case]
    if not good:
        return "-"
    figures = (mean(case[name] for case in good) for name in ("mean_voxels", "p95_voxels"))
    seconds = mean(case["median"] for case in good)
    errors = " / ".join(f"{voxels:.2f}" for voxels in figures)
    return f"{errors}, {seconds:.1f} s{_share(len(good), len(cases))}"


def _share(good: int, runs: int) -> str:
    """What a mean over fewer runs than there were has to say."""
    return "" if good == runs else f" ({good} of {runs})"


def landmarks_section(record: Record) -> str:
    words = (
        "Landmarks that people placed, no label map given, the body as the one region: mean error "
        f"in mm, and seconds of a pair; {record['threads']} threads, {describe_run(record)}."
    )
    return f"{words}\n\n{landmarks_table(record)}"


def landmarks_table(record: Record) -> str:
    """One row a data set and part of the body, one column a tool."""
    tools = dict.fromkeys(case["name"] for case in record["cases"])
    rows: dict[tuple[str, str], dict[str, str]] = {}
    known: dict[tuple[str, str], list[str]] = {}
    for case in record["cases"]:
        good = case["pairs"] - len(case["failed"])
        for part, errors in case.get("parts", {}).items():
            key = case["dataset"], part
            if good == case["pairs"]:  # else these are of a part of the pairs
                counted = (case["pairs"], errors["landmarks"])
                known[key] = [*map(str, counted), f"{errors['before_mm']:.2f}"]
            cell = f"{errors['mean_mm']:.2f}, {case['median']:.1f} s"
            rows.setdefault(key, {})[case["name"]] = cell + _share(good, case["pairs"])
    head = ["data", "where", "pairs", "landmarks", "before", *tools]
    table = [
        [*key, *known.get(key, ["-"] * 3), *(cells.get(tool, "-") for tool in tools)]
        for key, cells in rows.items()
    ]
    return markdown_table(head, table)
