"""``segreg register`` on a pair that is in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.engine.field import Field
from segreg.engine.phantom import Phantom, endpoint_error
from segreg.engine.volume import Volume

Segreg = Callable[..., Any]
FILES = {
    "displacement.nii.gz",
    "warped.nii.gz",
    "warped_labels.nii.gz",
    "result.json",
    "report.html",
}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_writes_everything_and_passes(register: Segreg, tmp_path: Path, phantom: Phantom) -> None:
    ran = register()
    assert ran.exit_code == 0, ran.stderr
    assert names(tmp_path / "out") == FILES
    assert "Verdict: pass" in ran.stdout
    assert "label 6" in ran.stdout
    # Moment matching alone takes the known field to within a voxel or two.
    field = Field.read(tmp_path / "out/displacement.nii.gz")
    assert endpoint_error(field, phantom).mean_voxels < 1.5
    warped = Volume.read(tmp_path / "out/warped_labels.nii.gz")
    assert warped.shape == phantom.fixed.shape
    assert set(np.unique(warped.array)) == {0, 1, 2, 3, 4, 5, 6}


def test_intended_use_is_said_once_on_stderr(register: Segreg) -> None:
    ran = register()
    assert ran.stderr.count("Intended use:") == 1
    assert "Intended use:" not in ran.stdout


def test_json_is_result_json_and_nothing_else(register: Segreg, tmp_path: Path) -> None:
    ran = register("--json")
    assert json.loads(ran.stdout) == json.loads((tmp_path / "out/result.json").read_text())
    assert json.loads(ran.stdout)["quality"]["verdict"] == "pass"


def test_cubic_interpolation_is_used_and_recorded(register: Segreg, tmp_path: Path) -> None:
    assert register("--interpolation", "cubic").exit_code == 0
    record = json.loads((tmp_path / "out/result.json").read_text())
    assert record["provenance"]["interpolation"] == "cubic"
    cubic = Volume.read(tmp_path / "out/warped.nii.gz").array
    assert register().exit_code == 0
    linear = Volume.read(tmp_path / "out/warped.nii.gz").array
    assert np.abs(cubic - linear).max() > 1


def test_quiet_says_nothing(register: Segreg, tmp_path: Path) -> None:
    ran = register("--quiet", "--inverse", "--no-report")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "", "")
    assert names(tmp_path / "out") == FILES - {"report.html"} | {"inverse.nii.gz"}


def test_result_holds_no_path(register: Segreg, tmp_path: Path) -> None:
    register("--quiet")
    for name in ("result.json", "report.html"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()


def test_failed_verdict_has_its_exit_code_and_its_files(register: Segreg, tmp_path: Path) -> None:
    ran = register("--min-dice", "0.999")
    assert ran.exit_code == 1
    assert "Verdict: fail" in ran.stdout
    assert "below 1.00" in ran.stdout
    assert names(tmp_path / "out") == FILES


def test_groups_and_labels(register: Segreg, tmp_path: Path) -> None:
    groups = tmp_path / "groups.json"
    groups.write_text('{"heart [both]": [3, 4], "liver": 1, "spleen": 5}')
    ran = register("--json", groups=groups, labels="1,3,4")
    assert ran.exit_code == 0, ran.stderr
    summary = json.loads(ran.stdout)
    regions = {region["name"]: region["labels"] for region in summary["quality"]["regions"]}
    assert regions == {"heart [both]": [3, 4], "liver": [1]}
    assert "labels not registered" in ran.stderr


def test_blend_and_repair_are_noted(register: Segreg, tmp_path: Path) -> None:
    words = ("--blend", "1:label 2", "--blend", "background:3", "--blend-mm", "3", "--keep-folds")
    summary = json.loads(register("--json", "--no-report", *words).stdout)
    asked = summary["provenance"]
    assert asked["blend"] == [["background", "label 3"], ["label 1", "label 2"]]
    assert (asked["blend_mm"], asked["repair"]) == (3, False)
    assert "repair" not in summary["timings_ms"]
    usual = json.loads(register("--json", "--no-report").stdout)
    assert (usual["provenance"]["blend"], usual["provenance"]["repair"]) == ([], True)
    assert "repair" in usual["timings_ms"]
    blended = json.loads(register("--json", "--no-report", "--blend", "all").stdout)
    assert len(blended["provenance"]["blend"]) == 15


def test_label_on_one_side_only_is_said(
    register: Segreg, pair: dict[str, Path], tmp_path: Path
) -> None:
    labels = Volume.read(pair["fixed_labels"])
    array = labels.array.copy()
    array[array == 6] = 0
    labels.with_array(array).write(tmp_path / "without.nii.gz")
    ran = register(fixed_labels=tmp_path / "without.nii.gz")
    assert ran.exit_code == 1  # it is more than a speck: the verdict says so
    assert "label 6 is only in the moving label map" in ran.stderr


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_backends_by_name(register: Segreg, backend: str) -> None:
    pytest.importorskip(backend)
    ran = register("--json", "--no-report", backend=backend, threads=1)
    assert json.loads(ran.stdout)["provenance"]["backend"] == backend


def test_replaces_an_earlier_result(register: Segreg, tmp_path: Path) -> None:
    register("--quiet")
    before = (tmp_path / "out/result.json").read_text()
    assert register("--quiet", labels="1,2").exit_code == 0
    assert (tmp_path / "out/result.json").read_text() != before
    assert names(tmp_path / "out") == FILES
