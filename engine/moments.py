"""Closed-form alignment from first and second moments; no pixels, no iterations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STRETCH_LIMITS = (0.5, 2.0)  # a region twice as long on one side is plausible, four times is not


def match_moments(
    fixed_mean: Array, fixed_covariance: Array, moving_mean: Array, moving_covariance: Array
) -> Array:
    """Affine map (4, 4) that carries the fixed region's mean and covariance onto the moving one's.

    The linear part is the optimal-transport map between two Gaussians,
    ``F^-1/2 (F^1/2 M F^1/2)^1/2 F^-1/2`` (Dowson and Landau 1982): symmetric, so it neither
    reflects nor rotates more than the moments demand. Its stretches are clipped to
    ``STRETCH_LIMITS``.

    Parameters
    ----------
    fixed_mean, moving_mean : (3,)
    fixed_covariance, moving_covariance : (3, 3) positive definite, same unit as the means squared.
    """
    root = _power(fixed_covariance, 0.5)
    inverse_root = _power(fixed_covariance, -0.5)
    linear = inverse_root @ _power(root @ moving_covariance @ root, 0.5) @ inverse_root
    left, stretch, right = np.linalg.svd(linear)
    linear = left @ np.diag(np.clip(stretch, *STRETCH_LIMITS)) @ right
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = moving_mean - linear @ fixed_mean
    return affine


def _power(matrix: Array, exponent: float) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 1e-9) ** exponent) @ vectors.T)
