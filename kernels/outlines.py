"""A step of refinement by outlines alone, where no image is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels._checks import check_affine, check_array, check_out, check_parameters
from segreg.kernels._machines import Array, by_value, machine_of
from segreg.kernels._streams import on_stream
from segreg.kernels.blocks import check_blocks
from segreg.kernels.filters import gaussian_taps
from segreg.kernels.matching import MatchingSide, check_step

PULL_CHANNELS = 4


@on_stream
def outline_pulls(
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
    blocks: Array | None = None,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """What ``match_sides`` says of outlines, and nothing of images.

    Parameters
    ----------
    moving, fixed, displacement, affine, unit, margin, slack, rest, beyond : see ``match_sides``
    blocks : uint8, from ``mark_blocks``, optional
        Which blocks of the grid are wanted; elsewhere ``out`` stays as it is.
    out : (4, D, H, W) float32, optional
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (4, D, H, W) float32
        The slope of how far the outline is off, and how far: its equation, with the sign that
        makes the last 0 or more.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, blocks without ``out``, or ones that do not fit.
    """
    moving, fixed = MatchingSide(*moving), MatchingSide(*fixed)
    machine = machine_of(
        moving_words=moving.words, moving_distances=moving.distances, fixed_words=fixed.words,
        fixed_distances=fixed.distances, displacement=displacement, blocks=blocks, out=out,
    )  # fmt: skip
    sides = []
    for name, side in (("moving", moving), ("fixed", fixed)):
        words = check_array(machine, f"{name}.words", side.words, "D H W", ("int32",))
        sides.append((
            words,
            check_array(machine, f"{name}.distances", side.distances, "D H W", shape=words.shape),
        ))  # fmt: skip
    grid = sides[1][0].shape
    field = check_array(machine, "displacement", displacement, "3 D H W", shape=(3, *grid))
    to_moving = by_value(check_affine("affine", affine))
    units = check_parameters("unit", unit, (3,))
    if blocks is not None and out is None:
        raise ValueError("blocks: expected out with them, got none. Pass what is known so far.")
    blocks = check_blocks(machine, blocks, grid)
    out = check_out(machine, "out", out, (PULL_CHANNELS, *grid), "float32", field)
    machine.launch(
        "outline_pulls", grid, *sides[0], *sides[0][0].shape, to_moving, *sides[1], field, *grid,
        *map(float, units), float(margin), float(slack), float(rest), float(beyond), blocks, out,
    )  # fmt: skip
    return out


@on_stream
def follow_pulls(
    pulls: Array,
    edges: Array,
    displacement: Array,
    sigma: ArrayLike,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    *,
    damping: float,
    longest: float,
    unit: ArrayLike = (1.0, 1.0, 1.0),
    truncate: float = 2.0,
    blocks: Array | None = None,
    stream: Any = None,
) -> Array:
    """Add to a displacement, in place, the steps that pulls around each voxel ask for.

    As ``smooth_within`` of the pulls' normal equations and ``take_step`` would: the equations, more
    than twice as large as the pulls, stay in the cache.

    Parameters
    ----------
    pulls : (4, D, H, W) float32
        From ``outline_pulls``.
    edges : (3, D, H, W) float32
        What ``couple`` gives.
    displacement : (3, D, H, W) float32
        C-contiguous; voxels.
    sigma, spacing, truncate : see ``smooth_within``
    damping, longest, unit : see ``take_step``
    blocks : uint8, from ``mark_blocks``, optional
        Which blocks of the grid take a step.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (3, D, H, W) float32
        ``displacement``.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, numbers out of range, or a displacement that cannot be written.
    """
    machine = machine_of(pulls=pulls, edges=edges, displacement=displacement, blocks=blocks)
    pulls = check_array(machine, "pulls", pulls, "4 D H W")
    grid = pulls.shape[1:]
    edges = check_array(machine, "edges", edges, "3 D H W", shape=(3, *grid))
    out = check_out(machine, "displacement", displacement, (3, *grid), "float32", pulls, edges)
    check_step(damping, longest)
    units = check_parameters("unit", unit, (3,))
    blocks = check_blocks(machine, blocks, grid)
    taps = gaussian_taps(sigma, spacing, truncate)
    weights = machine.constant(np.concatenate(taps).astype(np.float32))
    machine.launch(
        "follow_pulls", grid, pulls, edges, *grid, weights, *(len(w) - 1 for w in taps),
        float(damping), float(longest), *map(float, units), blocks, out,
    )  # fmt: skip
    return out
