"""Landmarks: reading them, and following single points through a displacement field."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from segreg.engine.errors import InputError
from segreg.engine.geometry import Affine, Points, apply_map, flip_ras_lps

Convention = Literal["ras", "lps"]

COLUMN = re.compile(r"([xyz])(?:_(ras|lps))?(?:_mm)?")
MAX_STEPS = 100
TOLERANCE = 1e-4  # voxels; float32 fields hold no more


def read_points(path: str | Path, convention: str | None = None) -> Points:
    """Landmarks (N, 3) in RAS mm, components (x, y, z), from a CSV file.

    The columns are named x, y, z, or x_lps_mm, y_lps_mm, z_lps_mm, or x_ras_mm ...; further
    columns are ignored. Without a row of names the file has exactly three columns.

    Parameters
    ----------
    convention : {None, "ras", "lps"}
        Axes of the file's coordinates; None where its column names say so.

    Raises
    ------
    InputError : no such file, not numbers, no points; the axes are said nowhere, or the file's
        names say the opposite of ``convention``.
    """
    path = Path(path)
    name = path.name
    if convention is not None and convention not in get_args(Convention):
        raise ValueError(f'convention: expected "ras", "lps" or None, got {convention!r}.')
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(i, row) for i, row in enumerate(csv.reader(file), 1) if any(row)]
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}). Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{name}: expected a CSV file of landmarks, got something else."
        ) from error
    columns, named = _find_columns(rows, name)
    axes = named or convention
    if axes is None:
        raise InputError(
            f"{name}: its column names do not say whether x and y follow RAS or LPS. "
            'Say it: convention="lps" (--convention lps) or "ras", or name the columns '
            "x_lps_mm, y_lps_mm, z_lps_mm."
        )
    if convention is not None and convention != axes:
        raise InputError(
            f"{name}: its column names say {axes.upper()}, but {convention.upper()} was asked for. "
            "Leave convention out, or rename the columns."
        )
    body = rows[1:] if _is_header(rows[0][1]) else rows
    points = np.array([_parse_row(row, columns, line, name) for line, row in body])
    if not len(points):
        raise InputError(f"{name}: expected landmarks, got none below the column names.")
    return flip_ras_lps(points) if axes == "lps" else points


def sample_field(displacement: NDArray[np.floating[Any]], points: Points) -> Points:
    """Displacement (N, 3) at the indices ``points`` (N, 3): trilinear, the border held beyond it.

    ``displacement`` is (3, D, H, W); components and indices are (z, y, x).
    """
    last = np.array(displacement.shape[1:]) - 1
    inside = np.clip(points, 0, last)
    low = inside.astype(np.intp)
    high = np.minimum(low + 1, last)
    fraction = inside - low
    total = np.zeros((3, len(points)))
    for upper in np.ndindex(2, 2, 2):
        corner = np.where(upper, high, low)
        weight = np.where(upper, fraction, 1 - fraction).prod(axis=1)
        total += weight * displacement[:, corner[:, 0], corner[:, 1], corner[:, 2]]
    return np.asarray(total.T)


def fit_inverse(displacement: NDArray[np.floating[Any]]) -> Affine:
    """Affine (3, 4) nearest to the inverse of ``x + u(x)``, on indices (z, y, x).

    The inverse of the least-squares affine through a coarse lattice of the field; the identity
    where that affine folds. Somewhere to start from, no more.
    """
    shape = displacement.shape[1:]
    axes = [np.unique(np.linspace(0, n - 1, 12).astype(np.intp)) for n in shape]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    vectors = displacement[:, lattice[:, 0], lattice[:, 1], lattice[:, 2]].T.astype(np.float64)
    centre = lattice.mean(axis=0)
    design = np.column_stack([lattice - centre, np.ones(len(lattice))])
    # Fitting u, not x + u, leaves an axis of one voxel alone: least norm is zero there.
    solution = np.linalg.lstsq(design, vectors, rcond=None)[0]
    linear, shift = np.eye(3) + solution[:3].T, solution[3]
    if np.linalg.det(linear) < 1e-3:
        return np.eye(3, 4)
    inverse = np.linalg.inv(linear)
    return np.column_stack([inverse, centre - inverse @ (centre + shift)])


def find_sources(
    displacement: NDArray[np.floating[Any]], targets: Points, guess: Affine
) -> tuple[Points, NDArray[np.float64]]:
    """Indices x (N, 3) that the field carries to ``targets``: ``x + u(x) = target``.

    The damped fixed point ``x <- x + s G (target - x - u(x))``, begun at ``guess`` (3, 4), G its
    linear part; a step that would make the residual grow is halved instead of taken.

    Returns
    -------
    points : (N, 3)
    residual : (N,) ``|target - x - u(x)|`` in voxels; large where the field folds.
    """
    points = apply_map(guess, targets)
    residual = targets - points - sample_field(displacement, points)
    error = np.linalg.norm(residual, axis=1)
    step = np.ones(len(targets))
    for _ in range(MAX_STEPS):
        active = np.flatnonzero((error > TOLERANCE) & (step > 1e-6))
        if not active.size:
            break
        trial = points[active] + step[active, None] * (residual[active] @ guess[:, :3].T)
        rest = targets[active] - trial - sample_field(displacement, trial)
        length = np.linalg.norm(rest, axis=1)
        better = length < error[active]
        taken = active[better]
        points[taken], residual[taken], error[taken] = trial[better], rest[better], length[better]
        step[active] = np.where(better, np.minimum(2 * step[active], 1), step[active] / 2)
    return points, error


def _is_header(row: list[str]) -> bool:
    return any(COLUMN.fullmatch(cell.strip().lower()) for cell in row)


def _find_columns(rows: list[tuple[int, list[str]]], name: str) -> tuple[list[int], str | None]:
    """Columns of x, y and z, and the convention their names state."""
    if not rows:
        raise InputError(f"{name}: expected landmarks, got an empty file.")
    first = rows[0][1]
    if not _is_header(first):
        if len(first) != 3:
            raise InputError(
                f"{name}: expected three columns, or a first row that names x, y and z; got "
                f"{len(first)} columns, the first row is {','.join(first)[:60]!r}."
            )
        return [0, 1, 2], None
    found: dict[str, int] = {}
    conventions = set()
    for column, cell in enumerate(first):
        match = COLUMN.fullmatch(cell.strip().lower())
        if match:
            found.setdefault(match[1], column)
            conventions.add(match[2])
    if len(found) < 3 or len(conventions) > 1:
        raise InputError(
            f"{name}: expected columns x, y and z (or x_lps_mm ...) of one convention, "
            f"got {','.join(first)[:60]!r}."
        )
    return [found[axis] for axis in "xyz"], conventions.pop()


def _parse_row(row: list[str], columns: list[int], line: int, name: str) -> list[float]:
    try:
        point = [float(row[column]) for column in columns]
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{name}: expected three numbers in line {line}, got {','.join(row)[:60]!r}."
        ) from error
    if not np.isfinite(point).all():
        raise InputError(f"{name}: expected finite numbers in line {line}, got {point}.")
    return point
