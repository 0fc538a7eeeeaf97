"""Points in volumes, and what lies there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[Any]


def index_grid(shape: tuple[int, ...]) -> Array:
    """(3, D, H, W) index of every voxel."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float64)


def apply_affine(affine: ArrayLike, points: Array) -> Array:
    """Affine map of points (3, ...)."""
    matrix = np.asarray(affine, np.float64)
    moved: Array = np.tensordot(matrix[:3, :3], points, 1)
    return moved + matrix[:3, 3].reshape(3, *[1] * (points.ndim - 1))


def identity_or(affine: ArrayLike | None) -> Array:
    return np.eye(3, 4) if affine is None else np.asarray(affine, np.float64)


def corners(points: Array) -> Iterator[tuple[Array, Array]]:
    """The eight whole-number neighbours of each point and their trilinear weights."""
    base = np.floor(points)
    fraction = points - base
    for corner in product((0, 1), repeat=3):
        step = np.reshape(corner, (3, *[1] * (points.ndim - 1)))
        weight = np.where(step == 1, fraction, 1 - fraction).prod(axis=0)
        yield (base + step).astype(np.int64), weight


def sample(volume: Array, points: Array) -> Array:
    """Trilinear, the border held."""
    last = np.reshape(volume.shape, (3, *[1] * (points.ndim - 1))) - 1
    held = np.clip(points, 0, last)
    value = np.zeros(points.shape[1:])
    for corner, weight in corners(held):
        z, y, x = np.minimum(corner, last)
        value += weight * volume[z, y, x].astype(np.float64)
    return value


def sample_field(field: Array, points: Array) -> Array:
    return np.stack([sample(component, points) for component in field])


def sample_mask(mask: Array, points: Array) -> Array:
    """Trilinear, zero outside; an axis of one voxel has no outside."""
    thick = np.array(mask.shape) > 1
    padded = np.pad(mask.astype(np.float64), [(2, 2) if t else (0, 0) for t in thick])
    return sample(padded, points + 2 * np.reshape(thick, (3, *[1] * (points.ndim - 1))))


def lies_inside(shape: tuple[int, ...], points: Array) -> Array:
    lengths = np.reshape(shape, (3, *[1] * (points.ndim - 1)))
    within: Array = np.all((points >= -0.5) & (points < lengths - 0.5), axis=0, keepdims=True)[0]
    return within


def nearest(volume: Array, points: Array) -> Array:
    last = np.reshape(volume.shape, (3, *[1] * (points.ndim - 1))) - 1
    z, y, x = np.floor(np.clip(points, 0, last) + 0.5).astype(np.int64)
    taken: Array = volume[z, y, x]
    return taken


def mirrored(index: Array, length: int) -> Array:
    """Indices of an axis that goes on as its mirror image about the outermost voxels."""
    period = max(1, 2 * length - 2)
    index = np.abs(index) % period
    return np.where(index < length, index, period - index)


def positions(displacement: Array, affine: ArrayLike | None) -> Array:
    """(3, D, H, W) where each fixed voxel looks in the moving grid."""
    return apply_affine(identity_or(affine), index_grid(displacement.shape[1:]) + displacement)
