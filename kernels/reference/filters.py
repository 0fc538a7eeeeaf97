"""Separable filters."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels.reference.points import Array, mirrored


def spline_coefficients(volume: Array) -> Array:
    """See ``segreg.kernels.spline_coefficients``: solved for, along each of the last three axes."""
    result = volume.astype(np.float64)
    for axis in (-3, -2, -1):
        length = volume.shape[axis]
        samples = np.zeros((length, length))
        for step, weight in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6)):
            rows = np.arange(length)
            np.add.at(samples, (rows, mirrored(rows + step, length)), weight)
        inverse = np.linalg.inv(samples)
        result = np.moveaxis(np.moveaxis(result, axis, -1) @ inverse.T, -1, axis)
    return result


def smooth(
    volume: Array, sigma: ArrayLike, spacing: ArrayLike = (1, 1, 1), *, truncate: float = 4.0
) -> Array:
    """See ``segreg.kernels.smooth``."""
    result = volume.astype(np.float64)
    deviations = np.broadcast_to(np.asarray(sigma) / np.asarray(spacing), (3,))
    for axis, deviation in zip((-3, -2, -1), deviations, strict=True):
        if deviation == 0:
            continue
        radius = int(truncate * deviation + 0.5)
        offsets = np.arange(-radius, radius + 1)
        weights = np.exp(-((offsets / deviation) ** 2) / 2)
        places = np.arange(volume.shape[axis])
        last = volume.shape[axis] - 1
        result = sum(
            weight * result.take(np.clip(places + offset, 0, last), axis)
            for weight, offset in zip(weights / weights.sum(), offsets, strict=True)
        )
    return result
