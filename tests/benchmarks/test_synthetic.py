"""Generated pairs: as many regions as asked for, of one size, in need of more than an affine."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from benchmarks.datasets import Pair
from benchmarks.synthetic import write_pair


def read(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj).T


def test_files(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, (30, 36, 40), 5, 2)
    for path in (pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels):
        assert read(path).shape == (30, 36, 40)
        assert max(nibabel.load(path).header.get_zooms()) == pytest.approx(192 / 40)
    assert read(pair.moving).dtype == np.int16
    for labels in (read(pair.moving_labels), read(pair.fixed_labels)):
        assert labels.dtype == np.uint8
        assert sorted(np.unique(labels)) == list(range(6))
    inside = read(pair.fixed_labels) > 0
    assert read(pair.fixed)[inside].mean() > 2 * read(pair.fixed)[~inside].mean()


def test_more_regions_leave_the_others_alone(tmp_path: Path) -> None:
    def labels(count: int) -> np.ndarray:
        return read(write_pair(tmp_path, (40, 40, 40), count, 3).fixed_labels)

    few, many = labels(2), labels(20)
    np.testing.assert_array_equal(np.where(many <= 2, many, 0), few)
    sizes = np.bincount(many.ravel())[1:]
    assert sizes.min() > 0.5 * sizes.max()  # of one size: blobs neither clipped nor covered


def test_sides_differ_by_more_than_a_shift(tmp_path: Path) -> None:
    pair: Pair = write_pair(tmp_path, (32, 32, 32), 1, 1)
    moving, fixed = read(pair.moving_labels) > 0, read(pair.fixed_labels) > 0
    # Grown about its centre to the other's extent, a convex blob would cover it.
    shifted = [
        2 * np.count_nonzero(np.roll(moving, shift, (0, 1, 2)) & fixed)
        / (np.count_nonzero(moving) + np.count_nonzero(fixed))
        for shift in np.ndindex(5, 5, 5)
    ]  # fmt: skip
    assert max(shifted) < 0.95


@pytest.mark.parametrize("count", [0, 9])
def test_too_many_regions(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 8 regions"):
        write_pair(tmp_path, (16, 16, 16), count, 2)
