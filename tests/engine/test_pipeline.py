"""From planned regions to one field: what the network says is done, in the unit it says it in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from segreg.engine import device as device_module
from segreg.engine.canvases import Canvases, bounding_boxes, place_canvases
from segreg.engine.geometry import apply_map, index_to_world, make_affine, world_to_index
from segreg.engine.pipeline import Pipeline
from segreg.engine.placements.layout import SIZE_STEP
from segreg.engine.placements.region import FINE, MOST_CELLS, choose_sizes
from segreg.engine.regions import RegionPlan, Side, plan_regions
from segreg.engine.timing import Stopwatch
from segreg.kernels import integrate, jacobian_determinant, resample_field
from tests.engine.stand_ins import SETTINGS, Told, boxes, constant, looking, register, side

BOX = np.s_[6:14, 5:17, 8:22]
BIAS = (1.0, -2.0, 1.5)


@pytest.fixture
def same() -> RegionPlan:
    """Both sides alike, one box: all initial maps are the identity."""
    one = side(boxes(BOX), make_affine((2.0, 1.0, 1.5)))
    return plan_regions(one, one)


MANY = (np.s_[1:6, 2:9, 3:9], np.s_[8:17, 3:12, 4:12], np.s_[3:12, 14:24, 16:28])
MOVED = (np.s_[2:7, 3:11, 2:8], np.s_[7:18, 4:12, 5:12], np.s_[4:12, 13:23, 17:29])


@pytest.fixture
def three() -> RegionPlan:
    """Three boxes that differ between the sides, on grids that differ too."""
    moving_affine = make_affine((1.8, 1.1, 1.4))
    moving_affine[:3, 3] = (3, -2, 4)
    moving = side(boxes(*MOVED), moving_affine, seed=1)
    return plan_regions(moving, side(boxes(*MANY), make_affine((2.0, 1.0, 1.5))))


def placed(plan: RegionPlan) -> Canvases:
    boxes = bounding_boxes(plan.fixed, SETTINGS["margin"])
    return place_canvases(plan, boxes, (16, 16, 16), 2)


def cell_of(plan: RegionPlan) -> np.ndarray:
    """Voxels per canvas cell of the first region, axis by axis."""
    return np.diagonal(placed(plan).to_fixed[0]).astype(float)


class TestOutput:
    """Inside the region a constant answer is a shift, in voxels of the fixed grid."""

    @pytest.mark.parametrize("kind", ["velocity", "displacement"])
    def test_canvas_voxels(self, same: RegionPlan, kind: str) -> None:
        output = {"kind": kind, "unit": "canvas_voxel", "order": "zyx", "stride": 2}
        found = register(same, constant(BIAS), output=output)[(slice(None), *BOX)]
        expected = np.array(BIAS) * cell_of(same)
        np.testing.assert_allclose(found, expected[:, None, None, None] + 0 * found, atol=1e-4)

    def test_components_are_z_y_x(self, same: RegionPlan) -> None:
        for axis in range(3):
            vector = np.eye(3)[axis]
            found = register(same, constant(vector))[:, 10, 11, 15]
            np.testing.assert_allclose(found, vector * cell_of(same), atol=1e-4)

    def test_order_xyz(self, same: RegionPlan) -> None:
        output = {**SETTINGS["output"], "order": "xyz"}
        turned = register(same, constant(BIAS[::-1]), output=output)
        np.testing.assert_array_equal(turned, register(same, constant(BIAS)))

    @pytest.mark.parametrize("stride", [1, 2, 4])
    def test_stride(self, same: RegionPlan, stride: int) -> None:
        output = {**SETTINGS["output"], "stride": stride}
        found = register(same, constant(BIAS, stride), output=output)[:, 10, 11, 15]
        np.testing.assert_allclose(found, np.array(BIAS) * cell_of(same), atol=1e-4)

    def test_field_voxels(self, same: RegionPlan) -> None:
        output = {**SETTINGS["output"], "unit": "field_voxel"}
        found = register(same, constant(BIAS), output=output)[:, 10, 11, 15]
        np.testing.assert_allclose(found, 2 * np.array(BIAS) * cell_of(same), atol=1e-4)

    def test_passes_add_up(self, same: RegionPlan) -> None:
        found = register(same, constant(BIAS), 3)[:, 10, 11, 15]
        np.testing.assert_allclose(found, 3 * np.array(BIAS) * cell_of(same), atol=1e-3)

    def test_velocity_is_integrated(self, same: RegionPlan) -> None:
        """The flow of a velocity, not its value: they differ where it is not constant."""
        rng = np.random.default_rng(0)
        coarse = rng.normal(0, 0.6, (1, 3, 3, 3, 3)).astype(np.float32)
        velocity = resample_field(coarse, (8, 8, 8))
        flow = integrate(np.ascontiguousarray(velocity / 2), 6)
        kinds = {}
        for kind, answer in (("velocity", velocity), ("displacement", 2 * flow)):
            output = {**SETTINGS["output"], "kind": kind}
            kinds[kind] = register(same, lambda _, answer=answer: answer, output=output)
        inside = (slice(None), *BOX)
        near = kinds["velocity"][inside], kinds["displacement"][inside]
        np.testing.assert_allclose(*near, atol=0.1)  # few squarings against six
        output = {**SETTINGS["output"], "kind": "displacement"}
        raw = register(same, lambda _: velocity, output=output)[inside]
        assert np.abs(raw - kinds["velocity"][inside]).max() > 0.2
        assert jacobian_determinant(kinds["velocity"][None])[0][7:13, 6:16, 9:21].min() > 0


class TestFolding:
    """A pass that would fold its region is taken in part, or not at all."""

    OUTPUT = {**SETTINGS["output"], "kind": "displacement", "unit": "field_voxel"}  # noqa: RUF012
    INNER = np.s_[7:13, 6:16, 9:21]  # whose differences stay inside the region

    def squeeze(self, rate: float) -> Callable[[Any], Any]:
        """Moves every cell towards the middle plane by ``rate`` of its distance."""

        def answer(regions: Any) -> Any:
            cells = regions.shape[-1] // 2
            vectors = np.zeros((len(regions), 3, cells, cells, cells), np.float32)
            vectors[:, 0] = -rate * (np.arange(cells) - (cells - 1) / 2)[:, None, None]
            return vectors

        return answer

    def test_harmless_pass_is_taken_whole(self, same: RegionPlan) -> None:
        found = register(same, self.squeeze(0.3), output=self.OUTPUT)
        jacobian = jacobian_determinant(found[None])[0][self.INNER]
        np.testing.assert_allclose(jacobian, 0.7, atol=0.05)

    def test_folding_pass_is_shortened(self, same: RegionPlan) -> None:
        found = register(same, self.squeeze(1.5), output=self.OUTPUT)
        jacobian = jacobian_determinant(found[None])[0][self.INNER]
        assert jacobian.min() > 0
        assert jacobian.max() < 0.9

    def test_hopeless_pass_is_left_out(self, same: RegionPlan) -> None:
        found = register(same, self.squeeze(50.0), 3, output=self.OUTPUT)
        np.testing.assert_allclose(found[(slice(None), *BOX)], 0, atol=1e-4)

    def test_one_region_s_fold_does_not_hold_back_the_others(self, three: RegionPlan) -> None:
        def answer(regions: Any) -> Any:
            vectors = self.squeeze(0.2)(regions)
            if len(vectors) == 3:
                vectors[1] *= 200
            return vectors

        found = register(three, answer, output=self.OUTPUT)
        usual = register(three, self.squeeze(0.2), output=self.OUTPUT)
        still = register(three, self.squeeze(0.0), output=self.OUTPUT)
        for k, expected in enumerate((usual, still, usual), 1):
            inside = three.fixed.region_map == k
            np.testing.assert_allclose(found[:, inside], expected[:, inside], atol=1e-4)


class TestInitialMap:
    def expected(self, plan: RegionPlan, k: int) -> np.ndarray:
        voxels = np.argwhere(plan.fixed.region_map == k + 1)
        world = apply_map(plan.maps[k], apply_map(index_to_world(plan.fixed.affine), voxels))
        return apply_map(world_to_index(plan.fixed.affine), world) - voxels

    @pytest.mark.parametrize("passes", [0, 1])
    def test_zero_velocity_is_moment_matching(self, three: RegionPlan, passes: int) -> None:
        found = register(three, constant((0, 0, 0)), passes)
        for k in range(3):
            inside = found[:, three.fixed.region_map == k + 1].T
            np.testing.assert_allclose(inside, self.expected(three, k), atol=1e-3)

    def test_no_pass_asks_no_network(self, three: RegionPlan) -> None:
        backend = Told(looking)
        Pipeline(backend, SETTINGS).displacement(three, 0, Stopwatch())
        assert backend.shown == []

    def test_displacement_is_mapped_by_it(self, three: RegionPlan) -> None:
        """The initial map acts on x + u, so a shift on the canvas is turned and stretched too."""
        found = register(three, constant(BIAS))
        canvases = placed(three)
        for k in range(3):
            voxels = np.argwhere(three.fixed.region_map == k + 1)
            cells = apply_map(canvases.to_field[k], voxels) + np.array(BIAS) / 2
            expected = apply_map(canvases.to_voxel[k], cells) - voxels
            inside = found[:, three.fixed.region_map == k + 1].T
            np.testing.assert_allclose(inside, expected, atol=1e-3)

    @pytest.mark.parametrize("passes", [0, 1, 2])
    def test_identical_sides_stay(self, affine: np.ndarray, passes: int) -> None:
        one = side(boxes(*MANY), affine)
        found = register(plan_regions(one, one), constant((0, 0, 0)), passes)
        assert np.abs(found).max() < 1e-3


class TestShown:
    """What the network is shown."""

    def test_identical_sides_look_alike(self, same: RegionPlan) -> None:
        backend = Told(constant((0, 0, 0)))
        Pipeline(backend, SETTINGS).displacement(same, 1, Stopwatch())
        (region,) = backend.shown  # alone it is its own union, and need not be shown again
        np.testing.assert_allclose(region[:, :2], region[:, 2:], atol=1e-4)

    def test_channels_in_the_package_s_order(self, three: RegionPlan) -> None:
        shown = {}
        for channels in (SETTINGS["channels"], SETTINGS["channels"][::-1]):
            backend = Told(constant((0, 0, 0)))
            Pipeline(backend, {**SETTINGS, "channels": channels}).displacement(
                three, 1, Stopwatch()
            )
            shown[tuple(channels)] = backend.shown[0]
        one, other = shown.values()
        np.testing.assert_array_equal(one, other[:, ::-1])
        assert one[:, 1].max() == 1  # a mask
        assert 0 > one[:, 0].min() >= -1  # intensities about their mean

    def test_mixed_channels(self, three: RegionPlan) -> None:
        names = ["fixed_mask", "moving_image", "fixed_image", "moving_mask"]
        backend = Told(constant((0, 0, 0)))
        Pipeline(backend, {**SETTINGS, "channels": names}).displacement(three, 1, Stopwatch())
        plain = Told(constant((0, 0, 0)))
        Pipeline(plain, SETTINGS).displacement(three, 1, Stopwatch())
        mixed, usual = backend.shown[0], plain.shown[0]
        np.testing.assert_array_equal(mixed[:, 0], usual[:, 3])
        np.testing.assert_array_equal(mixed[:, 3], usual[:, 1])
        whole = usual[:, 3] == 1  # inside the region image and masked image agree
        np.testing.assert_allclose(mixed[:, 2][whole], usual[:, 2][whole], atol=1e-5)

    def test_second_pass_sees_the_moving_side_moved(self, same: RegionPlan) -> None:
        backend = Told(constant((2, 0, 0)))
        Pipeline(backend, SETTINGS).displacement(same, 2, Stopwatch())
        first, second = backend.shown[:2]
        np.testing.assert_array_equal(first[:, 2:], second[:, 2:])
        np.testing.assert_allclose(second[:, 1, :-2], first[:, 1, 2:], atol=1e-4)

    def test_outlines_that_match_end_the_passes(self, same: RegionPlan) -> None:
        """Only regions that are not done are shown again."""
        moved = np.roll(boxes(BOX, MANY[0]) == 2, 2, 1) * 2 + (boxes(BOX, MANY[0]) == 1)
        affine = same.fixed.affine
        plan = plan_regions(side(moved, affine), side(boxes(BOX, MANY[0]), affine), "identity")
        backend = Told(constant((0, 0, 0)))
        Pipeline(backend, SETTINGS).displacement(plan, 3, Stopwatch())
        both, second, third = backend.shown[:3]
        assert [len(batch) for batch in (both, second, third)] == [2, 1, 1]
        np.testing.assert_array_equal(second[0], both[1])

    def test_constant_region_has_no_contrast(self) -> None:
        regions = boxes(BOX)
        image = np.full(regions.shape, 7.0, np.float32)
        one = Side.measure(image, regions, 1, make_affine((1, 1, 1)))
        backend = Told(constant((0, 0, 0)))
        Pipeline(backend, SETTINGS).displacement(plan_regions(one, one), 1, Stopwatch())
        assert not backend.shown[0][:, ::2].any()

    def test_single_slice_does_not_move_across_itself(self) -> None:
        regions = boxes(BOX)[8:9]
        one = side(regions, make_affine((5.0, 1.0, 1.0)))
        found = register(plan_regions(one, one), constant(BIAS))
        inside = found[:, regions > 0]
        np.testing.assert_allclose(inside[0], 0, atol=1e-5)
        assert np.abs(inside[1:]).min() > 0.5


class TestIndependence:
    @pytest.mark.parametrize("passes", [1, 2])
    def test_of_chunks(
        self, three: RegionPlan, passes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fields = []
        for regions in (1, 2, 8):
            monkeypatch.setattr(device_module, "HOST_CELLS", regions * 16**3)
            fields.append(register(three, looking, passes))
        for field in fields[1:]:
            np.testing.assert_array_equal(field, fields[0])

    @pytest.mark.parametrize("k", [0, 1, 2])
    def test_of_the_other_regions(self, three: RegionPlan, k: int) -> None:
        """Inside a region only its own map counts, whatever else is registered."""
        together = register(three, looking, 2)
        alone = plan_regions(
            side(boxes(MOVED[k]), three.moving.affine, seed=1),
            side(boxes(MANY[k]), three.fixed.affine),
        )
        inside = boxes(MANY[k]) > 0
        np.testing.assert_array_equal(register(alone, looking, 2)[:, inside], together[:, inside])

    def test_of_the_numbering(self, three: RegionPlan) -> None:
        turned = plan_regions(
            side(boxes(*MOVED[::-1]), three.moving.affine, seed=1),
            side(boxes(*MANY[::-1]), three.fixed.affine),
        )
        labelled = boxes(*MANY) > 0
        one, other = register(three, looking), register(turned, looking)
        np.testing.assert_array_equal(one[:, labelled], other[:, labelled])
        # Between them the flow's points are drawn in another order.
        assert np.abs(one - other).max() < 0.5


class TestBackground:
    @pytest.mark.parametrize("k", [0, 1, 2])
    def test_runs_into_the_regions_maps_at_their_borders(self, three: RegionPlan, k: int) -> None:
        """A voxel beside an organ goes where the organ's own map would take it, nearly."""
        found = register(three, constant((0, 0, 0)), 0)
        regions = three.fixed.region_map
        ring = ndimage.binary_dilation(regions == k + 1) & (regions == 0)
        voxels = np.argwhere(ring)
        to_world = index_to_world(three.fixed.affine)
        mapped = apply_map(three.maps[k], apply_map(to_world, voxels))
        expected = apply_map(world_to_index(three.fixed.affine), mapped) - voxels
        miss = np.linalg.norm(found[:, ring].T - expected, axis=1)
        assert miss.mean() < 0.25 * np.linalg.norm(expected, axis=1).mean()

    def test_one_region_is_its_own_background(self, same: RegionPlan) -> None:
        """It lies where the region arrived, and the network is not asked about it again."""
        answers = iter((BIAS,))
        found = register(same, lambda regions: constant(next(answers))(regions))
        expected = (np.array(BIAS) * cell_of(same))[:, None, None, None]
        np.testing.assert_allclose(found, expected + 0 * found, atol=1e-3)

    def test_two_organs_apart_leave_no_fold_between(self) -> None:
        fixed = boxes(np.s_[6:14, 8:18, 4:10], np.s_[6:14, 8:18, 20:26])
        moving = boxes(np.s_[6:14, 8:18, 1:7], np.s_[6:14, 8:18, 23:29])
        affine = make_affine((5.0, 5.0, 8.0))
        found = register(plan_regions(side(moving, affine), side(fixed, affine)), looking, 0)
        assert np.abs(found[2]).max() * 8 > 20  # mm
        assert jacobian_determinant(found[None]).min() > 0

    @pytest.mark.parametrize("passes", [0, 1])
    @pytest.mark.parametrize("voxels", [[(0, 0, 0), (63, 63, 63)], [(3, 5, 7)]])
    def test_regions_too_fine_for_their_canvas(
        self, voxels: list[tuple[int, int, int]], passes: int
    ) -> None:
        """Specks far apart slip through the canvas; the global affine is left."""
        regions = np.zeros((64, 64, 64), np.int32)
        for voxel in voxels:
            regions[voxel] = 1
        one = side(regions, make_affine((1, 1, 1)))
        found = register(plan_regions(one, one), constant((0, 0, 0)), passes)
        assert np.abs(found).max() < 1e-3


class TestSizes:
    """Cells per axis of the regions' canvases."""

    def sizes(self, sides: list[int], oversampling: float = 4.0) -> list[int]:
        """For cubes of ``sides`` voxels, one beside the other."""
        regions = np.zeros((max(sides), max(sides), sum(sides)), np.int32)
        start = 0
        for number, length in enumerate(sides, 1):
            regions[:length, :length, start : start + length] = number
            start += length
        fixed = side(regions, make_affine((1, 1, 1)))
        settings = {**SETTINGS, "canvas": [32, 160]}
        return [int(n) for n in choose_sizes(fixed, settings, oversampling)]

    def test_as_large_as_the_region_has_detail(self) -> None:
        alone = [self.sizes([length])[0] for length in (3, 20, 50, 60, 70)]
        assert alone == sorted(alone)
        assert alone[0] == FINE
        assert FINE < alone[-2] < alone[-1] == 160  # the package's largest
        assert all(size % SIZE_STEP == 0 for size in alone)

    def test_small_package_has_small_canvases(self, three: RegionPlan) -> None:
        assert choose_sizes(three.fixed, SETTINGS, 4.0).tolist() == [16, 16, 16]

    def test_do_not_depend_on_the_other_regions(self) -> None:
        assert self.sizes([40, 12, 5])[0] == self.sizes([40])[0]

    @pytest.mark.parametrize("count", [20, 100])
    def test_many_regions_share_the_cells(self, count: int) -> None:
        sizes = self.sizes([20] * count)
        assert len(set(sizes)) == 1
        assert 32 <= sizes[0] < FINE
        assert sum(size**3 for size in sizes) <= MOST_CELLS

    def test_never_below_the_smallest(self) -> None:
        assert set(self.sizes([8] * 600)) == {32}

    def test_fields_follow_the_canvas(self, same: RegionPlan) -> None:
        backend = Told(constant(BIAS))
        line = Pipeline(backend, {**SETTINGS, "canvas": [16, 32]})
        found = line.displacement(same, 2, Stopwatch())[0]
        assert [batch.shape[-1] for batch in backend.shown] == [16, 32]
        # A canvas voxel of the second pass is half as wide.
        expected = np.array(BIAS) * cell_of(same) * 1.5
        np.testing.assert_allclose(found[:, 10, 11, 15], expected, atol=1e-3)


def test_progress_counts_regions(three: RegionPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "HOST_CELLS", 2 * 16**3)
    seen: list[tuple[int, int]] = []
    register(three, looking, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]


@pytest.fixture
def watch(three: RegionPlan) -> Stopwatch:
    watch = Stopwatch()
    Pipeline(Told(looking), SETTINGS).displacement(three, 1, watch)
    return watch


def test_every_stage_is_timed(watch: Stopwatch) -> None:
    assert set(watch.seconds) == {"plan", "gather", "infer", "integrate", "background", "fuse"}
    assert all(seconds > 0 for seconds in watch.seconds.values())
    assert watch.compute == pytest.approx(sum(watch.seconds.values()))
