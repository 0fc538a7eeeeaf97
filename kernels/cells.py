"""Steps on image and outlines by cells of a few voxels: a smooth step needs no finer equations.

A cell takes what its voxels of its own region say: first the sums of which ``smooth_within`` makes
the window of the local correlation, then the normal equations of what ``match_sides`` finds, added
up. Thin regions that no cell stands for are left to steps on outlines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from segreg.kernels._checks import (
    Shape,
    check_affine,
    check_array,
    check_count,
    check_out,
    check_parameters,
)
from segreg.kernels._machines import Array, Machine, by_value, machine_of
from segreg.kernels._streams import on_stream
from segreg.kernels.matching import NORMAL_CHANNELS, MatchingSide, check_sides

WINDOW_CHANNELS = 6


@on_stream
def cell_windows(
    moving: MatchingSide,
    fixed: MatchingSide,
    displacement: Array,
    regions: Array,
    factors: Sequence[int],
    *,
    affine: ArrayLike | None = None,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """Sums over the voxels of each cell that belong to its region, for windows over cells.

    Parameters
    ----------
    moving, fixed, displacement, affine : see ``match_sides``
    regions : (d, h, w) int32
        Region of each cell. Cell i begins at voxel ``i * factor``; the last one takes the rest.
    factors : (3,) whole numbers from 1 on
        Voxels of a cell, (z, y, x).
    out : (6, d, h, w) float32, optional
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (6, d, h, w) float32
        Divided by the voxels of a cell: how many, the fixed image, its square, the moving image,
        its square, the product of both.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, cells that do not fit the grid, or an ``out`` that does not fit.
    """
    machine = machine_of(
        moving=moving[0], fixed=fixed[0], displacement=displacement, regions=regions, out=out
    )
    sides, field = check_sides(machine, moving, fixed, displacement)
    grid = sides[1].image.shape
    regions, steps = _check_cells(machine, regions, factors, grid)
    out = check_out(machine, "out", out, (WINDOW_CHANNELS, *regions.shape), "float32", field)
    machine.launch(
        "cell_windows", regions.shape, sides[0].image, *sides[0].image.shape,
        by_value(check_affine("affine", affine)), sides[1].image, sides[1].words, field, *grid,
        regions, *regions.shape, *steps, out,
    )  # fmt: skip
    return out


@on_stream
def cell_normals(
    moving: MatchingSide,
    fixed: MatchingSide,
    displacement: Array,
    windows: Array,
    regions: Array,
    factors: Sequence[int],
    *,
    affine: ArrayLike | None = None,
    unit: ArrayLike = (1.0, 1.0, 1.0),
    margin: float = 0.1,
    slack: float = 0.5,
    rest: float = 0.3,
    beyond: float = 0.0,
    image: float = 1.0,
    outline: float = 1.0,
    floor: float = 0.01,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """Normal equations of each cell's step: of its voxels that belong to its region.

    Parameters
    ----------
    moving, fixed, displacement, affine, unit, margin, slack, rest, beyond : see ``match_sides``
    windows : (6, d, h, w) float32
        From ``cell_windows``, smoothed; only their ratios matter.
    regions, factors : see ``cell_windows``
    image, outline : float
        Weights of the two equations, 0 or more.
    floor : float
        Variance, above 0, that is added to every window's: what lies below it is noise.
    out : (9, d, h, w) float32, optional
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (9, d, h, w) float32
        Matrix zz, zy, zx, yy, yx, xx and right side z, y, x; sums over a cell's voxels divided by
        the number of voxels that it has room for.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, cells that do not fit the grid, weights out of range, or an
        ``out`` that does not fit.
    """
    machine = machine_of(
        moving=moving[0], fixed=fixed[0], displacement=displacement, windows=windows,
        regions=regions, out=out,
    )  # fmt: skip
    sides, field = check_sides(machine, moving, fixed, displacement)
    grid = sides[1].image.shape
    regions, steps = _check_cells(machine, regions, factors, grid)
    cells = regions.shape
    windows = check_array(
        machine, "windows", windows, "6 D H W", shape=(WINDOW_CHANNELS, *cells)
    )
    for name, value in (("image", image), ("outline", outline)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: expected a weight of 0 or more, got {value}.")
    if not (math.isfinite(floor) and floor > 0):
        raise ValueError(f"floor: expected a variance above 0, got {floor}.")
    units = check_parameters("unit", unit, (3,))
    out = check_out(machine, "out", out, (NORMAL_CHANNELS, *cells), "float32", field, windows)
    machine.launch(
        "cell_normals", cells, *sides[0], *sides[0].image.shape,
        by_value(check_affine("affine", affine)), *sides[1], field, *grid, *map(float, units),
        float(margin), float(slack), float(rest), float(beyond), float(image), float(outline),
        float(floor), windows, regions, *cells, *steps, out,
    )  # fmt: skip
    return out


def _check_cells(
    machine: Machine, regions: Array, factors: Sequence[int], grid: Shape
) -> tuple[Array, list[int]]:
    regions = check_array(machine, "regions", regions, "D H W", ("int32",))
    steps = [check_count("factors", factor, 1) for factor in factors]
    if len(steps) != 3 or any(
        (cells - 1) * step >= length
        for cells, step, length in zip(regions.shape, steps, grid, strict=True)
    ):
        raise ValueError(
            f"regions: expected cells of {tuple(factors)} voxels in {grid}, got {regions.shape}."
        )
    return regions, steps
