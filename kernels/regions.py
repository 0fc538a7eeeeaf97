"""Regions of a label map: where they lie.

A *region map* numbers the regions of an image: (D, H, W) int32, 0 for the background and 1..count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.kernels._checks import check_array, check_count
from segreg.kernels._machines import Array, machine_of
from segreg.kernels._streams import on_stream
from segreg.kernels.sampling import table_count

# Columns of the kernel's integer table (enum Moment in bodies/regions.cuh).
_MOMENTS = 16
_SUM, _PRODUCT, _LOW, _HIGH = slice(1, 4), slice(4, 10), slice(10, 13), slice(13, 16)
_OUT_OF_RANGE = 1


@dataclass(frozen=True)
class RegionStats:
    """Size, place, shape and intensity of every region; entry 0 is the background.

    Of the background only ``voxels`` is counted. An empty region has zeros throughout.
    """

    voxels: NDArray[np.int64]
    """(count + 1,)"""
    low: NDArray[np.int32]
    """(count + 1, 3) first index of the bounding box."""
    high: NDArray[np.int32]
    """(count + 1, 3) last index of the bounding box, plus one."""
    mean: NDArray[np.float64]
    """(count + 1, 3) centroid, voxel index."""
    covariance: NDArray[np.float64]
    """(count + 1, 3, 3) of the voxel centres, voxels squared, divided by the voxel count."""
    intensity_mean: NDArray[np.float64]
    """(count + 1,)"""
    intensity_std: NDArray[np.float64]
    """(count + 1,) divided by the voxel count."""

    @property
    def boxes(self) -> NDArray[np.int32]:
        """(count + 1, 6) ``low`` and ``high``."""
        return np.concatenate([self.low, self.high], axis=1)

    def union(self) -> RegionStats:
        """Stats of all regions taken as one, number 1."""
        there = self.voxels[1:] > 0
        n = self.voxels[1:][there]
        share = n / n.sum()
        means, spread = self.mean[1:][there], self.covariance[1:][there]
        mean = share @ means
        apart = means - mean
        covariance = np.tensordot(share, spread + apart[:, :, None] * apart[:, None], 1)
        values, deviations = self.intensity_mean[1:][there], self.intensity_std[1:][there]
        value = share @ values
        variance = share @ (deviations**2 + (values - value) ** 2)
        return RegionStats(
            voxels=np.array([self.voxels[0], n.sum()]),
            low=_after_zero(self.low[1:][there].min(axis=0)),
            high=_after_zero(self.high[1:][there].max(axis=0)),
            mean=_after_zero(mean),
            covariance=_after_zero(covariance),
            intensity_mean=_after_zero(value),
            intensity_std=_after_zero(np.sqrt(variance)),
        )


def _after_zero(value: NDArray[Any]) -> NDArray[Any]:
    """Entry 1 after a zero entry for the background."""
    return np.stack([np.zeros_like(value), value])


@on_stream
def region_stats(
    regions: Array, image: Array, count: int, *, stream: Any = None
) -> RegionStats:
    """Count, bounding box, moments and intensity of all regions in one pass.

    Sums over indices are integers, so they are exact; intensities are added in an order that
    depends on the shape alone.

    Parameters
    ----------
    regions : (D, H, W) int32
        Region numbers 0..count.
    image : (D, H, W) float32
    count : int
        Largest region number.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    RegionStats
        On the host.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, or region numbers that are not in 0..count.
    """
    machine = machine_of(regions=regions, image=image)
    count = check_count("count", count, 0, 32767)
    regions = check_array(machine, "regions", regions, "D H W", ("int32",))
    image = check_array(machine, "image", image, "D H W", shape=regions.shape)
    rows = regions.shape[0] * regions.shape[1]
    tables = table_count(machine, rows, 8 * (_MOMENTS + 2) * (count + 1))
    moments = machine.empty((tables, count + 1, _MOMENTS), "int64")
    intensities = machine.empty((tables, count + 1, 2), "float64")
    machine.launch(
        "region_stats", tables, regions, image, *regions.shape, count, moments, intensities
    )
    sums, low, high, added = machine.fetch_together(
        moments[..., : _LOW.start].sum(axis=0),
        moments[..., _LOW].min(axis=0),
        moments[..., _HIGH].max(axis=0),
        intensities.sum(axis=0),
    )
    if sums[0, _OUT_OF_RANGE]:
        raise ValueError(
            f"regions: expected numbers 0 to {count}, got others in {sums[0, _OUT_OF_RANGE]} "
            "voxels. Renumber the regions or raise count."
        )
    return _summary(sums, low, high, added, regions.size)


def _summary(
    sums: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    intensities: NDArray[Any],
    total: int,
) -> RegionStats:
    voxels = sums[:, 0].copy()
    filled = voxels > 0
    low = np.where(filled[:, None], low, 0).astype(np.int32)
    n = np.maximum(voxels, 1)
    mean = sums[:, _SUM] / n[:, None]
    zz, zy, zx, yy, yx, xx = (sums[:, _PRODUCT] / n[:, None]).T
    squares = np.stack([zz, zy, zx, zy, yy, yx, zx, yx, xx], axis=-1).reshape(-1, 3, 3)
    covariance = squares - mean[:, :, None] * mean[:, None, :]
    intensity = intensities / n[:, None]
    variance = intensity[:, 1] - intensity[:, 0] ** 2
    voxels[0] = total - voxels[1:].sum()
    return RegionStats(
        voxels=voxels,
        low=low,
        high=high.astype(np.int32),
        mean=mean,
        covariance=covariance,
        intensity_mean=intensity[:, 0],
        # Rounding may push a constant region's variance below zero.
        intensity_std=np.sqrt(np.maximum(variance, 0.0)),
    )
