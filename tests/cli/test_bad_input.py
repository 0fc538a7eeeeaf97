"""Bad input: one clear sentence, the right exit code, and nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from segreg.engine.package import write_checksums
from segreg.engine.volume import Volume

Segreg = Callable[..., Any]


@pytest.fixture
def refused(register: Segreg, tmp_path: Path) -> Callable[..., str]:
    """Registers, expects a refusal with ``code`` and no trace of output; gives its sentence."""

    def run(*words: object, code: int = 2, **replaced: object) -> str:
        ran = register(*words, **replaced)
        assert ran.exit_code == code, (ran.exit_code, ran.stderr, ran.exception)
        assert not (tmp_path / "out").exists()
        assert ran.stdout == ""
        assert "Traceback" not in ran.stderr
        sentence = str(ran.stderr).splitlines()[-1]
        assert sentence.startswith("segreg: ")
        assert str(tmp_path) not in sentence
        return sentence

    return run


def changed(source: Path, target: Path, change: Callable[[Any], Any]) -> Path:
    """``source`` (NIfTI) with ``change`` applied to a float64 copy of its voxels."""
    image = nib.load(source)
    array = change(np.asarray(image.dataobj, np.float64).copy())
    nib.save(nib.Nifti1Image(array.astype(np.float32), image.affine), target)
    return target


def poked(value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[3, 3, 3] = value
        return array

    return change


def test_missing_file(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no such file" in refused(moving=tmp_path / "nowhere.nii.gz")


@pytest.mark.parametrize("keep", [0.5, 0.98])
def test_truncated_file(
    refused: Callable[..., str], pair: dict[str, Path], tmp_path: Path, keep: float
) -> None:
    whole = pair["moving"].read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: int(keep * len(whole))])
    assert "cut.nii.gz" in refused(moving=tmp_path / "cut.nii.gz")


@pytest.mark.parametrize("content", [b"", b"not an image", b"PK\x03\x04" + bytes(2000)])
def test_not_a_nifti(refused: Callable[..., str], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.nii").write_bytes(content)
    assert "text.nii" in refused(fixed=tmp_path / "text.nii")


def test_four_dimensions(
    refused: Callable[..., str], pair: dict[str, Path], tmp_path: Path
) -> None:
    path = changed(pair["moving"], tmp_path / "4d.nii.gz", lambda a: np.stack([a, a], -1))
    assert "3-D" in refused(moving=path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(
    refused: Callable[..., str], pair: dict[str, Path], tmp_path: Path, value: float
) -> None:
    path = changed(pair["fixed"], tmp_path / "bad.nii.gz", poked(value))
    assert "finite" in refused(fixed=path)


def test_labels_on_another_grid(refused: Callable[..., str], pair: dict[str, Path]) -> None:
    assert "same grid" in refused(fixed_labels=pair["moving_labels"])


def test_labels_shifted_against_their_image(
    refused: Callable[..., str], pair: dict[str, Path], tmp_path: Path
) -> None:
    labels = Volume.read(pair["fixed_labels"])
    affine = labels.affine.copy()
    affine[0, 3] += 1
    Volume(labels.array, affine).write(tmp_path / "shifted.nii.gz")
    assert "apart" in refused(fixed_labels=tmp_path / "shifted.nii.gz")


def test_labels_that_are_no_integers(
    refused: Callable[..., str], pair: dict[str, Path], tmp_path: Path
) -> None:
    path = changed(pair["moving_labels"], tmp_path / "half.nii.gz", lambda a: a * 0.5)
    assert "whole label numbers" in refused(moving_labels=path)


def test_empty_label_map(
    refused: Callable[..., str], pair: dict[str, Path], tmp_path: Path
) -> None:
    path = changed(pair["moving_labels"], tmp_path / "empty.nii.gz", lambda a: 0 * a)
    assert "empty" in refused(moving_labels=path)


def test_no_common_label(
    refused: Callable[..., str], pair: dict[str, Path], tmp_path: Path
) -> None:
    path = changed(pair["moving_labels"], tmp_path / "other.nii.gz", lambda a: a + 10 * (a > 0))
    assert "both sides" in refused(moving_labels=path)


@pytest.mark.parametrize("field", ["srow_x", "pixdim"])
def test_singular_header(
    refused: Callable[..., str], pair: dict[str, Path], tmp_path: Path, field: str
) -> None:
    image = nib.load(pair["moving"])
    header = image.header.copy()
    header["qform_code"], header["sform_code"] = 0, 1
    header[field] = 0
    raw = header.binaryblock + b"\0\0\0\0" + np.asarray(image.dataobj, "<f4").tobytes(order="F")
    (tmp_path / "flat.nii").write_bytes(raw)
    assert "flat.nii" in refused(moving=tmp_path / "flat.nii")


def test_header_that_claims_a_trillion_voxels(
    refused: Callable[..., str], pair: dict[str, Path], tmp_path: Path
) -> None:
    header = nib.load(pair["moving"]).header.copy()
    header["dim"] = [3, 10000, 10000, 10000, 1, 1, 1, 1]
    (tmp_path / "huge.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(1000)))
    assert "huge.nii.gz" in refused(moving=tmp_path / "huge.nii.gz")


def test_mixed_units_are_read_and_said(
    register: Segreg, pair: dict[str, Path], tmp_path: Path
) -> None:
    """Metres on one side: converted, and said in a note."""
    paths = {}
    for side in ("moving", "moving_labels"):
        image = nib.load(pair[side])
        affine = image.affine.copy()
        affine[:3] /= 1000
        scaled = nib.Nifti1Image(np.asarray(image.dataobj), affine)
        scaled.header.set_xyzt_units("meter")
        paths[side] = tmp_path / f"{side}_m.nii.gz"
        nib.save(scaled, paths[side])
    ran = register(**paths)
    assert ran.exit_code == 0, ran.stderr
    assert "metres" in ran.stderr


def test_one_voxel_region_and_a_region_at_the_border(
    register: Segreg, pair: dict[str, Path], tmp_path: Path
) -> None:
    paths = {}
    for side in ("moving_labels", "fixed_labels"):
        labels = Volume.read(pair[side])
        array = labels.array.copy()
        array[1, 1, 1] = 9
        array[-1, -6:, -6:] = 8
        labels.with_array(array).write(tmp_path / f"{side}.nii.gz")
        paths[side] = tmp_path / f"{side}.nii.gz"
    ran = register("--json", **paths)
    assert ran.exit_code in (0, 1), ran.stderr  # a single voxel may well miss its thresholds
    regions = json.loads(ran.stdout)["quality"]["regions"]
    assert [region["labels"] for region in regions][-2:] == [[8], [9]]


def test_output_is_a_file(register: Segreg, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("precious")
    ran = register(output=tmp_path / "taken")
    assert ran.exit_code == 2
    assert "folder" in ran.stderr
    assert (tmp_path / "taken").read_text() == "precious"


def test_output_below_a_file(register: Segreg, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("precious")
    ran = register(output=tmp_path / "taken" / "out")
    assert ran.exit_code == 2
    assert "cannot be created or written" in ran.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_output_not_writable(register: Segreg, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    ran = register(output=locked / "out")
    assert ran.exit_code == 2
    assert "cannot be created or written" in ran.stderr


def test_failure_leaves_an_earlier_result_alone(
    register: Segreg, pair: dict[str, Path], tmp_path: Path
) -> None:
    register("--quiet")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert register(fixed_labels=pair["moving_labels"]).exit_code == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--labels", "1,two"], "'two' is not the name of a label"),
        (["--labels", "77"], "at least one region"),
        (["--passes", "99"], "passes"),
        (["--blend", "1"], "--blend"),
        (["--blend", "1:2:3"], "--blend"),
        (["--blend", "all", "--blend", "1:2"], "--blend"),
        (["--blend", "1:liver"], "no region 'liver'. There are background, label 1"),
        (["--blend", "1:1"], "two different regions"),
        (["--blend", "all", "--blend-mm", "-1"], "blend_mm"),
        (["--groups", "nowhere.json"], "nowhere.json"),
    ],
)
def test_bad_options(refused: Callable[..., str], words: list[str], expected: str) -> None:
    assert expected in refused(*words)


@pytest.mark.parametrize(
    "words", [["--geometry", "xform"], ["--interpolation", "sinc"], ["--threads", "0"], ["extra"]]
)
def test_usage_errors(register: Segreg, tmp_path: Path, words: list[str]) -> None:
    ran = register(*words)
    assert ran.exit_code == 2
    assert "Usage: " in ran.stderr
    assert not (tmp_path / "out").exists()


def test_unknown_backend(refused: Callable[..., str]) -> None:
    assert "openvino, onnxruntime" in refused(code=3, backend="abacus")


def test_unknown_package(refused: Callable[..., str]) -> None:
    assert "nowhere" in refused(code=4, package="nowhere")


def test_altered_package(refused: Callable[..., str], own_package: Path) -> None:
    network = own_package / "models/registration.onnx"
    network.write_bytes(network.read_bytes() + b"\0")
    sentence = refused(code=4, package=own_package)
    assert "checksum of models/registration.onnx does not hold" in sentence


def test_package_with_an_unknown_key(refused: Callable[..., str], own_package: Path) -> None:
    path = own_package / "configs/metadata.json"
    metadata = json.loads(path.read_text())
    metadata["segreg"]["colour"] = "blue"
    path.write_text(json.dumps(metadata))
    write_checksums(own_package)
    assert "colour" in refused(code=4, package=own_package)
