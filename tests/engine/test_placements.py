"""Crops and whole grids: cells of the package's spacing, the region where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from segreg.engine.background import union_plan
from segreg.engine.errors import InputError
from segreg.engine.geometry import apply_map, index_to_world, make_affine, spacing_of
from segreg.engine.pipeline import Pipeline
from segreg.engine.placements import PLACEMENTS, canvas_sizes, layout, make_placement
from segreg.engine.placements.crop import MOST_SHAPES, merge_shapes
from segreg.engine.placements.layout import SIZE_STEP, Layout
from segreg.engine.placements.spaced import SpacedPlacement
from segreg.engine.regions import RegionPlan, plan_regions
from segreg.engine.timing import Stopwatch
from segreg.kernels import jacobian_determinant
from tests.engine.stand_ins import SETTINGS, Told, boxes, constant, looking, side

FIXED = (np.s_[1:6, 2:9, 3:9], np.s_[8:17, 3:12, 4:12], np.s_[3:12, 14:24, 12:28])
MOVING = (np.s_[2:7, 3:11, 2:8], np.s_[7:18, 4:12, 5:12], np.s_[4:12, 13:23, 13:29])
BIAS = (0.5, -0.75, 0.6)  # cells
SPACING = (1.5, 0.8, 1.0)
PLAIN = ["moving_image", "fixed_image"]


@pytest.fixture
def plan() -> RegionPlan:
    moving_affine = make_affine((1.8, 1.1, 1.4))
    moving_affine[:3, 3] = (3, -2, 4)
    moving = side(boxes(*MOVING), moving_affine, seed=1)
    return plan_regions(moving, side(boxes(*FIXED), make_affine((2.0, 1.0, 1.5))))


@pytest.fixture
def same() -> RegionPlan:
    one = side(boxes(*FIXED), make_affine((2.0, 1.0, 1.5)))
    return plan_regions(one, one)


def settings(placement: str, *, free: bool = True, **others: Any) -> dict[str, Any]:
    kept = {key: value for key, value in SETTINGS.items() if key != "canvas"}
    axes = ["batch", "space"] if free else ["batch"]
    spaced = {"shape": [64, 64, 64], "spacing": list(SPACING), "free_axes": axes}
    return {**kept, "placement": placement, **spaced, **others}


def laid_out(plan: RegionPlan, placement: str, **others: Any) -> Layout:
    return make_placement(settings(placement, **others)).lay_out(plan)


def notes_of(plan: RegionPlan, placement: str, free: bool) -> list[str]:
    notes: list[str] = []
    line = Pipeline(Told(looking), settings(placement, free=free))
    line.displacement(plan, 1, Stopwatch(), notes=notes)
    return notes


def register(
    plan: RegionPlan, answer: Callable[[Any], Any], placement: str, passes: int = 1, **others: Any
) -> tuple[np.ndarray, Told]:
    backend = Told(answer)
    asked = settings(placement, **others)
    backend.channels = len(asked["channels"])
    line = Pipeline(backend, asked)
    return np.asarray(line.displacement(plan, passes, Stopwatch())[0]), backend


class TestCrop:
    def test_has_cells_of_the_package_s_spacing(self, plan: RegionPlan) -> None:
        found = laid_out(plan, "crop")
        cell = found.boxes.size / found.shapes * spacing_of(plan.fixed.affine)
        np.testing.assert_allclose(cell, np.tile(SPACING, (3, 1)), rtol=1e-9)
        assert (found.shapes % SIZE_STEP == 0).all()
        assert found.notes == ()

    @pytest.mark.parametrize("free", [True, False])
    def test_holds_its_region_and_the_margin_centred(self, plan: RegionPlan, free: bool) -> None:
        found = laid_out(plan, "crop", free=free)
        for k, box in enumerate(FIXED):
            low = np.array([s.start for s in box]) - 0.5
            high = np.array([s.stop for s in box]) - 0.5
            centre = found.boxes.low[k] + found.boxes.size[k] / 2
            np.testing.assert_allclose(centre, (low + high) / 2, atol=1e-9)
            border = np.maximum(0.25 * (high - low), 1)
            assert (found.boxes.size[k] >= high - low + 2 * border - 1e-9).all()

    def test_network_of_one_size_is_shown_that_size(self, plan: RegionPlan) -> None:
        _, backend = register(plan, constant((0, 0, 0)), "crop", free=False, shape=[64, 48, 64])
        assert {batch.shape[2:] for batch in backend.shown} == {(64, 48, 64)}

    def test_region_larger_than_the_network_s_size_is_refused(self, plan: RegionPlan) -> None:
        named = RegionPlan(plan.moving, plan.fixed, plan.maps, plan.background, ("a", "b", "tail"))
        sentence = (
            r"^tail: with its margin it takes 18x19x36 cells at the package's spacing of "
            r"1.5x0.8x1 mm, and the network takes 32x32x32 only\. .* free spatial axes"
        )
        with pytest.raises(InputError, match=sentence):
            laid_out(named, "crop", free=False, shape=[32, 32, 32])

    def test_union_larger_than_the_network_s_size_is_coarser(self, plan: RegionPlan) -> None:
        found = laid_out(union_plan(plan), "crop", free=False, shape=[40, 40, 40])
        assert found.shapes.tolist() == [[40, 40, 40]]
        cell = found.boxes.size[0] / 40 * spacing_of(plan.fixed.affine)
        factor = cell / SPACING
        np.testing.assert_allclose(factor, factor[0])
        assert 1.2 < factor[0] < 1.5
        assert found.notes == (
            "all regions together: larger than the network's 40x40x40 cells at the package's "
            f"spacing of 1.5x0.8x1 mm; shown to the network at {factor[0]:.2f} times that spacing",
        )

    def test_free_network_is_shown_large_regions_coarser(
        self, plan: RegionPlan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SpacedPlacement, "MOST_CELLS", 32**3)
        found = laid_out(plan, "crop", shape=[16, 16, 16])
        assert (found.shapes.prod(axis=1) <= 32**3).all()
        cell = found.boxes.size / found.shapes * spacing_of(plan.fixed.affine) / SPACING
        np.testing.assert_allclose(cell[:2], 1)
        assert cell[2, 0] > 1
        assert [note.partition(":")[0] for note in found.notes] == ["region 3"]
        # What it was trained on it is always shown.
        assert laid_out(plan, "crop", shape=[32, 32, 48]).notes == ()

    def test_regions_of_similar_size_share_a_batch(self, plan: RegionPlan) -> None:
        _, backend = register(plan, constant((0, 0, 0)), "crop", margin=0.0)
        assert [batch.shape for batch in backend.shown[:2]] == [
            (2, 4, 16, 16, 16), (1, 4, 16, 16, 32),
        ]

    def test_second_pass_sees_the_moving_side_moved(self, same: RegionPlan) -> None:
        """Also what it shows: the region in the middle, padding without a mask."""
        _, backend = register(same, constant((1, 0, 0)), "crop", 2)
        first, second = backend.shown[:2]
        np.testing.assert_array_equal(first[:, 2:], second[:, 2:])
        np.testing.assert_allclose(second[:, 1, :-1], first[:, 1, 1:], atol=1e-4)
        assert first[:, 3].max() == 1
        assert not first[:, 3, 0].any()
        assert not first[:, 3, -1].any()


class TestMergedShapes:
    def test_hold_what_they_stand_for(self) -> None:
        rng = np.random.default_rng(0)
        for most in (10**6, 10**9):
            shapes = 16 * rng.integers(1, 7, (40, 3))
            found = merge_shapes(shapes, most)
            assert (found >= shapes).all()
            assert (found.prod(axis=1) <= most).all()
            assert len(np.unique(found, axis=0)) <= MOST_SHAPES

    def test_never_exceed_the_limit(self) -> None:
        shapes = np.array([[16, 16, 160], [16, 160, 16], [160, 16, 16], [80, 80, 16], [16, 80, 80]])
        found = merge_shapes(shapes, 110_000)
        assert (found.prod(axis=1) <= 110_000).all()
        assert (found >= shapes).all()

    def test_little_waste_is_taken_for_one_shape_less(self) -> None:
        close = np.array([[64, 64, 64], [64, 64, 80], [64, 64, 80], [64, 64, 80], [64, 64, 80]])
        assert merge_shapes(close, 10**9).tolist() == [[64, 64, 80]] * 5
        apart = np.array([[64, 64, 64], [16, 16, 16]])
        assert merge_shapes(apart, 10**9).tolist() == apart.tolist()
        assert merge_shapes(apart[:1], 10**9).tolist() == [[64, 64, 64]]


class TestGrid:
    def test_covers_the_fixed_grid_centred(self, plan: RegionPlan) -> None:
        found = laid_out(plan, "grid")
        assert found.shapes.tolist() == [[32, 48, 48]] * 3  # of 26.7 x 32.5 x 45 cells
        centre = found.boxes.low + found.boxes.size / 2
        np.testing.assert_allclose(centre, [[9.5, 12.5, 14.5]] * 3)
        cell = found.boxes.size / found.shapes * spacing_of(plan.fixed.affine)
        np.testing.assert_allclose(cell, [SPACING] * 3)

    def test_image_larger_than_the_network_s_size_is_shown_about_the_regions(self) -> None:
        regions = np.zeros((20, 20, 60), np.int32)
        regions[5:9, 5:9, 40:50] = 1
        one = side(regions, make_affine((1.0, 1.0, 1.0)))
        alike = plan_regions(one, one)
        shown = {"free": False, "spacing": [1, 1, 1]}
        found = laid_out(alike, "grid", shape=[32, 32, 40], **shown)
        low, high = found.boxes.low[0], (found.boxes.low + found.boxes.size)[0]
        np.testing.assert_allclose(low, [-6.5, -6.5, 19.5])  # not beyond the image's end
        np.testing.assert_allclose(high, [25.5, 25.5, 59.5])
        assert "what lies far from the regions was not shown" in found.notes[0]
        found = laid_out(alike, "grid", shape=[32, 32, 16], **shown)
        np.testing.assert_allclose(found.boxes.low[0, 2], 44.5 - 8)
        with pytest.raises(InputError, match=r"span 4x4x10 cells .* takes 32x32x8 only"):
            laid_out(alike, "grid", shape=[32, 32, 8], **shown)

    def test_image_too_large_is_shown_coarser(
        self, plan: RegionPlan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SpacedPlacement, "MOST_CELLS", 32**3)
        found = laid_out(plan, "grid", shape=[16, 16, 16])
        assert found.shapes.tolist() == [[32, 32, 32]] * 3
        assert len(found.notes) == 1
        assert "fixed image: 27x33x45 cells" in found.notes[0]
        assert "32,768 cells; shown to the network at 1." in found.notes[0]

    def test_every_region_has_its_own_masks(self, plan: RegionPlan) -> None:
        _, backend = register(plan, constant((0, 0, 0)), "grid")
        batch = backend.shown[0]
        assert batch.shape == (3, 4, 32, 48, 48)
        assert (batch[:, 3].sum(axis=0) <= 1 + 1e-5).all()
        np.testing.assert_allclose(
            batch[:, 3].sum(axis=(1, 2, 3)) * np.prod(SPACING),
            plan.fixed.stats.voxels[1:] * 3.0,
            rtol=0.1,
        )

    def test_one_region_s_part_is_no_background(self) -> None:
        """Of a region alone only its part of the field is kept: its union is registered, too."""
        one = side(boxes(FIXED[2]), make_affine((2.0, 1.0, 1.5)))
        for placement, batches in (("grid", 2), ("crop", 1)):
            _, backend = register(plan_regions(one, one), constant((0, 0, 0)), placement)
            assert len(backend.shown) == batches

    def test_only_the_region_s_part_of_the_field_is_kept(self, plan: RegionPlan) -> None:
        found = laid_out(plan, "grid")
        kept = found.fused_boxes(2)
        for k, box in enumerate(FIXED):
            assert (kept.low[k] <= np.array([s.start for s in box]) - 0.5 + 1e-9).all()
            ends = kept.low[k] + kept.size[k]
            assert (ends >= np.array([s.stop for s in box]) - 0.5 - 1e-9).all()
        assert np.prod(found.fused_cells(2)) < 0.7 * 16 * 24 * 24
        assert laid_out(union_plan(plan), "grid").fused_cells(2) == (16, 24, 24)


@pytest.mark.parametrize("placement", ["crop", "grid"])
@pytest.mark.parametrize("free", [True, False])
class TestFields:
    """What the network says is done, in cells of the package's spacing."""

    def test_constant_answer_is_a_shift(self, same: RegionPlan, placement: str, free: bool) -> None:
        found, _ = register(same, constant(BIAS), placement, free=free)
        shift = np.array(BIAS) * SPACING / spacing_of(same.fixed.affine)
        inside = found[:, same.fixed.region_map > 0]
        np.testing.assert_allclose(inside, shift[:, None] + 0 * inside, atol=1e-4)

    def test_passes_add_up(self, same: RegionPlan, placement: str, free: bool) -> None:
        found, backend = register(same, constant(BIAS), placement, 3, free=free)
        shift = 3 * np.array(BIAS) * SPACING / spacing_of(same.fixed.affine)
        inside = found[:, same.fixed.region_map > 0]
        np.testing.assert_allclose(inside, shift[:, None] + 0 * inside, atol=1e-3)
        assert len(backend.shown) >= 6  # three of the regions, three of their union

    @pytest.mark.parametrize("passes", [0, 1])
    def test_zero_answer_is_moment_matching(
        self, plan: RegionPlan, placement: str, free: bool, passes: int
    ) -> None:
        found, _ = register(plan, constant((0, 0, 0)), placement, passes, free=free)
        to_world = index_to_world(plan.fixed.affine)
        for k in range(3):
            voxels = np.argwhere(plan.fixed.region_map == k + 1)
            mapped = apply_map(plan.maps[k], apply_map(to_world, voxels))
            expected = apply_map(np.linalg.inv(to_world), mapped) - voxels
            inside = found[:, plan.fixed.region_map == k + 1].T
            np.testing.assert_allclose(inside, expected, atol=1e-3)

    def test_folding_pass_is_shortened(self, same: RegionPlan, placement: str, free: bool) -> None:
        def squeeze(regions: Any) -> Any:
            cells = [length // 2 for length in regions.shape[2:]]
            vectors = np.zeros((len(regions), 3, *cells), np.float32)
            vectors[:, 2] = -1.5 * (np.arange(cells[2]) - (cells[2] - 1) / 2)
            return vectors

        output = {**SETTINGS["output"], "kind": "displacement", "unit": "field_voxel"}
        found, _ = register(same, squeeze, placement, free=free, output=output)
        jacobian = jacobian_determinant(found[None])[0][4:11, 15:23, 13:27]
        assert jacobian.min() > 0
        assert jacobian.max() < 0.9

    def test_does_not_depend_on_chunks(
        self, plan: RegionPlan, placement: str, free: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fields = []
        for cells in (1, 10**9):
            monkeypatch.setattr("segreg.engine.device.HOST_CELLS", cells)
            fields.append(register(plan, looking, placement, 2, free=free)[0])
        np.testing.assert_array_equal(*fields)

    def test_few_cells_to_fuse(
        self, same: RegionPlan, placement: str, free: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bound on memory costs resolution, and that is said."""
        assert not any("to bound memory" in note for note in notes_of(same, placement, free))
        monkeypatch.setattr(layout, "FUSED_CELLS", 3 * 8**3)
        found, _ = register(same, constant(BIAS), placement, free=free)
        shift = np.array(BIAS) * SPACING / spacing_of(same.fixed.affine)
        inside = found[:, same.fixed.region_map > 0]
        np.testing.assert_allclose(inside, shift[:, None] + 0 * inside, atol=1e-4)
        said = [note for note in notes_of(same, placement, free) if "to bound memory" in note]
        assert ", 3 in all, were fused on cells up to " in said[0]


class TestWholeImages:
    """A network that is shown no mask is asked once."""

    def test_one_field_for_all(self, plan: RegionPlan) -> None:
        found, backend = register(plan, constant(BIAS), "grid", channels=PLAIN)
        assert [batch.shape for batch in backend.shown] == [(1, 2, 32, 48, 48)]
        voxels = np.indices(found.shape[1:]).reshape(3, -1).T
        to_world = index_to_world(plan.fixed.affine)
        shift = np.array(BIAS) * SPACING / spacing_of(plan.fixed.affine)
        mapped = apply_map(plan.background, apply_map(to_world, voxels + shift))
        expected = apply_map(np.linalg.inv(to_world), mapped) - voxels
        np.testing.assert_allclose(found.reshape(3, -1).T, expected, atol=1e-3)

    def test_every_pass_is_taken(self, same: RegionPlan) -> None:
        found, backend = register(same, constant(BIAS), "grid", 3, channels=PLAIN)
        assert len(backend.shown) == 3
        shift = 3 * np.array(BIAS) * SPACING / spacing_of(same.fixed.affine)
        np.testing.assert_allclose(found, shift[:, None, None, None] + 0 * found, atol=1e-3)

    def test_identical_sides_look_alike(self, same: RegionPlan) -> None:
        _, backend = register(same, constant((0, 0, 0)), "grid", channels=PLAIN)
        batch = backend.shown[0]
        np.testing.assert_allclose(batch[:, 0], batch[:, 1], atol=1e-5)
        assert batch.std() > 0.1

    def test_crops_of_plain_images_are_still_one_a_region(self, plan: RegionPlan) -> None:
        _, backend = register(plan, constant((0, 0, 0)), "crop", channels=PLAIN)
        assert sum(len(batch) for batch in backend.shown) == 4  # and the union

    def test_single_slice(self) -> None:
        regions = boxes(*FIXED)[4:5]
        one = side(regions, make_affine((5.0, 1.0, 1.0)))
        alike = plan_regions(one, one)
        for placement, channels in (("grid", PLAIN), ("crop", SETTINGS["channels"])):
            found, _ = register(alike, constant(BIAS), placement, channels=channels)
            inside = found[:, regions > 0]
            np.testing.assert_allclose(inside[0], 0, atol=1e-5)
            np.testing.assert_allclose(inside[1], BIAS[1] * SPACING[1], atol=1e-3)


def test_backends_build_for_the_sizes_of_the_package() -> None:
    assert canvas_sizes(SETTINGS) == [16]
    assert canvas_sizes(settings("grid", shape=[32, 48, 64], free=False)) == [32, 48, 64]
    assert canvas_sizes(settings("grid", shape=[32, 48, 64])) == [16, 32, 48, 64]
    assert set(PLACEMENTS) == {"region", "crop", "grid"}
