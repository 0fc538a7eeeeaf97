"""Pairs of one's own, named in a table."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.datasets import Pair

TABLE = "pairs.csv"
COLUMNS = ("moving", "fixed", "moving_labels", "fixed_labels")


def read_pairs(folder: Path) -> list[Pair]:
    """The pairs that ``pairs.csv`` in ``folder`` lists, a row each.

    Columns are moving, fixed, moving_labels and fixed_labels, paths relative to the folder, and
    perhaps id.

    Raises
    ------
    ValueError : no such table, columns or files.
    """
    path = folder / TABLE
    if not path.is_file():
        raise ValueError(
            f"{folder.name}: expected a table {TABLE} with the columns {', '.join(COLUMNS)}, "
            "found none. Write one; paths in it are relative to the folder."
        )
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{TABLE}: expected a column {missing[0]}, got {reader.fieldnames}.")
        rows = list(reader)
    if not rows:
        raise ValueError(f"{TABLE}: expected a row for each pair, got none.")
    return [_pair(folder, number, row) for number, row in enumerate(rows, 2)]


def _pair(folder: Path, line: int, row: dict[str, str]) -> Pair:
    files = []
    for name in COLUMNS:
        file = folder / (row[name] or "").strip()
        if not file.is_file():
            raise ValueError(f"{TABLE}, line {line}: {name}: no file {row[name]!r}.")
        files.append(file)
    moving, fixed = (path.name.split(".")[0] for path in files[:2])
    return Pair(row.get("id") or f"{moving}-{fixed}", *files)
