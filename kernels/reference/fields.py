"""Displacement fields."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels.reference.points import (
    Array,
    apply_affine,
    identity_or,
    index_grid,
    sample_field,
)


def compose(first: Array, second: Array) -> Array:
    """See ``segreg.kernels.compose``."""
    points = index_grid(second.shape[2:])
    pairs = zip(first, second.astype(np.float64), strict=True)
    return np.stack([v + sample_field(u, points + v) for u, v in pairs])


def integrate(velocity: Array, steps: int, *, scale: float = 1.0) -> Array:
    """See ``segreg.kernels.integrate``."""
    displacement: Array = scale * velocity.astype(np.float64) / 2**steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


def jacobian_determinant(displacement: Array) -> Array:
    """See ``segreg.kernels.jacobian_determinant``."""
    rows = []
    for component in range(3):
        slopes = []
        for axis in range(3):
            u = displacement[:, component].astype(np.float64)
            thin = u.shape[1 + axis] == 1
            slope = np.zeros_like(u) if thin else np.gradient(u, axis=1 + axis)
            slopes.append(slope + (component == axis))
        rows.append(np.stack(slopes, axis=-1))
    determinant: Array = np.linalg.det(np.stack(rows, axis=-2))
    return determinant


def invert(
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    shape: tuple[int, ...] | None = None,
    guess: ArrayLike | None = None,
    steps: int = 30,
) -> tuple[Array, Array]:
    """See ``segreg.kernels.invert``."""
    start = identity_or(guess)
    target = apply_affine(identity_or(affine), index_grid(shape or displacement.shape[2:]))

    def missed(point: Array) -> Array:
        return target - point - sample_field(displacement[0], point)

    point = apply_affine(start, target)
    residual = missed(point)
    step = np.ones(target.shape[1:])
    for _ in range(steps):
        trial = point + step * np.tensordot(start[:, :3], residual, 1)
        left = missed(trial)
        better = (left**2).sum(axis=0) < (residual**2).sum(axis=0)
        point = np.where(better, trial, point)
        residual = np.where(better, left, residual)
        step = np.where(better, np.minimum(1, 2 * step), step / 2)
    return (point - target)[None], np.sqrt((residual**2).sum(axis=0))


def resample_field(field: Array, shape: tuple[int, ...]) -> Array:
    """See ``segreg.kernels.resample_field``."""
    ratio = np.array(field.shape[2:]) / np.array(shape)
    points = (index_grid(shape) + 0.5) * ratio.reshape(3, 1, 1, 1) - 0.5
    resampled = np.stack([sample_field(u, points) for u in field])
    resized: Array = resampled / ratio.reshape(3, 1, 1, 1)
    return resized


def sum_distances(points: Array, centres: ArrayLike, weights: ArrayLike) -> Array:
    """See ``segreg.kernels.sum_distances``."""
    way = points.astype(np.float64).T[:, None] - np.asarray(centres, np.float64)
    sums: Array = (np.sqrt((way**2).sum(axis=-1)) @ np.asarray(weights, np.float64)).T
    return sums
