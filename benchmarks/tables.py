"""Sections of the README, made from the newest records between markers of their kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.error_tables import inside_section, landmarks_section
from benchmarks.latency import BRAIN, find_series, share_outside, stage_median, stage_rows
from benchmarks.markdown import Record, describe_run, markdown_table
from benchmarks.record import newest_record

REFINED = "refined"  # case of the accuracy benchmark beside those of so many passes
README = Path(__file__).parent.parent / "README.md"


def update_sections(readme: Path, results: Path | None = None) -> list[str]:
    """Write every section of ``readme`` that has a record; their kinds.

    Raises
    ------
    ValueError : the file has not exactly one section for a kind.
    """
    text = readme.read_text(encoding="utf-8")
    written = []
    for kind in SECTIONS:
        record = newest_record(kind, results)
        if record is None:
            continue
        begin, end = markers(kind)
        pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
        found = re.findall(pattern, text, flags=re.DOTALL)
        if len(found) != 1:
            raise ValueError(
                f"{readme.name}: expected one section {begin} ... {end}, got {len(found)}."
            )
        text = text.replace(found[0], f"{begin}\n{make_section(record)}\n{end}")
        written.append(kind)
    readme.write_text(text, encoding="utf-8")
    return written


def markers(kind: str) -> tuple[str, str]:
    return f"<!-- {kind} -->", f"<!-- end of {kind} -->"


def make_section(record: Record) -> str:
    """Words and tables for a record, as Markdown."""
    return SECTIONS[record["kind"]](record)


def accuracy_section(record: Record) -> str:
    last = "after refinement" if _has_refined(record) else "after all passes"
    words = (
        f"Dice, {describe_run(record)}; the last six columns {last}, seconds are the "
        "median of computing, warm."
    )
    return f"{words}\n\n{accuracy_table(record)}"


def accuracy_table(record: Record) -> str:
    """Dice per number of passes and refined, and the other measures after the last of them."""
    by_data: dict[str, dict[int | str, dict[str, Any]]] = {}
    for case in record["cases"]:
        kind = REFINED if _is_refined(case) else case["passes"]
        by_data.setdefault(case["dataset"], {})[kind] = case
    kinds: list[int | str] = sorted(
        {case["passes"] for case in record["cases"] if not _is_refined(case)}
    )
    kinds += [REFINED] if _has_refined(record) else []
    head = ["data", "pairs", "before", *(_passes(kind) for kind in kinds)]
    head += ["HD95 mm", "folded inside", "folded at seams"]
    head += ["SD log J inside", "of image", "seconds"]
    rows = []
    for name, cases in by_data.items():
        last = cases[kinds[-1]]
        rows.append(
            [
                name,
                str(last["pairs"]),
                f"{last['dice_before']:.3f}",
                *(f"{cases[kind]['dice']:.3f}" for kind in kinds),
                f"{last['hd95_mm']:.2f}",
                f"{last['folding_inside_percent']:.3f} %",
                f"{last['folding_seams_percent']:.2f} %",
                f"{last['log_jacobian_sd']:.2f}",
                _measured(last, "log_jacobian_sd_image"),
                f"{last['median']:.2f}",
            ]
        )
    return markdown_table(head, rows)


def _measured(case: dict[str, Any], name: str) -> str:
    """A measure of a case; older records lack some."""
    return f"{case[name]:.2f}" if name in case else "not measured"


def _is_refined(case: dict[str, Any]) -> bool:
    return str(case["id"]).endswith(f"/{REFINED}")


def _has_refined(record: Record) -> bool:
    return any(map(_is_refined, record["cases"]))


def _passes(number: int | str) -> str:
    if number == 0:
        return "moments only"
    if number == REFINED:
        return REFINED
    return "1 pass" if number == 1 else f"{number} passes"


def latency_section(record: Record) -> str:
    cases = {case["id"]: case for case in record["cases"]}
    parts = ["### Where the milliseconds go"]
    pair = cases.get(BRAIN)
    if pair is not None:
        shape = "x".join(map(str, pair["shape"]))
        cold = pair["cold"]
        start = cold["import"] + cold["package"] + cold["network"]
        parts += [
            f"Two brains, {pair['regions']} regions, {shape}; {describe_run(record)}; "
            f"{len(pair['samples'])} warm requests, not refined. "
            "The first request of a fresh process takes "
            f"{cold['total'] / 1000:.2f} s after {start / 1000:.2f} s of starting up; memory peaks "
            f"at {pair['peak_mib']:.0f} MiB.",
            stage_table(pair),
            *_other_brains(cases),
        ]
    parts += [*_growth_words(record), *_clients_words(record["cases"])]
    return "\n\n".join(parts)


def _other_brains(cases: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The same pair refined, and in float32; older records have neither."""
    for kind, words in (
        ("refined", "Refined, as the package asks unless told otherwise"),
        ("float32", "In float32, as processors without bfloat16 compute, and not refined"),
    ):
        case = cases.get(f"{BRAIN}/{kind}")
        if case is not None:
            parts = ", ".join(
                f"{name} {summary['median']:.0f}"
                for name, summary in stage_rows(case)
                if name not in ("read", "write")
            )
            yield (
                f"{words}: {stage_median(case, 'compute'):.0f} ms of computing ({parts}), "
                f"{share_outside(case):.0%} of it outside the network."
            )


def stage_table(case: dict[str, Any]) -> str:
    """Milliseconds and share of each stage."""
    compute = stage_median(case, "compute")
    rows = []
    for name, summary in stage_rows(case):
        of_compute = "" if name in ("read", "write") else f"{summary['median'] / compute:.0%}"
        rows.append([name, *_tail(summary), of_compute])
    rows.append(["**compute**, all but read and write", *_tail(case["stages"]["compute"]), "100%"])
    rows.append(["**read to write**", *_tail(case), ""])
    if "report" in case["stages"]:
        rows.append(["report in HTML, on top", *_tail(case["stages"]["report"]), ""])
    return markdown_table(["stage", "median ms", "p95", "p99", "of compute"], rows)


def _tail(summary: dict[str, Any]) -> list[str]:
    return [f"{summary[name]:.0f}" for name in ("median", "p95", "p99")]


def _growth_words(record: Record) -> list[str]:
    """The pictures of the synthetic cases, with what they show."""
    fits, words = record["growth"], []
    for name, what in (("regions", "the number of regions"), ("voxels", "the number of voxels")):
        series = find_series(record["cases"], name)
        if name in fits:
            first, last = (stage_median(case, "compute") / 1000 for case in (series[0], series[-1]))
            words.append(
                f"with {what} to the power {fits[name]['exponent']:.2f} ({first:.2f} s to "
                f"{last:.2f} s)"
            )
    if not words:
        return []
    return [
        f"On generated pairs, computing grows {' and '.join(words)}.",
        "![How time grows](benchmarks/pictures/growth.svg)\n\n"
        "![Where time goes](benchmarks/pictures/stages.svg)",
    ]


def _clients_words(cases: list[dict[str, Any]]) -> list[str]:
    series = find_series(cases, "clients")
    if not series:
        return []
    shape = "x".join(map(str, series[0]["shape"]))
    rates = ", ".join(f"{case['requests_per_s']:.2f} of {case['clients']}" for case in series)
    return [
        f"One engine shared by threads, {series[0]['regions']} regions, {shape}, requests per "
        f"second by number of threads: {rates}."
    ]


def kernels_section(record: Record) -> str:
    shape = "x".join(map(str, record["shape"]))
    words = (
        f"{shape} float32, {record['threads']} threads, {describe_run(record)}; medians. GB/s "
        "counts what must be read and written once; a plain copy of memory, timed in turn, is "
        "100 %. Results do not depend on the number of threads, bit for bit."
    )
    picture = "![Bandwidth of the kernels](benchmarks/pictures/bandwidth.svg)"
    return "\n\n".join(["### Kernels", words, kernels_table(record), picture])


def kernels_table(record: Record) -> str:
    """Time and bandwidth of every operation, and how much faster it is than others."""
    rows = []
    for case in record["cases"]:
        if "threads" in case["id"].split("/"):
            continue
        name = case["id"].removeprefix("kernels/")
        if not case["correct"]:
            rows.append([name, "wrong", "", "", ""])
            continue
        others = [f"{row['name']} {row['times_faster']:.1f}x" for row in case["outside"]]
        rows.append(
            [
                name,
                f"{case['median']:.1f}",
                f"{case['gb_per_s']:.1f}",
                f"{case['share_of_copy']:.0%}",
                "<br>".join(others),
            ]
        )
    return markdown_table(["operation", "ms", "GB/s", "of copy", "faster than"], rows)


def gpu_section(record: Record) -> str:
    shapes = [case["shape"] for case in record["cases"] if "gb_per_s" in case and "shape" in case]
    _, copy = bandwidths(record)
    words = (
        f"The same kernels on one {gpu_name(record)}, {'x'.join(map(str, shapes[0]))} float32; a "
        f"plain copy of memory moves {copy:.0f} GB/s."
    )
    return f"{words}\n\n{gpu_table(record)}"


def gpu_table(record: Record) -> str:
    operations, copy = bandwidths(record)
    times = {case["id"]: case["median"] for case in record["cases"] if "median" in case}
    rows = [
        [name, f"{times[f'gpu/{name}']:.3f}", f"{speed:.0f}", f"{speed / copy:.0%}"]
        for name, speed in operations.items()
    ]
    return markdown_table(["operation", "ms", "GB/s", "of copy"], rows)


def resources_section(record: Record) -> str:
    """What the compiler says of the CUDA kernels, one row a target."""
    rows = []
    for target in sorted({case["target"] for case in record["cases"]}):
        own = [case for case in record["cases"] if case["target"] == target]
        most = max(own, key=lambda case: int(case["registers"]))
        spilled = sum(case["spill_stores"] + case["spill_loads"] for case in own)
        rows.append([f"sm_{target}", str(len(own)), str(median(c["registers"] for c in own)),
                     f"{most['registers']} ({most['kernel']})", str(spilled)])  # fmt: skip
    words = "What the compiler says of the CUDA kernels: registers of a thread, and bytes spilled."
    table = markdown_table(["target", "kernels", "median registers", "most", "spilled"], rows)
    return f"{words}\n\n{table}"


def gpu_name(record: Record) -> str:
    gpu = record["machine"]["gpu"]
    return str(gpu["name"] if isinstance(gpu, dict) else gpu)


def bandwidths(record: Record) -> tuple[dict[str, float], float]:
    """GB/s of each operation of a ``kernels`` or ``gpu`` record, and of a plain copy.

    On the CPU a copy is timed beside each operation; a GPU's is a case of its own.
    """
    cases = {case["id"].split("/", 1)[1]: case for case in record["cases"] if "gb_per_s" in case}
    copy = cases.pop("copy", None)
    copies = [copy] if copy else [case["copy"] for case in cases.values()]
    speeds = {name: float(case["gb_per_s"]) for name, case in cases.items()}
    return speeds, median(float(case["gb_per_s"]) for case in copies)


def peers_section(record: Record) -> str:
    words = (
        f"Dice and seconds of one pair, {record['threads']} threads, {describe_run(record)}; every "
        f"field judged by the same code. A dash: none within {record['limit_s']:.0f} s."
    )
    return f"{words}\n\n{peers_table(record)}"


def peers_table(record: Record) -> str:
    """One row a tool, one column a data set."""
    data = list(dict.fromkeys(case["dataset"] for case in record["cases"]))
    by_tool: dict[tuple[str, str], dict[str, str]] = {}
    for case in record["cases"]:
        cell = f"{case['dice']:.3f}, {case['median']:.1f} s" if case["correct"] else "-"
        by_tool.setdefault((case["name"], case["driven_by"]), {})[case["dataset"]] = cell
    rows = [[*tool, *(cells.get(name, "-") for name in data)] for tool, cells in by_tool.items()]
    return markdown_table(["tool", "driven by", *data], rows)


# Kind of record -> its section of the README.
SECTIONS: dict[str, Callable[[Record], str]] = {
    "latency": latency_section,
    "kernels": kernels_section,
    "resources": resources_section,
    "gpu": gpu_section,
    "accuracy": accuracy_section,
    "inside": inside_section,
    "landmarks": landmarks_section,
    "peers": peers_section,
}
