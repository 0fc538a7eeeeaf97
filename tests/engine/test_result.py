"""What is written: all of it or nothing, and another program gets the same image from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from segreg.engine.errors import InputError
from segreg.engine.field import Field
from segreg.engine.phantom import Phantom
from segreg.engine.result import Result, without_nan
from segreg.engine.runtime import Engine
from segreg.engine.volume import Volume
from tests.engine.pairs import cubes, pair_of, volumes

FILES = {
    "displacement": "displacement.nii.gz",
    "warped": "warped.nii.gz",
    "warped_labels": "warped_labels.nii.gz",
    "result": "result.json",
    "report": "report.html",
}


@pytest.fixture(scope="module")
def result(looking: Engine, small_phantom: Phantom) -> Result:
    return looking.register(*volumes(small_phantom))


def strictly(path: Path) -> Any:
    """JSON, and nothing that only Python takes for JSON."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestItk:
    """SimpleITK reads the displacement and warps the moving file itself."""

    @pytest.fixture
    def folder(self, result: Result, small_phantom: Phantom, tmp_path: Path) -> Path:
        result.save(tmp_path / "out", report=False)
        small_phantom.moving.write(tmp_path / "out/moving.nii.gz")
        small_phantom.moving_labels.write(tmp_path / "out/moving_labels.nii.gz")
        small_phantom.fixed.write(tmp_path / "out/fixed.nii.gz")
        return tmp_path / "out"

    def resampled(self, folder: Path, moving: str, interpolator: int) -> np.ndarray:
        field = sitk.ReadImage(str(folder / "displacement.nii.gz"), sitk.sitkVectorFloat64)
        transform = sitk.DisplacementFieldTransform(field)
        fixed = sitk.ReadImage(str(folder / "fixed.nii.gz"))
        image = sitk.ReadImage(str(folder / moving))
        image = sitk.Resample(image, fixed, transform, interpolator, 0.0)
        return np.asarray(sitk.GetArrayFromImage(image))

    def test_same_image(self, folder: Path, result: Result, small_phantom: Phantom) -> None:
        by_itk = self.resampled(folder, "moving.nii.gz", sitk.sitkLinear)
        width = np.ptp(small_phantom.moving.array)
        assert by_itk.shape == result.warped.shape
        assert np.abs(by_itk - result.warped.array).mean() < 1e-3 * width
        # And it is no accident of a still field: by the headers alone it is another image.
        assert np.abs(result.before.array - result.warped.array).mean() > 2e-2 * width

    def test_same_labels(self, folder: Path, result: Result) -> None:
        """ITK samples the nearest voxel, the engine lets eight of them vote."""
        by_itk = self.resampled(folder, "moving_labels.nii.gz", sitk.sitkNearestNeighbor)
        labelled = (by_itk > 0) | (result.warped_labels.array > 0)
        same = by_itk == result.warped_labels.array
        assert same.mean() > 0.97
        assert same[labelled].mean() > 0.85

    def test_same_geometry(self, folder: Path, small_phantom: Phantom) -> None:
        fixed = sitk.ReadImage(str(folder / "fixed.nii.gz"))
        for name in ("warped", "warped_labels", "displacement"):
            image = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
            np.testing.assert_allclose(image.GetOrigin(), fixed.GetOrigin(), atol=1e-3)
            np.testing.assert_allclose(image.GetDirection(), fixed.GetDirection(), atol=1e-5)
            np.testing.assert_allclose(image.GetSpacing(), fixed.GetSpacing(), atol=1e-5)

    def test_inverse_leads_back(self, result: Result, tmp_path: Path) -> None:
        """Points of the moving image, through the inverse file and the field's, by ITK."""
        result.save(tmp_path, inverse=True, report=False)
        there, back = (
            sitk.DisplacementFieldTransform(
                sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"), sitk.sitkVectorFloat64)
            )
            for name in ("displacement", "inverse")
        )
        labels = result.fixed_labels
        for index in np.argwhere(labels.array == 1)[::97]:
            point = (labels.affine @ [*index[::-1].astype(float), 1.0])[:3] * (-1, -1, 1)
            around = back.TransformPoint(there.TransformPoint(point.tolist()))
            np.testing.assert_allclose(around, point, atol=0.5 * min(labels.spacing))


class TestSave:
    def test_writes_what_it_says(self, result: Result, tmp_path: Path) -> None:
        paths = result.save(tmp_path / "deep/out")
        assert {name: path.name for name, path in paths.items()} == FILES
        assert names(tmp_path / "deep/out") == set(FILES.values())
        assert all(path.is_file() for path in paths.values())
        read = Volume.read(paths["warped"])
        np.testing.assert_array_equal(read.array, result.warped.array)
        np.testing.assert_allclose(read.affine, result.fixed.affine, atol=1e-4)
        np.testing.assert_array_equal(
            Volume.read(paths["warped_labels"]).array, result.warped_labels.array
        )
        np.testing.assert_allclose(
            Field.read(paths["displacement"]).displacement,
            result.displacement.displacement,
            atol=1e-3,
        )

    def test_inverse_and_no_report(self, result: Result, tmp_path: Path) -> None:
        paths = result.save(tmp_path, inverse=True, report=False)
        assert set(paths) == set(FILES) - {"report"} | {"inverse"}
        inverse = Field.read(paths["inverse"])
        assert inverse.shape == result.moving.shape
        assert strictly(paths["result"])["files"] == [
            "displacement.nii.gz", "warped.nii.gz", "warped_labels.nii.gz", "inverse.nii.gz",
        ]  # fmt: skip

    @pytest.mark.parametrize("earlier", [False, True])
    @pytest.mark.parametrize("part", ["write_nifti", "render_report", "summary"])
    def test_all_or_nothing(
        self,
        result: Result,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        part: str,
        earlier: bool,
    ) -> None:
        """Whatever fails on the way: no file of it is left, and an earlier result stays."""
        if earlier:
            result.save(tmp_path / "out", report=False)
            before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

        def fail(*_: Any, **__: Any) -> Any:
            raise RuntimeError("on purpose")

        if part == "write_nifti":
            monkeypatch.setattr(Volume, "write", fail)
        elif part == "render_report":
            monkeypatch.setattr("segreg.engine.report.render_report", fail)
        else:
            monkeypatch.setattr(Result, "summary", fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            result.save(tmp_path / "out")
        if earlier:
            after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
            assert after == before
        else:
            assert not (tmp_path / "out").exists()

    def test_folder_that_is_a_file(self, result: Result, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("precious")
        with pytest.raises(InputError, match="taken: expected a folder"):
            result.save(tmp_path / "taken")
        assert (tmp_path / "taken").read_text() == "precious"


class TestSummary:
    def test_is_complete_json(self, result: Result, tmp_path: Path) -> None:
        found = strictly(result.save(tmp_path, report=False)["result"])
        assert found["schema"] == 1
        assert found["fixed"]["shape_zyx"] == [24, 30, 27]
        assert found["fixed"]["spacing_zyx_mm"] == pytest.approx([5, 4, 4])
        assert found["provenance"] == result.provenance.as_dict()
        assert len(found["quality"]["regions"]) == 6
        assert found["quality"]["verdict"] == result.quality.verdict
        assert found["notes"] == list(result.notes)
        assert {"read", "plan", "gather", "infer", "fuse", "warp", "judge"} <= set(
            found["timings_ms"]
        )
        assert all(milliseconds >= 0 for milliseconds in found["timings_ms"].values())

    def test_undefined_numbers_become_null(self, engine: Engine, tmp_path: Path) -> None:
        """A region of one voxel has no inside, so no Jacobian of its own."""
        labels = cubes(np.s_[5:6, 5:6, 5:6], np.s_[10:16, 12:20, 15:22])
        result = engine.register(*pair_of(labels, labels))
        assert np.isnan(result.quality.regions[0].mean_jacobian)
        paths = result.save(tmp_path)
        assert strictly(paths["result"])["quality"]["regions"][0]["mean_jacobian"] is None
        assert "nan" not in paths["report"].read_text(encoding="utf-8").lower().split()

    def test_holds_no_folder(self, result: Result, tmp_path: Path) -> None:
        paths = result.save(tmp_path)
        assert str(tmp_path) not in paths["result"].read_text()

    def test_without_nan(self) -> None:
        value = {"a": [1.5, float("nan")], "b": (float("inf"), {"c": -float("inf")}), "d": "nan"}
        assert without_nan(value) == {"a": [1.5, None], "b": [None, {"c": None}], "d": "nan"}


def test_before_is_the_moving_image_by_the_headers_alone(
    result: Result, small_phantom: Phantom
) -> None:
    assert result.before.shape == small_phantom.fixed.shape
    still = Field(np.zeros_like(result.displacement.displacement), result.fixed.affine)
    assert not still.displacement.any()
    same = small_phantom.fixed
    placed = dataclasses.replace(result, moving=same, fixed=same).before
    np.testing.assert_allclose(placed.array, same.array, atol=1e-2 * np.ptp(same.array))


def test_inverse_is_computed_once(result: Result) -> None:
    assert result.inverse is result.inverse
    assert result.inverse.shape == result.moving.shape


def test_timings_are_milliseconds(result: Result) -> None:
    for stage, seconds in result.watch.seconds.items():
        assert result.timings[stage] == 1000 * seconds
