"""Refinement of a fused displacement by texture and outlines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.engine.errors import InputError
from segreg.engine.levels import GUESSED, INSIDE
from segreg.engine.refinement import (
    OUTLINES_AGAIN,
    Refinement,
    check_refine,
    follow_outlines,
    refine_displacement,
)
from segreg.engine.regions import RegionPlan, Side, plan_regions
from segreg.engine.runtime import Engine
from segreg.kernels import jacobian_determinant, warp, warp_labels
from tests.engine.pairs import volumes

SPACING = (np.ones(3), np.ones(3))
TO_MOVING = np.eye(3, 4)


def textured(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape)
    return ndimage.gaussian_filter(noise, [1.2 if n > 1 else 0 for n in shape]).astype(np.float32)


def ball(shape: tuple[int, ...], share: float = 0.16) -> np.ndarray:
    """An ellipsoid, its upper half region 1, its lower half region 2."""
    places = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else [0] for n in shape), indexing="ij")
    inside = sum(p**2 for p in places) < 4 * share
    return np.where(inside, np.where(places[2] < 0, 1, 2), 0).astype(np.int32)


def wave(shape: tuple[int, ...], size: float) -> np.ndarray:
    """Slow displacement (1, 3, D, H, W), none along an axis of one voxel."""
    z, y, x = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij")
    field = np.stack([np.sin(y + x), np.cos(z - x), np.sin(z + 2 * y)]) * size
    field[[axis for axis, n in enumerate(shape) if n == 1]] = 0
    return np.ascontiguousarray(field[None], np.float32)


def plan_of(shape: tuple[int, ...], truth: np.ndarray, gain: float = 1.0) -> RegionPlan:
    """A moving side, and a fixed one that is the moving one seen through ``truth``."""
    image, regions = textured(shape), ball(shape)
    fixed_image = gain * warp(image[None, None], truth)[0, 0]
    fixed_regions = warp_labels(regions, truth)
    moving = Side.measure(image, regions, 2, np.eye(4))
    fixed = Side.measure(fixed_image.astype(np.float32), fixed_regions, 2, np.eye(4))
    return plan_regions(moving, fixed, "identity")


def refined(plan: RegionPlan, start: np.ndarray, refine: str | int = "auto"):
    field = start.copy()
    done = refine_displacement(field, plan, TO_MOVING, SPACING, refine)
    return field, done


def error(field: np.ndarray, truth: np.ndarray, plan: RegionPlan) -> float:
    away = np.sqrt(((field - truth)[0] ** 2).sum(axis=0))
    return float(away[plan.fixed.region_map > 0].mean())


@pytest.mark.parametrize("gain", [1.0, -0.4], ids=["same contrast", "inverted"])
@pytest.mark.parametrize("shape", [(24, 26, 28), (1, 48, 50)], ids=["3-D", "2-D"])
def test_finds_a_known_field(shape, gain):
    truth = wave(shape, 1.0)
    plan = plan_of(shape, truth, gain)
    start = np.zeros_like(truth)
    field, done = refined(plan, start)
    assert error(field, truth, plan) < 0.25 * error(start, truth, plan)
    assert done.similarity is not None
    assert done.similarity[1] > done.similarity[0]
    assert done.outline_error_mm is not None
    assert done.outline_error_mm[1] < 0.3 * done.outline_error_mm[0]
    inside = jacobian_determinant(field)[0][plan.fixed.region_map > 0]
    assert (inside > 0).mean() > 0.999


def test_what_fits_stays():
    shape = (20, 22, 24)
    truth = wave(shape, 1.5)
    plan = plan_of(shape, 0 * truth)
    field, _ = refined(plan, 0 * truth)
    np.testing.assert_allclose(field, 0, atol=1e-3)


def test_without_texture_outlines_alone():
    """Flat images: the outlines are matched, and the result says that nothing else was."""
    shape = (24, 26, 28)
    truth = wave(shape, 1.0)
    plan = plan_of(shape, truth)
    for side in (plan.moving, plan.fixed):
        side.image[...] = 1
    field, done = refined(plan, 0 * truth)
    assert done.iterations == ()
    assert done.outline_iterations > 0
    assert "outlines alone" in done.reason
    before = (plan.moving.region_map != plan.fixed.region_map).mean()
    after = (warp_labels(plan.moving.region_map, field) != plan.fixed.region_map).mean()
    assert after < 0.1 * before


def test_regions_may_slide():
    """Two halves that slide along each other by six voxels keep sliding."""
    shape = (24, 24, 32)
    truth = np.zeros((1, 3, *shape), np.float32)
    truth[:, 1, :12] = 3
    truth[:, 1, 12:] = -3
    image = textured(shape)
    regions = np.ones(shape, np.int32)
    regions[12:] = 2
    fixed_image = warp(image[None, None], truth)[0, 0]
    plan = plan_regions(
        Side.measure(image, regions, 2, np.eye(4)),
        Side.measure(fixed_image, regions, 2, np.eye(4)),
        "identity",
    )
    field, _ = refined(plan, truth)
    slip = field[0, 1, 11] - field[0, 1, 12]
    assert np.median(slip) > 5.5
    inner = (slice(None), slice(None), slice(None), slice(5, -5), slice(5, -5))
    np.testing.assert_allclose(field[inner], truth[inner], atol=0.5)


def test_off_changes_nothing():
    shape = (10, 11, 12)
    truth = wave(shape, 1.0)
    field, done = refined(plan_of(shape, truth), 0 * truth, "off")
    np.testing.assert_array_equal(field, 0)
    assert done == Refinement()
    assert done.notes == ()


@pytest.mark.parametrize(
    ("of_package", "asked", "done"),
    [("auto", None, "auto"), (None, None, "off"), ("auto", "off", "off"), ("off", 3, 3)],
)
def test_the_package_says_unless_the_user_does(
    build_package, small_phantom, of_package, asked, done
):
    package = build_package(refine=of_package)
    with Engine(package) as engine:
        result = engine.register(*volumes(small_phantom), refine=asked)
    assert result.provenance.refine == result.refinement.requested == done


@pytest.mark.parametrize(
    ("asked", "refine", "done"),
    [(None, "off", 3), (None, "auto", 2), (1, "auto", 1), (1, "off", 1)],
)
def test_fewer_passes_may_do_where_refinement_follows(
    build_package, small_phantom, asked, refine, done
):
    with Engine(build_package(passes=3, passes_refined=2), passes=asked) as engine:
        assert engine.register(*volumes(small_phantom), refine=refine).provenance.passes == done


def test_packages_that_come_with_it_are_refined(small_phantom):
    with Engine("shapes") as engine:
        result = engine.register(*volumes(small_phantom))
    assert result.provenance.refine == "auto"


def test_iterations_are_those_asked_for():
    shape = (16, 18, 20)
    truth = wave(shape, 1.0)
    plan = plan_of(shape, truth)
    few, done = refined(plan, 0 * truth, 1)
    many, _ = refined(plan, 0 * truth, 8)
    assert done.requested == 1
    assert all(count == 1 for _, count in done.iterations)
    assert error(many, truth, plan) < error(few, truth, plan)


@pytest.mark.parametrize("refine", ["on", "", 0, -1, 201, True, None, 1.5])
def test_refuses(refine):
    with pytest.raises(InputError, match="refine"):
        check_refine(refine)


def test_texture_says_more_where_labels_are_guessed(monkeypatch):
    """Seen where regions are told apart: as one body, outlines do not count before the end."""
    monkeypatch.setattr("segreg.engine.refinement.follow_texture", lambda *_, **__: None)
    shape = (24, 26, 28)
    truth = wave(shape, 2.0)
    plan = plan_of(shape, truth)
    found = []
    for steps in (INSIDE, GUESSED):
        field = 0 * truth
        done = refine_displacement(field, plan, TO_MOVING, SPACING, 5, steps)
        found.append((done.similarity, error(field, truth, plan)))
    assert found[0][0][0] == found[1][0][0]
    assert found[0][0][1] < found[1][0][1]
    assert found[1][1] < 0.5 * error(0 * truth, truth, plan)


def test_outlines_that_moved_are_followed_again():
    """A matched field, bent by up to a voxel: a few steps match most of the outlines again."""
    shape = (24, 26, 28)
    truth = wave(shape, 2.0)
    plan = plan_of(shape, truth)
    field = truth + 0.5 * wave(shape, 2.0)[:, ::-1]

    def wrong() -> int:
        return int((warp_labels(plan.moving.region_map, field) != plan.fixed.region_map).sum())

    before = wrong()
    taken = follow_outlines(field, plan, TO_MOVING, SPACING)
    assert 1 <= taken <= OUTLINES_AGAIN
    assert wrong() < 0.5 * before


def test_never_takes_regions_apart():
    """Images that contradict the labels may move what is inside, not the outlines."""
    shape = (24, 26, 28)
    truth = wave(shape, 2.0)
    plan = plan_of(shape, truth)
    plan.fixed.image[...] = plan.moving.image

    def wrong(field: np.ndarray) -> int:
        seen = warp_labels(plan.moving.region_map, field)
        return int((seen != plan.fixed.region_map).sum())

    assert wrong(0 * truth) > 10 * wrong(truth)
    field, _ = refined(plan, truth, 40)
    assert wrong(field) <= wrong(truth)
