"""Write landmarks back: a copy of the table they came from, with their new coordinates."""

from __future__ import annotations

import csv
from pathlib import Path

from segreg.engine.errors import InputError
from segreg.engine.field import CarriedPoints
from segreg.engine.files import replace_file
from segreg.engine.geometry import flip_ras_lps
from segreg.engine.landmarks import COLUMN

DECIMALS = 4  # of mm


def rewrite_points(
    source: str | Path, target: str | Path, carried: CarriedPoints, convention: str | None
) -> None:
    """Copy the table ``source`` to ``target`` with ``carried`` in its x, y and z columns.

    Names and other columns stay, the axes too; a column ``inside`` (1 or 0) is added that tells
    whether the field was defined there. A table without column names gets them.

    Parameters
    ----------
    carried : the points that ``read_points(source, convention)`` gave, after their way.

    Raises
    ------
    InputError : ``target`` cannot be written.
    """
    with Path(source).open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if any(row)]
    matches = [COLUMN.fullmatch(cell.strip().lower()) for cell in rows[0]]
    places = {match[1]: i for i, match in reversed([*enumerate(matches)]) if match}
    named = {match[2] for match in matches if match and match[2]}
    axes = named.pop() if named else convention
    if axes is None:  # read_points refuses such a table
        raise InputError(f"{Path(source).name}: expected axes, RAS or LPS, got none.")
    if places:
        header, body = rows[0], rows[1:]
    else:
        header, body = [f"{axis}_{axes}_mm" for axis in "xyz"], rows
        places = {axis: i for i, axis in enumerate("xyz")}
    points = flip_ras_lps(carried.points) if axes == "lps" else carried.points
    for row, point, inside in zip(body, points, carried.inside, strict=True):
        for axis, value in zip("xyz", point, strict=True):
            row[places[axis]] = f"{value:.{DECIMALS}f}"
        row.append(str(int(inside)))
    with (
        replace_file(target) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows([[*header, "inside"], *body])
