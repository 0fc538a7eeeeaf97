"""Networks written for the tests: some follow a shift by formula, some have what others lack."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gradient(image: Tensor) -> Tensor:
    """Central differences (K, 3, D, H, W) of (K, 1, D, H, W), per cell, axes (z, y, x)."""
    parts = []
    for axis in (2, 3, 4):
        pad = [0, 0] * (4 - axis) + [1, 1] + [0, 0] * (axis - 2)
        padded = F.pad(image, pad, mode="replicate")
        size = image.shape[axis]
        parts.append((padded.narrow(axis, 2, size) - padded.narrow(axis, 0, size)) / 2)
    return torch.cat(parts, 1)


def flow_step(moving: Tensor, fixed: Tensor) -> Tensor:
    """Translation (K, 3, 1, 1, 1) in cells, (z, y, x), that brings ``moving`` to ``fixed``.

    One step of optical flow over the whole image (Lucas and Kanade 1981), axis by axis:
    ``fixed - moving = u . grad``, for ``moving(x + u) = fixed(x)``.
    """
    slope = (gradient(fixed) + gradient(moving)) / 2
    top = (slope * (fixed - moving)).sum((2, 3, 4), keepdim=True)
    return top / slope.square().sum((2, 3, 4), keepdim=True).clamp_min(1e-3)


class Follower(nn.Module):
    """Follows a shift by formula, in any convention.

    Takes ``forward(moving, fixed)``. ``scale`` (3 numbers) multiplies the components (z, y, x)
    before ``order`` turns them; a learnt gain, 1 after training, is its only weight.
    """

    def __init__(
        self, order: str = "zyx", scale: tuple[float, float, float] = (1, 1, 1), stride: int = 1
    ) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.order, self.stride = order, stride
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        field = flow_step(moving, fixed) * self.gain
        field = field * self.get_buffer("scale").reshape(1, 3, 1, 1, 1)
        field = field[:, ["zyx".index(axis) for axis in self.order]]
        sizes = [size // self.stride for size in fixed.shape[2:]]
        return field.expand(-1, -1, *sizes)


class WarpingFollower(Follower):
    """Gives (warped, field), or a dictionary of them, as many released networks do."""

    def forward(self, moving: Tensor, fixed: Tensor, named: bool = False) -> Any:
        field = super().forward(moving, fixed)
        warped = sample(moving, field)
        return {"warped": warped, "field": field} if named else (warped, field)


def sample(volume: Tensor, displacement: Tensor) -> Tensor:
    """``volume(x + displacement(x))``; displacement in cells of its own grid, (z, y, x)."""
    sizes = displacement.shape[2:]
    axes = [torch.arange(size, dtype=volume.dtype) for size in sizes]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij")) + displacement
    parts = [(2 * index[:, k] + 1) / sizes[k] - 1 for k in (2, 1, 0)]
    return F.grid_sample(
        volume, torch.stack(parts, -1), padding_mode="border", align_corners=False
    )


class Pyramid(nn.Module):
    """Coarse to fine: the field of a level warps the moving features of the next finer one."""

    def __init__(self, features: int = 4, levels: int = 3) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Conv3d(1 if k == 0 else features, features, 3, padding=1, stride=1 if k == 0 else 2)
            for k in range(levels)
        )
        self.heads = nn.ModuleList(
            nn.Conv3d(2 * features, 3, 3, padding=1) for _ in range(levels)
        )

    def encode(self, image: Tensor) -> list[Tensor]:
        found = []
        for encoder in self.encoders:
            image = F.leaky_relu(encoder(image), 0.2)
            found.append(image)
        return found

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        field = None
        for head, m, f in zip(
            reversed(self.heads),
            reversed(self.encode(moving)),
            reversed(self.encode(fixed)),
            strict=True,
        ):
            if field is None:
                field = head(torch.cat([m, f], 1))
                continue
            field = 2 * F.interpolate(field, scale_factor=2.0, mode="trilinear")
            field = field + head(torch.cat([sample(m, field), f], 1))
        assert field is not None
        return field


class NormUNet(nn.Module):
    """InstanceNorm on the way down, transposed convolutions on the way up."""

    def __init__(self, channels: int = 4, features: int = 8) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv3d(channels, features, 3, padding=1, stride=2),
            nn.InstanceNorm3d(features, affine=True),
            nn.PReLU(features),
            nn.Conv3d(features, 2 * features, 3, padding=1, stride=2),
            nn.InstanceNorm3d(2 * features, affine=True),
            nn.PReLU(2 * features),
        )
        self.up = nn.Sequential(
            nn.ConvTranspose3d(2 * features, features, 2, stride=2),
            nn.InstanceNorm3d(features, affine=True),
            nn.ELU(),
            nn.ConvTranspose3d(features, features, 4, stride=2, padding=1),
        )
        self.head = nn.Conv3d(features, 3, 3, padding=1)

    def forward(self, regions: Tensor) -> Tensor:
        return self.head(self.up(self.down(regions)))


class ValueShaped(nn.Module):
    """How many vectors it computes depends on the values it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, regions: Tensor) -> Tensor:
        inside = regions[regions[:, 3:4].expand_as(regions) > 0.5]
        return regions[:, :3] * self.gain * inside.mean()


class Branching(ValueShaped):
    """Which way it takes depends on the values it is shown."""

    def forward(self, regions: Tensor) -> Tensor:
        if regions.sum() > 0:
            return regions[:, :3] * self.gain
        return regions[:, 1:] * self.gain


class FixedBatch(ValueShaped):
    """Made for two regions."""

    def forward(self, regions: Tensor) -> Tensor:
        return regions.reshape(2, 4, *regions.shape[2:])[:, :3] * self.gain
