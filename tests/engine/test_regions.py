"""Initial maps come from label maps alone, and mean the same in every grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segreg.engine.geometry import apply_map, index_to_world, make_affine
from segreg.engine.regions import RegionPlan, Side, plan_regions

SHAPE = (14, 18, 16)
STRETCH = np.array([[1.15, 0.08, -0.05], [0.08, 0.92, 0.04], [-0.05, 0.04, 1.05]])


def labelled(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Three boxes of differing size."""
    regions = np.zeros(shape, np.int32)
    regions[2:7, 3:9, 2:6] = 1
    regions[8:12, 4:14, 9:13] = 2
    regions[3:6, 11:16, 3:14] = 3
    return regions


def measured(regions: Any, affine: Any) -> Side:
    image = np.zeros(regions.shape, np.float32)
    return Side.measure(image, np.ascontiguousarray(regions), int(regions.max()), affine)


def stretched(shift: Any = (4.0, -7.0, 2.0)) -> np.ndarray:
    """Symmetric and positive: what moments can tell of an affine."""
    affine = np.eye(4)
    affine[:3, :3] = STRETCH
    affine[:3, 3] = shift
    return affine


def test_mean_and_covariance_are_those_of_the_voxels_boxes(affine: np.ndarray) -> None:
    regions = labelled()
    side = measured(regions, affine)
    # Eight points a voxel, at one standard deviation of a box, have its mean and its variance.
    corners = (np.indices((2, 2, 2)).reshape(3, -1).T - 0.5) * 2 / np.sqrt(12)
    for k in (1, 2, 3):
        points = (np.argwhere(regions == k)[:, None] + corners).reshape(-1, 3)
        points = apply_map(index_to_world(affine), points)
        np.testing.assert_allclose(side.mean[k - 1], points.mean(0), atol=1e-9)
        np.testing.assert_allclose(
            side.covariance[k - 1], np.cov(points.T, bias=True), atol=1e-8
        )


@pytest.mark.parametrize("origin", [0.0, 2000.0])
def test_one_affine_for_all_regions_is_found_exactly(affine: np.ndarray, origin: float) -> None:
    """Both sides show the same voxels; only the world around the moving one is another."""
    grid = affine.copy()
    grid[:3, 3] += origin
    known = stretched()
    fixed = measured(labelled(), grid)
    plan = plan_regions(measured(labelled(), known @ grid), fixed)
    places = np.concatenate([fixed.mean, fixed.mean + 10])
    for found in (*plan.maps, plan.background):
        np.testing.assert_allclose(found[:3, :3], known[:3, :3], atol=1e-7)
        np.testing.assert_allclose(
            apply_map(found, places), apply_map(known, places), atol=1e-6
        )


def test_global_affine_is_the_least_squares_fit_to_all_voxels() -> None:
    fixed = measured(labelled(), make_affine((2.0, 1.0, 1.5)))
    moving = measured(np.roll(labelled(), (1, 2, -1), (0, 1, 2))[::-1], make_affine((2.0, 1.2, 1)))
    plan = plan_regions(moving, fixed)
    corners = (np.indices((2, 2, 2)).reshape(3, -1).T - 0.5) * 2 / np.sqrt(12)
    before, after = [], []
    for k in (1, 2, 3):
        points = (np.argwhere(fixed.region_map == k)[:, None] + corners).reshape(-1, 3)
        points = apply_map(index_to_world(fixed.affine), points)
        before.append(points)
        after.append(apply_map(plan.maps[k - 1], points))
    homogeneous = np.column_stack([np.concatenate(before), np.ones(sum(map(len, before)))])
    best = np.linalg.lstsq(homogeneous, np.concatenate(after), rcond=None)[0].T
    np.testing.assert_allclose(plan.background[:3], best, atol=1e-8)
    np.testing.assert_array_equal(plan.background[3], (0, 0, 0, 1))


def test_identity_and_translation() -> None:
    fixed = measured(labelled(), make_affine((2.0, 1.0, 1.5)))
    moving = measured(np.roll(labelled(), 1, 0), make_affine((2.0, 1.0, 1.5)))
    plan = plan_regions(moving, fixed, "identity")
    np.testing.assert_array_equal(plan.maps, np.tile(np.eye(4), (3, 1, 1)))
    np.testing.assert_allclose(plan.background, np.eye(4), atol=1e-12)
    plan = plan_regions(moving, fixed, "translation")
    known = np.eye(4)
    known[2, 3] = 2.0  # one voxel along z
    np.testing.assert_allclose(plan.maps, np.tile(known, (3, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(plan.background, known, atol=1e-9)


def test_translation_joins_the_centroids_whatever_the_shapes() -> None:
    fixed = measured(labelled(), make_affine((1.0, 1.0, 1.0)))
    moving = measured(labelled()[::-1, :, ::-1], make_affine((1.0, 2.0, 1.0)))
    maps = plan_regions(moving, fixed, "translation").maps
    for k in range(3):
        np.testing.assert_array_equal(maps[k, :3, :3], np.eye(3))
        np.testing.assert_allclose(apply_map(maps[k], fixed.mean[k : k + 1])[0], moving.mean[k])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flat_region_is_not_degenerate(axis: int) -> None:
    """One slice, also as the only one of its volume: its thickness is the voxel's."""
    shape: list[Any] = [12, 12, 12]
    shape[axis] = 1
    regions = np.zeros(shape, np.int32)
    regions[tuple(slice(2, 9) if n > 1 else 0 for n in shape)] = 1
    side = measured(regions, make_affine((3.0, 2.0, 1.0)))
    spacing = (1.0, 2.0, 3.0)[2 - axis]
    assert np.linalg.eigvalsh(side.covariance[0])[0] == pytest.approx(spacing**2 / 12)
    plan = plan_regions(side, side)
    np.testing.assert_allclose(plan.maps[0], np.eye(4), atol=1e-9)
    np.testing.assert_allclose(plan.background, np.eye(4), atol=1e-9)


def test_single_voxel_matches_its_box() -> None:
    regions = np.zeros((5, 5, 5), np.int32)
    regions[2, 3, 1] = 1
    plan = plan_regions(
        measured(regions, make_affine((3.0, 2.0, 1.0))),
        measured(regions, make_affine((2.0, 2.0, 1.0))),
    )
    np.testing.assert_allclose(plan.maps[0, :3, :3], np.diag([1, 1, 1.5]), atol=1e-9)


def reoriented(side: Side, axes: tuple[int, int, int], flips: tuple[int, ...]) -> Side:
    """The same voxels in the same places, stored in another order."""
    array = side.region_map.transpose(axes)
    to_index = np.zeros((4, 4))  # new index (z, y, x) -> old one
    to_index[3, 3] = 1
    for new, old in enumerate(axes):
        to_index[old, new] = 1
    for axis in flips:
        array = np.flip(array, axis)
        mirror = np.eye(4)
        mirror[axis, axis], mirror[axis, 3] = -1, array.shape[axis] - 1
        to_index = to_index @ mirror
    world = index_to_world(side.affine) @ to_index
    return measured(array, world[:, [2, 1, 0, 3]])


def pair(affine: np.ndarray) -> RegionPlan:
    moving = measured(np.roll(labelled(), (1, -1, 2), (0, 1, 2)), stretched() @ affine)
    return plan_regions(moving, measured(labelled(), affine))


@pytest.mark.parametrize(
    ("axes", "flips"), [((0, 1, 2), (0,)), ((0, 1, 2), (1, 2)), ((2, 0, 1), ()), ((1, 2, 0), (2,))]
)
def test_order_of_voxels_does_not_matter(
    affine: np.ndarray, axes: tuple[int, int, int], flips: tuple[int, ...]
) -> None:
    plan = pair(affine)
    turned = plan_regions(reoriented(plan.moving, axes, flips), plan.fixed)
    both = plan_regions(reoriented(plan.moving, axes, flips), reoriented(plan.fixed, axes, ()))
    for other in (turned, both):
        np.testing.assert_allclose(other.maps, plan.maps, atol=1e-8)
        np.testing.assert_allclose(other.background, plan.background, atol=1e-8)


def test_maps_turn_with_the_patient() -> None:
    """A rigid motion of the whole world turns the maps and changes nothing else."""
    rng = np.random.default_rng(3)
    rigid = np.eye(4)
    rigid[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rigid[:3, 3] = (30, -20, 10)
    plan = pair(make_affine((2.0, 1.0, 1.5)))
    turned = plan_regions(
        measured(plan.moving.region_map, rigid @ plan.moving.affine),
        measured(plan.fixed.region_map, rigid @ plan.fixed.affine),
    )
    back = np.linalg.inv(rigid)
    np.testing.assert_allclose(back @ turned.maps @ rigid, plan.maps, atol=1e-8)
    np.testing.assert_allclose(back @ turned.background @ rigid, plan.background, atol=1e-8)
