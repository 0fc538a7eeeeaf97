"""Training patches for the segmentation: sampled from the native grid, bent, turned and spoilt.

Other scanners differ in orientation, spacing, field of view, contrast and noise, so all of them are
varied well beyond what ACDC holds. Each patch is interpolated once.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from models.cardiac.patients import Frame

SPACING = 1.5  # mm in plane; slices stay where they are
SIDES = (112, 144, 192)  # cells of a patch in plane
ANYWHERE = 0.3  # share of the patches that do not lie about the heart


def make_patch(
    rng: torch.Generator, frame: Frame, slices: int, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image (1, slices, side, side) and labels (slices, side, side) around the heart.

    A stack of fewer than ``slices`` slices is filled up with its last one.
    """
    first = int(torch.randint(max(1, len(frame.image) - slices + 1), (), generator=rng))
    chosen = torch.arange(first, first + slices).clamp(max=len(frame.image) - 1)
    points = _sample_points(rng, frame, slices, side)
    image = _sample(frame.image[chosen].unsqueeze(1), points)[:, 0]
    labels = _sample(frame.labels[chosen].float().unsqueeze(1), points, "nearest")[:, 0].long()
    return spoil(rng, image).unsqueeze(0), labels


def _sample(stack: torch.Tensor, points: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    return F.grid_sample(stack, points, mode, padding_mode="border", align_corners=False)


def _sample_points(rng: torch.Generator, frame: Frame, slices: int, side: int) -> torch.Tensor:
    """Where to sample each slice, in the normalised (x, y) of ``grid_sample``."""
    heart = torch.nonzero(frame.labels.amax(0)).float().mean(0)  # (y, x) voxels
    spacing = torch.tensor(frame.spacing[1:])
    axis = (torch.arange(side) - (side - 1) / 2) * SPACING
    offsets = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))  # mm, (y, x)
    offsets = offsets + _bend(rng, side)
    offsets = (_turn(rng) @ offsets.flatten(1)).view_as(offsets)
    size = torch.tensor(frame.image.shape[1:])
    middle = heart * spacing + (torch.rand(2, generator=rng) * 2 - 1) * side * SPACING * 0.2
    if _chance(rng, ANYWHERE):
        middle = torch.rand(2, generator=rng) * size * spacing
    # Each slice is a breath-hold of its own.
    breaths = torch.randn(slices, 2, generator=rng) * 1.0 * _chance(rng, 0.3)
    millimetres = offsets + middle[:, None, None]
    moved = millimetres + breaths[:, :, None, None]
    voxels = moved / spacing[:, None, None]
    return ((2 * voxels + 1) / size[:, None, None] - 1).movedim(1, -1).flip(-1)


def _turn(rng: torch.Generator) -> torch.Tensor:
    """Rotation, scale, stretch and, sometimes, another axis order or direction."""
    angle = float(torch.randn((), generator=rng)) * math.radians(15)
    if _chance(rng, 0.1):
        angle += math.pi / 2 * int(torch.randint(4, (), generator=rng))
    cosine, sine = math.cos(angle), math.sin(angle)
    scale = torch.exp(torch.randn((), generator=rng) * 0.12)
    stretch = torch.exp(torch.randn(2, generator=rng) * 0.07)
    turn = torch.tensor([[cosine, -sine], [sine, cosine]]) * scale @ torch.diag(stretch)
    return turn.flip(1) if _chance(rng, 0.05) else turn


def _bend(rng: torch.Generator, side: int) -> torch.Tensor:
    """A smooth displacement (2, side, side) in mm."""
    if not _chance(rng, 0.4):
        return torch.zeros(2, side, side)
    cells = int(torch.randint(4, 9, (), generator=rng))
    nodes = torch.randn(1, 2, cells, cells, generator=rng) * (16 / cells)
    return F.interpolate(nodes, (side, side), mode="bicubic", align_corners=True)[0]


def spoil(rng: torch.Generator, image: torch.Tensor) -> torch.Tensor:
    """Another contrast, bias field, blur and noise for ``image`` (D, H, W), mean 0 and SD 1."""
    if _chance(rng, 0.5):
        low, high = float(image.min()), float(image.max())
        gamma = float(torch.exp(torch.randn((), generator=rng) * 0.3))
        bent = ((image - low) / max(high - low, 1e-6)) ** gamma
        image = (bent - bent.mean()) / bent.std().clamp(min=1e-6) * image.std() + image.mean()
    if _chance(rng, 0.4):
        nodes = torch.randn(1, 1, 3, 3, generator=rng) * 0.25
        bias = F.interpolate(nodes, image.shape[1:], mode="bicubic", align_corners=True)[0]
        image = (image + 2) * torch.exp(bias) - 2
    if _chance(rng, 0.15):
        strength = float(torch.rand((), generator=rng))
        blurred = F.avg_pool2d(image.unsqueeze(1), 3, 1, 1)[:, 0]
        image = image + strength * (blurred - image)
    if _chance(rng, 0.1):
        image = _coarsen(rng, image)
    if _chance(rng, 0.2):  # slices excited one by one differ in brightness
        image = image * (1 + 0.1 * torch.randn(len(image), 1, 1, generator=rng))
    if _chance(rng, 0.3):
        level = 0.2 * float(torch.rand((), generator=rng))
        image = image + level * torch.randn(image.shape, generator=rng)
    gain = torch.exp(torch.randn((), generator=rng) * 0.2)
    return image * gain + torch.randn((), generator=rng) * 0.3


def _coarsen(rng: torch.Generator, image: torch.Tensor) -> torch.Tensor:
    factor = 0.5 + 0.5 * float(torch.rand((), generator=rng))
    stack = image.unsqueeze(1)
    coarse = F.interpolate(stack, scale_factor=factor, mode="bilinear", antialias=True)
    return F.interpolate(coarse, image.shape[1:], mode="bilinear", align_corners=False)[:, 0]


def _chance(rng: torch.Generator, probability: float) -> bool:
    return bool(torch.rand((), generator=rng) < probability)
