"""sum_distances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from segreg.kernels import reference, sum_distances


@pytest.mark.parametrize("points", [1, 63, 64, 1000])
@pytest.mark.parametrize("centres", [1, 37])
def test_agrees_with_reference_and_scipy(machine, rng, points, centres):
    where = rng.normal(0, 50, (3, points)).astype(np.float32)
    middle, weights = rng.normal(0, 50, (centres, 3)), rng.normal(0, 1, (centres, 3))
    found = machine.get(sum_distances(machine.put(where), middle, weights))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.T, cdist(where.T, middle) @ weights, rtol=1e-4, atol=2e-3)
    np.testing.assert_allclose(
        found, reference.sum_distances(where, middle, weights), rtol=1e-4, atol=2e-3
    )


def test_is_zero_at_its_only_centre(machine):
    where = machine.put(np.array([[1.0, 4.0], [2.0, 2.0], [3.0, -1.0]], np.float32))
    found = machine.get(sum_distances(where, [[1, 2, 3]], [[1, 0, -2]]))
    np.testing.assert_array_equal(found[:, 0], 0)
    np.testing.assert_allclose(found[:, 1], [5, 0, -10])


def test_refuses_what_does_not_fit():
    points = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"weights: expected \(2, 3\)"):
        sum_distances(points, np.zeros((2, 3)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"points: expected \(3, N\)"):
        sum_distances(points.T, np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="centres"):
        sum_distances(points, [], [])
