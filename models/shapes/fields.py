"""Differentiable displacement arithmetic for training; the engine's kernels need no torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def warp(volume: torch.Tensor, displacement: torch.Tensor, padding: str = "border") -> torch.Tensor:
    """``volume(x + displacement(x))``, (B, C, D, H, W) and (B, 3, D, H, W) in voxels."""
    size = displacement.shape[2:]
    axes = [torch.arange(n, dtype=displacement.dtype, device=displacement.device) for n in size]
    identity = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    scale = torch.tensor(size, dtype=displacement.dtype, device=displacement.device)
    index = (identity + displacement).movedim(1, -1)
    grid = ((2 * index + 1) / scale - 1).flip(-1)
    return F.grid_sample(volume, grid, padding_mode=padding, align_corners=False)


def compose(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Displacement of ``x -> first(second(x))``: ``second + first(x + second)``."""
    return second + warp(first, second)


def integrate(velocity: torch.Tensor, steps: int) -> torch.Tensor:
    """Displacement of the flow of a stationary velocity after unit time, by scaling and squaring
    (Arsigny et al. 2006)."""
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


def to_canvas(half: torch.Tensor) -> torch.Tensor:
    """Half-resolution displacement, still in canvas voxels, on the full canvas."""
    return F.interpolate(half, scale_factor=2.0, mode="trilinear", align_corners=False)
