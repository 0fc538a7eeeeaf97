"""The registration network of the ``shapes`` package: a small U-Net on region canvases."""

from __future__ import annotations

import itertools

import torch
from torch import nn


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2))


def _halve(inputs: int, outputs: int, kernel: int = 2) -> nn.Sequential:
    # Even kernels with stride 2 keep cell centres aligned between the levels.
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride=2, padding=kernel // 2 - 1), nn.LeakyReLU(0.2)
    )


class RegionNetwork(nn.Module):
    """Region canvases in, stationary velocity out.

    The stem halves the resolution at once, so the finest feature map is S/2: a canvas costs an
    eighth of what a full-resolution U-Net would, and the velocity is produced where it is used.

    Parameters
    ----------
    channels : features of the four levels, finest (S/2) first.
    """

    CHANNELS = ("moving_masked_image", "moving_mask", "fixed_masked_image", "fixed_mask")

    def __init__(self, channels: tuple[int, ...] = (32, 48, 64, 64)) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))
        self.stem = nn.Sequential(
            _halve(len(self.CHANNELS), channels[0], kernel=4), _block(channels[0], channels[0])
        )
        self.down = nn.ModuleList(
            nn.Sequential(_halve(fine, coarse), _block(coarse, coarse)) for fine, coarse in pairs
        )
        self.up = nn.ModuleList(_block(coarse + fine, fine) for fine, coarse in reversed(pairs))
        self.tail = _block(channels[0], channels[0])
        self.velocity = nn.Conv3d(channels[0], 3, 3, padding=1)
        nn.init.normal_(self.velocity.weight, std=1e-4)
        nn.init.zeros_(self.velocity.bias)

    def forward(self, regions: torch.Tensor) -> torch.Tensor:
        """Velocity (B, 3, S/2, S/2, S/2) in canvas voxels for ``regions`` (B, 4, S, S, S)."""
        features = self.stem(regions)
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(features)
        for up in self.up:
            coarse = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = up(torch.cat([coarse, skips.pop()], 1))
        return self.velocity(self.tail(features))
