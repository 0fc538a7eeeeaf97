"""Measures whose values are known beforehand, and the verdict they lead to."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from segreg.engine.labels import LabelScheme
from segreg.engine.quality import Quality, Thresholds, dice_of_table, judge
from segreg.engine.result import without_nan
from segreg.kernels import overlap, region_stats

SHAPE = (16, 24, 20)
SPACING = np.array([2.0, 1.0, 1.5])
BOX = np.s_[4:12, 4:14, 5:15]  # 8 x 10 x 10 voxels
OTHER = np.s_[12:16, 15:23, 3:9]


def boxes(*places: tuple[slice, ...], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    regions = np.zeros(shape, np.int32)
    for number, place in enumerate(places, 1):
        regions[place] = number
    return regions


def judged(
    fixed: np.ndarray,
    warped: np.ndarray,
    displacement: Any = None,
    **options: Any,
) -> Quality:
    return with_jacobian(fixed, warped, displacement, **options)[0]


def with_jacobian(
    fixed: np.ndarray,
    warped: np.ndarray,
    displacement: Any = None,
    *,
    moving: Any = None,
    to_moving: Any = None,
    moving_voxel_ml: float = 0.003,
    thresholds: Thresholds | None = None,
) -> tuple[Quality, np.ndarray]:
    count = int(fixed.max())
    moving = warped if moving is None else moving
    stats = tuple(
        region_stats(side, np.zeros(side.shape, np.float32), count) for side in (moving, fixed)
    )
    return judge(
        LabelScheme(
            tuple(f"organ {k}" for k in range(1, count + 1)),
            tuple((k,) for k in range(1, count + 1)),
        ),
        moving,
        fixed,
        warped,
        np.zeros((1, 3, *fixed.shape), np.float32) if displacement is None else displacement,
        np.eye(3, 4) if to_moving is None else to_moving,
        SPACING,
        (stats[0], stats[1]),
        moving_voxel_ml,
        thresholds,
    )


def spike(*voxels: tuple[int, int, int]) -> np.ndarray:
    """Folds exactly the voxels given: a spike of 3 along x one voxel before each.

    Central differences then give 1 - 3 / 2 at the voxel and 1 + 3 / 2 two voxels before it.
    """
    displacement = np.zeros((1, 3, *SHAPE), np.float32)
    for z, y, x in voxels:
        displacement[0, 2, z, y, x - 1] = 3
    return displacement


def test_perfect_overlap_passes() -> None:
    regions = boxes(BOX, OTHER)
    quality, jacobian = with_jacobian(regions, regions)
    assert quality.passed
    assert quality.verdict == "pass"
    assert (quality.dice, quality.hd95_mm, quality.faults) == (1, 0, ())
    np.testing.assert_array_equal(jacobian, np.ones(SHAPE))
    for region in quality.regions:
        assert (region.dice, region.surface_distance_mm, region.folding_percent) == (1, 0, 0)
        assert (region.mean_jacobian, region.log_jacobian_sd) == (1, 0)


@pytest.mark.parametrize(("axis", "steps"), [(0, 1), (1, 2), (2, 2)])
def test_shifted_box(axis: int, steps: int) -> None:
    """Dice is what is left of the box; the faces across the shift are one shift apart."""
    fixed = boxes(BOX)
    region = judged(fixed, np.roll(fixed, steps, axis)).regions[0]
    length = (8, 10, 10)[axis]
    assert region.dice == pytest.approx(1 - steps / length)
    assert region.hd95_mm == pytest.approx(steps * SPACING[axis])
    assert 0 < region.surface_distance_mm < steps * SPACING[axis]


def test_nested_boxes() -> None:
    """A box of one voxel less all around, seen from its faces."""
    fixed, inner = boxes(BOX), boxes(np.s_[5:11, 5:13, 6:14])
    region = judged(fixed, inner).regions[0]
    assert region.dice == pytest.approx(2 * 6 * 8 * 8 / (6 * 8 * 8 + 8 * 10 * 10))
    assert region.surface_distance_mm > 1.0  # the smallest spacing
    assert region.hd95_mm == pytest.approx(np.sqrt(2.0**2 + 1 + 1.5**2), rel=0.3)


def test_volumes_are_millilitres_of_their_own_side() -> None:
    fixed = boxes(BOX)
    moving = boxes(np.s_[0:5, 0:4, 0:3], shape=(6, 6, 6))
    region = judged(fixed, fixed, moving=moving, moving_voxel_ml=0.02).regions[0]
    assert region.fixed_volume_ml == pytest.approx(800 * 3 / 1000)
    assert region.moving_volume_ml == pytest.approx(60 * 0.02)


def test_before_and_after() -> None:
    """Before is what the headers alone say, on whatever grid the moving side lies."""
    fixed = boxes(BOX)
    quality = judged(fixed, fixed, moving=np.roll(fixed, 5, 1))
    assert quality.dice_before == pytest.approx(0.5)
    assert quality.regions[0].dice_before == pytest.approx(0.5)
    assert quality.dice == 1
    shift = np.eye(3, 4)
    shift[1, 3] = 5
    assert judged(fixed, fixed, moving=np.roll(fixed, 5, 1), to_moving=shift).dice_before == 1
    finer = fixed.repeat(2, axis=2)
    halves = np.diag([1.0, 1.0, 2.0, 1.0])[:3]
    halves[2, 3] = 0.5
    assert judged(fixed, fixed, moving=finer, to_moving=halves).dice_before == 1


def test_mean_over_regions_counts_each_once() -> None:
    fixed = boxes(BOX, OTHER)
    warped = fixed.copy()
    warped[fixed == 2] = 0
    warped[12:14, 15:23, 3:9] = 2  # half of it
    quality = judged(fixed, warped)
    assert [region.dice for region in quality.regions] == pytest.approx([1, 2 / 3])
    assert quality.dice == pytest.approx((1 + 2 / 3) / 2)


def test_dice_of_an_absent_region_is_zero() -> None:
    table = np.array([[50, 0, 0], [10, 0, 0], [0, 0, 40]])
    np.testing.assert_allclose(dice_of_table(table), [0, 1])
    assert dice_of_table(np.array([[9, 0], [0, 0]])) == [0]


INSIDE, SEAM, BACKGROUND = (8, 9, 10), (4, 9, 10), (2, 18, 16)


@pytest.mark.parametrize(
    ("voxel", "shares"),
    [
        (INSIDE, (1 / (6 * 8 * 8), 0, 0)),
        (SEAM, (0, 1, 0)),
        (BACKGROUND, (0, 0, 1)),
    ],
)
def test_folding_is_counted_where_it_is(
    voxel: tuple[int, int, int], shares: tuple[float, float, float]
) -> None:
    regions = boxes(BOX)
    quality, jacobian = with_jacobian(regions, regions, spike(voxel))
    assert np.argwhere(jacobian <= 0).tolist() == [list(voxel)]
    inside, seams, background = shares
    assert quality.folding_inside_percent == pytest.approx(100 * inside)
    # A seam is one voxel thick on either side of the border: the box's faces, and those around it.
    at_seam = (800 - 6 * 8 * 8) + 2 * (10 * 10 + 8 * 10 + 8 * 10)
    assert quality.folding_seams_percent == pytest.approx(100 * seams / at_seam)
    away = np.prod(SHAPE) - 6 * 8 * 8 - at_seam
    assert quality.folding_background_percent == pytest.approx(100 * background / away)
    assert quality.regions[0].folding_percent == pytest.approx(100 * inside)
    assert quality.passed is (inside == 0)  # only folds inside organs fail a registration


def test_voxels_between_two_touching_regions_are_a_seam() -> None:
    regions = boxes(np.s_[4:12, 4:9, 5:15], np.s_[4:12, 9:14, 5:15])
    quality = judged(regions, regions, spike((8, 8, 10)))
    assert quality.folding_inside_percent == 0
    assert quality.folding_seams_percent > 0


def test_jacobian_of_a_linear_field() -> None:
    """u = 0.1 z, -0.2 y, 0.05 x: the same determinant everywhere, none of it folded."""
    regions = boxes(BOX)
    grid = np.indices(SHAPE).astype(np.float32)
    rates = np.array([0.1, -0.2, 0.05], np.float32)
    displacement = (grid * rates[:, None, None, None])[None]
    quality, jacobian = with_jacobian(regions, regions, displacement)
    np.testing.assert_allclose(jacobian, 1.1 * 0.8 * 1.05, rtol=1e-5)
    assert quality.regions[0].mean_jacobian == pytest.approx(1.1 * 0.8 * 1.05)
    assert quality.regions[0].log_jacobian_sd == pytest.approx(0, abs=1e-5)
    assert quality.log_jacobian_sd == pytest.approx(0, abs=1e-5)


def test_log_jacobian_is_that_of_the_unfolded_inside() -> None:
    regions = boxes(BOX)
    displacement = np.random.default_rng(0).normal(0, 0.6, (1, 3, *SHAPE)).astype(np.float32)
    quality, jacobian = with_jacobian(regions, regions, displacement)
    inside = jacobian[5:11, 5:13, 6:14].astype(float)
    assert (inside <= 0).any()
    expected = np.log(inside[inside > 0]).std()
    assert quality.log_jacobian_sd == pytest.approx(expected, rel=1e-6)
    assert quality.regions[0].log_jacobian_sd == pytest.approx(expected, rel=1e-6)
    assert quality.regions[0].folding_percent == pytest.approx(100 * (inside <= 0).mean())
    assert quality.regions[0].mean_jacobian == pytest.approx(inside.mean())


def test_region_that_is_all_seam_has_no_inside() -> None:
    regions = boxes(np.s_[7:8, 4:14, 5:15])
    quality = judged(regions, regions, spike((7, 9, 10)))
    region = quality.regions[0]
    assert np.isnan([region.folding_percent, region.mean_jacobian, region.log_jacobian_sd]).all()
    assert (quality.folding_inside_percent, region.dice) == (0, 1)
    assert np.isnan(quality.log_jacobian_sd)
    assert quality.passed


def test_single_slice() -> None:
    """In 2-D the missing neighbours across the slice make no seam."""
    regions = boxes(np.s_[0:1, 4:14, 5:15], shape=(1, 24, 20))
    quality = judged(regions, np.roll(regions, 1, 2))
    assert quality.dice == pytest.approx(0.9)
    assert quality.hd95_mm == pytest.approx(1.5)
    assert quality.regions[0].mean_jacobian == 1


@pytest.mark.parametrize(
    "box", [np.s_[8:9, 4:14, 5:15], np.s_[8:9, 9:10, 10:11], np.s_[:1, :1, :1]]
)
def test_thin_regions_have_a_surface(box: tuple[slice, ...]) -> None:
    """A plate of one voxel, or a single voxel, is all surface, not only along its rim."""
    regions = boxes(box)
    quality = judged(regions, regions)
    assert (quality.hd95_mm, quality.faults) == (0, ())
    moved = judged(regions, np.roll(regions, 1, 0))
    assert moved.regions[0].surface_distance_mm == pytest.approx(2.0)


def test_thresholds_make_faults() -> None:
    fixed = boxes(BOX)
    warped = np.roll(fixed, 1, 0)  # Dice 0.875, distances up to 2 mm
    assert judged(fixed, warped).passed
    strict = judged(fixed, warped, thresholds=Thresholds(dice=0.9))
    assert strict.faults == ("organ 1: Dice 0.875, below 0.90",)
    assert (strict.passed, strict.verdict) == (False, "fail")
    near = judged(fixed, warped, thresholds=Thresholds(surface_distance_voxels=0.25))
    assert len(near.faults) == 1
    assert near.faults[0].startswith("organ 1: mean surface distance")
    assert near.faults[0].endswith("above 0.50 mm")  # a quarter of the largest spacing
    folded = judged(fixed, fixed, spike(INSIDE))
    assert folded.faults == ("organ 1: 0.260 % of its inside is folded",)
    assert judged(fixed, fixed, spike(INSIDE), thresholds=Thresholds(folding_percent=0.3)).passed


def test_every_fault_is_named() -> None:
    fixed = boxes(BOX, OTHER)
    warped = np.roll(fixed, -4, 0)
    faults = judged(fixed, warped, spike(INSIDE)).faults
    assert [fault.split(":")[0] for fault in faults] == ["organ 1"] * 3 + ["organ 2"] * 2


def test_region_that_is_gone_after_warping() -> None:
    fixed = boxes(BOX, OTHER)
    warped = np.where(fixed == 2, 0, fixed)
    quality = judged(fixed, warped, moving=fixed)
    gone = quality.regions[1]
    assert gone.dice == 0
    assert np.isnan([gone.hd95_mm, gone.surface_distance_mm]).all()
    assert quality.hd95_mm == 0  # the mean over what can be measured
    assert quality.faults == (
        "organ 2: Dice 0.000, below 0.80",
        "organ 2: nothing of it is left after warping",
    )
    assert without_nan(quality.as_dict())["regions"][1]["hd95_mm"] is None


def test_as_dict_holds_everything() -> None:
    fixed = boxes(BOX)
    found = judged(fixed, fixed).as_dict()
    assert found["verdict"] == "pass"
    assert set(found) == {"verdict", *(f.name for f in dataclasses.fields(Quality))}
    assert found["thresholds"] == dataclasses.asdict(Thresholds())


def test_dice_is_that_of_the_confusion_table() -> None:
    rng = np.random.default_rng(0)
    one, two = (rng.integers(0, 4, SHAPE).astype(np.int32) for _ in range(2))
    found = dice_of_table(overlap(one, two, None, 3))
    for k in range(1, 4):
        expected = 2 * ((one == k) & (two == k)).sum() / ((one == k).sum() + (two == k).sum())
        assert found[k - 1] == pytest.approx(expected)
