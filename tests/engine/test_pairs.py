"""Whole registrations: any two grids, any label map, and what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segreg.engine.geometry import make_affine
from segreg.engine.phantom import Phantom, endpoint_error
from segreg.engine.runtime import Engine
from segreg.engine.volume import Volume
from tests.engine.pairs import BOXES, SHIFTED, cubes, pair_of, volumes


class TestPair:
    def test_moment_matching_finds_the_phantom(
        self, engine: Engine, small_phantom: Phantom
    ) -> None:
        result = engine.register(*volumes(small_phantom))
        assert result.quality.dice > 0.9 > 0.7 > result.quality.dice_before
        assert endpoint_error(result.displacement, small_phantom).mean_voxels < 1
        assert result.warped.shape == small_phantom.fixed.shape
        np.testing.assert_array_equal(result.warped.affine, small_phantom.fixed.affine)
        assert [region.labels for region in result.quality.regions] == [(k,) for k in range(1, 7)]
        assert result.jacobian.shape == small_phantom.fixed.shape

    @pytest.mark.parametrize("passes", [0, 1, 2])
    def test_identical_sides_give_the_identity(
        self, tiny_package: Path, small_phantom: Phantom, passes: int
    ) -> None:
        one, labels = small_phantom.fixed, small_phantom.fixed_labels
        with Engine(tiny_package, passes=passes) as engine:
            result = engine.register(one, one, labels, labels)
        assert np.abs(result.displacement.displacement).max() < 1e-3
        assert (result.quality.dice, result.quality.hd95_mm) == (1, 0)
        assert result.quality.passed
        np.testing.assert_array_equal(result.warped_labels.array, labels.array)
        # A voxel at the border may lie a rounding outside.
        np.testing.assert_allclose(result.warped.array, one.array, atol=1e-3 * one.array.max())

    def test_same_voxels_elsewhere_in_the_world(self, engine: Engine, affine: np.ndarray) -> None:
        """Any orientation on either side: what lies where is all that counts."""
        elsewhere = affine.copy()
        elsewhere[:3, 3] += (400.0, -250.0, 90.0)
        labels = cubes(*BOXES)
        here = pair_of(labels, labels, affine, elsewhere)
        result = engine.register(*here, refine="off")
        assert result.quality.dice == 1
        assert result.quality.dice_before == 0
        np.testing.assert_allclose(result.warped.array, here[0].array, atol=0.05)

    def test_orientation_of_the_moving_side_does_not_matter(
        self, looking: Engine, small_phantom: Phantom
    ) -> None:
        expected = looking.register(*volumes(small_phantom), refine="off")
        flipped = []
        for volume in (small_phantom.moving, small_phantom.moving_labels):
            affine = volume.affine @ np.diag([1.0, -1.0, 1.0, 1.0])
            affine[:3, 3] += volume.affine[:3, 1] * (volume.shape[1] - 1)
            turned = affine[:, [1, 2, 0, 3]]  # and the axes turned round
            array = volume.array[:, ::-1].transpose(2, 0, 1)
            flipped.append(Volume(array, turned, volume.name))
        result = looking.register(
            flipped[0], small_phantom.fixed, flipped[1], small_phantom.fixed_labels, refine="off"
        )
        np.testing.assert_allclose(
            result.displacement.displacement, expected.displacement.displacement, atol=0.01
        )
        np.testing.assert_allclose(result.warped.array, expected.warped.array, atol=2)

    def test_thick_slices_against_thin(self, engine: Engine) -> None:
        """Slices of 10 mm on one side, 1 mm on the other."""
        fine = cubes(np.s_[12:48, 8:20, 10:24], shape=(60, 30, 34))
        thick = fine[5::10]
        affine = make_affine((10.0, 1.0, 1.0))
        affine[2, 3] = 5.0
        for order in (
            pair_of(fine, thick, affine, make_affine((1.0, 1.0, 1.0))),
            pair_of(thick, fine, make_affine((1.0, 1.0, 1.0)), affine),
        ):
            result = engine.register(*order)
            assert result.quality.dice > 0.9
            assert np.isfinite(result.displacement.displacement).all()

    @pytest.mark.parametrize("slices", ["fixed", "moving", "both"])
    def test_single_slices(self, engine: Engine, looking: Engine, slices: str) -> None:
        """2-D with 2-D; and one slice against a volume, which at least does not fail."""
        fixed, moving = cubes(*BOXES), cubes(*SHIFTED)
        if slices in ("fixed", "both"):
            fixed = fixed[11:12]
        if slices in ("moving", "both"):
            moving = moving[11:12]
        for opened in (engine, looking):
            result = opened.register(*pair_of(moving, fixed))
            assert np.isfinite(result.displacement.displacement).all()
            if slices == "both":
                np.testing.assert_allclose(result.displacement.displacement[0], 0, atol=1e-4)
        if slices == "both":
            assert engine.register(*pair_of(moving, fixed)).quality.dice > 0.9

    def test_two_dimensional_arrays(self, engine: Engine) -> None:
        flat = cubes(*BOXES)[11]
        image = Volume.from_array(flat.astype(np.float32), spacing=(1.0, 1.5))
        labels = Volume.from_array(flat, spacing=(1.0, 1.5))
        result = engine.register(image, image, labels, labels)
        assert result.warped.shape == (1, 24, 28)
        assert result.quality.dice == 1

    def test_region_at_the_border(self, engine: Engine, looking: Engine) -> None:
        """An organ cut off by the field of view, and one that fills it."""
        fixed = cubes(np.s_[0:7, 0:12, 0:10], np.s_[12:20, 14:24, 15:28])
        moving = cubes(np.s_[0:8, 0:10, 0:11], np.s_[13:20, 13:24, 16:28])
        result = engine.register(*pair_of(moving, fixed))
        assert result.quality.dice > 0.8
        whole = np.ones((10, 12, 14), np.uint8)
        for opened in (engine, looking):
            result = opened.register(*pair_of(whole, whole))
            assert np.isfinite(result.displacement.displacement).all()
        assert engine.register(*pair_of(whole, whole)).quality.dice == 1

    def test_single_voxels(self, engine: Engine) -> None:
        fixed = cubes(np.s_[3:4, 5:6, 7:8], np.s_[10:16, 12:20, 15:22], np.s_[:1, :1, :1])
        moving = cubes(np.s_[4:5, 7:8, 6:7], np.s_[11:17, 11:19, 15:22], np.s_[1:2, 1:2, 1:2])
        result = engine.register(*pair_of(moving, fixed))
        assert [region.dice for region in result.quality.regions] == [1, 1, 1]
        assert result.quality.hd95_mm == 0

    def test_constant_image(self, engine: Engine, looking: Engine) -> None:
        labels = cubes(*BOXES)
        _, _, moving, fixed = pair_of(labels, labels)
        flat = fixed.with_array(np.full(labels.shape, 5, np.int16))
        for opened in (engine, looking):
            result = opened.register(flat, flat, moving, fixed)
            assert np.isfinite(result.displacement.displacement).all()
