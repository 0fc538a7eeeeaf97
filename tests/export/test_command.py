"""``export_model.py`` and ``segreg export`` as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from segreg.cli.commands import app
from segreg.engine.package import load_package
from tests.export.networks import NormUNet

ROOT = Path(__file__).resolve().parents[2]
SCRIPT, COMMAND = ["export_model.py"], ["-m", "segreg", "export"]


@pytest.fixture
def pair(sides: Any, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{volume.name}.nii.gz".replace(" ", "_") for volume in sides]
    for volume, path in zip(sides, paths, strict=True):
        volume.write(path)
    return paths


def words(material: Any, folder: Path, **replaced: object) -> list[str]:
    (folder / "spec.json").write_text(json.dumps(material.spec))
    options: dict[str, object] = {
        "network": "tests.export.conftest:SmallNetwork",
        "weights": material.weights,
        "spec": folder / "spec.json",
        "output": folder / "small",
        **replaced,
    }
    return [str(word) for name, value in options.items() for word in (f"--{name}", value)]


def run(
    material: Any, folder: Path, *more: object, way: Any = SCRIPT, **replaced: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *way, *words(material, folder, **replaced), *map(str, more)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_writes_a_package(material: Any, tmp_path: Path, pair: list[Path]) -> None:
    texts = ("--card", material.card, "--licence", material.licence)
    ran = run(material, tmp_path, *texts, "--pair", *pair)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("small 0.1.0 written, parity in ")
    package = load_package(tmp_path / "small")
    assert package.settings["parity"] == "passed"
    assert (package.folder / "LICENSE").read_text() == material.licence.read_text()
    table = (package.folder / "docs/parity.md").read_text()
    assert "Whole registration, moving.nii.gz to fixed.nii.gz" in table


@pytest.mark.parametrize(
    ("replaced", "sentence"),
    [
        ({"weights": "nowhere.pt"}, "segreg: weights: no file nowhere.pt"),
        ({"spec": ROOT / "LICENSE"}, "segreg: spec: expected JSON in LICENSE"),
        ({"network": "nowhere:Network"}, "segreg: network: expected module:Class"),
        ({"config": ROOT / "LICENSE"}, "segreg: config: LICENSE cannot be read"),
    ],
)
def test_refuses_in_one_sentence(
    material: Any, tmp_path: Path, replaced: dict[str, object], sentence: str
) -> None:
    options = words(material, tmp_path, **replaced)
    ran = CliRunner().invoke(app, ["export", *options])
    assert ran.exit_code == 4
    assert ran.stderr.startswith(sentence)
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "small").exists()


def test_network_of_the_folder_the_user_is_in(material: Any, tmp_path: Path, pair: Any) -> None:
    """Class, arguments, weights of a checkpoint: all from the command line."""
    network = NormUNet(features=2)
    torch.save({"net": network.state_dict(), "step": 3}, tmp_path / "checkpoint.pth")
    (tmp_path / "config.json").write_text(json.dumps({"features": 2}))
    spec = json.loads(json.dumps(material.spec))
    spec["network"]["output"] = {"kind": "velocity", "unit": "canvas_voxel", "order": "xyz"}
    (tmp_path / "own.json").write_text(json.dumps(spec))
    ran = run(
        material,
        tmp_path,
        *("--weights-key", "net", "--quiet", "--pair", *pair),
        way=COMMAND,
        network="tests.export.networks:NormUNet",
        weights=tmp_path / "checkpoint.pth",
        config=tmp_path / "config.json",
        spec=tmp_path / "own.json",
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert load_package(tmp_path / "small").settings["output"]["order"] == "zyx"
