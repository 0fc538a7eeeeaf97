"""Far from the labels the body carries the background, and near them the labels do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.engine.body import BODY
from segreg.engine.errors import InputError
from segreg.engine.geometry import make_affine
from segreg.engine.regions import RegionPlan, Side, plan_regions
from segreg.engine.runtime import Engine
from segreg.engine.surroundings import (
    REGIONS,
    _any,
    check_background,
    follow_body,
    plan_body,
)
from segreg.engine.volume import Volume

SHAPE = (30, 66, 70)
SPACING = (3.0, 2.0, 2.0)


def ellipsoid(centre: Any, radii: Any) -> np.ndarray:
    places = np.moveaxis(np.indices(SHAPE), 0, -1)
    return np.asarray(np.linalg.norm((places - centre) / np.asarray(radii), axis=-1) < 1)


def pair() -> tuple[Volume, Volume, Volume, Volume]:
    """A still trunk with a heart that contracts."""
    trunk = ellipsoid((14.5, 33, 35), (60, 29, 31))
    spine = ellipsoid((14.5, 50, 35), (60, 5, 5))
    sides = []
    for radii in ((8, 11, 11), (6, 8, 8)):
        heart = ellipsoid((14.5, 27, 32), radii)
        noise = np.random.default_rng(0).normal(0, 4, SHAPE)
        image = 10 + 390 * trunk + 200 * spine + 300 * heart + noise
        affine = make_affine(SPACING)
        sides += [Volume(image.astype(np.float32), affine, "image")]
        sides += [Volume(heart.astype(np.uint8), affine, "labels")]
    return sides[0], sides[2], sides[1], sides[3]


def plan_of(moving: Volume, fixed: Volume, one: Volume, other: Volume) -> RegionPlan:
    measured = [
        Side.measure(image.array, labels.array.astype(np.int32), 1, image.affine)
        for image, labels in ((moving, one), (fixed, other))
    ]
    return plan_regions(*measured)


def test_what_is_still_stays_still(tiny_package: Path) -> None:
    """The spine and the skin do not follow the heart; its own voxels lose nothing."""
    moving, fixed, *labels = pair()
    with Engine(tiny_package) as engine:
        body = engine.register(moving, fixed, *labels)
        alone = engine.register(moving, fixed, *labels, background=REGIONS)
    lengths = [np.linalg.norm(r.displacement.displacement, axis=0) for r in (body, alone)]
    spine = ellipsoid((14.5, 50, 35), (60, 4, 4))
    assert lengths[1][spine].mean() > 2
    assert lengths[0][spine].mean() < 0.25 * lengths[1][spine].mean()
    heart = labels[1].array > 0
    np.testing.assert_allclose(
        body.displacement.displacement[:, heart], alone.displacement.displacement[:, heart],
        atol=1e-5,
    )  # fmt: skip
    assert body.quality.dice >= alone.quality.dice - 0.001
    assert body.quality.folding_background_percent == 0
    assert (body.provenance.background, alone.provenance.background) == ("body", "regions")
    assert "body" in body.watch.seconds
    assert "body" not in alone.watch.seconds


def test_meets_without_a_step_and_shows_no_organ_twice() -> None:
    """The labels' map leaves the organ where it is; the body's would show it elsewhere again."""
    moving, fixed, *labels = pair()
    plan = plan_of(moving, fixed, *labels)
    near, far = np.zeros((2, 1, 3, *SHAPE), np.float32)
    far[0, 2] = 6.0
    far[0, :, plan.fixed.region_map > 0] = 0
    found = near.copy()
    follow_body(found, far, plan)
    along = found[0, 2]
    places = np.indices(SHAPE)[2] + along
    index = np.rint(places).astype(int).clip(0, SHAPE[2] - 1)
    shown = np.take_along_axis(plan.moving.region_map, index, axis=2) > 0
    inside = ellipsoid((14.5, 27, 32), (8, 11, 11))
    assert not (shown & ~inside).any()
    assert along[14, 27, 69] == pytest.approx(6, abs=0.01)
    assert along.min() >= 0
    assert np.abs(np.diff(along[14], axis=1)).max() < 1


def test_same_fields_stay_the_same() -> None:
    plan = plan_of(*pair())
    field = np.random.default_rng(1).normal(0, 1, (1, 3, *SHAPE)).astype(np.float32)
    near = field.copy()
    follow_body(near, field, plan)
    np.testing.assert_allclose(near, field, atol=1e-6)


def test_bodies_become_one_region_by_moments() -> None:
    plan = plan_of(*pair())
    fixed = ellipsoid((14, 30, 30), (9, 20, 16)).astype(np.uint8)
    moving = np.roll(fixed, 4, axis=1)
    body = plan_body(plan, moving, fixed)
    assert body.is_union
    shift = body.maps[0][:3, 3] + (body.maps[0][:3, :3] - np.eye(3)) @ body.fixed.mean[0]
    assert np.linalg.norm(shift) == pytest.approx(8, abs=0.01)
    assert body.name_of(0) == "body"


def test_labels_that_fill_the_body_need_none() -> None:
    body = ellipsoid((14, 30, 30), (9, 20, 16)).astype(np.uint8)
    for share, needed in ((0.7, True), (0.9, False)):
        inner = ellipsoid((14, 30, 30), tuple(share * n for n in (9, 20, 16))).astype(np.int32)
        image = np.zeros(SHAPE, np.float32)
        side = Side.measure(image, inner, 1, np.eye(4))
        assert (plan_body(plan_regions(side, side), body, body) is not None) == needed


@pytest.mark.parametrize(("asked", "background"), [(None, REGIONS), ([1], BODY)])
def test_no_body_is_looked_for_where_labels_fill_the_image(
    tiny_package: Path, asked: list[int] | None, background: str
) -> None:
    """Unless only some of the labels count."""
    moving, fixed, *labels = pair()
    hearts = [
        replace(image, array=np.where(given.array, image.array, 0))
        for image, given in zip((moving, fixed), labels, strict=True)
    ]
    with Engine(tiny_package) as engine:
        result = engine.register(*hearts, *labels, labels=asked)
    assert result.provenance.background == background
    assert not any("follows the labels alone" in note for note in result.notes)


def test_an_image_without_a_body_is_said(tiny_package: Path) -> None:
    moving, fixed, *labels = pair()
    even = replace(fixed, array=np.full(SHAPE, 7, np.float32), name="even")
    with Engine(tiny_package) as engine:
        result = engine.register(moving, even, *labels)
    assert any(
        "the background follows the labels alone; even: expected an image with a body" in note
        for note in result.notes
    )
    assert result.provenance.background == REGIONS


def test_refuses_another_background(tiny_package: Path) -> None:
    assert check_background("body") == "body"
    with Engine(tiny_package) as engine, pytest.raises(InputError, match="body, regions, got 'x'"):
        engine.register(*pair(), background="x")


def test_blocks_with_any_voxel() -> None:
    labelled = np.random.default_rng(2).random((5, 7, 9)) < 0.05
    found = _any(labelled, [2, 3, 1])
    padded = np.pad(labelled, [(0, 1), (0, 2), (0, 0)])
    np.testing.assert_array_equal(found, padded.reshape(3, 2, 3, 3, 9).any(axis=(1, 3)))
