"""Pairs of one's own, named in a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.datasets import Pair

TABLE = "pairs.csv"
IMAGES = ("moving", "fixed")
COLUMNS = (*IMAGES, "moving_labels", "fixed_labels")


def read_pairs(folder: Path) -> list[Pair]:
    """The pairs that ``pairs.csv`` in ``folder`` lists; errors as those of ``read_table``."""
    return [Pair(id, **files) for id, files in read_table(folder, COLUMNS)]


def read_table(folder: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, Path]]]:
    """Name and files by column of each row of ``pairs.csv`` in ``folder``.

    Its columns are ``columns``, moving and fixed among them, paths relative to the folder, and
    perhaps id.

    Raises
    ------
    ValueError : no such table, columns or files.
    """
    path = folder / TABLE
    if not path.is_file():
        raise ValueError(
            f"{folder.name}: expected a table {TABLE} with the columns {', '.join(columns)}, "
            "found none. Write one; paths in it are relative to the folder."
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names, rows = reader.fieldnames or (), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{TABLE}: expected a CSV file in UTF-8, got something else.") from error
    missing = [name for name in columns if name not in names]
    if missing:
        raise ValueError(f"{TABLE}: expected a column {missing[0]}, got {', '.join(names)}.")
    if not rows:
        raise ValueError(f"{TABLE}: expected a row for each pair, got none.")
    pairs = [_read_row(folder, columns, line, row) for line, row in enumerate(rows, 2)]
    ids = [id for id, _ in pairs]
    for id in ids:
        if ids.count(id) > 1:
            raise ValueError(f"{TABLE}: expected a name of its own for each row, got {id!r} twice. "
                             "Give the rows ids.")  # fmt: skip
    return pairs


def _read_row(
    folder: Path, columns: Sequence[str], line: int, row: dict[str, str]
) -> tuple[str, dict[str, Path]]:
    files = {}
    for name in columns:
        given = (row[name] or "").strip()
        files[name] = folder / given
        if not given or "\0" in given or not files[name].is_file():
            raise ValueError(f"{TABLE}, line {line}: {name}: expected a file, got {given!r}.")
    moving, fixed = (files[name].name.split(".")[0] for name in IMAGES)
    return (row.get("id") or "").strip() or f"{moving}-{fixed}", files
