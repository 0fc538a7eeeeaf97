"""A canvas cell, a field cell and a voxel of either side name the same place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segreg.engine.canvases import Canvases, bounding_boxes, place_canvases
from segreg.engine.geometry import apply_map, index_to_world, make_affine, spacing_of
from segreg.engine.regions import RegionPlan, Side, plan_regions

CANVAS, STRIDE, MARGIN = 32, 2, 0.15


def side(affine: Any, boxes: dict[int, tuple[slice, ...]], shape: Any = (30, 40, 36)) -> Side:
    regions = np.zeros(shape, np.int32)
    for number, box in boxes.items():
        regions[box] = number
    return Side.measure(np.zeros(shape, np.float32), regions, len(boxes), affine)


FIXED = {1: np.s_[4:9, 10:31, 7:12], 2: np.s_[12:26, 2:6, 20:34], 3: np.s_[0:3, 33:40, 0:4]}
MOVING = {1: np.s_[5:11, 9:27, 8:14], 2: np.s_[14:25, 3:8, 18:30], 3: np.s_[1:4, 32:38, 1:6]}


def plan_of(affine: np.ndarray, moving_affine: np.ndarray | None = None) -> RegionPlan:
    if moving_affine is None:
        moving_affine = make_affine((1.5, 1.1, 2.0))
        moving_affine[:3, 3] = (-20, 5, 12)
    return plan_regions(side(moving_affine, MOVING), side(affine, FIXED))


def place(
    plan: RegionPlan, canvas: int = CANVAS, stride: int = STRIDE, margin: float = MARGIN
) -> Canvases:
    """Cubes over the bounding boxes."""
    return place_canvases(plan, bounding_boxes(plan.fixed, margin), (canvas,) * 3, stride)


@pytest.fixture
def plan(affine: np.ndarray) -> RegionPlan:
    return plan_of(affine)


@pytest.fixture
def canvases(plan: RegionPlan) -> Canvases:
    return place(plan)


CELLS = np.array([[0, 0, 0], [31, 31, 31], [3, 17, 29], [-0.5, 31.5, 12.25]], np.float64)


def field_cells(cells: Any) -> np.ndarray:
    return np.asarray((cells + 0.5) / STRIDE - 0.5)


def test_tables_are_as_kernels_take_them(canvases: Canvases) -> None:
    assert (canvases.canvas, canvases.field) == ((CANVAS,) * 3, (CANVAS // STRIDE,) * 3)
    for name in ("to_fixed", "to_moving", "to_field", "to_voxel"):
        table = getattr(canvases, name)
        assert (table.shape, table.dtype) == ((3, 3, 4), np.float32)
        assert table.flags.c_contiguous
    assert (canvases.background.shape, canvases.background.dtype) == ((3, 4), np.float32)
    assert (canvases.spacing.shape, canvases.spacing.dtype) == ((3, 3), np.float32)


def test_canvas_covers_the_bounding_box_and_its_margin(canvases: Canvases) -> None:
    for k, box in FIXED.items():
        low = np.array([s.start for s in box]) - 0.5
        high = np.array([s.stop for s in box]) - 0.5
        border = np.maximum(MARGIN * (high - low), 1.0)
        ends = apply_map(canvases.to_fixed[k - 1], [[-0.5] * 3, [CANVAS - 0.5] * 3])
        np.testing.assert_allclose(ends[0], low - border, atol=1e-4)
        np.testing.assert_allclose(ends[1], high + border, atol=1e-4)


@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_margin_is_at_least_a_voxel(plan: RegionPlan, margin: float) -> None:
    placed = place(plan, margin=margin)
    ends = apply_map(placed.to_fixed[0], [[-0.5] * 3, [CANVAS - 0.5] * 3])
    np.testing.assert_allclose(ends, [[2.5, 8.5, 5.5], [9.5, 31.5, 12.5]], atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("canvas", [16, 48])
def test_box_depends_neither_on_cells_nor_on_stride(
    plan: RegionPlan, canvases: Canvases, canvas: int, stride: int
) -> None:
    placed = place(plan, canvas, stride)
    assert placed.field == (canvas // stride,) * 3
    ends, expected = [[-0.5] * 3, [canvas - 0.5] * 3], [[-0.5] * 3, [CANVAS - 0.5] * 3]
    field_ends = [[-0.5] * 3, [canvas / stride - 0.5] * 3]
    for k in range(3):
        covered = apply_map(placed.to_fixed[k], ends)
        np.testing.assert_allclose(covered, apply_map(canvases.to_fixed[k], expected), atol=1e-4)
        np.testing.assert_allclose(apply_map(placed.to_field[k], covered), field_ends, atol=1e-4)


def test_canvas_to_fixed_to_field(canvases: Canvases) -> None:
    for k in range(3):
        voxels = apply_map(canvases.to_fixed[k], CELLS)
        found = apply_map(canvases.to_field[k], voxels)
        np.testing.assert_allclose(found, field_cells(CELLS), atol=1e-4)
        off_diagonal = canvases.to_field[k, :, :3] - np.diag(np.diagonal(canvases.to_field[k]))
        assert not off_diagonal.any()  # fuse_fields takes scales and offsets only


def test_to_moving_and_to_voxel_lead_to_the_same_place(
    plan: RegionPlan, canvases: Canvases
) -> None:
    """Through world millimetres: the initial map of the cell's place on the fixed side."""
    fixed, moving = index_to_world(plan.fixed.affine), index_to_world(plan.moving.affine)
    for k in range(3):
        voxels = apply_map(canvases.to_fixed[k], CELLS)
        expected = apply_map(plan.maps[k], apply_map(fixed, voxels))
        by_moving = apply_map(moving, apply_map(canvases.to_moving[k], CELLS))
        by_voxel = apply_map(fixed, apply_map(canvases.to_voxel[k], field_cells(CELLS)))
        np.testing.assert_allclose(by_moving, expected, atol=1e-3)
        np.testing.assert_allclose(by_voxel, expected, atol=1e-3)


def test_background_is_the_global_affine(plan: RegionPlan, canvases: Canvases) -> None:
    fixed = index_to_world(plan.fixed.affine)
    voxels = np.array([[0.0, 0, 0], [29, 39, 35], [10, 3, 20]])
    mapped = apply_map(fixed, apply_map(canvases.background, voxels))
    expected = apply_map(plan.background, apply_map(fixed, voxels))
    np.testing.assert_allclose(mapped, expected, atol=1e-3)


def test_spacing_is_that_of_a_field_cell(plan: RegionPlan, canvases: Canvases) -> None:
    cell = 1 / np.diagonal(canvases.to_field[:, :, :3], axis1=1, axis2=2)
    np.testing.assert_allclose(canvases.spacing, cell * spacing_of(plan.fixed.affine), rtol=1e-5)


def test_single_slice_has_a_canvas_of_three() -> None:
    flat = side(make_affine((5, 1, 1)), {1: np.s_[0:1, 3:9, 4:16]}, (1, 20, 20))
    placed = place(plan_regions(flat, flat), 16)
    ends = apply_map(placed.to_fixed[0], [[-0.5] * 3, [15.5] * 3])
    np.testing.assert_allclose(ends, [[-1.5, 1.5, 1.7], [1.5, 9.5, 17.3]], atol=1e-4)


def test_world_far_from_its_origin_costs_no_precision() -> None:
    """Canvas tables are single precision, but none holds a world coordinate."""
    near, far = make_affine((2.0, 1.0, 1.5)), make_affine((2.0, 1.0, 1.5))
    far[:3, 3] = (5000, -8000, 3000)
    placed = place(plan_of(near, near))
    moved = place(plan_of(far, far))
    for name in ("to_fixed", "to_moving", "to_field", "to_voxel", "background"):
        np.testing.assert_allclose(getattr(moved, name), getattr(placed, name), atol=1e-4)
