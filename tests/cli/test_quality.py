"""``segreg quality`` and ``segreg report`` on fields that are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.engine.field import Field
from segreg.engine.phantom import Phantom

Segreg = Callable[..., Any]


@pytest.fixture
def quality(segreg: Segreg, pair: dict[str, Path]) -> Segreg:
    def run(*words: object, field: Path | None = None) -> Any:
        labels = [
            "--fixed-labels",
            pair["fixed_labels"],
            "--moving-labels",
            pair["moving_labels"],
        ]
        return segreg("quality", "--field", field or pair["truth"], *labels, *words)

    return run


def test_true_field_passes(quality: Segreg, pair: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "quality.json"
    ran = quality("--fixed", pair["fixed"], "--moving", pair["moving"], "-o", out)
    assert ran.exit_code == 0, ran.stdout
    assert "Verdict: pass" in ran.stdout
    found = json.loads(out.read_text())
    assert found["quality"]["dice"] > 0.9 > found["quality"]["dice_before"]
    assert found["quality"]["folding_inside_percent"] == 0
    assert found["similarity"]["after"] > 0.95 > found["similarity"]["before"]


def test_folded_field_fails(quality: Segreg, phantom: Phantom, tmp_path: Path) -> None:
    folded = phantom.truth.displacement.copy()
    folded[2] -= 3 * np.arange(folded.shape[3], dtype=np.float32)  # x runs backwards
    path = tmp_path / "folded.nii.gz"
    Field(folded, phantom.truth.affine).write(path)
    ran = quality("--json", field=path)
    assert ran.exit_code == 1
    found = json.loads(ran.stdout)
    assert found["quality"]["verdict"] == "fail"
    assert found["quality"]["folding_inside_percent"] == 100
    assert found["similarity"] is None


def test_thresholds_decide(quality: Segreg) -> None:
    assert quality("--quiet", "--min-dice", "0.999").exit_code == 1
    assert quality("--quiet", "--max-distance", "0.001").exit_code == 1
    assert quality("--quiet", "--min-dice", "0.5", "--max-distance", "2").exit_code == 0


def test_field_on_another_grid(quality: Segreg, phantom: Phantom, tmp_path: Path) -> None:
    path = tmp_path / "other.nii.gz"
    Field(phantom.truth.displacement[..., 1:], phantom.truth.affine).write(path)
    ran = quality(field=path)
    assert ran.exit_code == 2
    assert "expected a field on the grid of fixed_labels.nii.gz" in ran.stderr
    affine = phantom.truth.affine.copy()
    affine[2, 3] += 4
    Field(phantom.truth.displacement, affine).write(path)
    ran = quality(field=path)
    assert ran.exit_code == 2
    assert "4 mm away" in ran.stderr


def test_one_image_is_not_enough(quality: Segreg, pair: dict[str, Path], tmp_path: Path) -> None:
    ran = quality("--fixed", pair["fixed"], "-o", tmp_path / "q.json")
    assert ran.exit_code == 2
    assert "both moving and fixed" in ran.stderr
    assert not (tmp_path / "q.json").exists()


def test_agrees_with_register(register: Segreg, quality: Segreg, tmp_path: Path) -> None:
    summary = json.loads(register("--json", "--no-report").stdout)["quality"]
    ran = quality("--json", field=tmp_path / "out/displacement.nii.gz")
    again = json.loads(ran.stdout)["quality"]
    assert again["dice"] == pytest.approx(summary["dice"], abs=1e-3)
    assert again["log_jacobian_sd"] == pytest.approx(summary["log_jacobian_sd"], rel=1e-2)
    assert again["regions"][0]["fixed_volume_ml"] == summary["regions"][0]["fixed_volume_ml"]


@pytest.fixture
def saved(register: Segreg, tmp_path: Path) -> Path:
    """A result folder without its report."""
    assert register("--quiet", "--no-report").exit_code == 0
    return tmp_path / "out"


@pytest.fixture
def report(segreg: Segreg, pair: dict[str, Path]) -> Segreg:
    def run(folder: Path, **replaced: Path) -> Any:
        sides = {name: pair[name] for name in ("fixed", "moving", "fixed_labels")} | replaced
        named = [(f"--{name.replace('_', '-')}", path) for name, path in sides.items()]
        return segreg("report", folder, *(part for option in named for part in option))

    return run


def test_report_is_made_again(
    register: Segreg, report: Segreg, saved: Path, tmp_path: Path
) -> None:
    ran = report(saved)
    assert ran.exit_code == 0, ran.stderr
    again = (saved / "report.html").read_text()
    register("--quiet", output=tmp_path / "fresh")
    fresh = (tmp_path / "fresh/report.html").read_text()
    # Timings differ; pictures and sizes do not, but for the file's float32 millimetres.
    assert abs(len(again) - len(fresh)) < 0.02 * len(fresh)
    assert again.count("<img") == fresh.count("<img")


def test_report_of_another_pair(report: Segreg, saved: Path, pair: dict[str, Path]) -> None:
    ran = report(saved, moving=pair["fixed"])
    assert ran.exit_code == 2
    assert "expected the moving image of this result" in ran.stderr
    assert not (saved / "report.html").exists()


@pytest.mark.parametrize("content", [None, "{", '{"schema": 2}', "[]"])
def test_report_of_no_result(report: Segreg, tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if content is not None:
        (folder / "result.json").write_text(content)
    ran = report(folder)
    assert ran.exit_code == 2
    assert "result.json" in ran.stderr
