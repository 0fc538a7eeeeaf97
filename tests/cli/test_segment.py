"""``segreg segment``, and ``segreg register`` of two images alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.engine.package import write_checksums
from segreg.engine.volume import Volume
from tests.conftest import write_segmenting_package

Segreg = Callable[..., Any]


@pytest.fixture
def scans(tmp_path: Path) -> dict[str, Path]:
    """Two images with a ball and a bar that the segmenting package knows."""
    paths = {}
    for side, shift in (("fixed", 0), ("moving", 2)):
        values = np.zeros((9, 26, 31), np.float32)
        values[2:7, 4 + shift : 12 + shift, 5:14] = 100
        values[3:6, 15 : 21 + shift, 16:27] = 200
        paths[side] = tmp_path / f"{side}.nii.gz"
        Volume.from_array(values, spacing=(4.0, 1.5, 1.5)).write(paths[side])
    return paths


def register(segreg: Segreg, scans: dict[str, Path], *words: object) -> Any:
    out = scans["fixed"].parent / "out"
    pair = ("--fixed", scans["fixed"], "--moving", scans["moving"], "-o", out)
    return segreg("register", *pair, *words)


def test_writes_a_label_map(
    segreg: Segreg, scans: dict[str, Path], segmenting_package: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.nii.gz"
    ran = segreg("segment", scans["fixed"], "-o", out, "--package", segmenting_package)
    assert ran.exit_code == 0, ran.stderr
    values = Volume.read(scans["fixed"]).array
    expected = np.select([values > 150, values > 50], [9, 4])
    np.testing.assert_array_equal(Volume.read(out).array, expected)
    # 5 x 8 x 9 voxels of 9 cubic millimetres.
    assert "ball" in ran.stdout
    assert "3.2" in ran.stdout
    assert ran.stderr.count("Intended use:") == 1
    ran = segreg("segment", scans["fixed"], "-o", out, "--package", segmenting_package, "--json")
    assert json.loads(ran.stdout) == {
        "source": "automatic by tiny 0.1.0",
        "labels": [
            {"name": "ball", "label": 4, "voxels": 360},
            {"name": "bar", "label": 9, "voxels": 198},
        ],
    }


def test_package_that_cannot(
    segreg: Segreg, scans: dict[str, Path], tiny_package: Path, tmp_path: Path
) -> None:
    ran = segreg("segment", scans["fixed"], "-o", tmp_path / "x.nii", "--package", tiny_package)
    assert ran.exit_code == 4
    assert "no models/segmentation.onnx" in ran.stderr
    ran = register(segreg, scans, "--package", tiny_package, "--segment")
    assert ran.exit_code == 2
    assert "moving and fixed labels: expected a label map" in ran.stderr


@pytest.mark.parametrize("flag", [(), ("--segment",)])
def test_registers_two_images(
    segreg: Segreg, scans: dict[str, Path], segmenting_package: Path, flag: tuple[str, ...]
) -> None:
    ran = register(segreg, scans, "--package", segmenting_package, *flag)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    assert "Note: moving and fixed labels: automatic by tiny 0.1.0" in ran.stderr
    out = scans["fixed"].parent / "out"
    summary = json.loads((out / "result.json").read_text())
    assert [region["name"] for region in summary["quality"]["regions"]] == ["ball", "bar"]
    assert {"fixed_labels.nii.gz", "moving_labels.nii.gz"} <= set(summary["files"])
    assert (out / "fixed_labels.nii.gz").is_file()


def test_labels_by_name(
    segreg: Segreg, scans: dict[str, Path], tiny_package: Path, segmenting_package: Path,
    tmp_path: Path,
) -> None:
    names, groups = tmp_path / "dataset.json", tmp_path / "groups.json"
    names.write_text('{"labels": {"background": 0, "left": 4, "right": 9}}')
    both = ("--package", tiny_package, "--segmenter", segmenting_package, "--label-names", names)
    out = tmp_path / "out/result.json"
    assert register(segreg, scans, *both, "--labels", "right").exit_code == 0
    regions = json.loads(out.read_text())["quality"]["regions"]
    assert [region["name"] for region in regions] == ["right"]
    groups.write_text('{"all of it": ["left", "right"]}')
    assert register(segreg, scans, *both, "--groups", groups).exit_code == 0
    regions = json.loads(out.read_text())["quality"]["regions"]
    assert [region["labels"] for region in regions] == [[4, 9]]
    ran = register(segreg, scans, *both, "--labels", "rigt")
    assert ran.exit_code == 2
    assert "known: right" in ran.stderr


def test_segment_and_labels_contradict(
    segreg: Segreg, scans: dict[str, Path], segmenting_package: Path
) -> None:
    words = ("--package", segmenting_package, "--segment", "--fixed-labels", scans["fixed"])
    ran = register(segreg, scans, *words)
    assert ran.exit_code == 2
    assert "--segment" in ran.stderr


def test_accuracy_to_expect(segreg: Segreg, scans: dict[str, Path], tmp_path: Path) -> None:
    package = write_segmenting_package(tmp_path / "package")
    (package / "docs").mkdir(exist_ok=True)
    curve = {"slope": 0.8, "intercept": 0.18, "spread": 0.03, "lowest": 0.6, "highest": 1.0}
    own = {"segmentation": {"dice": 0.9, "sd": 0.05}}
    (package / "docs/curve.json").write_text(json.dumps({**curve, **own}))
    write_checksums(package)
    assert segreg("packages", "verify", package).exit_code == 0
    ran = register(segreg, scans, "--package", package, "--segment")
    assert ran.exit_code == 0, ran.stderr
    words = "Accuracy to expect, judged by true labels: labels of Dice 0.90 let expect a"
    assert words in ran.stdout
    ran = register(segreg, scans, "--package", package, "--segment", "--labels-dice", "0.9")
    assert ran.exit_code == 2
    assert "labels_dice: expected given label maps" in ran.stderr


def test_two_images_by_the_body_alone(
    segreg: Segreg, scans: dict[str, Path], tiny_package: Path
) -> None:
    ran = register(segreg, scans, "--package", tiny_package, "--segmenter", "body")
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    notes = " ".join(ran.stderr.split())
    assert "moving and fixed labels: the automatic body region" in notes
    assert "without refinement only its outline is matched" in notes
    summary = json.loads((scans["fixed"].parent / "out/result.json").read_text())
    assert [region["name"] for region in summary["quality"]["regions"]] == ["body"]
    assert summary["provenance"]["label_sources"]["fixed"].startswith("the automatic body region")
    assert {"fixed_labels.nii.gz", "moving_labels.nii.gz"} <= set(summary["files"])


@pytest.mark.parametrize("background", ["body", "regions"])
def test_background_by_body_or_regions(
    segreg: Segreg, scans: dict[str, Path], segmenting_package: Path, background: str
) -> None:
    for path in scans.values():  # with what is body and no label around them
        values = Volume.read(path).array.astype(np.float32)
        around = np.zeros_like(values)
        around[1:8, 2:24, 3:29] = 45
        Volume.from_array(np.maximum(values, around), spacing=(4.0, 1.5, 1.5)).write(path)
    ran = register(segreg, scans, "--package", segmenting_package, "--background", background)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    summary = json.loads((scans["fixed"].parent / "out/result.json").read_text())
    assert summary["provenance"]["background"] == background
    assert ("body" in summary["timings_ms"]) == (background == "body")
