"""Plan the regions of a pair: where each lies on both sides, and the map it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segreg.engine.geometry import index_to_world
from segreg.engine.moments import match_moments
from segreg.kernels import RegionShapes, RegionStats, region_shapes, region_stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Side:
    """One image with its region map (D, H, W) int32 and what one pass over both found.

    ``mean`` (K, 3) and ``covariance`` (K, 3, 3) are in world mm; row k is region ``numbers[k]`` of
    the map, and number 0 is all regions taken as one.
    """

    image: NDArray[np.float32]
    region_map: NDArray[np.int32]
    affine: Array
    stats: RegionStats
    numbers: NDArray[np.int32]
    mean: Array
    covariance: Array

    @classmethod
    def measure(
        cls, image: NDArray[np.float32], region_map: NDArray[np.int32], count: int, affine: Array
    ) -> Side:
        """Side of ``image`` (D, H, W) on the grid of ``affine`` (voxel (x, y, z) -> RAS mm)."""
        stats = region_stats(region_map, image, count)
        return cls._of(image, region_map, affine, stats, np.arange(1, count + 1, dtype=np.int32))

    def union(self) -> Side:
        """The same side with all its regions taken as one."""
        return self._of(
            self.image, self.region_map, self.affine, self.stats.union(), np.zeros(1, np.int32)
        )

    @classmethod
    def _of(
        cls,
        image: NDArray[np.float32],
        region_map: NDArray[np.int32],
        affine: Array,
        stats: RegionStats,
        numbers: NDArray[np.int32],
    ) -> Side:
        world = index_to_world(affine)
        linear, shift = world[:3, :3], world[:3, 3]
        # A voxel is a box, not a point: its own variance keeps flat regions from degenerating.
        covariance = stats.covariance[1:] + np.eye(3) / 12
        mean = stats.mean[1:] @ linear.T + shift
        return cls(
            image, region_map, affine, stats, numbers, mean, linear @ covariance @ linear.T
        )

    @cached_property
    def shapes(self) -> RegionShapes:
        """The K regions as the kernels gather them; made once, used in every pass."""
        return region_shapes(self.region_map, self.numbers, self.stats.boxes[1:])


@dataclass(frozen=True)
class RegionPlan:
    """Initial maps of a pair, fixed mm -> moving mm.

    Attributes
    ----------
    maps : (K, 4, 4) one per region.
    background : (4, 4) the global map A_0.
    names : of the regions, for messages.
    """

    moving: Side
    fixed: Side
    maps: Array
    background: Array
    names: tuple[str, ...] = ()

    @property
    def is_union(self) -> bool:
        """Whether all regions are taken as one."""
        return bool((self.fixed.numbers == 0).any())

    def name_of(self, k: int) -> str:
        return self.names[k] if self.names else f"region {k + 1}"


def plan_regions(moving: Side, fixed: Side, initial_map: str = "affine") -> RegionPlan:
    """Initial map of every region by ``initial_map`` and the global affine over all regions.

    Parameters
    ----------
    initial_map : {"identity", "translation", "affine"}
        ``affine`` matches first and second moments, ``translation`` the centroids.
    """
    count = len(fixed.mean)
    maps = np.tile(np.eye(4), (count, 1, 1))
    if initial_map == "translation":
        maps[:, :3, 3] = moving.mean - fixed.mean
    elif initial_map == "affine":
        for k in range(count):
            maps[k] = match_moments(
                fixed.mean[k], fixed.covariance[k], moving.mean[k], moving.covariance[k]
            )
    return RegionPlan(moving, fixed, maps, _global_affine(maps, fixed))


def _global_affine(maps: Array, fixed: Side) -> Array:
    """Least-squares affine over all regions: ``argmin sum_k w_k E|A x - A_k x|^2``.

    The expectation runs over region k as its mean and covariance describe it, w_k is its volume.
    Closed form ``(sum w_k A_k M_k)(sum w_k M_k)^-1`` with M_k the homogeneous second moment.
    """
    centre = np.average(fixed.mean, axis=0, weights=fixed.stats.voxels[1:])
    to_centre = np.eye(4)
    to_centre[:3, 3] = -centre  # far origins would spoil the conditioning
    left, right = np.zeros((4, 4)), np.zeros((4, 4))
    from_centre = np.linalg.inv(to_centre)
    for k, volume in enumerate(fixed.stats.voxels[1:]):
        mean = np.append(fixed.mean[k] - centre, 1.0)
        moment = np.outer(mean, mean)
        moment[:3, :3] += fixed.covariance[k]
        left += volume * (maps[k] @ from_centre) @ moment
        right += volume * moment
    affine = left @ np.linalg.inv(right) @ to_centre
    affine[3] = (0, 0, 0, 1)
    return np.asarray(affine)
