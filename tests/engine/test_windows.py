"""Windows cover everything, blend without seams, and pad what is too small."""

from __future__ import annotations

import numpy as np
import pytest

from segreg.engine.windows import gaussian_weight, run_windows, window_places


def double(batch: np.ndarray) -> np.ndarray:
    """A network of two outputs that looks at one voxel at a time."""
    return np.concatenate([batch, 2 * batch], 1)


@pytest.mark.parametrize("shape", [(5, 17, 23), (1, 8, 8), (9, 9, 30)])
@pytest.mark.parametrize("patch", [(4, 8, 8), (None, 8, 16), (None, None, None), (16, 32, 40)])
def test_a_pointwise_network_is_reproduced(
    shape: tuple[int, int, int], patch: tuple[int | None, ...]
) -> None:
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    shapes = []

    def infer(batch: np.ndarray) -> np.ndarray:
        shapes.append(batch.shape)
        return double(batch)

    found = run_windows(infer, images, patch, (1, 4, 8), 0.5)
    np.testing.assert_allclose(found, double(images[:, None]), rtol=1e-5)
    for batch, _, *window in shapes:
        assert batch == 2
        for extent, given, size, step in zip(window, patch, shape, (1, 4, 8), strict=True):
            assert extent == given if given else (extent % step == 0 and extent < size + step)


def test_places_cover_with_the_overlap_asked_for() -> None:
    seen = np.zeros((7, 40, 33), int)
    starts = set()
    for place in window_places((7, 40, 33), (7, 16, 16), 0.5):
        seen[place] += 1
        starts.add(place[1].start)
        assert all(part.stop - part.start == n for part, n in zip(place, (7, 16, 16), strict=True))
    assert seen.min() >= 1
    assert sorted(starts) == [0, 8, 16, 24]


def test_the_middle_of_a_window_counts_most() -> None:
    """Two windows that say 0 and 1: the answer turns from one to the other without a step."""
    calls = iter(range(2))
    found = run_windows(
        lambda batch: np.full_like(batch, next(calls)),
        np.zeros((1, 1, 1, 24), np.float32), (1, 1, 16), (1, 1, 1), 0.5,
    )[0, 0, 0, 0]
    assert found[:8].max() == 0
    assert found[16:].min() == 1
    assert (np.diff(found[8:16]) > 0).all()
    np.testing.assert_allclose(found[8:16] + found[15:7:-1], 1, atol=1e-6)


def test_weight_is_symmetric_and_positive() -> None:
    weight = gaussian_weight((4, 5, 6))
    np.testing.assert_allclose(weight, weight[::-1, ::-1, ::-1])
    assert weight.max() == 1
    assert weight.min() > 0
