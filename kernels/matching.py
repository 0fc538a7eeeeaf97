"""A step of refinement: both sides compared, the normal equations, and their solution.

One step takes a displacement u to u + d by Gauss-Newton. Every voxel gives two equations in its
step d. Image: within the voxel's window the moving image, fitted linearly, should be the fixed one
(local correlation, LCC-Demons of Lorenzi et al., NeuroImage 81, 2013, with the slope of the moving
image, so that steps add). Outline: the signed distance to the region's outline should be the same
on both sides; a voxel that ``warp_labels`` would give to another region shall go where the vote
turns, and one that looks beyond the grid shall come back. Their normal equations are smoothed
(``smooth_within``; Lucas and Kanade, 1981), so that voxels that know nothing follow those that do,
and solved voxel by voxel.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels._checks import check_affine, check_array, check_out, check_parameters
from segreg.kernels._machines import Array, Machine, by_value, machine_of
from segreg.kernels._streams import on_stream

MATCH_CHANNELS = 10
NORMAL_CHANNELS = 9


class MatchingSide(NamedTuple):
    """One side of a pair: image (D, H, W) float32 and what ``find_borders`` says of its regions."""

    image: Array
    words: Array
    distances: Array


def check_sides(
    machine: Machine, moving: MatchingSide, fixed: MatchingSide, displacement: Array
) -> tuple[tuple[MatchingSide, MatchingSide], Array]:
    """Both sides and a displacement (3, D, H, W) on the fixed one's grid, as kernels take them."""

    def checked(name: str, side: MatchingSide) -> MatchingSide:
        image = check_array(machine, f"{name}.image", side.image, "D H W")
        return MatchingSide(
            image,
            check_array(machine, f"{name}.words", side.words, "D H W", ("int32",), image.shape),
            check_array(machine, f"{name}.distances", side.distances, "D H W", shape=image.shape),
        )

    sides = checked("moving", MatchingSide(*moving)), checked("fixed", MatchingSide(*fixed))
    grid = sides[1].image.shape
    return sides, check_array(
        machine, "displacement", displacement, "3 D H W", shape=(3, *grid)
    )


@on_stream
def match_sides(
    moving: MatchingSide,
    fixed: MatchingSide,
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    unit: ArrayLike = (1.0, 1.0, 1.0),
    margin: float = 0.1,
    slack: float = 0.5,
    rest: float = 0.3,
    beyond: float = 0.0,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """What the moving side shows at ``affine (x + displacement(x))``, and how that changes.

    Parameters
    ----------
    moving, fixed : MatchingSide, or its three arrays
        Distances of both in the same length.
    displacement : (3, D, H, W) float32
        Voxels of the fixed grid.
    affine : (3, 4) or (4, 4), optional
        From fixed to moving voxel indices, (z, y, x); the identity if left out.
    unit : (3,)
        Voxels of the fixed grid per length, (z, y, x): slopes are per length along fixed axes.
        0 for an axis that has one voxel.
    margin : float
        A voxel shall look at least so far inside its region: by the vote of ``warp_labels`` where
        it is lost or no distance is known, else by the distance.
    slack : float
        As long as it does, its distance to the outline may differ by so much.
    rest : float
        Weight of an outline that is as it shall be: what it does not need, it resists. Of one that
        is not, 1.
    beyond : float
        A voxel that looks beyond the grid is called back from less than so many voxels out. Farther
        out a region may go on unseen.
    out : (10, D, H, W) float32, optional
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (10, D, H, W) float32
        The moving image, its square, its product with the fixed image; its slope (3); by how much
        the outline is off, and the slope of that distance (3), both 0 where the region's outline
        is out of reach and all eight voxels around vote alike.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, or an ``out`` that does not fit.
    """
    moving, fixed = MatchingSide(*moving), MatchingSide(*fixed)
    machine = machine_of(
        moving=moving.image, moving_words=moving.words, moving_distances=moving.distances,
        fixed=fixed.image, fixed_words=fixed.words, fixed_distances=fixed.distances,
        displacement=displacement, out=out,
    )  # fmt: skip
    sides, field = check_sides(machine, moving, fixed, displacement)
    grid = sides[1].image.shape
    to_moving = by_value(check_affine("affine", affine))
    units = check_parameters("unit", unit, (3,))
    out = check_out(
        machine, "out", out, (MATCH_CHANNELS, *grid), "float32", field, sides[0].image,
        sides[1].image,
    )  # fmt: skip
    machine.launch(
        "match_sides", grid, *sides[0], *sides[0].image.shape, to_moving, *sides[1], field, *grid,
        *map(float, units), float(margin), float(slack), float(rest), float(beyond), out,
    )  # fmt: skip
    return out


def check_step(damping: float, longest: float) -> None:
    """Raise ValueError unless both are numbers above 0."""
    for name, value in (("damping", damping), ("longest", longest)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}: expected a number above 0, got {value}.")


@on_stream
def take_step(
    normals: Array,
    displacement: Array,
    *,
    damping: float,
    longest: float,
    unit: ArrayLike = (1.0, 1.0, 1.0),
    stream: Any = None,
) -> Array:
    """Add to a displacement, in place, the steps that solve the normal equations.

    Parameters
    ----------
    normals : (9, D, H, W) float32
        From ``cell_normals``, smoothed or not.
    displacement : (3, D, H, W) float32
        C-contiguous; voxels.
    damping : float
        Above 0; added to the diagonals. Where the equations say less than it, the step is short.
    longest : float
        Longest step, in lengths.
    unit : (3,)
        Voxels per length, (z, y, x), as in ``match_sides``.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (3, D, H, W) float32
        ``displacement``.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, numbers not above 0, or a displacement that cannot be written.
    """
    machine = machine_of(normals=normals, displacement=displacement)
    normals = check_array(machine, "normals", normals, "9 D H W")
    grid = normals.shape[1:]
    out = check_out(machine, "displacement", displacement, (3, *grid), "float32", normals)
    check_step(damping, longest)
    units = check_parameters("unit", unit, (3,))
    machine.launch(
        "take_step", grid, normals, *grid, float(damping), float(longest), *map(float, units), out,
    )  # fmt: skip
    return out


@on_stream
def add_change(
    change: Array,
    coarse: Array,
    regions: Array,
    displacement: Array,
    *,
    step: ArrayLike,
    first: ArrayLike,
    stream: Any = None,
) -> Array:
    """Add to a displacement, in place, the change of a coarser one.

    Every voxel takes it from the coarse voxels around it that belong to its own region; where none
    does, from all.

    Parameters
    ----------
    change : (3, d, h, w) float32
        Voxels of the coarse grid.
    coarse : (d, h, w) int32
        Region map on the coarse grid.
    regions : (D, H, W) int32
        Region map.
    displacement : (3, D, H, W) float32
        C-contiguous; voxels.
    step, first : (3,) whole numbers, (z, y, x)
        The coarse voxel i lies on the voxel ``first + i step``.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (3, D, H, W) float32
        ``displacement``.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, steps below 1, or a displacement that cannot be written.
    """
    machine = machine_of(
        change=change, coarse=coarse, regions=regions, displacement=displacement
    )
    change = check_array(machine, "change", change, "3 D H W")
    coarse = check_array(machine, "coarse", coarse, "D H W", ("int32",), change.shape[1:])
    regions = check_array(machine, "regions", regions, "D H W", ("int32",))
    grid = regions.shape
    out = check_out(machine, "displacement", displacement, (3, *grid), "float32", change)
    steps = check_parameters("step", step, (3,))
    begin = check_parameters("first", first, (3,))
    if not (steps >= 1).all():
        raise ValueError(f"step: expected 1 or more, got {steps.min()} among them.")
    to_coarse = by_value(
        np.column_stack([np.diag(1 / steps), -begin / steps]).astype(np.float32)
    )
    machine.launch(
        "add_change", grid, change, coarse, *coarse.shape, to_coarse, *map(float, steps),
        regions, *grid, out,
    )  # fmt: skip
    return out
