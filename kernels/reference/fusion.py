"""Fields of regions made one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels.reference.points import (
    Array,
    apply_affine,
    index_grid,
    sample,
    sample_field,
)


def distance_to_mask(mask: Array, spacing: ArrayLike, *, farthest: float = 1e6) -> Array:
    """See ``segreg.kernels.distance_to_mask``."""
    distances = np.full(mask.shape, float(farthest))
    for k, cells in enumerate(mask):
        scale = np.asarray(spacing, np.float64)[k]
        for point in np.argwhere(cells):
            way = (index_grid(cells.shape) - point.reshape(3, 1, 1, 1)) * scale.reshape(3, 1, 1, 1)
            distances[k] = np.minimum(distances[k], np.sqrt((way**2).sum(axis=0)))
    return distances


def fuse_fields(
    regions: Array,
    fields: Array,
    distances: Array,
    to_field: ArrayLike,
    to_voxel: ArrayLike,
    spacing: ArrayLike,
    background: tuple[Array, ArrayLike, ArrayLike],
    reach: ArrayLike,
) -> Array:
    """See ``segreg.kernels.fuse_fields``."""
    count = len(fields)
    table = np.zeros((count + 1, count + 1))
    if np.ndim(reach) == 0:
        table[0] = table[:, 0] = reach
    else:
        table[:] = reach
    voxels = index_grid(regions.shape)
    elsewhere, cell_of, voxel_of = background
    q = apply_affine(cell_of, voxels)
    blend = apply_affine(voxel_of, q + sample_field(elsewhere, q))
    weights = np.ones(regions.shape)
    last = np.reshape(fields.shape[2:], (3, 1, 1, 1)) - 1
    maps, away = [], []
    for k, field in enumerate(fields):
        q = apply_affine(np.asarray(to_field)[k], voxels)
        maps.append(apply_affine(np.asarray(to_voxel)[k], q + sample_field(field, q)))
        beyond = (q - np.clip(q, 0, last)) * np.asarray(spacing)[k].reshape(3, 1, 1, 1)
        away.append(sample(distances[k], q) + np.sqrt((beyond**2).sum(axis=0)))
    inside = blend.copy()
    for k in range(count):
        feathered, total = maps[k].copy(), np.ones(regions.shape)
        for j in range(count):
            if j != k and table[j + 1, k + 1] > 0:
                t = np.minimum(away[j] / table[j + 1, k + 1], 1)
                feathered += (1 - 3 * t**2 + 2 * t**3) * maps[j]
                total += 1 - 3 * t**2 + 2 * t**3
        feathered /= total
        inside[:, regions == k + 1] = feathered[:, regions == k + 1]
        falloff = table[0, k + 1]
        near = away[k] < falloff
        held = np.maximum(away[k][near], 0.01 * falloff)
        weight = np.zeros(regions.shape)
        weight[near] = ((falloff - held) / held) ** 2
        blend += weight * feathered
        weights += weight
    chosen = (regions > 0) & (regions <= count)
    return (np.where(chosen, inside, blend / weights) - voxels)[None]
