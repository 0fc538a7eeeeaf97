"""The same pairs with other tools: ``python -m benchmarks peers``.

Every run is a fresh process; our one evaluation judges every field. A run whose field does not
reproduce the tool's own warped image, or that fails or takes too long, has a reason and no figures.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.accuracy import MEASURES
from benchmarks.datasets import DATASETS
from benchmarks.record import write_record
from benchmarks.tools.base import Tool
from benchmarks.tools.registry import TOOLS, installed_tools
from benchmarks.trial import try_tool
from segreg.engine.result import without_nan

OURS = "segreg"

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--datasets", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    parser.add_argument("--pairs", type=int, default=2, help="the first so many of each data set")
    parser.add_argument("--limit", type=float, default=900, help="seconds a tool may take a pair")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", type=Path, help="keep every run here; leave out what it holds")


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the record; 1 if a tool ran and nothing of it could be used.

    segreg always runs, whatever ``--tools`` says: ratios come from one run.
    """
    console = Console(width=150)
    chosen = [OURS, *(id for id in options.tools if id != OURS)]
    tools, absent = installed_tools((TOOLS[id] for id in chosen), console)
    conditions = {"threads": options.threads, "limit_s": options.limit}
    kept = Runs(options.resume, conditions)
    for name in options.datasets:
        for pair in list(DATASETS[name](options.data))[: options.pairs]:
            for tool in tools:
                if kept.find(tool.id, name, pair.id) is None:
                    found = try_tool(tool, pair, options.threads, options.limit)
                    kept.add({**found, "tool": tool.id, "dataset": name, "pair": pair.id})
                    console.print(_sentence(kept.rows[-1]))
    cases = summarise(kept.rows, options.datasets, tools)
    print_table(cases, console)
    if not options.no_record:
        versions = {n: importlib.metadata.version(n) for t in tools for n in t.distributions}
        path = write_record(
            "peers", without_nan(cases), options.results, absent=absent, peer_versions=versions,
            **conditions,
        )
        console.print(f"record: {path}")
    return int(any(not case["rows"] for case in cases))


class Runs:
    """Rows of finished runs, each kept in a file of JSON lines as soon as it is there.

    Parameters
    ----------
    path : the file, continued if it is there; None keeps nothing.
    conditions : what all rows of a file must share.

    Raises
    ------
    ValueError : the file was written under other conditions.
    """

    def __init__(self, path: Path | None, conditions: dict[str, Any]) -> None:
        self._path = path
        self.rows: list[Row] = []
        if path is None:
            return
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(conditions) + "\n", encoding="utf-8")
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        if json.loads(head) != conditions:
            raise ValueError(
                f"{path.name}: expected runs under {conditions}, got {head}. "
                "Give the same --threads and --limit, or another file."
            )
        self.rows = [json.loads(line) for line in lines]

    def find(self, tool: str, dataset: str, pair: str) -> Row | None:
        for row in self.rows:
            if (row["tool"], row["dataset"], row["pair"]) == (tool, dataset, pair):
                return row
        return None

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def summarise(rows: list[Row], datasets: list[str], tools: list[Tool]) -> list[dict[str, Any]]:
    """One case per data set and tool: means over the pairs it managed, and its ratio to segreg.

    ``ratio`` is the median over pairs of the tool's seconds by segreg's on the same pair.
    """
    cases = []
    for dataset in datasets:
        here = [row for row in rows if row["dataset"] == dataset]
        ours = {row["pair"]: row["seconds"] for row in _of(OURS, here) if "failed" not in row}
        for tool in tools:
            of_tool = _of(tool.id, here)
            good = [row for row in of_tool if "failed" not in row]
            case = {
                "id": f"peers/{dataset}/{tool.id}",
                "dataset": dataset,
                "tool": tool.id,
                "name": tool.name,
                "driven_by": tool.driven_by,
                "settings": tool.settings,
                "pairs": len(of_tool),
                "correct": bool(good),
                "rows": good,
                "failed": [
                    {"pair": r["pair"], "reason": r["failed"]} for r in of_tool if "failed" in r
                ],
            }
            cases.append(case | (_figures(good, ours) if good else {}))
    return cases


def _of(tool: str, rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["tool"] == tool]


def _figures(rows: list[Row], ours: dict[str, float]) -> dict[str, Any]:
    ratios = [row["seconds"] / ours[row["pair"]] for row in rows if row["pair"] in ours]
    return {
        "dice_before": mean(row["dice_before"] for row in rows),
        **{name: _mean_of_known(rows, name) for name in MEASURES},
        "unit": "s",
        "samples": [row["seconds"] for row in rows],
        "median": median(row["seconds"] for row in rows),
        "cpu_s": median(row["cpu_s"] for row in rows),
        "start_s": median(row["start_s"] for row in rows),
        "ratio": median(ratios) if ratios else None,
        "peak_mib": max(row["peak_mib"] for row in rows),
        "correlation": min(row["correlation"] for row in rows),
        "max_abs_err": max(row["max_abs_err"] for row in rows),
    }


def _mean_of_known(rows: list[Row], name: str) -> float | None:
    known = [row[name] for row in rows if row[name] is not None]
    return mean(known) if known else None


def _sentence(row: Row) -> str:
    what = f"{row['dataset']} {row['pair']} {row['tool']}: "
    if "failed" in row:
        return what + str(row["failed"])
    return what + f"Dice {row['dice']:.3f}, {row['seconds']:.2f} s"


def print_table(cases: list[dict[str, Any]], console: Console) -> None:
    table = Table()
    for column in ("data", "tool", "driven by"):
        table.add_column(column)
    for column in ("pairs", *MEASURES.values(), "seconds", "ratio", "MiB"):
        table.add_column(column, justify="right")
    for case in cases:
        table.add_row(*_cells(case))
    console.print(table)


def _cells(case: dict[str, Any]) -> Iterator[str]:
    yield from (case["dataset"], case["name"], case["driven_by"])
    yield f"{len(case['rows'])}/{case['pairs']}"
    for name in (*MEASURES, "median", "ratio", "peak_mib"):
        digits = {"median": 2, "ratio": 1, "peak_mib": 0}.get(name, 3)
        value = case.get(name)
        yield "-" if value is None else f"{value:.{digits}f}"
