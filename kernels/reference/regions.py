"""Regions and what is counted in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels.jacobians import JacobianSums
from segreg.kernels.reference.points import (
    Array,
    apply_affine,
    index_grid,
    sample,
    sample_field,
    sample_mask,
)
from segreg.kernels.regions import RegionStats


def region_stats(regions: Array, image: Array, count: int) -> RegionStats:
    """See ``segreg.kernels.region_stats``."""
    voxels = np.bincount(regions.ravel(), minlength=count + 1)
    low, high = np.zeros((2, count + 1, 3), np.int32)
    mean = np.zeros((count + 1, 3))
    covariance = np.zeros((count + 1, 3, 3))
    intensity_mean, intensity_std = np.zeros((2, count + 1))
    for k in range(1, count + 1):
        points = np.argwhere(regions == k)
        if len(points) == 0:
            continue
        low[k], high[k] = points.min(axis=0), points.max(axis=0) + 1
        mean[k] = points.mean(axis=0)
        covariance[k] = np.cov(points.T, ddof=0)
        intensity_mean[k] = image[regions == k].mean(dtype=np.float64)
        intensity_std[k] = image[regions == k].std(dtype=np.float64)
    return RegionStats(voxels, low, high, mean, covariance, intensity_mean, intensity_std)


def gather_regions(
    image: Array,
    regions: Array,
    indices: ArrayLike,
    affines: ArrayLike,
    intensity: ArrayLike,
    canvas: int | tuple[int, int, int],
    *,
    channels: tuple[str, ...] = ("masked_image", "mask"),
    displacement: Array | None = None,
) -> Array:
    """See ``segreg.kernels.gather_regions``."""
    numbers, window = np.asarray(indices), np.asarray(intensity, np.float64)
    maps = np.asarray(affines, np.float64)
    cells = (canvas,) * 3 if isinstance(canvas, int) else canvas
    batch = np.zeros((len(numbers), len(channels), *cells))
    for k, number in enumerate(numbers):
        points = index_grid(cells)
        if displacement is not None:
            ratio = displacement.shape[-1] / cells[-1]
            points = points + sample_field(displacement[k], (points + 0.5) * ratio - 0.5) / ratio
        points = apply_affine(maps[k], points)
        value = np.clip((sample(image, points) - window[k, 0]) * window[k, 1], -1, 1)
        mask = sample_mask(regions == number if number else regions > 0, points)
        kinds = {"image": value, "mask": mask, "masked_image": value * mask}
        batch[k] = np.stack([kinds[c] for c in channels])
    return batch


def relabel(labels: Array, table: ArrayLike) -> Array:
    """See ``segreg.kernels.relabel``."""
    entries = np.append(table, 0)
    known = (labels >= 0) & (labels < len(entries) - 1)
    regions: Array = entries[np.where(known, labels, -1)].astype(np.int32)
    return regions


def jacobian_sums(jacobian: Array, regions: Array, count: int) -> JacobianSums:
    """See ``segreg.kernels.jacobian_sums``."""
    padded = np.pad(regions, 1, mode="edge")
    shifted = [np.roll(padded, s, a)[1:-1, 1:-1, 1:-1] for s in (-1, 1) for a in range(3)]
    seam = np.any([other != regions for other in shifted], axis=0)
    row = np.where(seam | (regions < 0) | (regions > count), count + 1, regions)
    table = np.zeros((5, count + 2))
    for k in range(count + 2):
        values = jacobian[row == k].astype(np.float64)
        logs = np.log(values[values > 0])
        table[:2, k] = len(values), len(logs)
        if 1 <= k <= count:
            table[2:, k] = values.sum(), logs.sum(), (logs**2).sum()
    return JacobianSums(*table[:2].astype(np.int64), *table[2:])


def outline_indices(mask: Array) -> Array:
    """Indices (n, 3) of the voxels with a face neighbour outside; beyond the volume is outside."""
    thick = [(1, 1) if n > 1 else (0, 0) for n in mask.shape]
    padded = np.pad(mask, thick)
    inner = padded.copy()
    for axis, (border, _) in enumerate(thick):
        for step in (-1, 1) if border else ():
            inner &= np.roll(padded, step, axis)
    return np.argwhere(padded & ~inner) - [border for border, _ in thick]


def surface_distances(first: Array, second: Array, region: int, spacing: ArrayLike) -> Array:
    """All distances of one region, sorted; see ``segreg.kernels.surface_distances``."""
    one, other = (outline_indices(side == region) * np.asarray(spacing) for side in (first, second))
    if not (len(one) and len(other)):
        return np.zeros(0)
    between = np.sqrt(((one[:, None] - other[None]) ** 2).sum(axis=-1))
    return np.sort(np.concatenate([between.min(axis=1), between.min(axis=0)]))
