"""Place each region on its own canvas and keep the maps between canvas, field and both grids.

All maps act on (z, y, x) voxel indices whose integers are voxel centres; a canvas covers a box of
the fixed grid, every axis scaled on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segreg.engine.geometry import index_to_world, spacing_of
from segreg.engine.regions import RegionPlan, Side

Array = NDArray[np.float64]
Shape: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Boxes:
    """Boxes along the axes of the fixed grid, one a region.

    Attributes
    ----------
    low : (K, 3) first face, in voxels: half a voxel before the first centre.
    size : (K, 3) voxels.
    """

    low: Array
    size: Array


def bounding_boxes(fixed: Side, margin: float, least: float = 1.0) -> Boxes:
    """Boxes around the regions.

    Parameters
    ----------
    margin : share of the box added on each side, ``least`` voxels if that is more.
    """
    box = np.stack([fixed.stats.low[1:], fixed.stats.high[1:]]).astype(np.float64) - 0.5
    border = np.maximum((box[1] - box[0]) * margin, least)
    return Boxes(box[0] - border, box[1] - box[0] + 2 * border)


@dataclass(frozen=True)
class Canvases:
    """Maps of all K regions, ready for the kernels (float32, C-contiguous).

    Attributes
    ----------
    canvas, field : cells of the canvases and of their fields along each axis.
    to_fixed, to_moving : (K, 3, 4) canvas cell -> voxel of that side.
    to_field : (K, 3, 4) fixed voxel -> field cell (diagonal).
    to_voxel : (K, 3, 4) field cell -> mapped position, in voxels of the fixed grid.
    background : (3, 4) fixed voxel -> position mapped by A_0, in voxels of the fixed grid.
    spacing : (K, 3) mm per field cell.
    """

    canvas: Shape
    field: Shape
    to_fixed: NDArray[np.float32]
    to_moving: NDArray[np.float32]
    to_field: NDArray[np.float32]
    to_voxel: NDArray[np.float32]
    background: NDArray[np.float32]
    spacing: NDArray[np.float32]


def place_canvases(plan: RegionPlan, boxes: Boxes, canvas: Shape, stride: int = 1) -> Canvases:
    """Canvases over ``boxes`` whose fields have ``canvas / stride`` cells."""
    to_world = index_to_world(plan.fixed.affine)
    from_world = np.linalg.inv(to_world)
    depth, height, width = canvas
    step = boxes.size / np.array(canvas)
    to_fixed = _cells(boxes.low, step)
    field_to_fixed = _cells(boxes.low, step * stride)
    mapped = from_world @ plan.maps @ to_world
    to_moving = np.linalg.inv(index_to_world(plan.moving.affine)) @ plan.maps @ to_world @ to_fixed
    return Canvases(
        canvas=canvas,
        field=(depth // stride, height // stride, width // stride),
        to_fixed=_kernel_form(to_fixed),
        to_moving=_kernel_form(to_moving),
        to_field=_kernel_form(np.linalg.inv(field_to_fixed)),
        to_voxel=_kernel_form(mapped @ field_to_fixed),
        background=_kernel_form(from_world @ plan.background @ to_world),
        spacing=np.ascontiguousarray(
            step * stride * spacing_of(plan.fixed.affine), np.float32
        ),
    )


def _cells(low: Array, step: Array) -> Array:
    """Maps (K, 4, 4) from cells of size ``step`` voxels, the first starting at ``low``."""
    maps = np.zeros((len(step), 4, 4))
    maps[:, (0, 1, 2), (0, 1, 2)] = step
    maps[:, :3, 3] = low + step / 2
    maps[:, 3, 3] = 1
    return maps


def _kernel_form(maps: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return np.ascontiguousarray(maps[..., :3, :], np.float32)
