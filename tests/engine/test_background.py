"""Between the organs: a spline that keeps to their surfaces, a flow that does not fold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segreg.engine.background import (
    SMOOTHING,
    evaluate_spline,
    fit_spline,
    flow_background,
    union_plan,
)
from segreg.engine.canvases import Canvases, bounding_boxes, place_canvases
from segreg.engine.geometry import apply_map, make_affine
from segreg.engine.regions import RegionPlan, Side, plan_regions
from segreg.kernels import jacobian_determinant

Centres = tuple[tuple[float, float, float], ...]

SHAPE, SPACING, RADIUS = (44, 44, 90), np.array([2.0, 2.0, 2.0]), 10.0
CANVAS, STRIDE, MARGIN = 32, 2, 0.15


def scattered(count: int = 300) -> np.ndarray:
    return np.random.default_rng(0).uniform(-50, 50, (count, 3))


def waves(points: np.ndarray) -> np.ndarray:
    z, y, x = points.T / 20
    return 5 * np.stack([np.sin(y), np.sin(x) * np.cos(z), np.cos(z)], 1)


@pytest.mark.parametrize("origin", [0.0, 5000.0])
def test_spline_is_exact_for_affine_data(origin: float) -> None:
    """Far beyond the points too, and wherever the world has its origin."""
    points = scattered() + origin
    slope = np.random.default_rng(1).normal(0, 0.2, (3, 3))
    values = (points - origin) @ slope.T + (5.0, -40.0, 3.0)
    weights, affine = fit_spline(points, values)
    where = 3 * scattered() + origin
    expected = (where - origin) @ slope.T + (5.0, -40.0, 3.0)
    np.testing.assert_allclose(
        evaluate_spline(where, points, weights, affine), expected, atol=5e-3
    )


def test_spline_meets_its_points_within_the_smoothing() -> None:
    points = scattered()
    values = waves(points)
    weights, affine = fit_spline(points, values)
    found = evaluate_spline(points, points, weights, affine)
    # The fit leaves SMOOTHING times a point's weight: the definition of a smoothing spline.
    np.testing.assert_allclose(values - found, -SMOOTHING * weights, atol=5e-3)
    assert np.abs(values - found).max() < 0.2
    # Side conditions of the spline: no constant and no slope is hidden in its weights.
    np.testing.assert_allclose(weights.sum(0), 0, atol=1e-9)
    np.testing.assert_allclose(weights.T @ points, 0, atol=0.05)


def test_spline_is_true_between_its_points() -> None:
    points = scattered(900)
    weights, affine = fit_spline(points, waves(points))
    where = 0.7 * np.random.default_rng(5).uniform(-50, 50, (500, 3))
    miss = evaluate_spline(where, points, weights, affine) - waves(where)
    assert np.sqrt((miss**2).mean()) < 0.3  # of waves of 5 mm


def test_contradicting_points_meet_in_the_middle() -> None:
    """Two organs slide along each other: one place, two displacements."""
    points = scattered(100)
    points = np.concatenate([points, points])
    values = np.zeros((200, 3))
    values[100:, 1] = 4
    weights, affine = fit_spline(points, values)
    found = evaluate_spline(points, points, weights, affine)
    np.testing.assert_allclose(found, np.tile((0.0, 2.0, 0.0), (200, 1)), atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_coplanar_points_do_not_blow_up(axis: int) -> None:
    """A 2-D image: nothing is known across its plane, so nothing happens across it."""
    points = scattered()
    points[:, axis] = 7.0
    values = waves(points)
    values[:, axis] = 0
    weights, affine = fit_spline(points, values)
    found = evaluate_spline(points, points, weights, affine)
    assert np.abs(found - values).max() < 0.5
    beside = points.copy()
    beside[:, axis] += 5
    found = evaluate_spline(beside, points, weights, affine)
    np.testing.assert_allclose(found[:, axis], 0, atol=1e-3)
    assert np.abs(found).max() < 1.2 * np.abs(values).max()


def test_one_point_is_a_translation() -> None:
    weights, affine = fit_spline(np.array([[1.0, 2, 3]]), np.array([[4.0, 5, 6]]))
    found = evaluate_spline(scattered(5), np.array([[1.0, 2, 3]]), weights, affine)
    np.testing.assert_allclose(found, np.tile((4.0, 5.0, 6.0), (5, 1)), atol=1e-4)


def balls(centres: Centres) -> Side:
    """One ball a region; centres in voxels."""
    regions = np.zeros(SHAPE, np.int32)
    grid = np.indices(SHAPE).transpose(1, 2, 3, 0)
    for number, centre in enumerate(centres, 1):
        regions[np.linalg.norm(grid - np.array(centre), axis=-1) < RADIUS] = number
    image = np.zeros(SHAPE, np.float32)
    return Side.measure(image, regions, len(centres), make_affine(SPACING))


def flow(fixed: Centres, moving: Centres) -> tuple[RegionPlan, Canvases, np.ndarray]:
    """(plan, canvas of the union, displacement) where the regions' own fields are zero."""
    plan = plan_regions(balls(moving), balls(fixed))
    regions, union = (
        place_canvases(one, bounding_boxes(one.fixed, MARGIN), (CANVAS,) * 3, STRIDE)
        for one in (plan, union_plan(plan))
    )
    count, cells = len(fixed), regions.field
    index = np.indices(cells).reshape(3, -1).T
    distances = np.empty((count, *cells), np.float32)
    for k, centre in enumerate(fixed):
        table = regions.to_field[k].astype(float)
        voxels = (index - table[:, 3]) / np.diagonal(table)
        away = np.linalg.norm((voxels - centre) * SPACING, axis=1) - RADIUS * SPACING[0]
        distances[k] = np.maximum(away, 0).reshape(cells)
    fields = np.zeros((count, 3, *cells), np.float32)
    return plan, union, flow_background(fields, distances, regions, union, SPACING)


def mapped(union: Canvases, displacement: Any, voxels: Any) -> np.ndarray:
    """Where the union's map takes whole fixed ``voxels`` (N, 3), through the nearest field cell."""
    cells = np.rint(apply_map(union.to_field[0], voxels)).astype(int)
    moved = cells + displacement[0][:, cells[:, 0], cells[:, 1], cells[:, 2]].T
    back = (cells - union.to_field[0, :, 3]) / np.diagonal(union.to_field[0])
    return apply_map(union.to_voxel[0], moved) - back + voxels


APART: Centres = ((22, 22, 15), (22, 22, 75))
NEAR: Centres = ((22, 22, 30), (22, 22, 60))
ACROSS: Centres = ((12, 22, 30), (32, 22, 60))


def test_identical_sides_flow_nowhere() -> None:
    _, _, displacement = flow(APART, APART)
    assert displacement.shape == (1, 3, 16, 16, 16)
    assert displacement.dtype == np.float32
    assert np.abs(displacement).max() < 1e-4


@pytest.mark.parametrize(
    ("fixed", "moving"), [(NEAR, APART), (APART, NEAR), (NEAR, ACROSS), (ACROSS, NEAR)]
)
def test_organs_moved_by_tens_of_mm_do_not_fold_the_space_between(
    fixed: Centres, moving: Centres
) -> None:
    plan, union, displacement = flow(fixed, moving)
    assert np.abs(plan.maps[:, :3, 3]).max() >= 20  # mm; the organs do move
    # to_voxel's determinant is positive, so that of the displacement decides.
    assert np.linalg.det(union.to_voxel[0, :, :3]) > 0
    assert jacobian_determinant(displacement).min() > 0.1


@pytest.mark.parametrize(("fixed", "moving"), [(NEAR, ACROSS), (APART, NEAR)])
def test_flow_carries_the_organs_along(fixed: Centres, moving: Centres) -> None:
    """Poles of every organ end where the organ's own map puts them, to within a field cell."""
    _, union, displacement = flow(fixed, moving)
    cell = 1 / np.diagonal(union.to_field[0]).min()
    for start, end in zip(fixed, moving, strict=True):
        poles = np.array([[0, RADIUS, 0], [0, -RADIUS, 0], [RADIUS, 0, 0], [-RADIUS, 0, 0]])
        found = mapped(union, displacement, start + poles)
        miss = np.linalg.norm(found - (end + poles), axis=1)
        assert miss.max() < 0.6 * cell


def test_union_is_one_region_of_all_labelled_voxels() -> None:
    plan = plan_regions(balls(NEAR), balls(APART))
    union = union_plan(plan)
    assert union.maps.shape == (1, 4, 4)
    np.testing.assert_array_equal(union.maps[0], plan.background)
    for one, many in ((union.fixed, plan.fixed), (union.moving, plan.moving)):
        labelled = Side.measure(
            many.image, (many.region_map > 0).astype(np.int32), 1, many.affine
        )
        assert one.numbers.tolist() == [0]
        np.testing.assert_allclose(one.mean, labelled.mean)
        np.testing.assert_allclose(one.covariance, labelled.covariance)
        np.testing.assert_array_equal(one.stats.boxes, labelled.stats.boxes)
        np.testing.assert_array_equal(one.shapes.bytes, labelled.shapes.bytes)
