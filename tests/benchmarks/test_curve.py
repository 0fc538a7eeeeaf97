"""The curve of a package over pairs of one's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.curve import curve_of, measure_segmentation
from benchmarks.datasets import Pair
from benchmarks.degradation import KINDS, summarise
from benchmarks.pairs import COLUMNS, read_pairs
from segreg.engine.expectation import read_curve
from segreg.engine.nifti import write_nifti
from segreg.engine.runtime import Engine


def write_table(folder: Path, *rows: tuple[str, ...], header: tuple[str, ...] = COLUMNS) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [",".join(header), *(",".join(row) for row in rows)]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def folder(pair: Pair, tmp_path: Path) -> Path:
    paths = [str(getattr(pair, name)) for name in COLUMNS]
    return write_table(tmp_path / "mine", tuple(paths))


def test_files_of_the_command(
    tiny_package: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--package", str(tiny_package), "--pairs", str(folder), "--steps", "2", "-o", str(out)]
    assert main(["curve", *words]) == 0
    assert {path.name for path in out.iterdir()} == {"curve.json", "curve.svg", "index.html"}
    found = json.loads((out / "curve.json").read_text())
    assert found["data"] == "mine"
    assert found["points"] == 1 + 2 * len(KINDS)
    assert found["slope"] == found["measured"]["fit"]["slope"]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert f"{found['r_squared']:.2f}" in page
    assert str(tmp_path) not in page
    # A package that carries the file has its expectation.
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "curve.json").write_text((out / "curve.json").read_text())
    curve = read_curve(tmp_path)
    assert curve is not None
    assert curve.expect(1.0).dice == pytest.approx(found["slope"] + found["intercept"])


def test_own_segmentation_is_judged_by_the_given_labels(
    segmenting_package: Path, tmp_path: Path
) -> None:
    """Labels that are what the package finds have a Dice of 1; half of one of two, on one side, a
    twelfth less."""
    image = np.zeros((12, 14, 16), np.float32)
    image[2:6, 3:11, 3:11], image[7:10, 3:11, 3:11] = 100, 200
    labels = np.where(image == 100, 4, np.where(image == 200, 9, 0)).astype(np.uint8)
    half = labels.copy()
    half[4:6] = 0
    paths = {}
    for name, array in (("image", image), ("labels", labels), ("half", half)):
        paths[name] = tmp_path / f"{name}.nii.gz"
        write_nifti(paths[name], array, np.eye(4))
    good = Pair("good", paths["image"], paths["image"], paths["labels"], paths["labels"])
    worse = replace(good, moving_labels=paths["half"])
    with Engine(segmenting_package) as engine:
        found = measure_segmentation(engine, [good, worse])["segmentation"]
    dice = [1.0, 1 - (1 - 2 / 3) / 4]
    by_own = found.pop("registration")
    assert found == {"dice": pytest.approx(np.mean(dice)), "sd": pytest.approx(np.std(dice))}
    registered = [1.0, (1 + 2 / 3) / 2]  # one image, matched to itself
    assert by_own["dice"] == pytest.approx(np.mean(registered), abs=0.01)
    assert by_own["sd"] == pytest.approx(np.std(registered), abs=0.01)


def test_a_package_that_segments_nothing_says_nothing_of_it(
    tiny_package: Path, pair: Pair
) -> None:
    with Engine(tiny_package) as engine:
        assert measure_segmentation(engine, [pair]) == {}


def test_spread_is_that_about_the_line() -> None:
    x = np.linspace(0.5, 1, 20)
    y = 0.5 * x + 0.4 + 0.02 * (-1.0) ** np.arange(20)
    points = [
        {"pair": "p", "kind": kind, "segmentation_dice": a, "registration_dice": b}
        for kind in KINDS
        for a, b in zip(x, y, strict=True)
    ]
    curve = curve_of(summarise("made", points))
    assert curve["slope"] == pytest.approx(0.5, abs=0.02)
    assert curve["spread"] == pytest.approx(0.02, rel=0.05)
    assert (curve["lowest"], curve["highest"]) == (0.5, 1.0)


def test_paths_are_relative_to_the_table(folder: Path, pair: Pair) -> None:
    (folder / "scans").mkdir()
    for name in COLUMNS:
        (folder / "scans" / f"{name}.nii").write_bytes(b"")
    row = tuple(f"scans/{name}.nii" for name in COLUMNS)
    write_table(folder, ("7", *row), header=("id", *COLUMNS))
    (found,) = read_pairs(folder)
    assert found.id == "7"
    assert found.fixed_labels == folder / "scans" / "fixed_labels.nii"


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ((), COLUMNS, "a row for each pair, got none"),
        ((("a",),), ("moving",), "a column fixed, got"),
        ((("a", "b", "c", "d"),), COLUMNS, "line 2: moving: expected a file, got 'a'"),
    ],
)
def test_tables_that_cannot_be_used(
    tmp_path: Path,
    rows: tuple[tuple[str, ...], ...],
    header: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_table(tmp_path / "mine", *rows, header=header)
    out = tmp_path / "out"
    assert main(["curve", "--pairs", str(folder), "-o", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_without_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curve", "--pairs", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "expected a table pairs.csv" in capsys.readouterr().err
