"""surface_distances, against brute force and scipy's distance transform."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.kernels import SurfaceDistances, reference, region_stats, surface_distances

SIZES = [(14, 17, 19), (1, 20, 21), (9, 1, 12), (11, 8, 1), (1, 1, 5)]


def blobs(seed: int, shape: tuple[int, int, int], count: int = 3) -> np.ndarray:
    """Regions 1..count where one of several smooth noises is high."""
    noise = np.random.default_rng(seed).normal(size=(count, *shape))
    smooth = np.stack([ndimage.gaussian_filter(n, 2, mode="constant") for n in noise])
    high = smooth.max(axis=0) > np.quantile(smooth.max(axis=0), 0.5)
    return np.where(high, smooth.argmax(axis=0) + 1, 0).astype(np.int32)


def measured(machine, first, second, spacing, count: int = 3) -> SurfaceDistances:
    image = np.zeros(first.shape, np.float32)
    sides = [machine.put(first), machine.put(second)]
    stats = tuple(region_stats(side, machine.put(image), count) for side in sides)
    return surface_distances(*sides, stats, spacing)


def listed(found: SurfaceDistances, region: int) -> np.ndarray:
    return np.repeat(found.distances, found.counts[region])


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.7, 1.3)])
def test_agrees_with_reference(machine, shape, spacing):
    first, second = blobs(0, shape), blobs(3, shape)
    found = measured(machine, first, second, spacing, count=4)
    assert found.counts.shape == (5, len(found.distances))
    for region in (1, 2, 3):
        expected = reference.surface_distances(first, second, region, spacing)
        np.testing.assert_allclose(listed(found, region), expected, rtol=1e-5)
    assert not found.counts[[0, 4]].any()


def outline(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def test_agrees_with_scipy(machine):
    first, second = blobs(1, (30, 40, 50)), blobs(2, (30, 40, 50))
    spacing = (2.0, 1.0, 1.5)
    found = measured(machine, first, second, spacing)
    for region in (1, 2, 3):
        lines = outline(first == region), outline(second == region)
        reach = [ndimage.distance_transform_edt(~line, sampling=spacing) for line in lines]
        expected = np.sort(np.concatenate([reach[1][lines[0]], reach[0][lines[1]]]))
        assert expected[-1] > 8  # beyond what is looked at voxel by voxel
        np.testing.assert_allclose(listed(found, region), expected, rtol=1e-5)
        assert found.mean(region) == pytest.approx(expected.mean(), rel=1e-6)
        for percent in (0, 37.3, 95, 100):
            wanted = np.percentile(expected, percent)
            assert found.percentile(region, percent) == pytest.approx(wanted, rel=1e-5)


def test_same_outline_is_at_zero(machine):
    regions = blobs(2, (10, 12, 11))
    found = measured(machine, regions, regions, (3.0, 1.0, 1.0))
    assert found.distances[0] == 0
    assert not found.counts[:, 1:].any()
    assert found.counts[1, 0] == 2 * len(reference.outline_indices(regions == 1))


@pytest.mark.parametrize("way", [(0, 0, 50), (40, 0, 0), (30, 30, 30), (3, 2, 1)])
def test_specks_far_apart(machine, way):
    first, second = np.zeros((2, 45, 46, 60), np.int32)
    first[2, 3, 4] = 1
    second[2 + way[0], 3 + way[1], 4 + way[2]] = 1
    found = measured(machine, first, second, (1.0, 2.0, 0.5), count=1)
    expected = np.linalg.norm(np.array(way) * (1.0, 2.0, 0.5))
    np.testing.assert_allclose(listed(found, 1), [expected, expected], rtol=1e-6)


def test_region_on_one_side_only_has_no_distances(machine):
    first, second = np.zeros((2, 6, 7, 8), np.int32)
    first[2:4, 2:4, 2:4] = 1
    second[1:3, 2:4, 2:4] = second[4:, 5:, 6:] = 2
    found = measured(machine, first, second, (1.0, 1.0, 1.0), count=2)
    assert not found.counts.any()
    assert np.isnan([found.mean(1), found.percentile(2, 95)]).all()


def test_whole_volume_has_its_border_as_outline(machine):
    full = np.ones((4, 5, 6), np.int32)
    found = measured(machine, full, full, (1.0, 1.0, 1.0), count=1)
    assert found.counts[1].sum() == 2 * (4 * 5 * 6 - 2 * 3 * 4)


def test_of_a_view(machine):
    first, second = blobs(0, (8, 9, 10)), blobs(1, (8, 9, 10))
    image = np.zeros((8, 9, 10), np.float32)
    stats = tuple(region_stats(side.T, image.T, 3) for side in (first, second))
    turned = surface_distances(
        machine.put(first).T, machine.put(second).T, stats, (3.0, 2.0, 1.0)
    )
    straight = measured(machine, first, second, (1.0, 2.0, 3.0))
    np.testing.assert_array_equal(turned.counts, straight.counts)
