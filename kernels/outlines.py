"""A step of refinement by outlines alone, where no image is asked."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike

from segreg.kernels._checks import check_affine, check_array, check_out, check_parameters
from segreg.kernels._machines import Array, by_value, machine_of
from segreg.kernels._streams import on_stream
from segreg.kernels.blocks import check_blocks
from segreg.kernels.matching import NORMAL_CHANNELS, MatchingSide


@on_stream
def outline_normals(
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
    weight: float = 1.0,
    blocks: Array | None = None,
    errors: Array | None = None,
    out: Array | None = None,
    stream: Any = None,
) -> tuple[Array, Array]:
    """What ``match_sides`` and ``form_normals`` say of outlines, in one go.

    Parameters
    ----------
    moving, fixed, displacement, affine, unit, margin, slack, rest, beyond : see ``match_sides``
    weight : float
        Of the equations, 0 or more.
    blocks : uint8, from ``mark_blocks``, optional
        Which blocks of the grid are wanted; elsewhere ``errors`` and ``out`` stay as they are.
    errors : (D, H, W) float32, optional
    out : (9, D, H, W) float32, optional
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    normals : (9, D, H, W) float32
        As ``form_normals`` gives them.
    errors : (D, H, W) float32
        By how much each voxel's outline is off, without its sign.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, a weight out of range, blocks without ``errors`` and ``out``,
        or ones that do not fit.
    """
    moving, fixed = MatchingSide(*moving), MatchingSide(*fixed)
    machine = machine_of(
        moving_words=moving.words, moving_distances=moving.distances, fixed_words=fixed.words,
        fixed_distances=fixed.distances, displacement=displacement, blocks=blocks, errors=errors,
        out=out,
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
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight: expected 0 or more, got {weight}.")
    if blocks is not None and (errors is None or out is None):
        raise ValueError("blocks: expected errors and out with them, got none. Pass both.")
    blocks = check_blocks(machine, blocks, grid)
    errors = check_out(machine, "errors", errors, grid, "float32", field)
    out = check_out(machine, "out", out, (NORMAL_CHANNELS, *grid), "float32", field)
    machine.launch(
        "outline_normals", grid, *sides[0], *sides[0][0].shape, to_moving, *sides[1], field, *grid,
        *map(float, units), float(margin), float(slack), float(rest), float(beyond), float(weight),
        blocks, errors, out,
    )  # fmt: skip
    return out, errors
