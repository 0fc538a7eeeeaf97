"""Generated anatomy: pairs of shapes with textures, voxelised as scanners and annotators do.

Nothing here comes from a patient. A shape is an implicit function ``b(y) > 0`` of one of five
families; both sides see it through their own smooth map ``y = phi(x)``, with their own thickness,
contour noise, voxel grid (thick slices included), contrast and noise. The truth is
``phi_fixed(x) = phi_moving(T(x))``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from segreg.engine.moments import match_moments

MARGIN = 0.15  # of the bounding box, on each side; at least one voxel


def sample(volume: torch.Tensor, index: torch.Tensor, padding: str = "zeros") -> torch.Tensor:
    """Values (C, ...) of ``volume`` (C, D, H, W), linear, at voxel ``index`` (..., 3)."""
    size = torch.tensor(volume.shape[1:], dtype=index.dtype)
    # An axis of one slice has no outside: the slice stands for its whole thickness.
    index = torch.where(size == 1, torch.zeros_like(index), index)
    grid = ((2 * index + 1) / size - 1).flip(-1)
    points = grid.reshape(1, -1, 1, 1, 3)
    values = F.grid_sample(volume[None], points, padding_mode=padding, align_corners=False)
    return values.reshape(volume.shape[0], *index.shape[:-1])


class Noise:
    """Band-limited noise on [-1.6, 1.6]^3, about unit variance, looked up at any point."""

    def __init__(self, rng: torch.Generator, channels: int, size: int) -> None:
        field = torch.randn((1, channels, size + 2, size + 2, size + 2), generator=rng)
        field = F.avg_pool3d(F.interpolate(field, scale_factor=2.0, mode="trilinear"), 3, 1, 1)
        self.field = (field / field.std())[0]

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        return sample(self.field, (points / 1.6 + 1) / 2 * (self.field.shape[1] - 1), "border")


def uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng)


def chance(rng: torch.Generator, probability: float) -> bool:
    return bool(torch.rand((), generator=rng) < probability)


def rotation(rng: torch.Generator, radians: float) -> torch.Tensor:
    skew = torch.randn((3, 3), generator=rng) * radians
    return torch.linalg.matrix_exp(skew - skew.T)


class Shape:
    """One shape ``b(y, thickness)``: positive inside, about the distance to the outline."""

    FAMILIES = ("blob", "blob", "shell", "shell", "tube", "sheet")

    def __init__(self, rng: torch.Generator) -> None:
        self.family = self.FAMILIES[int(torch.randint(len(self.FAMILIES), (), generator=rng))]
        parts = int(torch.randint(1, 4, (), generator=rng))
        self.centres = uniform(rng, -0.28, 0.28, parts, 3)
        self.axes = torch.stack(
            [torch.diag(1 / uniform(rng, 0.16, 0.5, 3)) @ rotation(rng, 0.8) for _ in range(parts)]
        )
        self.curve = torch.cumsum(uniform(rng, -0.35, 0.35, 6, 3), 0)
        self.curve -= self.curve.mean(0)
        self.thickness = float(uniform(rng, 0.06, 0.16))
        self.bumps = Noise(rng, 1, int(torch.randint(5, 14, (), generator=rng)))
        self.bumpiness = float(uniform(rng, 0.0, 0.06))
        self.fold = Noise(rng, 1, 4)
        self.cut = rotation(rng, 2.0)[0] if chance(rng, 0.35) else None
        self.cut_at = float(uniform(rng, -0.05, 0.3))

    def __call__(self, points: torch.Tensor, thickness: float) -> torch.Tensor:
        """Values (N,) at ``points`` (N, 3); ``thickness`` scales shells, tubes and sheets."""
        width = self.thickness * thickness
        if self.family == "tube":
            inside = width - self._distance_to_curve(points)
        elif self.family == "sheet":
            height = points[:, 0] - 0.2 * self.fold(points)[0]
            inside = torch.minimum(width - height.abs(), 0.6 - points[:, 1:].norm(dim=1))
        else:
            inside = self._blob(points)
            if self.family == "shell":
                inside = width - (inside - 0.1).abs()
        inside = inside + self.bumpiness * self.bumps(points)[0]
        if self.cut is not None:
            inside = torch.minimum(inside, self.cut_at - points @ self.cut)
        return inside

    def _blob(self, points: torch.Tensor) -> torch.Tensor:
        radius = torch.stack(
            [((points - c) @ a.T).norm(dim=1) for c, a in zip(self.centres, self.axes, strict=True)]
        )
        return 0.3 * (1 + torch.logsumexp(-8 * radius, 0) / 8)  # smooth union

    def _distance_to_curve(self, points: torch.Tensor) -> torch.Tensor:
        start, along = self.curve[:-1], self.curve[1:] - self.curve[:-1]
        t = torch.einsum("nsk,sk->ns", points[:, None] - start, along) / along.square().sum(1)
        nearest = start + t.clamp(0, 1)[..., None] * along
        return (points[:, None] - nearest).norm(dim=-1).amin(1)


class SmoothMap:
    """``phi``: an affine near the identity plus smooth displacement, frame -> anatomy."""

    def __init__(self, rng: torch.Generator, strength: float) -> None:
        stretch = torch.diag(torch.exp(0.18 * torch.randn(3, generator=rng)))
        self.linear = stretch @ rotation(rng, 0.15)
        self.shift = uniform(rng, -0.08, 0.08, 3)
        sizes = (2, 4, 7)
        self.fields = [Noise(rng, 3, size) for size in sizes]
        self.amplitudes = [
            strength * float(uniform(rng, 0, bound)) for bound in (0.16, 0.07, 0.03)
        ]

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        mapped = points @ self.linear.T + self.shift
        for field, amplitude in zip(self.fields, self.amplitudes, strict=True):
            mapped = mapped + amplitude * field(points).T
        return mapped


@dataclass
class Side:
    """One voxelised side: channels (mask, observed image, clean texture) on a native grid."""

    voxels: torch.Tensor  # (3, D, H, W)
    spacing: torch.Tensor  # (3,) frame units; voxel i stands at -1 + (i + 0.5) * spacing

    def points(self, index: torch.Tensor) -> torch.Tensor:
        return -1 + (index + 0.5) * self.spacing

    def index(self, points: torch.Tensor) -> torch.Tensor:
        return (points + 1) / self.spacing - 0.5

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        inside = self.points(self.voxels[0].nonzero().float()).double()
        centred = inside - inside.mean(0)
        covariance = centred.T @ centred / len(inside) + torch.diag(self.spacing.double() ** 2 / 12)
        return inside.mean(0).numpy(), covariance.numpy()


def _contrast(rng: torch.Generator, texture: torch.Tensor) -> torch.Tensor:
    """Another scanner's view of a texture: a random, often non-monotonic, intensity curve."""
    a, b, c = torch.randn(3, generator=rng).tolist()
    return texture + 0.8 * a * torch.sin(1.5 * texture + 3 * b) + 0.3 * c * texture.square()


def _grid(rng: torch.Generator) -> tuple[int, ...]:
    size = uniform(rng, 20, 76) * uniform(rng, 0.75, 1.2, 3)
    if chance(rng, 0.4):
        size[int(torch.randint(3, (), generator=rng))] /= float(uniform(rng, 2, 7))
    return tuple(int(n) for n in size.round().clamp(min=5))


def _voxelise(
    rng: torch.Generator,
    shape: Shape,
    textures: list[Noise],
    size: tuple[int, ...],
    strength: float,
) -> Side:
    spacing = 2 / torch.tensor(size, dtype=torch.float32)
    index = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float32) for n in size])
    points = -1 + (index + 0.5) * spacing
    anatomy = SmoothMap(rng, strength)(points)
    thickness = math.exp(0.25 * float(torch.randn((), generator=rng)))
    wobble = float(uniform(rng, 0, 0.02)) * Noise(rng, 1, 10)(points)[0]
    mask = (shape(anatomy, thickness) + wobble > 0).float()
    clean = sum(texture(anatomy)[0] for texture in textures) / len(textures) ** 0.5
    observed = _contrast(rng, clean) if chance(rng, 0.5) else clean
    observed = observed + 0.5 * Noise(rng, 1, 3)(points)[0] * float(uniform(rng, 0, 1))
    observed = observed + float(uniform(rng, 0, 0.3)) * torch.randn(len(points), generator=rng)
    inside = observed[mask > 0]
    if len(inside) > 1:
        observed = (observed - inside.mean()) / (3 * inside.std() + 1e-6)
    voxels = torch.stack([mask, observed.clamp(-1, 1), clean]).reshape(3, *size)
    return Side(voxels, spacing)


def _canvas(side: Side, canvas: int, margin: float) -> torch.Tensor:
    """Voxel indices (S, S, S, 3) of the canvas cells: bounding box plus margin, cut in S^3."""
    inside = side.voxels[0].nonzero()
    low, high = inside.amin(0).float() - 0.5, inside.amax(0).float() + 0.5
    border = ((high - low) * margin).clamp(min=1.0)
    low, high = low - border, high + border
    cells = (torch.arange(canvas) + 0.5) / canvas
    return torch.stack(
        torch.meshgrid(*[low[i] + (high[i] - low[i]) * cells for i in range(3)], indexing="ij"), -1
    )


def make_pair(rng: torch.Generator, canvas: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """One region pair on its canvas.

    Returns
    -------
    moving, fixed : (3, S, S, S) float32
        Mask, masked observed image, clean texture; the moving side already moment-matched.
    related : 1.0 where the textures correspond, 0.0 where only the outlines do.
    """
    while True:
        shape = Shape(rng)
        scales = torch.randint(6, 26, (int(torch.randint(1, 4, (), generator=rng)),), generator=rng)
        textures = [Noise(rng, 1, int(n)) for n in scales]
        related = not chance(rng, 0.25)
        strength = float(uniform(rng, 0.3, 1.0))
        size = _grid(rng)
        fixed = _voxelise(rng, shape, textures, size, strength)
        if not related:
            textures = [Noise(rng, 1, int(n)) for n in scales]
        size = size if chance(rng, 0.6) else _grid(rng)
        moving = _voxelise(rng, shape, textures, size, strength)
        if min(float(fixed.voxels[0].sum()), float(moving.voxels[0].sum())) >= 12:
            break
    index = _canvas(fixed, canvas, MARGIN * float(uniform(rng, 0.8, 1.3)))
    affine = torch.from_numpy(match_moments(*fixed.moments(), *moving.moments())).float()
    jitter = torch.eye(3) + 0.02 * torch.randn((3, 3), generator=rng)
    points = fixed.points(index) @ (affine[:3, :3] @ jitter).T + affine[:3, 3]
    centre = torch.from_numpy(fixed.moments()[0]).float()
    points += affine[:3, :3] @ ((torch.eye(3) - jitter) @ centre)
    return _masked(moving, moving.index(points)), _masked(fixed, index), float(related)


def _masked(side: Side, index: torch.Tensor) -> torch.Tensor:
    mask, image, clean = sample(side.voxels, index)
    return torch.stack([mask, image * mask, clean])
