"""The recipe's arithmetic in torch is the engine's in its kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.shapes import fields
from segreg import kernels

SHAPE = (9, 11, 13)


def smooth(seed: int, size: float = 0.8) -> np.ndarray:
    """A displacement that runs out at the border, so that nothing is looked up outside."""
    coarse = torch.randn((2, 3, 4, 4, 4), generator=torch.Generator().manual_seed(seed))
    field = torch.nn.functional.interpolate(coarse, SHAPE, mode="trilinear").numpy()
    taper = np.ones(SHAPE)
    for axis, length in enumerate(SHAPE):
        line = np.minimum(np.arange(length), np.arange(length)[::-1]).clip(max=2) / 2
        taper = taper * np.expand_dims(line, [other for other in range(3) if other != axis])
    return (size * taper * field).astype(np.float32)


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_warp() -> None:
    volume = np.random.default_rng(0).normal(size=(2, 4, *SHAPE)).astype(np.float32)
    displacement = smooth(0)
    found = fields.warp(torch.from_numpy(volume), torch.from_numpy(displacement))
    close(found, kernels.warp(volume, displacement))


def test_warp_by_whole_voxels_is_a_shift() -> None:
    volume = torch.arange(float(np.prod(SHAPE))).reshape(1, 1, *SHAPE)
    shift = torch.zeros(1, 3, *SHAPE)
    shift[:, 0], shift[:, 2] = 1, -2
    found = fields.warp(volume, shift)
    torch.testing.assert_close(found[..., :-1, :, 2:], volume[..., 1:, :, :-2])


def test_compose() -> None:
    one, two = smooth(0), smooth(1)
    found = fields.compose(torch.from_numpy(one), torch.from_numpy(two))
    close(found, kernels.compose(one, two))


@pytest.mark.parametrize("steps", [0, 1, 6])
def test_integrate(steps: int) -> None:
    velocity = smooth(2, 1.5)
    found = fields.integrate(torch.from_numpy(velocity), steps)
    close(found, kernels.integrate(velocity, steps))


def test_integration_undoes_itself() -> None:
    velocity = torch.from_numpy(smooth(3, 0.3))
    there, back = fields.integrate(velocity, 6), fields.integrate(-velocity, 6)
    assert there.abs().max() > 0.5
    assert fields.compose(there, back).abs().max() < 0.1


def test_to_canvas_keeps_canvas_voxels() -> None:
    half = np.random.default_rng(1).normal(size=(2, 3, 6, 6, 6)).astype(np.float32)
    found = fields.to_canvas(torch.from_numpy(half))
    # The engine counts field cells, of which a canvas voxel is a half.
    close(found, kernels.resample_field(half / 2, (12, 12, 12)))
