"""From what a network answers to displacements, in the engine's units and order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import array_module, fetch, index_for
from segreg.kernels import integrate

FloatArray = NDArray[np.float32]

# Cells that a velocity may move by in the first, linear step of its integration. Halving it changes
# no field of `shapes` on real pairs by more than 0.06 cells; all six squarings, by more than 0.09.
LINEAR = 0.25


def displacement_of(
    vectors: FloatArray,
    output: dict[str, Any],
    steps: int,
    fixed_shape: tuple[int, ...],
    share: float = 1.0,
) -> FloatArray:
    """A share of a network's output (k, 3, d, h, w) as displacement in cells of its grid.

    Parameters
    ----------
    output : kind, unit, order and stride, as the package's metadata state them.
    steps : squarings that integrate a velocity, at most; slow ones take fewer.
    fixed_shape : voxels of the fixed image; along an axis of one voxel nothing moves.
    """
    vectors, cells = in_field_cells(vectors, output)
    if 1 in fixed_shape:
        vectors = vectors.copy()
        for axis, size in enumerate(fixed_shape):
            if size == 1:
                vectors[:, axis] = 0
    share *= cells
    if output["kind"] == "displacement":
        still: FloatArray = integrate(vectors, 0, scale=share)
        return still
    return _by_steps(
        vectors,
        steps_needed(vectors, share, steps),
        lambda some, count: integrate(some, count, scale=share),
    )


def in_field_cells(vectors: FloatArray, output: dict[str, Any]) -> tuple[FloatArray, float]:
    """A network's vectors with components (z, y, x), and how many cells of its grid one unit is."""
    if output["order"] == "xyz":
        vectors = array_module(vectors).ascontiguousarray(vectors[:, ::-1])
    return vectors, 1 / output["stride"] if output["unit"] == "canvas_voxel" else 1.0


def steps_needed(velocity: FloatArray, scale: float, most: int) -> NDArray[np.intp]:
    """Squarings (k,) after which the first step of each velocity is no longer than ``LINEAR``."""
    axes = tuple(range(1, velocity.ndim))
    longest = fetch(abs(velocity).max(axis=axes)) * abs(scale)
    halvings = np.ceil(np.log2(np.maximum(longest, LINEAR) / LINEAR))
    return np.asarray(np.minimum(halvings, most), np.intp)


def _by_steps(
    vectors: FloatArray,
    steps: NDArray[np.intp],
    integrated: Callable[[FloatArray, int], FloatArray],
) -> FloatArray:
    """Every region integrated with its own number of steps."""
    counts = np.unique(steps)
    if len(counts) == 1:
        return integrated(vectors, int(counts[0]))
    out: FloatArray = array_module(vectors).empty(vectors.shape, np.float32)
    for count in counts:
        chosen = index_for(vectors, np.flatnonzero(steps == count))
        out[chosen] = integrated(vectors[chosen], int(count))
    return out
