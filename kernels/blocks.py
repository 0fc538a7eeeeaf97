"""A volume in blocks, so that work may be left out where nothing is left to do."""

from __future__ import annotations

from typing import Any

from segreg.kernels._checks import Shape, check_array, check_count, check_out
from segreg.kernels._machines import Array, Machine, machine_of
from segreg.kernels._streams import on_stream

BLOCK = (4, 8, 32)
"""Voxels of a block, (z, y, x): BLOCK_DEPTH, BLOCK_HEIGHT and BLOCK_WIDTH of bodies/blocks.cuh."""


def blocks_of(grid: Shape) -> tuple[int, int, int]:
    """How many blocks a grid has along each axis."""
    depth, height, width = (-(-n // size) for n, size in zip(grid, BLOCK, strict=True))
    return depth, height, width


def check_blocks(machine: Machine, blocks: Any, grid: Shape) -> Array | None:
    """Marks of a grid's blocks, if any were given."""
    if blocks is None:
        return None
    return check_array(machine, "blocks", blocks, "D H W", ("uint8",), blocks_of(grid))


@on_stream
def mark_blocks(
    errors: Array,
    *,
    rim: int,
    bound: float,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """Which blocks of ``BLOCK`` voxels have a value above a bound in them or near.

    Parameters
    ----------
    errors : (D, H, W) float32
    rim : int
        Near is up to so many voxels around the block, diagonally too.
    bound : float
    out : (ceil(D / 4), ceil(H / 8), ceil(W / 32)) uint8, optional
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (ceil(D / 4), ceil(H / 8), ceil(W / 32)) uint8, 1 or 0

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, a negative ``rim``, or an ``out`` that does not fit.
    """
    machine = machine_of(errors=errors, out=out)
    errors = check_array(machine, "errors", errors, "D H W")
    rim = min(check_count("rim", rim, 0), max(errors.shape, default=0))
    blocks = blocks_of(errors.shape)
    out = check_out(machine, "out", out, blocks, "uint8", errors)
    machine.launch("mark_blocks", blocks, errors, *errors.shape, rim, float(bound), out)
    return out
