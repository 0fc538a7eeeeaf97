"""Regions to ask a network about are seeded, and shifted by exactly what they say."""

from __future__ import annotations

import numpy as np
import pytest

from segreg.engine.probes import random_batch, shifted_batch, structured_batch

CHANNELS = ("moving_masked_image", "moving_mask", "fixed_image", "fixed_mask")
SHAPE = (16, 20, 18)


@pytest.mark.parametrize("make", [random_batch, structured_batch])
def test_same_every_time(make) -> None:
    first, second = make(SHAPE, CHANNELS, 3), make(SHAPE, CHANNELS, 3)
    assert first.shape == (3, 4, *SHAPE)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    assert np.abs(first).max() <= 1
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("make", [structured_batch, shifted_batch])
def test_channels_are_what_they_are_called(make) -> None:
    names = ("moving_image", *CHANNELS, "fixed_masked_image")
    batch = make(SHAPE, names, np.ones((1, 3)) if make is shifted_batch else 1)[0]
    shown = dict(zip(names, batch, strict=True))
    for side in ("moving", "fixed"):
        mask, image = shown[f"{side}_mask"], shown[f"{side}_image"]
        assert mask.min() == 0
        assert mask.max() == 1
        assert (mask[0] == 0).all()
        np.testing.assert_allclose(shown[f"{side}_masked_image"], image * mask, atol=1e-6)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("cells", [2, -3])
def test_shift_is_a_pull_back(axis: int, cells: int) -> None:
    """moving(x + s) = fixed(x)."""
    shift = np.zeros((1, 3))
    shift[0, axis] = cells
    batch = shifted_batch(SHAPE, ("moving_image", *CHANNELS[1:]), shift)
    moving, fixed = batch[0, :2], batch[0, 2:]
    pulled = np.roll(moving, -cells, axis + 1)
    kept = [slice(None)] * 4
    kept[axis + 1] = slice(abs(cells), -abs(cells))
    np.testing.assert_allclose(pulled[tuple(kept)], fixed[tuple(kept)], atol=1e-6)
