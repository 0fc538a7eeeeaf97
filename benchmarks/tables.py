"""Tables of the README, made from the newest records: ``python -m benchmarks.tables``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS

README = Path(__file__).parent.parent / "README.md"
MARKERS = "<!-- accuracy -->", "<!-- end of accuracy -->"


def newest_record(kind: str) -> dict[str, Any]:
    """The record of ``kind`` that was written last."""
    paths = sorted(RESULTS.glob(f"*/*-{kind}.json"), key=lambda path: path.name)
    if not paths:
        raise FileNotFoundError(f"no {kind} record under {RESULTS.name}; run the benchmark first.")
    record: dict[str, Any] = json.loads(paths[-1].read_text(encoding="utf-8"))
    return record


def accuracy_table(record: dict[str, Any]) -> str:
    """Dice per number of passes, and the other measures after the last pass, as Markdown."""
    by_data: dict[str, dict[int, dict[str, Any]]] = {}
    for case in record["cases"]:
        by_data.setdefault(case["dataset"], {})[case["passes"]] = case
    passes = sorted({case["passes"] for case in record["cases"]})
    head = ["data", "pairs", "before", *(_passes(n) for n in passes)]
    head += ["HD95 mm", "folded inside", "folded at seams", "SD log J", "seconds"]
    rows = []
    for name, cases in by_data.items():
        last = cases[passes[-1]]
        rows.append(
            [
                name,
                str(last["pairs"]),
                f"{last['dice_before']:.3f}",
                *(f"{cases[n]['dice']:.3f}" for n in passes),
                f"{last['hd95_mm']:.2f}",
                f"{last['folding_inside_percent']:.3f} %",
                f"{last['folding_seams_percent']:.2f} %",
                f"{last['log_jacobian_sd']:.2f}",
                f"{last['median']:.2f}",
            ]
        )
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def _passes(number: int) -> str:
    if number == 0:
        return "moments only"
    return "1 pass" if number == 1 else f"{number} passes"


def main() -> None:
    record = newest_record("accuracy")
    machine, backend = record["machine"], record["backend"]
    words = (
        f"Dice, {machine['cores']} cores of {machine['cpu']}, {backend['name']} in "
        f"{backend['precision']}, commit {record['commit'][:7]}; the last five columns after all "
        "passes, seconds are the median of computing, warm.\n\n"
    )
    begin, end = MARKERS
    text = README.read_text(encoding="utf-8")
    section = f"{begin}\n{words}{accuracy_table(record)}\n{end}"
    replaced, count = re.subn(f"{begin}.*?{end}", lambda _: section, text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{README.name}: expected one section {begin} ... {end}, found {count}.")
    README.write_text(replaced, encoding="utf-8")


if __name__ == "__main__":
    main()
