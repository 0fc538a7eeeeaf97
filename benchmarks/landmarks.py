"""Landmarks without labels: ``python -m benchmarks landmarks``.

Breathing phases of one subject, registered by the automatic body region and refinement alone, and
by other tools that look at the images alone. The liver slides along a nearly still wall, so its
landmarks and those around it are told apart.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.datasets import Pair
from benchmarks.record import write_record
from benchmarks.tools.base import Tool
from benchmarks.tools.registry import BY_IMAGES, TOOLS, installed_tools
from benchmarks.trial import Landmarks, try_tool
from segreg.engine.body import BodyFinder
from segreg.engine.landmarks import read_points
from segreg.engine.result import without_nan
from segreg.engine.volume import as_volume

DATASET = "liver_4dmri"
REFERENCE = "exhMaster"
PARTS = ("liver", "outside")
CHOSEN = ("segreg-body", "greedy", "convexadam")


@dataclass(frozen=True)
class MarkedPair:
    """A pair and, by part of the body, the files of its moving and fixed landmarks."""

    pair: Pair
    landmarks: Landmarks

    def before(self, part: str) -> float:
        """Mean distance in mm of the landmarks as the headers place them."""
        moving, fixed = (read_points(path) for path in self.landmarks[part])
        return float(np.linalg.norm(moving - fixed, axis=1).mean())


def liver_pairs(root: Path, folder: Path, *, back: bool) -> Iterator[MarkedPair]:
    """Exhaled to each other phase of every subject, and ``back``.

    Tools ask for label maps: those of the bodies are written into ``folder``.
    """
    for subject in sorted((root / DATASET).iterdir()):
        if not subject.is_dir():
            continue
        for phase in sorted(subject.glob("cyc*.nii.gz")):
            names = (REFERENCE, phase.name.removesuffix(".nii.gz"))
            for moving, fixed in (names, names[::-1])[: 1 + back]:
                images = [subject / f"{name}.nii.gz" for name in (moving, fixed)]
                labels = []
                for body in BodyFinder().segment([as_volume(path) for path in images]):
                    labels.append(folder / f"{subject.name} {body.name}".replace(" ", "_"))
                    body.write(labels[-1])
                landmarks = {
                    part: (
                        subject / f"{moving}_{part}.csv", subject / f"{fixed}_{part}.csv"
                    )
                    for part in PARTS
                }  # fmt: skip
                pair = Pair(f"{subject.name} {moving} {fixed}", *images, *labels)
                yield MarkedPair(pair, landmarks)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tools", nargs="+", choices=BY_IMAGES, default=list(CHOSEN))
    parser.add_argument("--back", action="store_true", help="the other phases to exhaled, too")
    parser.add_argument("--limit", type=float, default=900, help="seconds a tool may take a pair")
    parser.add_argument("--threads", type=int, default=2)


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the record; 1 if a tool ran and failed on every pair."""
    console = Console(width=120)
    tools, absent = installed_tools((TOOLS[id] for id in options.tools), console)
    rows = []
    with tempfile.TemporaryDirectory(prefix="landmarks") as name:
        for marked in liver_pairs(options.data, Path(name), back=options.back):
            for tool in tools:
                rows.append(try_marked(tool, marked, options.threads, options.limit))
                console.print(_sentence(rows[-1]))
    cases = [summarise(tool, [row for row in rows if row["tool"] == tool.id]) for tool in tools]
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
    before = {part: marked.before(part) for part in marked.landmarks}
    return {**row, "tool": tool.id, "pair": marked.pair.id, "before_mm": before}


def summarise(tool: Tool, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One case: per part the mean over pairs of mean errors, and the 95th percentile of all."""
    good = [row for row in rows if "failed" not in row]
    case: dict[str, Any] = {
        "id": f"landmarks/{DATASET}/{tool.id}",
        "tool": tool.id,
        "name": tool.name,
        "settings": tool.settings,
        "pairs": len(rows),
        "correct": bool(good),
        "rows": good,
        "failed": [{"pair": r["pair"], "reason": r["failed"]} for r in rows if "failed" in r],
    }
    if not good:
        return case
    parts = {}
    for part in good[0]["landmark_errors"]:
        errors = [row["landmark_errors"][part] for row in good]
        parts[part] = {
            "before_mm": mean(row["before_mm"][part] for row in good),
            "mean_mm": mean(mean(each) for each in errors),
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
    table = Table()
    table.add_column("tool")
    for part in PARTS:
        for column in (f"{part} before mm", "mean", "95 %"):
            table.add_column(column, justify="right")
    table.add_column("seconds", justify="right")
    for case in cases:
        cells = ["-"] * (3 * len(PARTS) + 1)
        if case["correct"]:
            cells = [f"{case['parts'][p][m]:.2f}" for p in PARTS
                     for m in ("before_mm", "mean_mm", "p95_mm")]  # fmt: skip
            cells.append(f"{case['median']:.1f}")
        table.add_row(case["name"], *cells)
    console.print(table)
