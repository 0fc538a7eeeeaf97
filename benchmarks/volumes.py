"""What operations are timed on, for any shape and always the same: an image, a field, regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.operation import Shape

OCTANTS = 8


def image(shape: Shape) -> NDArray[np.float32]:
    """(D, H, W) noise: nothing about it is easy to guess."""
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def reach(shape: Shape) -> float:
    """Voxels that a field moves at most: the same share of a volume of any size."""
    return 0.02 * min(shape)


def displacement(shape: Shape, size: float = 1.0, batch: int = 1) -> NDArray[np.float32]:
    """(batch, 3, D, H, W) slow waves, as a registration yields them, of ``size`` times reach."""
    turns = [np.linspace(0, 6, n, dtype=np.float32) for n in shape]
    z, y, x = (turn.reshape(along(axis)) for axis, turn in enumerate(turns))
    waves = (np.sin(z + 0.3) * np.cos(y) * np.cos(x), np.cos(z) * np.sin(y) * np.cos(x + 0.7),
             np.cos(z + 0.5) * np.cos(y) * np.sin(x))  # fmt: skip
    stacked = np.stack([size * reach(shape) * wave for wave in waves])
    return np.ascontiguousarray(np.broadcast_to(stacked, (batch, *stacked.shape)))


def half(shape: Shape) -> Shape:
    depth, height, width = (max(1, n // 2) for n in shape)
    return depth, height, width


def along(axis: int) -> tuple[int, ...]:
    return tuple(-1 if a == axis else 1 for a in range(3))


def corner(k: int, shape: Shape) -> NDArray[np.intp]:
    """First voxel of octant k."""
    return np.array([(k >> (2 - axis) & 1) * (n // 2) for axis, n in enumerate(shape)])


def octant(k: int, shape: Shape) -> tuple[slice, ...]:
    """Octant k."""
    pairs = zip(corner(k, shape), half(shape), strict=True)
    return tuple(slice(first, first + length) for first, length in pairs)


def regions(shape: Shape) -> NDArray[np.int32]:
    """(D, H, W) an ellipsoid in each octant, numbered 1 to 8, in a background of 0."""
    numbers = np.zeros(shape, np.int32)
    places = [(np.arange(n) + 0.5) / n - 0.5 for n in half(shape)]
    ball = sum(place.reshape(along(axis)) ** 2 for axis, place in enumerate(places))
    for k in range(OCTANTS):
        numbers[octant(k, shape)][ball < 0.16] = k + 1
    return numbers


def near(shape: Shape) -> int:
    return int(reach(shape)) + 2
