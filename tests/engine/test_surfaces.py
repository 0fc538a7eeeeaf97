"""Distances between outlines, against scipy's distance transform."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.engine.surfaces import surface_distances


def outline(mask: np.ndarray) -> np.ndarray:
    """Voxels with a face neighbour outside; beyond the volume is outside, save across a slice."""
    padded = np.pad(mask, [(0, 0) if n == 1 else (1, 1) for n in mask.shape])
    cross = ndimage.generate_binary_structure(3, 1)
    for axis, n in enumerate(mask.shape):
        if n == 1:
            cross = cross & (np.indices(cross.shape)[axis] == 1)
    inner = ndimage.binary_erosion(padded, cross)
    border = tuple(slice(None) if n == 1 else slice(1, -1) for n in mask.shape)
    return mask & ~inner[border]


def expected(first: np.ndarray, second: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    outlines = outline(first), outline(second)
    reach = [ndimage.distance_transform_edt(~line, sampling=spacing) for line in outlines]
    return np.concatenate([reach[1][outlines[0]], reach[0][outlines[1]]])


def blob(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 2, mode="constant")
    return np.asarray(smooth > np.quantile(smooth, 0.8))


@pytest.mark.parametrize("shape", [(14, 17, 19), (1, 20, 21), (9, 1, 12), (11, 8, 1)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.7, 1.3)])
@pytest.mark.parametrize("seed", [0, 5])
def test_agrees_with_scipy(
    shape: tuple[int, int, int], spacing: tuple[float, ...], seed: int
) -> None:
    first, second = blob(seed, shape), blob(seed + 1, shape)
    found = surface_distances(first, second, np.array(spacing))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(first, second, np.array(spacing)), rtol=1e-5)


def test_swapping_the_masks_swaps_the_halves() -> None:
    first, second = blob(0, (12, 12, 12)), blob(1, (12, 12, 12))
    spacing = np.array([2.0, 1.0, 1.5])
    there, back = (
        surface_distances(*masks, spacing) for masks in ((first, second), (second, first))
    )
    count = np.count_nonzero(outline(first))
    np.testing.assert_array_equal(np.roll(there, -count), back)


def test_same_outline_is_at_zero() -> None:
    mask = blob(2, (10, 12, 11))
    found = surface_distances(mask, mask, np.array([3.0, 1.0, 1.0]))
    assert len(found) == 2 * np.count_nonzero(outline(mask))
    assert not found.any()


def test_whole_volume_has_its_border_as_outline() -> None:
    full = np.ones((4, 5, 6), bool)
    found = surface_distances(full, full, np.ones(3))
    assert len(found) == 2 * (4 * 5 * 6 - 2 * 3 * 4)


def test_parallel_planes() -> None:
    first, second = np.zeros((2, 9, 8, 7), bool)
    first[2], second[6] = True, True
    found = surface_distances(first, second, np.array([2.5, 1.0, 1.0]))
    np.testing.assert_allclose(found, 10.0)
    assert len(found) == 2 * 8 * 7


@pytest.mark.parametrize("empty", [0, 1])
def test_nothing_to_measure_to(empty: int) -> None:
    masks = [blob(0, (6, 6, 6)), blob(1, (6, 6, 6))]
    masks[empty] = np.zeros((6, 6, 6), bool)
    assert surface_distances(masks[0], masks[1], np.ones(3)).shape == (0,)


def test_masks_are_left_alone() -> None:
    masks = blob(0, (8, 8, 8)), blob(1, (8, 8, 8))
    kept = [mask.copy() for mask in masks]
    surface_distances(*masks, np.ones(3))
    for mask, before in zip(masks, kept, strict=True):
        np.testing.assert_array_equal(mask, before)
