from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segreg.engine.moments import STRETCH_LIMITS, match_moments


def covariance(seed: int, low: float = 4.0, high: float = 9.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return (vectors * rng.uniform(low, high, 3)) @ vectors.T


@given(st.integers(0, 10_000))
def test_carries_mean_and_covariance_exactly_within_the_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fixed, moving = covariance(seed), covariance(seed + 1)
    means = rng.normal(size=(2, 3)) * 50
    affine = match_moments(means[0], fixed, means[1], moving)
    linear = affine[:3, :3]
    np.testing.assert_allclose(linear @ means[0] + affine[:3, 3], means[1], atol=1e-9)
    np.testing.assert_allclose(linear @ fixed @ linear.T, moving, atol=1e-9)
    np.testing.assert_allclose(linear, linear.T, atol=1e-9)
    assert np.linalg.det(linear) > 0


def test_same_moments_give_the_identity() -> None:
    affine = match_moments(np.ones(3), covariance(3), np.ones(3), covariance(3))
    np.testing.assert_allclose(affine, np.eye(4), atol=1e-12)


@pytest.mark.parametrize("scale", [100.0, 0.01])
def test_stretch_is_clipped(scale: float) -> None:
    affine = match_moments(np.zeros(3), np.eye(3), np.zeros(3), np.eye(3) * scale)
    limit = STRETCH_LIMITS[1] if scale > 1 else STRETCH_LIMITS[0]
    np.testing.assert_allclose(affine[:3, :3], limit * np.eye(3))
