"""jacobian_sums and count_folds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from segreg.kernels import count_folds, jacobian_sums, reference

SIZES = [(1, 5, 7), (19, 3, 11), (33, 20, 17), (2, 2, 1)]


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_agrees_with_reference(machine, rng, random_labels, shape):
    regions = random_labels(shape, 4)
    jacobian = rng.normal(0.7, 0.6, shape).astype(np.float32)
    found = jacobian_sums(machine.put(jacobian), machine.put(regions), 5)
    expected = reference.jacobian_sums(jacobian, regions, 5)
    for field in dataclasses.fields(found):
        value, wanted = getattr(found, field.name), getattr(expected, field.name)
        assert isinstance(value, np.ndarray)
        np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=1e-6, err_msg=field.name)
    assert found.voxels.sum() == regions.size


def test_measures(rng):
    regions = np.zeros((9, 10, 11), np.int32)
    regions[2:7, 2:8, 2:9] = 1
    jacobian = rng.normal(0.7, 0.6, regions.shape).astype(np.float32)
    inside = jacobian[3:6, 3:7, 3:8].astype(float)
    sums = jacobian_sums(jacobian, regions, 2)
    assert sums.mean[1] == pytest.approx(inside.mean())
    assert sums.folding_percent[1] == pytest.approx(100 * (inside <= 0).mean())
    assert sums.log_deviation[1] == pytest.approx(np.log(inside[inside > 0]).std())
    assert np.isnan([sums.mean[2], sums.folding_percent[2], sums.log_deviation[2]]).all()
    joined = sums.joined(slice(1, 3))
    assert float(joined.log_deviation) == pytest.approx(sums.log_deviation[1])
    assert int(joined.voxels) == inside.size


def test_numbers_beyond_count_are_seams(machine):
    regions = np.full((3, 4, 5), 7, np.int32)
    found = jacobian_sums(machine.put(np.ones((3, 4, 5), np.float32)), machine.put(regions), 2)
    assert found.voxels.tolist() == [0, 0, 0, 60]


@pytest.mark.parametrize(
    ("cells", "stride"),
    [((1, 1, 1), 2), ((7, 7, 7), 1), ((12, 12, 12), 2), ((3, 11, 20), 3), ((17, 1, 6), 2)],
)
def test_folds_are_counted_inside_the_mask(machine, rng, cells, stride):
    field = rng.normal(0, 0.6, (3, 3, *cells)).astype(np.float32)
    field[1] = 0  # does not fold
    batch = rng.uniform(0, 1, (3, 2, *np.multiply(cells, stride))).astype(np.float32)
    inside, folded = count_folds(machine.put(field), machine.put(batch), 1)
    mask = batch[:, 1, ::stride, ::stride, ::stride] > 0.5
    determinant = reference.jacobian_determinant(field)
    np.testing.assert_array_equal(inside, mask.sum(axis=(1, 2, 3)))
    np.testing.assert_array_equal(folded, ((determinant <= 0) & mask).sum(axis=(1, 2, 3)))
    assert folded[1] == 0
    assert cells == (1, 1, 1) or folded[0] > 0
