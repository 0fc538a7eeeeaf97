"""Texture of the whole frame as one body: when it is followed, and what that brings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from segreg.engine.levels import INSIDE, normalised
from segreg.engine.refinement import refine_displacement
from segreg.engine.regions import RegionPlan, Side, plan_regions
from segreg.engine.resolutions import Resolutions
from segreg.engine.texture import follow_texture
from segreg.kernels import warp, warp_labels
from tests.engine.test_refinement import SPACING, TO_MOVING, error, textured, wave

SHAPE = (40, 42, 46)
CELLS = 10


def small_regions(shape: tuple[int, ...]) -> np.ndarray:
    """Boxes of ``CELLS`` voxels, every other one a region of its own."""
    boxes = sum(places // CELLS for places in np.indices(shape))
    places = np.ravel_multi_index(
        [p // CELLS for p in np.indices(shape)], [-(-n // CELLS) for n in shape]
    )
    kept = np.where(boxes % 2 == 0, places + 1, 0)
    return (np.unique(kept, return_inverse=True)[1].reshape(shape)).astype(np.int32)


def made_pair(fixed_seed: int = 0) -> tuple[RegionPlan, np.ndarray, np.ndarray]:
    """A plan, its truth, and a start that is off by voxels, another way in every region."""
    truth = wave(SHAPE, 1.5)
    regions = small_regions(SHAPE)
    seen = warp(textured(SHAPE, fixed_seed)[None, None], truth)[0, 0]
    fixed_regions = warp_labels(regions, truth)
    count = int(regions.max())
    guesses = np.random.default_rng(3).normal(0, 1.0, (count + 1, 3)).astype(np.float32)
    start = truth + np.moveaxis(guesses[fixed_regions], -1, 0)[None]
    sides = (
        Side.measure(image, labels, count, np.eye(4))
        for image, labels in ((textured(SHAPE), regions), (seen, fixed_regions))
    )
    return plan_regions(*sides, "identity"), truth, np.ascontiguousarray(start)


def followed(plan: RegionPlan, start: np.ndarray, similarity: float, dice: float):
    sides = normalised(plan.fixed), normalised(plan.moving)
    pair = Resolutions(*sides, TO_MOVING, SPACING, len(plan.maps), False)
    return follow_texture(start[0], pair, similarity, dice)


def test_one_body_is_found_though_regions_were_guessed():
    plan, truth, start = made_pair()
    field = start.copy()
    done = refine_displacement(field, plan, TO_MOVING, SPACING)
    assert "one body" in done.reason
    assert [coarsening for coarsening, _ in done.iterations] == [4, 2, 1]
    assert error(start, truth, plan) > 1.2
    assert error(field, truth, plan) < 0.3
    matched = warp_labels(plan.moving.region_map, field) == plan.fixed.region_map
    assert matched.mean() > 0.99


def test_a_body_found_in_the_images_goes_its_own_way():
    """One region, no label inside it: what is found is as near, by steps of its own."""
    plan, truth, start = made_pair()
    sides = (
        Side.measure(side.image, np.ones(SHAPE, np.int32), 1, np.eye(4))
        for side in (plan.moving, plan.fixed)
    )
    body = plan_regions(*sides, "identity")
    fields = []
    for found in (False, True):
        fields.append(start.copy())
        steps = replace(INSIDE, found=found)
        done = refine_displacement(fields[-1], body, TO_MOVING, SPACING, steps=steps)
        assert "one body" in done.reason
        assert error(fields[-1], truth, plan) < 0.3
    assert not np.array_equal(*fields)


def test_two_bodies_are_told_apart():
    """Other texture in the same regions: what they say stays."""
    plan, truth, _ = made_pair(fixed_seed=1)
    field = truth.copy()
    done = refine_displacement(field, plan, TO_MOVING, SPACING)
    assert "one body" not in done.reason
    assert error(field, truth, plan) < 0.5


@pytest.mark.parametrize(
    ("similarity", "dice"), [(0.9, 0.0), (0.01, 2.0)], ids=["images no nearer", "regions apart"]
)
def test_is_left_where_it_does_not_pay(similarity, dice):
    plan, _, start = made_pair()
    kept = start.copy()
    assert followed(plan, start, similarity, dice) is None
    np.testing.assert_array_equal(start, kept)
    assert followed(plan, start, 0.01, 0.0) is not None


def test_steps_are_those_asked_for():
    plan, _, start = made_pair()
    field = start.copy()
    done = refine_displacement(field, plan, TO_MOVING, SPACING, 2)
    assert done.iterations == ((4, 2), (2, 2), (1, 2))
