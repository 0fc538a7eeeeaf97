"""The part of a grid around its regions."""

from __future__ import annotations

import numpy as np
import pytest

from segreg.engine.frames import Frame
from segreg.kernels import region_stats

SHAPE = (12, 40, 41)


@pytest.fixture
def regions():
    regions = np.zeros(SHAPE, np.int32)
    regions[5:8, 20:25, 2:6] = 1
    regions[6:9, 22:26, 4:8] = 3
    return regions


def frame_of(regions, reach=5.0, spacing=(2.5, 1.0, 1.0)):
    stats = region_stats(regions, np.zeros(regions.shape, np.float32), 4)
    return Frame.around(stats, regions.shape, np.array(spacing), reach)


def test_holds_the_regions_and_what_is_near(regions):
    frame = frame_of(regions)
    np.testing.assert_array_equal(frame.low, (3, 15, 0))
    np.testing.assert_array_equal(frame.high, (11, 31, 13))
    np.testing.assert_array_equal(frame.cut(regions), regions[3:11, 15:31, :13])
    voxel = np.array([1.0, 2.0, 3.0])
    matrix = np.random.default_rng(0).standard_normal((3, 4))
    shifted = frame.shift(matrix)
    there = voxel + np.array([3, 15, 0])
    np.testing.assert_allclose(
        shifted[:, :3] @ voxel + shifted[:, 3], matrix[:, :3] @ there + matrix[:, 3]
    )


def test_changes_fade_where_the_grid_goes_on(regions):
    frame = frame_of(regions)
    field = np.zeros((3, *SHAPE), np.float32)
    frame.add(np.ones((3, 8, 16, 13), np.float32), field)
    assert (field[:, regions > 0] == 1).all()
    np.testing.assert_array_equal(field[:, 6, 22, :2], 1)  # the grid ends there
    np.testing.assert_allclose(field[0, 6, 15:21, 3], np.arange(1, 7) / 6, rtol=1e-6)
    np.testing.assert_allclose(field[1, 6, 22, 12:14], (1 / 6, 0), rtol=1e-6)
    field[:, 3:11, 15:31, :13] = 0
    assert not field.any()


def test_without_regions_it_is_the_grid():
    frame = frame_of(np.zeros(SHAPE, np.int32))
    np.testing.assert_array_equal(frame.high - frame.low, SHAPE)
