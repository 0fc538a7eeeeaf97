"""The operations that are timed: inputs, buffers and the bytes that must move, one entry each.

The same table serves NumPy and CuPy, so every operation has the same inputs on both machines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.operation import Arguments, Buffers, Operation, Shape
from benchmarks.refinement_operations import REFINEMENT
from benchmarks.volumes import (
    OCTANTS,
    along,
    corner,
    displacement,
    half,
    image,
    near,
    octant,
    regions,
)
from segreg import kernels


def _cells(shape: Shape) -> int:
    """Cells per axis of a region's field."""
    return max(2, min(shape) // 4)


def _canvases(shape: Shape, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(K, 3, 4) voxel -> cell and cell -> voxel, one canvas over each octant."""
    scale = 2 * side / np.array(shape, float)
    to_cell, to_voxel = np.zeros((2, OCTANTS, 3, 4), np.float32)
    for k in range(OCTANTS):
        offset = (0.5 - corner(k, shape)) * scale - 0.5
        to_cell[k] = np.column_stack([np.diag(scale), offset])
        to_voxel[k] = np.column_stack([np.diag(1 / scale), -offset / scale])
    return to_cell, to_voxel


def _masks(shape: Shape) -> NDArray[np.uint8]:
    """(8, D/2, H/2, W/2) the ellipsoid of each octant, on its own canvas."""
    numbers = regions(shape)
    masks = [numbers[octant(k, shape)] == k + 1 for k in range(OCTANTS)]
    return np.stack(masks).astype(np.uint8)


def _mask_inputs(shape: Shape) -> Arguments:
    return {"mask": _masks(shape), "spacing": np.ones((OCTANTS, 3), np.float32)}


def _fusion(shape: Shape) -> Arguments:
    side = _cells(shape)
    to_field, to_voxel = _canvases(shape, side)
    spacing = to_voxel[:, (0, 1, 2), (0, 1, 2)].copy()
    cells = (side, side, side)
    # The ellipsoids again, as the distance from a ball of cells: cheap at any size.
    steps = np.arange(side) + 0.5 - side / 2
    away = np.sqrt(sum(steps.reshape(along(axis)) ** 2 for axis in range(3)))
    distances = np.maximum(0, away - 0.4 * side) * spacing.mean()
    ratio = np.array([side / n for n in shape], np.float32)
    coarse = np.column_stack([np.diag(ratio), 0.5 * ratio - 0.5])
    back = np.column_stack([np.diag(1 / ratio), 0.5 / ratio - 0.5])
    return {
        "regions": regions(shape),
        "fields": displacement(cells, 1.0, OCTANTS),
        "distances": np.repeat(distances[None].astype(np.float32), OCTANTS, axis=0),
        "to_field": to_field,
        "to_voxel": to_voxel,
        "spacing": spacing,
        "background": (displacement(cells)[0], coarse, back),
        "reach": 0.05 * min(shape),
    }  # fmt: skip


def _gather(shape: Shape) -> Arguments:
    side = max(1, min(shape) // 2)
    return {
        "image": image(shape),
        "regions": regions(shape),
        "indices": np.arange(1, OCTANTS + 1, dtype=np.int32),
        "affines": _canvases(shape, side)[1],
        "intensity": np.tile(np.array([0.0, 0.3], np.float32), (OCTANTS, 1)),
        "canvas": side,
    }


def _shaped(arguments: Arguments) -> Arguments:
    """With the shapes of the regions in place of their map."""
    shapes = kernels.region_shapes(arguments["regions"], arguments["indices"])
    others = {n: value for n, value in arguments.items() if n not in ("regions", "indices")}
    return {**others, "shapes": shapes}


def _field_buffer(shape: Shape) -> Buffers:
    return {"out": ((1, 3, *shape), "float32")}


def _image_buffer(shape: Shape) -> Buffers:
    return {"out": ((1, 1, *shape), "float32")}


def _filter_buffers(shape: Shape) -> Buffers:
    return {**_image_buffer(shape), "scratch": ((1, 1, *shape), "float32")}


def _fusion_buffers(shape: Shape) -> Buffers:
    side = _cells(shape)
    rows = OCTANTS * side**2 + shape[0] * shape[1]
    return {**_field_buffer(shape), "scratch": ((rows,), "int32")}


def _folded(shape: Shape) -> NDArray[np.float32]:
    """(1, 3, D, H, W) slow waves that fold in one slice out of sixteen."""
    folded: NDArray[np.float32] = displacement(shape).copy()
    folded[:, 0, shape[0] // 2 :: 16] -= 2.6
    return folded


def _warp_inputs(shape: Shape) -> Arguments:
    return {"moving": image(shape)[None, None], "displacement": displacement(shape)}


def _pair(shape: Shape) -> Arguments:
    fixed = regions(shape)
    moving = np.roll(fixed, 2, axis=2)
    return {"moving": moving, "fixed": fixed, "displacement": displacement(shape)}


def _canvas_buffer(shape: Shape) -> Buffers:
    side = max(1, min(shape) // 2)
    return {"out": ((OCTANTS, 2, side, side, side), "float32")}


def _mask_buffers(shape: Shape) -> Buffers:
    form = ((OCTANTS, *half(shape)), "float32")
    return {"out": form, "scratch": form}


OPERATIONS = (
    Operation("warp/linear", "warp", _warp_inputs, _image_buffer, margin=near),
    Operation(
        "warp/nearest",
        "warp",
        _warp_inputs,
        _image_buffer,
        {"mode": "nearest"},
        margin=near,
        ties=1e-4,
    ),
    Operation(
        "warp_labels",
        "warp_labels",
        lambda shape: {"labels": regions(shape), "displacement": displacement(shape)},
        lambda shape: {"out": (shape, "int32")},
        margin=near,
        ties=1e-4,
    ),
    Operation("overlap", "overlap", _pair, options={"count": OCTANTS}, ties=1e-4, waits=True),
    Operation(
        "compose",
        "compose",
        lambda shape: {"first": displacement(shape), "second": displacement(shape, 0.5)},
        _field_buffer,
        margin=near,
    ),
    Operation(
        "integrate/7",
        "integrate",
        lambda shape: {"velocity": displacement(shape)},
        lambda shape: {**_field_buffer(shape), "scratch": ((1, 3, *shape), "float32")},
        {"steps": 7},
        rounds=lambda arguments: int(arguments["steps"]),
        margin=lambda shape: 2 * near(shape),
    ),
    Operation(
        "jacobian_determinant",
        "jacobian_determinant",
        lambda shape: {"displacement": displacement(shape)},
        lambda shape: {"out": ((1, *shape), "float32")},
        margin=lambda shape: 1,
    ),
    Operation(
        "invert",
        "invert",
        lambda shape: {"displacement": displacement(shape)},
        lambda shape: {**_field_buffer(shape), "residual": (shape, "float32")},
        margin=near,
    ),
    Operation(
        "resample_field",
        "resample_field",
        lambda shape: {
            "field": displacement(half(shape)),
            "shape": shape,
        },
        _field_buffer,
    ),
    Operation(
        "region_stats",
        "region_stats",
        lambda shape: {"regions": regions(shape), "image": image(shape)},
        options={"count": OCTANTS},
        waits=True,
    ),
    Operation(
        "gather_regions", "gather_regions", _gather, _canvas_buffer, prepared=_shaped
    ),
    Operation(
        "jacobian_sums",
        "jacobian_sums",
        lambda shape: {"jacobian": 1 + image(shape) / 4, "regions": regions(shape)},
        options={"count": OCTANTS},
        waits=True,
    ),
    Operation(
        "relabel",
        "relabel",
        lambda shape: {"labels": regions(shape), "table": np.arange(OCTANTS + 1)[::-1].copy()},
        rounds=lambda arguments: 2,  # the result is as large as what is read
        waits=True,
    ),
    Operation("distance_to_mask", "distance_to_mask", _mask_inputs, _mask_buffers),
    Operation(
        "distance_to_mask/5",
        "distance_to_mask",
        _mask_inputs,
        _mask_buffers,
        {"farthest": 5.0},
    ),
    Operation("fuse_fields", "fuse_fields", _fusion, _fusion_buffers),
    Operation(
        "repair_folds",
        "repair_folds",
        lambda shape: {"displacement": _folded(shape)},
        _field_buffer,
        {"iterations": 4},
        waits=True,  # and no margin: the order of the work depends on where a block lies
    ),
    Operation(
        "smooth",
        "smooth",
        lambda shape: {"volume": image(shape)[None, None]},
        _filter_buffers,
        {"sigma": 2.0},
        margin=lambda shape: 9,
    ),
    Operation(
        "spline_coefficients",
        "spline_coefficients",
        lambda shape: {"volume": image(shape)[None, None]},
        _filter_buffers,
        margin=lambda shape: 14,
    ),
    Operation(
        "warp/cubic",
        "warp",
        _warp_inputs,
        _image_buffer,
        {"mode": "cubic", "prefiltered": True},
        margin=lambda shape: near(shape) + 2,
    ),
    *REFINEMENT,
)
