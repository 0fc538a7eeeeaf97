"""``Engine``: its options, the ways to hand volumes over, mistakes, threads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from segreg.engine.backends import REGISTRY, availability
from segreg.engine.errors import BackendError, InputError, PackageError
from segreg.engine.field import apply_to_image
from segreg.engine.phantom import Phantom, make_phantom
from segreg.engine.quality import Thresholds
from segreg.engine.runtime import Engine
from segreg.engine.volume import Volume
from tests.engine.pairs import BOXES, SHIFTED, SIDES, cubes, pair_of, same, volumes

BuildPackage = Callable[..., Path]


class TestOptions:
    def test_velocity_moves_by_what_the_package_says(
        self, build_package: BuildPackage
    ) -> None:
        """One box of 12 voxels, 0.25 of margin: 18 voxels on 16 cells."""
        labels = cubes(np.s_[6:18, 6:18, 6:18], shape=(24, 24, 24))
        bias = (1.0, -2.0, 0.5)
        path = build_package(bias, margin=0.25, initial_map="identity")
        with Engine(path) as engine:
            result = engine.register(*pair_of(labels, labels), repair=False, refine="off")
        inside = result.displacement.displacement[:, labels > 0].T
        np.testing.assert_allclose(inside, np.tile(np.array(bias) * 18 / 16, (12**3, 1)), atol=0.02)

    @pytest.mark.parametrize(
        ("output", "factor"),
        [
            ({"kind": "displacement", "unit": "canvas_voxel", "order": "zyx", "stride": 2}, 1),
            ({"kind": "velocity", "unit": "field_voxel", "order": "zyx", "stride": 2}, 2),
            ({"kind": "displacement", "unit": "field_voxel", "order": "xyz", "stride": 2}, 2),
        ],
    )
    def test_unit_order_and_kind(
        self, build_package: BuildPackage, output: dict[str, Any], factor: int
    ) -> None:
        labels = cubes(np.s_[6:18, 6:18, 6:18], shape=(24, 24, 24))
        path = build_package((1.0, -2.0, 0.5), margin=0.25, output=output)
        with Engine(path) as engine:
            result = engine.register(*pair_of(labels, labels), refine="off")
        field = result.displacement.displacement
        expected = np.array([1.0, -2.0, 0.5]) * factor * 18 / 16
        if output["order"] == "xyz":
            expected = expected[::-1]
        np.testing.assert_allclose(field[:, 12, 12, 12], expected, atol=0.02)

    def test_passes_zero_is_moment_matching(
        self, build_package: BuildPackage, engine: Engine, small_phantom: Phantom
    ) -> None:
        """Whatever the network would say."""
        with Engine(build_package((3.0, 3.0, 3.0)), passes=0) as still:
            result = still.register(*volumes(small_phantom))
        expected = engine.register(*volumes(small_phantom))
        np.testing.assert_allclose(
            result.displacement.displacement, expected.displacement.displacement, atol=1e-3
        )
        assert result.provenance.passes == 0

    def test_groups(self, engine: Engine, small_phantom: Phantom) -> None:
        groups = {"heart": [3, 4], "liver": [1]}
        result = engine.register(*volumes(small_phantom), groups=groups)
        assert [region.name for region in result.quality.regions] == ["heart", "liver"]
        assert [region.labels for region in result.quality.regions] == [(3, 4), (1,)]
        assert "labels not registered, as asked: 2, 5, 6" in result.notes
        # The label map keeps its numbers, whatever was registered as what.
        assert set(np.unique(result.warped_labels.array)) == {0, 1, 2, 3, 4, 5, 6}

    def test_selection(self, engine: Engine, small_phantom: Phantom) -> None:
        result = engine.register(*volumes(small_phantom), labels=[5, 2, 40])
        assert [region.labels for region in result.quality.regions] == [(2,), (5,)]
        assert "label 40 is in neither label map" in result.notes
        assert "labels not registered, as asked: 1, 3, 4, 6" in result.notes

    def test_inside_a_region_the_others_do_not_count(
        self, looking: Engine, small_phantom: Phantom
    ) -> None:
        pair = volumes(small_phantom)
        together = looking.register(*pair, refine="off").displacement.displacement
        alone = looking.register(*pair, labels=[2], refine="off").displacement.displacement
        inside = small_phantom.fixed_labels.array == 2
        np.testing.assert_array_equal(alone[:, inside], together[:, inside])

    def test_label_on_one_side_is_noted(self, engine: Engine) -> None:
        result = engine.register(*pair_of(cubes(*SHIFTED[:2]), cubes(*BOXES)), refine="off")
        assert result.notes == ("label 3 is only in the fixed label map and is not registered",)
        assert len(result.quality.regions) == 2

    def test_nearest_invents_no_intensity(self, engine: Engine) -> None:
        moving, fixed = cubes(*SHIFTED), cubes(*BOXES)
        pair = list(pair_of(moving, fixed))
        pair[0] = pair[0].with_array(np.float32(7) * moving)
        nearest = engine.register(*pair, interpolation="nearest")
        assert set(np.unique(nearest.warped.array)) == {0, 7, 14, 21}
        assert nearest.provenance.interpolation == "nearest"
        linear = engine.register(*pair)
        assert len(np.unique(linear.warped.array)) > 10
        np.testing.assert_array_equal(
            linear.displacement.displacement, nearest.displacement.displacement
        )

    def test_cubic_samples_the_spline(
        self, engine: Engine, small_phantom: Phantom
    ) -> None:
        linear = engine.register(*volumes(small_phantom))
        cubic = engine.register(*volumes(small_phantom), interpolation="cubic")
        assert cubic.provenance.interpolation == "cubic"
        field = cubic.displacement
        np.testing.assert_array_equal(field.displacement, linear.displacement.displacement)
        expected = apply_to_image(field, small_phantom.moving, mode="cubic")
        np.testing.assert_array_equal(cubic.warped.array, expected.array)
        assert np.abs(cubic.warped.array - linear.warped.array).max() > 1

    def test_thresholds(self, engine: Engine, small_phantom: Phantom) -> None:
        strict = Thresholds(dice=0.9999)
        result = engine.register(*volumes(small_phantom), thresholds=strict)
        assert not result.quality.passed
        assert result.quality.thresholds == strict

    def test_geometry_reaches_the_headers(self, engine: Engine, tmp_path: Path) -> None:
        """A sform that contradicts the qform: the choice decides, and both say so."""
        labels = cubes(*BOXES)
        paths = []
        for name, array in (("image", labels.astype(np.float32)), ("labels", labels)):
            image = nib.Nifti1Image(array.T, np.diag([1.5, 1.0, 2.0, 1.0]))
            shifted = np.diag([1.5, 1.0, 2.0, 1.0])
            shifted[:3, 3] = (30, 0, 0)
            image.set_qform(np.diag([1.5, 1.0, 2.0, 1.0]), 1)
            image.set_sform(shifted, 2)
            nib.save(image, tmp_path / f"{name}.nii")
            paths.append(tmp_path / f"{name}.nii")
        image, label_map = paths
        origins = {}
        for geometry in ("sform", "qform"):
            result = engine.register(image, image, label_map, label_map, geometry=geometry)
            origins[geometry] = result.warped.affine[0, 3]
        assert origins == {"sform": 30, "qform": 0}

    def test_progress(self, engine: Engine, small_phantom: Phantom) -> None:
        seen: list[tuple[int, int]] = []
        engine.register(
            *volumes(small_phantom), progress=lambda done, total: seen.append((done, total))
        )
        assert seen[-1] == (6, 6)
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})

    def test_provenance(self, engine: Engine, small_phantom: Phantom, tiny_package: Path) -> None:
        found = engine.register(*volumes(small_phantom)).provenance
        assert (found.package, found.package_version, found.passes) == ("tiny", "0.1.0", 1)
        assert found.backend in REGISTRY
        assert found.package_digest == engine.package.digest
        assert (found.blend, found.blend_mm, found.repair) == ((), 2.0, True)
        assert set(found.as_dict()) > {"segreg", "backend", "python", "numpy"}

    @pytest.mark.parametrize("backend", list(REGISTRY))
    def test_backend_by_name(
        self, looking_package: Path, looking: Engine, small_phantom: Phantom, backend: str
    ) -> None:
        found = next(entry for entry in availability() if entry.name == backend)
        if not found.usable:
            pytest.skip(str(found.reason))
        with Engine(looking_package, backend=backend, threads=1) as engine:
            result = engine.register(*volumes(small_phantom))
        assert result.provenance.backend == backend
        expected = looking.register(*volumes(small_phantom))
        difference = result.displacement.displacement - expected.displacement.displacement
        assert np.abs(difference).max() < 0.1  # voxels


class TestInputs:
    @pytest.fixture
    def files(self, small_phantom: Phantom, tmp_path: Path) -> dict[str, Path]:
        paths = {}
        for side in SIDES:
            paths[side] = tmp_path / f"{side}.nii.gz"
            getattr(small_phantom, side).write(paths[side])
        return paths

    def test_paths_nibabel_and_volumes_are_one(
        self, looking: Engine, files: dict[str, Path]
    ) -> None:
        read = looking.register(**{side: Volume.read(path) for side, path in files.items()})
        same(looking.register(**files), read)
        same(looking.register(**{side: os.fspath(path) for side, path in files.items()}), read)
        images = {side: nib.load(path) for side, path in files.items()}
        same(looking.register(**images), read)

    def test_sides_may_come_in_different_ways(
        self, looking: Engine, files: dict[str, Path]
    ) -> None:
        mixed = {
            "moving": files["moving"],
            "fixed": nib.load(files["fixed"]),
            "moving_labels": Volume.read(files["moving_labels"]),
            "fixed_labels": str(files["fixed_labels"]),
        }
        same(looking.register(**mixed), looking.register(**files))

    def test_inputs_are_left_alone(self, looking: Engine, small_phantom: Phantom) -> None:
        kept = [volume.array.copy() for volume in volumes(small_phantom)]
        looking.register(*volumes(small_phantom))
        for volume, before in zip(volumes(small_phantom), kept, strict=True):
            np.testing.assert_array_equal(volume.array, before)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint16, np.int64, float])
    def test_label_dtypes(self, engine: Engine, small_phantom: Phantom, dtype: Any) -> None:
        labels = [
            volume.with_array(volume.array.astype(dtype))
            for volume in (small_phantom.moving_labels, small_phantom.fixed_labels)
        ]
        result = engine.register(small_phantom.moving, small_phantom.fixed, *labels, labels=[1])
        expected = engine.register(*volumes(small_phantom), labels=[1])
        np.testing.assert_array_equal(result.warped_labels.array, expected.warped_labels.array)

    def test_large_label_numbers(self, engine: Engine) -> None:
        far = {1: 70_000, 2: 2_000_000_000, 3: 5}
        maps = []
        for labels in (cubes(*SHIFTED), cubes(*BOXES)):
            numbers = np.zeros(labels.shape, np.int32)
            for k, number in far.items():
                numbers[labels == k] = number
            maps.append(numbers)
        result = engine.register(*pair_of(*maps))
        assert [region.labels[0] for region in result.quality.regions] == sorted(far.values())
        assert set(np.unique(result.warped_labels.array)) == {0, *far.values()}

    def test_notes_are_said_once(self, engine: Engine, tmp_path: Path) -> None:
        """Four headers of one scanner, one fault: one sentence."""
        labels = cubes(*BOXES)
        for side in SIDES:
            array = labels if side.endswith("labels") else labels.astype(np.float32)
            image = nib.Nifti1Image(array.T, np.diag([0.0015, 0.001, 0.002, 1.0]))
            image.header.set_xyzt_units("meter")
            nib.save(image, tmp_path / f"{side}.nii")
        result = engine.register(**{side: tmp_path / f"{side}.nii" for side in SIDES})
        about = [note for note in result.notes if "metres" in note]
        assert len(about) == 1
        assert about[0].startswith("moving.nii, fixed.nii, moving_labels.nii, fixed_labels.nii: ")
        assert result.fixed.spacing == pytest.approx((2.0, 1.0, 1.5))


class TestWrong:
    """The caller's mistakes are named, and nothing is computed on the way."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"moving_labels": np.zeros((20, 24, 28), np.uint8)}, "moving labels: empty label map"),
            ({"fixed_labels": np.full((20, 24, 28), -1)}, "fixed labels: expected labels of 0"),
            ({"fixed_labels": np.full((20, 24, 28), 0.5)}, "expected whole label numbers"),
            ({"moving": np.full((20, 24, 28), np.nan)}, "moving: expected finite voxels"),
            ({"moving": np.ones((20, 24, 27))}, "expected the same grid on both"),
            ({"fixed_labels": np.full((20, 24, 28), 9)}, "at least one region on both sides"),
        ],
    )
    def test_volumes(self, engine: Engine, change: dict[str, Any], message: str) -> None:
        pair = dict(zip(SIDES, pair_of(cubes(*SHIFTED), cubes(*BOXES)), strict=True))
        for side, array in change.items():
            pair[side] = pair[side].with_array(array)
        with pytest.raises(InputError, match=message):
            engine.register(**pair)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"interpolation": "sinc"}, "interpolation: expected one of linear, nearest, cubic"),
            ({"blend": [("label 1", "liver")]}, "no region 'liver'. There are background, label 1"),
            ({"blend": "all", "blend_mm": 0.0}, "blend_mm: expected a distance in mm above 0"),
            ({"labels": [99]}, "99 asked for"),
            ({"labels": []}, "at least one region on both sides"),
            ({"groups": {"a": [1], "b": [1]}}, "label 1 is in both 'a' and 'b'"),
            ({"groups": {"a": ["x"]}}, "positive label numbers"),
            ({"groups": {}}, "at least one region on both sides"),
        ],
    )
    def test_options(self, engine: Engine, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            engine.register(*pair_of(cubes(*SHIFTED), cubes(*BOXES)), **options)

    def test_label_map_beside_its_image(self, engine: Engine) -> None:
        pair = list(pair_of(cubes(*SHIFTED), cubes(*BOXES)))
        affine = pair[1].affine.copy()
        affine[0, 3] += 1
        pair[3] = Volume(pair[3].array, affine, "fixed labels")
        with pytest.raises(InputError, match="1 mm apart"):
            engine.register(*pair)

    def test_array_without_a_place(self, engine: Engine) -> None:
        pair = list(pair_of(cubes(*SHIFTED), cubes(*BOXES)))
        with pytest.raises(TypeError, match=r"Volume\.from_array"):
            engine.register(pair[0].array, *pair[1:])  # type: ignore[arg-type]

    def test_missing_file(self, engine: Engine, tmp_path: Path) -> None:
        pair = pair_of(cubes(*SHIFTED), cubes(*BOXES))
        with pytest.raises(InputError, match=r"nowhere\.nii: no such file"):
            engine.register(tmp_path / "nowhere.nii", *pair[1:])

    @pytest.mark.parametrize("passes", [-1, 33, 1.0, True, "2"])
    def test_passes(self, tiny_package: Path, passes: Any) -> None:
        with pytest.raises(InputError, match="passes: expected a whole number from 0"):
            Engine(tiny_package, passes=passes)

    def test_package_and_backend(self, tiny_package: Path) -> None:
        with pytest.raises(PackageError, match="nowhere"):
            Engine("nowhere")
        with pytest.raises(BackendError, match="'abacus'"):
            Engine(tiny_package, backend="abacus")

    def test_network_of_nan(self, build_package: BuildPackage) -> None:
        with (
            Engine(build_package((np.nan, 0.0, 0.0))) as engine,
            pytest.raises(BackendError, match="NaN"),
        ):
            engine.register(*pair_of(cubes(*SHIFTED), cubes(*BOXES)))

    def test_closed_engine(self, tiny_package: Path) -> None:
        engine = Engine(tiny_package)
        engine.close()
        engine.close()
        with pytest.raises(BackendError, match="after close"):
            engine.register(*pair_of(cubes(*SHIFTED), cubes(*BOXES)))


class TestZip:
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where temporary folders go."""
        folder = tmp_path / "temporary"
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        return folder

    @pytest.fixture
    def archive(self, tiny_package: Path, tmp_path: Path) -> Path:
        return Path(shutil.make_archive(str(tmp_path / "tiny"), "zip", tiny_package))

    def test_registers_and_leaves_nothing(
        self, archive: Path, place: Path, engine: Engine, small_phantom: Phantom
    ) -> None:
        with Engine(archive) as unpacked:
            assert list(place.iterdir())
            result = unpacked.register(*volumes(small_phantom))
        assert not list(place.iterdir())
        same(result, engine.register(*volumes(small_phantom)))

    def test_failing_to_open_leaves_nothing(self, archive: Path, place: Path) -> None:
        for options in ({"backend": "abacus"}, {"passes": 99}):
            with pytest.raises((BackendError, InputError)) as caught:
                Engine(archive, **options)  # type: ignore[arg-type]
            # The traceback still holds the half-made engine; its files are gone all the same.
            assert not list(place.iterdir()), caught.value


class TestMany:
    def test_threads_share_an_engine(self, looking: Engine, small_phantom: Phantom) -> None:
        """Each gets, bit for bit, what one alone gets."""
        other = volumes(make_phantom((20, 22, 24), (5.0, 5.0, 4.0), seed=3))
        pairs = [volumes(small_phantom), other] * 2
        expected = [looking.register(*pair) for pair in pairs[:2]] * 2
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda pair: looking.register(*pair), pairs))
        for one, alone in zip(found, expected, strict=True):
            same(one, alone)

    def test_register_many_is_register(
        self, looking: Engine, small_phantom: Phantom, tmp_path: Path
    ) -> None:
        paths = []
        for side in SIDES:
            getattr(small_phantom, side).write(tmp_path / f"{side}.nii")
            paths.append(tmp_path / f"{side}.nii")
        boxes = pair_of(cubes(*SHIFTED), cubes(*BOXES))
        named = {**dict(zip(SIDES, boxes, strict=True)), "labels": [1, 3]}
        results = list(looking.register_many([paths, named, boxes], interpolation="nearest"))
        same(results[0], looking.register(*paths, interpolation="nearest"))
        same(results[1], looking.register(*boxes, labels=[1, 3], interpolation="nearest"))
        same(results[2], looking.register(*boxes, interpolation="nearest"))

    def test_register_many_of_none(self, engine: Engine) -> None:
        assert list(engine.register_many([])) == []

    def test_results_come_before_a_later_fault(
        self, engine: Engine, small_phantom: Phantom, tmp_path: Path
    ) -> None:
        pairs = [volumes(small_phantom), (tmp_path / "nowhere.nii", *volumes(small_phantom)[1:])]
        results = engine.register_many(pairs)
        assert next(results).quality.dice > 0.9
        with pytest.raises(InputError, match=r"nowhere\.nii"):
            next(results)

    @pytest.mark.parametrize("wrong", [3, "names"])
    def test_incomplete_pairs(
        self, engine: Engine, small_phantom: Phantom, wrong: int | str
    ) -> None:
        pair: Any = volumes(small_phantom)[:3]
        words = "expected moving, fixed, moving_labels, fixed_labels"
        if wrong == "names":
            pair = dict(zip(SIDES[1:], pair, strict=False))
        with pytest.raises(InputError, match=words):
            list(engine.register_many([pair]))
