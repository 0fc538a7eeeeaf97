"""The largest connected part of a label, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.engine.components import fill_holes, keep_largest, largest_component


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    inside = random.random(random.integers(1, 12, 3)) < random.uniform(0.05, 0.7)
    found = largest_component(inside)
    parts, count = ndimage.label(inside)
    if not count:
        assert not found.any()
        return
    sizes = np.bincount(parts.ravel())[1:]
    np.testing.assert_array_equal(found, parts == 1 + sizes.argmax())


def test_a_row_does_not_run_on_into_the_next() -> None:
    inside = np.zeros((2, 2, 4), bool)
    inside[0, 0, 2:], inside[0, 1, :1], inside[1, 0, 0] = True, True, True
    found = largest_component(inside)
    assert found.sum() == 2
    assert found[0, 0, 2:].all()


def test_labels_taken_as_one() -> None:
    """A false part is larger than the true one, which is joined to the rest of its organ."""
    labels = np.zeros((3, 12, 12), np.uint8)
    labels[1, 1:6, 1:4], labels[1, 1:3, 4:6], labels[1, 8:11, 8:11] = 1, 2, 2
    together = keep_largest(labels, [[1, 2], 2])
    assert (together[1, 8:11, 8:11] == 0).all()
    assert (together[1, 1:3, 4:6] == 2).all()
    alone = keep_largest(labels, [2])
    assert (alone[1, 8:11, 8:11] == 2).all()
    assert (alone[1, 1:3, 4:6] == 0).all()


def test_other_labels_stay() -> None:
    labels = np.zeros((3, 9, 9), np.uint8)
    labels[1, 1:4, 1:4], labels[1, 6, 6], labels[2, 8, 8], labels[0, 0, 0] = 1, 1, 2, 2
    cleaned = keep_largest(labels, [1, 7])
    assert cleaned[1, 6, 6] == 0
    assert (cleaned == 1).sum() == 9
    assert (cleaned == 2).sum() == 2
    assert labels[1, 6, 6] == 1  # what was handed over is left alone
    assert cleaned.dtype == labels.dtype


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("seed", range(15))
def test_holes_of_slices_agree_with_scipy(seed: int, axis: int) -> None:
    random = np.random.default_rng(seed)
    inside = random.random(random.integers(1, 14, 3)) < random.uniform(0.3, 0.8)
    slices = np.moveaxis(inside, axis, 0)
    expected = np.stack([ndimage.binary_fill_holes(one) for one in slices])
    np.testing.assert_array_equal(fill_holes(inside, axis), np.moveaxis(expected, 0, axis))
