"""How a CUDA kernel is launched: which build, which variant, how many threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Size: TypeAlias = "int | tuple[int, int, int]"
Extent: TypeAlias = tuple[int, int, int]

AFFINE = np.dtype([("m", np.float32, (12,))])
"""``struct Affine`` of bodies/platform.cuh."""

THREADS = 128  # of a block
LANES = 32  # threads of a block along a row
RUN = 4  # voxels of a row that a thread takes: RUN of bodies/threads.cuh
MOST_BLOCKS = 65535  # along y and z; a kernel over rows takes further rows in turn

# Up to here an array is counted in 32 bits. The rest is for threads beyond the end.
MOST_NARROW = 2**31 - 2**20


@dataclass(frozen=True)
class Launch:
    """One launch, planned."""

    kernel: str
    wide: bool
    """Whether indices have 64 bits."""
    count: int
    """Work items: the kernel's first argument."""
    blocks: Extent
    threads: Extent


def count_items(size: Size) -> int:
    return size if isinstance(size, int) else math.prod(size)


def plan_launch(
    kernel: str,
    size: Size,
    arguments: tuple[Any, ...],
    address: Callable[[Any], int],
    kernels: Container[str],
) -> Launch:
    """The launch of ``kernel``, or of its variant for four voxels at a time where that fits.

    A kernel over rows may have a variant NAME_quads in ``kernels``. It is taken if rows are
    multiples of four voxels long and every array begins at a multiple of 16 bytes (``address``).
    """
    arrays = [argument for argument in arguments if _is_array(argument)]
    count = count_items(size)
    wide = max([count, *(int(array.size) for array in arrays)]) > MOST_NARROW
    if isinstance(size, int):
        return Launch(kernel, wide, count, (_ratio(count, THREADS), 1, 1), (THREADS, 1, 1))
    slices, height, width = size
    quads = f"{kernel}_quads"
    if quads in kernels and width % 4 == 0 and all(address(a) % 16 == 0 for a in arrays):
        kernel = quads
    rows = THREADS // LANES
    blocks = (
        _ratio(width, LANES * RUN),
        min(_ratio(height, rows), MOST_BLOCKS),
        min(slices, MOST_BLOCKS),
    )
    return Launch(kernel, wide, count, blocks, (LANES, rows, 1))


def _is_array(argument: Any) -> bool:
    return hasattr(argument, "dtype") and argument.dtype != AFFINE


def _ratio(items: int, each: int) -> int:
    return -(-items // each)
