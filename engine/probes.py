"""Batches to ask a network about: noise, regions as the engine shows them, shifts, images.

All are seeded; the shape is (K, C, D, H, W) float32, the channels those of a package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Batch = NDArray[np.float32]
Array = NDArray[np.float64]
Shape = Sequence[int]

REGIONS = 4  # in a structured batch: enough to differ, few enough to be quick
MOST_CELLS = 9_000_000  # of a batch: whole images come alone


def random_batch(shape: Shape, channels: Sequence[str], count: int = 2) -> Batch:
    """Uniform noise between -1 and 1, which no region looks like; at most ``count`` regions."""
    size = (_affordable(count, shape), len(channels), *shape)
    return np.random.default_rng(0).uniform(-1, 1, size).astype(np.float32)


def structured_batch(shape: Shape, channels: Sequence[str], count: int = REGIONS) -> Batch:
    """Textured ellipsoids on both sides, their moments matched, as the engine shows regions.

    At most ``count`` of them, fewer if they are large.
    """
    rng = np.random.default_rng(1)
    axes = _axes(shape)
    batch = np.empty((_affordable(count, shape), len(channels), *shape), np.float32)
    for region in batch:
        sides = {}
        for side in ("moving", "fixed"):
            radii = 0.7 * np.exp(rng.normal(0, 0.08, 3))
            sides[side] = _ellipsoid(radii, rng.uniform(3, 9, 3), rng.uniform(0, 6, 3), shape)
        _show(region, channels, {side: draw(axes) for side, draw in sides.items()})
    return batch


def shifted_batch(shape: Shape, channels: Sequence[str], shifts: Array) -> Batch:
    """One textured ellipsoid whose moving side lies ``shifts`` (K, 3) cells (z, y, x) away.

    The pull-back displacement of region k is ``shifts[k]`` everywhere,
    ``moving(x + s) = fixed(x)``, exact and not interpolated.
    """
    rng = np.random.default_rng(2)
    axes = _axes(shape)
    draw = _ellipsoid(
        np.array([0.6, 0.51, 0.56]), rng.uniform(3, 6, 3), rng.uniform(0, 6, 3), shape
    )
    half_cells = np.asarray(shape, np.float64) / 2
    fixed = draw(axes)
    batch = np.empty((len(shifts), len(channels), *shape), np.float32)
    for region, shift in zip(batch, shifts, strict=True):
        moving = draw(axes - (shift / half_cells)[:, None, None, None])
        _show(region, channels, {"moving": moving, "fixed": fixed})
    return batch


def image_batch(shape: Shape) -> Batch:
    """One image (1, 1, D, H, W) of mean 0: waves along the three axes, and noise."""
    rng = np.random.default_rng(3)
    waves, phases = rng.uniform(3, 9, (3, 3)), rng.uniform(0, 6, 3)
    turns = np.tensordot(waves, _axes(shape), 1) + phases[:, None, None, None]
    image = 2 * np.sin(turns).mean(0) + rng.normal(0, 0.1, shape)
    return np.asarray(image[None, None], np.float32)


def _affordable(count: int, shape: Shape) -> int:
    return max(1, min(count, MOST_CELLS // int(np.prod(shape))))


Draw = Callable[[Array], tuple[Array, Array]]


def _ellipsoid(radii: Array, waves: Array, phases: Array, shape: Shape) -> Draw:
    """(image, mask) of an ellipsoid at points (3, ...), the volume spanning -1 to 1."""
    edge = min(shape) / 4  # soft over two cells, as partial volume is

    def draw(points: Array) -> tuple[Array, Array]:
        radius = np.linalg.norm(points / radii[:, None, None, None], axis=0)
        mask = np.clip((1 - radius) * edge + 0.5, 0, 1)
        turns = points * waves[:, None, None, None] + phases[:, None, None, None]
        return np.sin(turns).mean(0), mask

    return draw


def _show(
    region: Batch, channels: Sequence[str], sides: dict[str, tuple[Array, Array]]
) -> None:
    for values, name in zip(region, channels, strict=True):
        side, what = name.split("_", 1)
        image, mask = sides[side]
        values[:] = {"image": image, "mask": mask, "masked_image": image * mask}[what]


def _axes(shape: Shape) -> Array:
    """Cell centres (3, D, H, W), the volume spanning -1 to 1."""
    spans = [(np.arange(size) + 0.5) / size * 2 - 1 for size in shape]
    return np.stack(np.meshgrid(*spans, indexing="ij"))
