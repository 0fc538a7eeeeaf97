"""The part of a grid that lies around its regions, and changes that end with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import Array, array_module
from segreg.kernels import RegionStats


@dataclass(frozen=True)
class Frame:
    """A box of a grid: first voxel, one past the last, and the rim (3,) around the regions."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    rim: NDArray[np.int64]
    shape: tuple[int, ...]

    @classmethod
    def around(
        cls, stats: RegionStats, shape: tuple[int, ...], spacing: NDArray[np.float64], reach: float
    ) -> Frame:
        """All regions and ``reach`` smallest spacings around them."""
        there = stats.voxels[1:] > 0
        finest = min(step for step, length in zip(spacing, shape, strict=True) if length > 1)
        rim = np.ceil(reach * finest / np.asarray(spacing)).astype(np.int64)
        if not there.any():
            return cls(np.zeros(3, np.int64), np.array(shape), rim, shape)
        low = np.maximum(stats.low[1:][there].min(axis=0).astype(np.int64) - rim, 0)
        high = np.minimum(stats.high[1:][there].max(axis=0).astype(np.int64) + rim, shape)
        return cls(low, high, rim, shape)

    @property
    def _box(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.low, self.high, strict=True))

    def cut(self, array: Array) -> Array:
        """What of an array (..., D, H, W) lies in the frame, as an array of its own."""
        index = (..., *self._box)
        return array_module(array).ascontiguousarray(array[index])

    def shift(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """A map (3, 4) from the grid's voxels, from those of the frame."""
        shifted = np.array(matrix, np.float64)
        shifted[:, 3] += shifted[:, :3] @ self.low
        return shifted

    def add(self, change: Array, field: Array) -> None:
        """Add a change (3, d, h, w) of the frame to a displacement (3, D, H, W) in place.

        It fades over the rim, but not at the grid's own end.
        """
        xp = array_module(field)
        for axis in range(3):
            length = int(self.high[axis] - self.low[axis])
            ramp, weights = (np.arange(length) + 1) / (self.rim[axis] + 1), np.ones(length)
            if self.low[axis] > 0:
                weights = np.minimum(weights, ramp)
            if self.high[axis] < self.shape[axis]:
                weights = np.minimum(weights, ramp[::-1])
            along = weights.reshape([-1 if a == axis else 1 for a in range(3)])
            change *= xp.asarray(along.astype(np.float32))
        index = (..., *self._box)
        field[index] += change
