"""region_stats."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from segreg.kernels import reference, region_stats

SIZES = [(1, 5, 7), (19, 3, 11), (33, 20, 17)]

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


@sizes
def test_stats_agree_with_reference(machine, rng, random_labels, shape):
    regions = random_labels(shape, 4)
    image = (100 + 20 * rng.standard_normal(shape)).astype(np.float32)
    # Region 6 is there but empty, as region 5.
    stats = region_stats(machine.put(regions), machine.put(image), 6)
    expected = reference.region_stats(regions, image, 6)
    for field in dataclasses.fields(stats):
        value, wanted = getattr(stats, field.name), getattr(expected, field.name)
        assert isinstance(value, np.ndarray)
        assert value.shape == wanted.shape
        if value.dtype.kind == "i":
            np.testing.assert_array_equal(value, wanted, err_msg=field.name)
        else:
            np.testing.assert_allclose(value, wanted, atol=1e-9, err_msg=field.name)
    assert stats.voxels.dtype == np.int64
    assert stats.low.dtype == stats.high.dtype == np.int32


def test_stats_of_a_view(machine, rng, random_labels):
    regions = random_labels((8, 9, 10), 3)
    image = rng.standard_normal((8, 9, 10)).astype(np.float32)
    turned = region_stats(machine.put(regions).T, machine.put(image).T, 3)
    straight = region_stats(machine.put(regions), machine.put(image), 3)
    np.testing.assert_array_equal(turned.mean, straight.mean[:, ::-1])
    np.testing.assert_array_equal(turned.low, straight.low[:, ::-1])


def test_stats_of_constant_intensity_have_no_spread(machine):
    regions = np.ones((5, 6, 7), np.int32)
    image = np.full((5, 6, 7), 0.1, np.float32)
    stats = region_stats(machine.put(regions), machine.put(image), 1)
    assert stats.intensity_std[1] < 1e-8
    assert stats.voxels.tolist() == [0, 210]


@pytest.mark.parametrize("number", [3, -1, 32767])
def test_stats_refuse_numbers_beyond_count(machine, number):
    regions = np.zeros((3, 4, 5), np.int32)
    regions[1, 2, 3:] = number
    image = np.zeros((3, 4, 5), np.float32)
    with pytest.raises(ValueError, match="expected numbers 0 to 2, got others in 2 voxels"):
        region_stats(machine.put(regions), machine.put(image), 2)


def test_union_is_what_all_regions_as_one_measure(rng, random_labels):
    regions = random_labels((19, 13, 11), 4)
    image = (100 + 20 * rng.standard_normal(regions.shape)).astype(np.float32)
    union = region_stats(regions, image, 6).union()  # 5 and 6 are empty
    expected = region_stats((regions > 0).astype(np.int32), image, 1)
    for field in dataclasses.fields(union):
        value, wanted = getattr(union, field.name), getattr(expected, field.name)
        assert value.dtype == wanted.dtype
        np.testing.assert_allclose(value, wanted, rtol=1e-9, err_msg=field.name)


def test_boxes_hold_the_regions(random_labels):
    regions = random_labels((7, 8, 9), 3)
    stats = region_stats(regions, np.zeros(regions.shape, np.float32), 3)
    for k in range(1, 4):
        box = stats.boxes[k]
        inside = regions[tuple(slice(*pair) for pair in zip(box[:3], box[3:], strict=True))]
        assert (inside == k).sum() == (regions == k).sum()
        assert stats.boxes[k].tolist() == [*stats.low[k], *stats.high[k]]
