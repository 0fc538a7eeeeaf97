"""Accuracy is measured as the benchmark says, on real data where it is there."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.__main__ import main
from benchmarks.accuracy import COLUMNS, log_deviation, measure_dataset, measure_pair, print_table
from benchmarks.datasets import DATASETS, Pair
from benchmarks.tables import REFINED, accuracy_table
from segreg.engine.runtime import Engine
from segreg.engine.volume import Volume
from tests.benchmarks.test_tables import rows


def test_pair(tiny_package: Path, pair: Pair) -> None:
    with Engine(tiny_package) as engine:
        row = measure_pair(engine, pair)
    assert row["pair"] == "phantom"
    assert set(COLUMNS) < set(row)
    assert row["dice"] > row["dice_before"]
    assert len(row["dice_by_region"]) == 6
    assert 0 < row["compute_s"] < sum(row["seconds"].values())


def test_labels_that_the_package_made_are_judged_by_the_given_ones(
    segmenting_package: Path, tmp_path: Path
) -> None:
    """The given labels are shifted against what the network sees: perfect matching cannot help."""
    paths = {}
    for name, shift in (("fixed", 0), ("moving", 3)):
        labels = np.zeros((9, 26, 31), np.uint8)
        labels[2:7, 4 + shift : 12 + shift, 5:14], labels[3:6, 18:24, 16:27] = 4, 9
        image = np.array([0, 0, 0, 0, 100, 0, 0, 0, 0, 200], np.float32)[labels]
        given = np.roll(labels, 2 if name == "fixed" else 0, axis=2)
        for kind, array in ((name, image), (f"{name}_labels", given)):
            paths[kind] = tmp_path / f"{kind}.nii.gz"
            Volume.from_array(array, spacing=(4.0, 1.5, 1.5)).write(paths[kind])
    pair = Pair("made up", **paths)
    with Engine(segmenting_package) as engine:
        given = measure_pair(engine, pair)["dice"]
        automatic = measure_pair(engine, pair, automatic=True)["dice"]
    assert given > 0.95
    assert automatic < 0.85


def test_dataset_has_a_case_per_number_of_passes(tiny_package: Path, pair: Pair) -> None:
    out = StringIO()
    console = Console(file=out, width=140)
    with Engine(tiny_package, passes=0) as none, Engine(tiny_package) as one:
        engines: dict[int | str, Engine] = {0: none, 1: one, REFINED: one}
        cases = measure_dataset("phantoms", [pair, pair], engines, console)
    kinds = ("0", "1", "refined")
    assert [case["id"] for case in cases] == [f"accuracy/phantoms/{kind}" for kind in kinds]
    assert [case["refine"] for case in cases] == ["off", "off", "auto"]
    assert cases[2]["dice"] > cases[1]["dice"]
    assert cases[2]["passes"] == 1
    assert "refine" in cases[2]["rows"][0]["seconds"]
    for case in cases:
        assert case["pairs"] == len(case["samples"]) == len(case["rows"]) == 2
        assert min(case["samples"]) <= case["median"] <= max(case["samples"])
        assert case["dice"] == pytest.approx(case["rows"][0]["dice"])
        assert [row["direction"] for row in case["rows"]] == ["forth", "back"]
        for number, way in enumerate(("forth", "back")):
            assert case["by_direction"][way]["dice"] == case["rows"][number]["dice"]
    accuracy = rows(accuracy_table({"cases": cases}))
    assert accuracy[0][2:6] == ["before", "moments only", "1 pass", "refined"]
    assert accuracy[2][5] == f"{cases[2]['dice']:.3f}"
    assert accuracy[2][6] == f"{cases[2]['hd95_mm']:.2f}"
    old = rows(accuracy_table({"cases": cases[:2]}))
    assert old[2][5] == f"{cases[1]['hd95_mm']:.2f}"
    print_table(cases, console)
    assert "phantoms" in out.getvalue()
    assert f"{cases[0]['dice']:.3f}" in out.getvalue()


def test_command_writes_a_record(
    tiny_package: Path,
    pair: Pair,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(DATASETS, "brain", lambda root: iter([pair, pair, pair]))
    words = ["--package", str(tiny_package), "--datasets", "brain", "--passes", "0", "1"]
    assert main(["accuracy", *words, "--pairs", "2", "--results", str(tmp_path / "results")]) == 0
    (path,) = (tmp_path / "results").rglob("*.json")
    found = json.loads(path.read_text())
    assert [case["pairs"] for case in found["cases"]] == [2, 2, 2]
    assert found["package"]["name"] == "tiny"
    assert found["peak_mib"] > 0
    assert "brain" in capsys.readouterr().out


@pytest.mark.data
def test_hippocampus_with_the_shipped_package(research_data: Path) -> None:
    first = next(DATASETS["hippocampus"](research_data))
    with Engine("shapes") as engine, Engine("shapes", passes=0) as still:
        row, without = measure_pair(engine, first), measure_pair(still, first)
    assert row["dice"] > 0.95
    assert row["dice"] > without["dice"] > row["dice_before"]
    assert row["folding_inside_percent"] == 0


def test_deviation_of_the_whole_image_leaves_out_its_rim() -> None:
    """By hand: two voxels at each face do not count, an axis that is all rim does."""
    jacobian = np.full((3, 8, 9), 7.0, np.float32)
    jacobian[:, 2:-2, 2:-2] = np.where(np.arange(4)[:, None] < 2, 1.0, np.e)
    assert log_deviation(jacobian) == pytest.approx(0.5, rel=1e-6)
    jacobian[1, 3, 3] = -1.0
    assert log_deviation(jacobian) > 0.5
