"""``segreg apply`` carries images, label maps and landmarks."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.engine.field import Field, apply_to_image, apply_to_points
from segreg.engine.geometry import apply_map, flip_ras_lps, index_to_world
from segreg.engine.phantom import Phantom
from segreg.engine.volume import Volume

Segreg = Callable[..., Any]


@pytest.fixture
def apply(segreg: Segreg, pair: dict[str, Path]) -> Segreg:
    return lambda *words: segreg("apply", "--field", pair["truth"], *words)


@pytest.fixture
def landmarks(phantom: Phantom) -> tuple[np.ndarray, np.ndarray]:
    """Places on the fixed side inside organs, and where the true field finds them on the moving."""
    inside = np.argwhere(phantom.fixed_labels.array > 0)[::97]
    fixed = apply_map(index_to_world(phantom.fixed.affine), inside)
    return fixed, apply_to_points(phantom.truth, fixed, to="moving").points


def write_table(path: Path, header: list[str], rows: Any) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)
    return path


def read_table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_image_lands_on_the_fixed_one(
    apply: Segreg, pair: dict[str, Path], tmp_path: Path, phantom: Phantom
) -> None:
    out = tmp_path / "warped.nii.gz"
    ran = apply("--moving", pair["moving"], "-o", out)
    assert (ran.exit_code, ran.stderr) == (0, "")
    warped, fixed = Volume.read(out).array, phantom.fixed.array
    inside = phantom.fixed_labels.array > 0
    assert np.corrcoef(warped[inside], fixed[inside])[0, 1] > 0.95


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic"])
def test_interpolation_of_an_image(
    apply: Segreg, pair: dict[str, Path], tmp_path: Path, phantom: Phantom, interpolation: str
) -> None:
    out = tmp_path / "warped.nii.gz"
    ran = apply("--moving", pair["moving"], "-o", out, "--interpolation", interpolation)
    assert ran.exit_code == 0, ran.stderr
    moving = Volume.read(pair["moving"])
    expected = apply_to_image(Field.read(pair["truth"]), moving, interpolation)
    np.testing.assert_allclose(Volume.read(out).array, expected.array, rtol=1e-6)


@pytest.mark.parametrize("interpolation", ["vote", "nearest"])
def test_labels(
    apply: Segreg, pair: dict[str, Path], tmp_path: Path, phantom: Phantom, interpolation: str
) -> None:
    out = tmp_path / "labels.nii.gz"
    ran = apply(
        "--moving",
        pair["moving_labels"],
        "--kind",
        "labels",
        "-o",
        out,
        "--interpolation",
        interpolation,
    )
    assert ran.exit_code == 0, ran.stderr
    warped, fixed = Volume.read(out).array, phantom.fixed_labels.array
    assert warped.dtype == np.uint8
    assert np.mean(warped[fixed > 0] == fixed[fixed > 0]) > 0.9


def test_landmarks_travel_with_the_image_and_back(
    apply: Segreg, landmarks: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    fixed, moving = landmarks
    names = [f"P{i}" for i in range(len(moving))]
    rows = [[name, *point] for name, point in zip(names, flip_ras_lps(moving), strict=True)]
    source = write_table(
        tmp_path / "moving.csv", ["name", "x_lps_mm", "y_lps_mm", "z_lps_mm"], rows
    )
    out, back = tmp_path / "fixed.csv", tmp_path / "back.csv"
    assert apply("--moving", source, "-o", out).exit_code == 0
    table = read_table(out)
    assert table[0] == ["name", "x_lps_mm", "y_lps_mm", "z_lps_mm", "inside"]
    assert [row[0] for row in table[1:]] == names
    found = flip_ras_lps([[float(cell) for cell in row[1:4]] for row in table[1:]])
    np.testing.assert_allclose(found, fixed, atol=0.02)
    assert apply("--moving", out, "-o", back, "--to", "moving").exit_code == 0
    again = flip_ras_lps([[float(cell) for cell in row[1:4]] for row in read_table(back)[1:]])
    np.testing.assert_allclose(again, moving, atol=0.02)


def test_table_without_names_gets_them(
    apply: Segreg, landmarks: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    fixed, moving = landmarks
    source, out = write_table(tmp_path / "p.csv", [], moving), tmp_path / "q.csv"
    ran = apply("--moving", source, "-o", out, "--convention", "ras")
    assert ran.exit_code == 0, ran.stderr
    table = read_table(out)
    assert table[0] == ["x_ras_mm", "y_ras_mm", "z_ras_mm", "inside"]
    found = np.array([[float(cell) for cell in row[:3]] for row in table[1:]])
    np.testing.assert_allclose(found, fixed, atol=0.02)


def test_landmarks_beyond_the_field_are_said(apply: Segreg, tmp_path: Path) -> None:
    source = write_table(tmp_path / "p.csv", ["x_ras_mm", "y_ras_mm", "z_ras_mm"], [[999, 0, 0]])
    ran = apply("--moving", source, "-o", tmp_path / "q.csv")
    assert ran.exit_code == 0
    assert "beyond the fixed image" in ran.stderr
    assert read_table(tmp_path / "q.csv")[1][-1] == "0"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--moving", "{moving}", "--to", "fixed"], "to: expected nothing for image"),
        (["--moving", "{moving}", "--interpolation", "vote"], "or nearest or cubic for image"),
        (["--moving", "{moving_labels}", "--kind", "labels", "--interpolation", "linear"], "vote"),
        (["--moving", "{moving}", "--kind", "labels"], "whole label numbers"),
        (["--moving", "{truth}"], "vector field"),
        (["--moving", "nowhere.nii.gz"], "no such file"),
        (["--moving", "nowhere.csv"], "nowhere.csv"),
        (["--moving", "{moving}", "--kind", "points"], "moving.nii.gz"),
        (["--moving", "{points}"], "RAS or LPS"),
        (["--moving", "{points}", "--kind", "image"], "got a table"),
        (["--moving", "{points}", "--convention", "ras", "--geometry", "sform"], "geometry"),
    ],
)
def test_misunderstandings(
    apply: Segreg, pair: dict[str, Path], tmp_path: Path, words: list[str], expected: str
) -> None:
    places = {**pair, "points": write_table(tmp_path / "p.csv", ["x", "y", "z"], [[1, 2, 3]])}
    out = tmp_path / "out.nii.gz"
    ran = apply(*(word.format(**places) for word in words), "-o", out)
    assert ran.exit_code == 2, ran.exception
    assert expected in ran.stderr
    assert not out.exists()


def test_field_that_is_none(segreg: Segreg, pair: dict[str, Path], tmp_path: Path) -> None:
    ran = segreg(
        "apply", "--field", pair["fixed"], "--moving", pair["moving"], "-o", tmp_path / "o.nii.gz"
    )
    assert ran.exit_code == 2
    assert "displacement field" in ran.stderr


@pytest.mark.parametrize("name", ["out.png", "nowhere/out.nii.gz"])
def test_output_that_cannot_be(
    apply: Segreg, pair: dict[str, Path], tmp_path: Path, name: str
) -> None:
    ran = apply("--moving", pair["moving"], "-o", tmp_path / name)
    assert ran.exit_code == 2
    assert "out." in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["moving", "truth"])
def test_inputs_are_not_overwritten(apply: Segreg, pair: dict[str, Path], name: str) -> None:
    before = pair[name].read_bytes()
    ran = apply("--moving", pair["moving"], "-o", pair[name])
    assert ran.exit_code == 2
    assert "one of the inputs" in ran.stderr
    assert pair[name].read_bytes() == before


def test_written_field_reads_back(pair: dict[str, Path], phantom: Phantom) -> None:
    """The truth as a file is the truth, whatever the grid: the tests above rest on it."""
    again = Field.read(pair["truth"])
    np.testing.assert_allclose(again.displacement, phantom.truth.displacement, atol=1e-4)
