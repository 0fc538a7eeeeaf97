"""Where voxels are: indices, millimetres and patient axes. The only RAS/LPS code of the project.

An affine (4, 4) maps a voxel ``(x, y, z, 1)`` to RAS millimetres (nibabel's convention). Arrays and
displacements count the other way round, ``(z, y, x)``; every map named *index* here does too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segreg.engine.errors import InputError

Affine = NDArray[np.float64]
Points = NDArray[np.float64]

MAX_SHEAR = 1e-4  # as ITK: rows and columns of the directions are perpendicular to within this
SPACING_RANGE = (1e-6, 1e6)  # mm; outside of it a header is broken, not the patient unusual
REACH = 1e7  # mm from the origin of the world


def index_to_world(affine: ArrayLike) -> Affine:
    """Map (4, 4) from an index ``(z, y, x, 1)`` to RAS millimetres ``(x, y, z, 1)``."""
    return np.asarray(affine, np.float64)[:, [2, 1, 0, 3]]


def world_to_index(affine: ArrayLike) -> Affine:
    """Map (4, 4) from RAS millimetres ``(x, y, z, 1)`` to an index ``(z, y, x, 1)``."""
    return np.asarray(np.linalg.inv(index_to_world(affine)))


def grid_map(source: ArrayLike, target: ArrayLike) -> Affine:
    """Map (3, 4) between indices (z, y, x) of two grids that name the same place in the world.

    ``source`` and ``target`` are the grids' affines (4, 4).
    """
    return np.ascontiguousarray((world_to_index(target) @ index_to_world(source))[:3])


def apply_map(matrix: ArrayLike, points: ArrayLike) -> Points:
    """``points`` (N, 3) through ``matrix`` (3, 4) or (4, 4)."""
    matrix, points = np.asarray(matrix, np.float64), np.asarray(points, np.float64)
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def flip_ras_lps(points: ArrayLike) -> Points:
    """Points or vectors (N, 3), components (x, y, z), from RAS to LPS or back: the same flip."""
    return np.asarray(points, np.float64) * (-1.0, -1.0, 1.0)


def flip_affine(affine: ArrayLike) -> Affine:
    """The affine (4, 4) of the same grid in LPS instead of RAS millimetres, or back."""
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, np.float64))


def spacing_of(affine: ArrayLike) -> NDArray[np.float64]:
    """Spacing (3,) in mm along the array axes (z, y, x)."""
    return np.asarray(np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0)[::-1])


def make_affine(spacing: ArrayLike) -> Affine:
    """Affine of an axis-aligned RAS grid with its first voxel at 0; ``spacing`` is (z, y, x) mm."""
    return np.diag([*np.asarray(spacing, np.float64)[::-1], 1.0])


def corners_of(shape: Sequence[int]) -> Points:
    """Indices (8, 3), (z, y, x), of the corner voxels of a grid."""
    ends = np.array(list(np.ndindex(2, 2, 2)), np.float64)
    return np.asarray(ends * (np.array(shape) - 1))


def grid_distance(first: ArrayLike, second: ArrayLike, shape: Sequence[int]) -> float:
    """Largest distance in mm between the places two affines give to the corners of one grid."""
    corners = corners_of(shape)
    ends = [apply_map(index_to_world(affine), corners) for affine in (first, second)]
    return float(np.linalg.norm(ends[0] - ends[1], axis=1).max())


def is_perpendicular(linear: ArrayLike) -> bool:
    """Whether the columns of ``linear`` (3, 3) are finite, not zero and at right angles."""
    linear = np.asarray(linear, np.float64)
    lengths = np.linalg.norm(linear, axis=0)
    if not np.isfinite(lengths).all() or not lengths.all():
        return False
    directions = linear / lengths
    products = directions @ directions.T  # rows, as ITK tests them
    return bool(np.abs(products - np.eye(3)).max() < MAX_SHEAR)


def check_affine(affine: Any, name: str) -> Affine:
    """``affine`` as a new (4, 4) float64 array.

    Raises
    ------
    InputError : wrong shape, not finite, singular, sheared; spacing or origin beyond reason.
    """
    try:
        checked = np.array(affine, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected an affine (4, 4) of numbers ({error}).") from error
    if checked.shape != (4, 4):
        raise InputError(f"{name}: expected an affine (4, 4), got shape {checked.shape}.")
    if not np.isfinite(checked).all():
        raise InputError(f"{name}: the affine holds NaN or infinite values. Mend the header.")
    if not np.array_equal(checked[3], (0, 0, 0, 1)):
        raise InputError(
            f"{name}: expected an affine with the last row 0 0 0 1, "
            f"got {format_numbers(checked[3])}."
        )
    spacing = spacing_of(checked)
    if spacing.min() < SPACING_RANGE[0] or spacing.max() > SPACING_RANGE[1]:
        raise InputError(
            f"{name}: expected a spacing in mm, got {format_numbers(spacing[::-1], ' x ')} along "
            "x, y, z. Mend the affine in the header."
        )
    if np.abs(checked[:3, 3]).max() > REACH:
        raise InputError(
            f"{name}: expected an origin in mm, got {format_numbers(checked[:3, 3], ', ')}. "
            "Mend the affine in the header."
        )
    if not is_perpendicular(checked[:3, :3]):
        raise InputError(
            f"{name}: expected voxel axes at right angles, got a sheared or singular affine. "
            "Resample the image onto an unsheared grid first."
        )
    return checked


def format_numbers(values: ArrayLike, separator: str = " ") -> str:
    """``1 x 1 x 1.65``: short numbers for sentences."""
    return separator.join(f"{value:.5g}" for value in np.asarray(values, np.float64))
