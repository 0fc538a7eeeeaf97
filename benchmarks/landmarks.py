"""Landmarks without labels: ``python -m benchmarks landmarks``.

Images of one subject, breathing phases or a table of one's own, registered by the automatic body
region and refinement alone, and by other tools that look at the images alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from benchmarks.marked_pairs import LIVER, TABLE_COLUMNS, MarkedPair, find_pairs
from benchmarks.pairs import TABLE
from benchmarks.record import write_record
from benchmarks.tools.base import Tool
from benchmarks.tools.registry import BY_IMAGES, TOOLS, installed_tools
from benchmarks.trial import try_tool
from segreg.engine.errors import SegregError
from segreg.engine.result import without_nan

CHOSEN = ("segreg-body", "greedy", "convexadam")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help=f"with {LIVER}")
    parser.add_argument(
        "--pairs", type=Path, nargs="+", default=[], metavar="FOLDER",
        help=f"more, each with a table {TABLE} of {', '.join(TABLE_COLUMNS)}",
    )  # fmt: skip
    parser.add_argument("--tools", nargs="+", choices=BY_IMAGES, default=list(CHOSEN))
    parser.add_argument("--back", action="store_true", help="the other way round, too")
    parser.add_argument("--limit", type=float, default=900, help="seconds a tool may take a pair")
    parser.add_argument("--threads", type=int, default=2)


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the record.

    1 if a tool ran and failed on every pair of a data set, 2 if the pairs cannot be used.
    """
    console = Console(width=120)
    tools, absent = installed_tools((TOOLS[id] for id in options.tools), console)
    cases = []
    with tempfile.TemporaryDirectory(prefix="landmarks") as name:
        try:
            datasets = find_pairs(options.data, options.pairs, Path(name), options.back)
        except (SegregError, ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 2
        for dataset, pairs in datasets.items():
            rows = []
            for marked in pairs:
                if marked.left_out:
                    console.print(f"{marked.pair.id}: {marked.left_out} landmarks are left out: "
                                  "they do not lie in both images")  # fmt: skip
                for tool in tools:
                    rows.append(try_marked(tool, marked, options.threads, options.limit))
                    console.print(_sentence(rows[-1]))
            cases += [
                summarise(tool, dataset, [row for row in rows if row["tool"] == tool.id])
                for tool in tools
            ]
    print_table(cases, console)
    if not options.no_record:
        conditions = {"threads": options.threads, "limit_s": options.limit}
        path = write_record(
            "landmarks", without_nan(cases), options.results, absent=absent, **conditions
        )
        console.print(f"record: {path}")
    return int(any(not case["correct"] for case in cases))


def try_marked(tool: Tool, marked: MarkedPair, threads: int, limit: float) -> dict[str, Any]:
    """The row of ``try_tool``, with landmark errors and distances before."""
    row = try_tool(tool, marked.pair, threads, limit, marked.landmarks)
    return {
        **row, "tool": tool.id, "pair": marked.pair.id, "before_mm": dict(marked.before),
        "left_out": marked.left_out,
    }  # fmt: skip


def summarise(tool: Tool, dataset: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One case: per part the mean over pairs of mean errors, median and 95th percentile of
    all."""
    good = [row for row in rows if "failed" not in row]
    case: dict[str, Any] = {
        "id": f"landmarks/{dataset}/{tool.id}",
        "dataset": dataset,
        "tool": tool.id,
        "name": tool.name,
        "settings": tool.settings,
        "pairs": len(rows),
        "correct": bool(good),
        "left_out": sum(row["left_out"] for row in rows),
        "rows": good,
        "failed": [{"pair": r["pair"], "reason": r["failed"]} for r in rows if "failed" in r],
    }
    if not good:
        return case
    parts = {}
    for part in good[0]["landmark_errors"]:
        errors = [row["landmark_errors"][part] for row in good]
        parts[part] = {
            "landmarks": sum(map(len, errors)),
            "before_mm": mean(row["before_mm"][part] for row in good),
            "mean_mm": mean(mean(each) for each in errors),
            "median_mm": float(np.median(np.concatenate(errors))),
            "p95_mm": float(np.percentile(np.concatenate(errors), 95)),
        }
    seconds = [row["seconds"] for row in good]
    return {**case, "parts": parts, "unit": "s", "samples": seconds, "median": median(seconds)}


def _sentence(row: dict[str, Any]) -> str:
    what = f"{row['pair']} {row['tool']}: "
    if "failed" in row:
        return what + str(row["failed"])
    errors = [f"{part} {mean(mm):.2f} mm" for part, mm in row["landmark_errors"].items()]
    return what + ", ".join([*errors, f"{row['seconds']:.1f} s"])


def print_table(cases: list[dict[str, Any]], console: Console) -> None:
    columns = ("before mm", "mean", "median", "95 %", "seconds")
    table = Table("data", "where", "tool", *(Column(name, justify="right") for name in columns))
    for case in cases:
        for part, errors in case.get("parts", {"-": None}).items():
            cells = ["-"] * len(columns)
            if errors is not None:
                figures = (errors[name] for name in ("before_mm", "mean_mm", "median_mm", "p95_mm"))
                cells = [*(f"{mm:.2f}" for mm in figures), f"{case['median']:.1f}"]
            table.add_row(case["dataset"], part, case["name"], *cells)
    console.print(table)
