"""Images and label maps seen through a field."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels.reference.filters import spline_coefficients
from segreg.kernels.reference.points import Array, lies_inside, mirrored, nearest, positions, sample


def _b_spline(x: Array) -> Array:
    """Cubic B-spline at distance ``x``."""
    x = np.abs(x)
    inner, outer = 2 / 3 - x**2 + x**3 / 2, np.maximum(2 - x, 0) ** 3 / 6
    return np.where(x < 1, inner, outer)


def _cubic(coefficients: Array, points: Array) -> Array:
    """Cubic B-spline of these coefficients, mirrored."""
    base = np.floor(points)
    value = np.zeros(points.shape[1:])
    for step in product((-1, 0, 1, 2), repeat=3):
        corner = base + np.reshape(step, (3, *[1] * (points.ndim - 1)))
        weight = _b_spline(points - corner).prod(axis=0)
        z, y, x = map(mirrored, corner.astype(np.int64), coefficients.shape)
        value += weight * coefficients[z, y, x]
    return value


def warp(
    moving: Array,
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    mode: str = "linear",
    outside: float = 0.0,
    prefiltered: bool = False,
) -> Array:
    """See ``segreg.kernels.warp``."""
    if mode == "cubic" and not prefiltered:
        moving = spline_coefficients(moving)
    take = {"linear": sample, "nearest": nearest, "cubic": _cubic}[mode]
    batch = []
    for image, field in zip(moving, displacement, strict=True):
        points = positions(field, affine)
        inside = lies_inside(image.shape[1:], points)
        batch.append([np.where(inside, take(channel, points), outside) for channel in image])
    return np.array(batch)


def label_votes(
    labels: Array, displacement: Array, *, affine: ArrayLike | None = None
) -> tuple[Array, Array]:
    """The labels there are, ascending, and their trilinear weights (L, D, H, W), inside or not."""
    points = positions(displacement[0], affine)
    kinds = np.unique(labels)
    return kinds, np.stack([sample(labels == kind, points) for kind in kinds])


def warp_labels(
    labels: Array,
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    mode: str = "vote",
) -> Array:
    """See ``segreg.kernels.warp_labels``."""
    points = positions(displacement[0], affine)
    if mode == "nearest":
        warped = nearest(labels, points)
    else:
        kinds, votes = label_votes(labels, displacement, affine=affine)
        warped = kinds[votes.argmax(axis=0)]
    return np.where(lies_inside(labels.shape, points), warped, 0).astype(labels.dtype)


def overlap(
    moving: Array,
    fixed: Array,
    displacement: Array | None,
    count: int,
    *,
    affine: ArrayLike | None = None,
    mode: str = "vote",
) -> Array:
    """See ``segreg.kernels.overlap``."""
    if displacement is None:
        displacement = np.zeros((1, 3, *fixed.shape))
    warped = warp_labels(moving, displacement, affine=affine, mode=mode)
    table = np.zeros((count + 1, count + 1), np.int64)
    np.add.at(table, (fixed.ravel(), warped.ravel()), 1)
    return table
