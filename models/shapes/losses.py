"""What the network is trained to reduce, all on the canvas."""

from __future__ import annotations

import torch
import torch.nn.functional as F

TEXTURE_WEIGHT = 0.3
SMOOTHNESS_WEIGHT = 0.08


def dice_loss(warped: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
    """One minus the soft Dice of masks (B, 1, S, S, S), averaged over the batch."""
    overlap = (warped * fixed).sum((1, 2, 3, 4))
    squares = (warped.square() + fixed.square()).sum((1, 2, 3, 4))
    return (1 - 2 * overlap / squares.clamp(min=1.0)).mean()


def outline_loss(warped: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
    """Squared difference of smoothed masks: reaches further than the overlap does."""
    difference = F.avg_pool3d(warped - fixed, 5, stride=2, padding=2)
    volume = fixed.mean((1, 2, 3, 4)).clamp(min=0.02)
    return (difference.square().mean((1, 2, 3, 4)) / volume).mean()


def texture_loss(
    warped: torch.Tensor, fixed: torch.Tensor, inside: torch.Tensor, related: torch.Tensor
) -> torch.Tensor:
    """Squared difference of clean textures inside both masks, where the textures correspond."""
    squares = ((warped - fixed).square() * inside).sum((1, 2, 3, 4))
    return (related * squares / inside.sum((1, 2, 3, 4)).clamp(min=1.0)).mean()


def smoothness_loss(velocity: torch.Tensor) -> torch.Tensor:
    """Mean squared gradient of the half-resolution velocity (canvas voxels per half voxel)."""
    return sum((velocity.diff(dim=axis).square().mean() for axis in (2, 3, 4)), torch.zeros(()))


def total_loss(
    warped: torch.Tensor, fixed: torch.Tensor, velocity: torch.Tensor, related: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, Dice loss) for sides of channels (mask, masked image, clean texture)."""
    overlap = dice_loss(warped[:, :1], fixed[:, :1])
    inside = (warped[:, :1] * fixed[:, :1]).detach()
    loss = (
        overlap
        + outline_loss(warped[:, :1], fixed[:, :1])
        + TEXTURE_WEIGHT * texture_loss(warped[:, 2:], fixed[:, 2:], inside, related)
        + SMOOTHNESS_WEIGHT * smoothness_loss(velocity)
    )
    return loss, overlap.detach()
