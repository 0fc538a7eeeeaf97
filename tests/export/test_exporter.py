"""A trained network becomes a package that the engine runs, or nothing at all."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segreg.engine.errors import InputError, PackageError
from segreg.engine.package import Package, load_package
from segreg.engine.phantom import make_phantom
from segreg.engine.runtime import Engine
from segreg.export import export
from segreg.export import exporter as exporter_module
from segreg.export.graph import Graph
from segreg.export.parity import Parity, ParityError
from tests.export.conftest import IMAGES, MakeSpec
from tests.export.networks import NormUNet, WarpingFollower

FILES = {
    "LICENSE",
    "SHA256SUMS",
    "configs/metadata.json",
    "docs/README.md",
    "docs/parity.json",
    "docs/parity.md",
    "models/registration.onnx",
}


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


class TestPackage:
    def test_is_whole(self, exported: Package, material: Any) -> None:
        assert files(exported.folder) == FILES
        stated = {k: v for k, v in material.spec.items() if k not in ("segreg", "network")}
        assert {k: v for k, v in exported.metadata.items() if k != "segreg"} == stated
        assert exported.settings == {
            **material.spec["segreg"],
            "channels": material.spec["network"]["inputs"][0],
            "output": material.spec["network"]["output"],
            "free_axes": ["batch", "space"],
            "parity": "passed",
        }
        assert (exported.folder / "docs/README.md").read_text() == material.card.read_text()
        assert (exported.folder / "LICENSE").read_text() == material.licence.read_text()
        assert load_package(exported.folder).digest == exported.digest

    def test_checksums_are_those_of_the_files(self, exported: Package) -> None:
        lines = (exported.folder / "SHA256SUMS").read_text().splitlines()
        listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
        assert set(listed) == FILES - {"SHA256SUMS"}
        for name, digest in listed.items():
            content = (exported.folder / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == digest

    def test_registers(self, exported: Package) -> None:
        phantom = make_phantom((20, 24, 22), (5.0, 4.0, 4.0))
        pair = (phantom.moving, phantom.fixed, phantom.moving_labels, phantom.fixed_labels)
        with Engine(exported.folder) as engine, Engine(exported.folder, passes=0) as still:
            result, without = engine.register(*pair), still.register(*pair)
        assert result.provenance.package == "small"
        moved = result.displacement.displacement - without.displacement.displacement
        assert np.abs(moved).max() > 0.1  # the network was asked, and heard

    def test_nothing_is_left_beside_it(self, exported: Package) -> None:
        assert [path.name for path in exported.folder.parent.iterdir()] == ["small"]


class TestAgain:
    @pytest.fixture
    def folder(self, exported: Package, tmp_path: Path) -> Path:
        return Path(shutil.copytree(exported.folder, tmp_path / "small"))

    def test_replaces_the_package_and_leaves_the_recipe(
        self, folder: Path, material: Any, stand_ins: Any
    ) -> None:
        """Card and licence may be the very files that are replaced."""
        stand_ins()
        for name in ("train.py", "SIGNATURE", "models/registration.onnx.data"):
            (folder / name).write_text("old")
        spec = copy.deepcopy(material.spec)
        spec["version"] = "0.2.0"
        texts = {"card": folder / "docs/README.md", "licence": folder / "LICENSE"}
        package = export(material.network, spec, folder, **texts)
        assert package.version == "0.2.0"
        assert files(folder) == FILES | {"train.py"}  # what signed the old package is gone
        assert (folder / "docs/README.md").read_text() == material.card.read_text()

    def test_without_texts(self, folder: Path, material: Any, stand_ins: Any) -> None:
        """A card is written from the spec, a licence text that is there stays."""
        stand_ins()
        export(material.network, material.spec, folder)
        assert "moving_masked_image" in (folder / "docs/README.md").read_text()
        assert (folder / "LICENSE").read_text() == material.licence.read_text()
        fresh = folder.parent / "fresh"
        export(material.network, material.spec, fresh)
        assert files(fresh) == FILES - {"LICENSE"}

    def test_stray_files_are_refused_before_the_work(
        self, folder: Path, material: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "docs/notes.md").write_text("mine")
        monkeypatch.setattr(exporter_module, "measure_conventions", None)
        with pytest.raises(PackageError, match=r"docs/notes\.md lies where only files"):
            export(material.network, material.spec, folder, **material.texts)

    def test_missing_files_are_refused_before_the_work(
        self, folder: Path, material: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exporter_module, "measure_conventions", None)
        for given in ({"card": folder / "no.md"}, {"pair": [folder / "no.nii"] * 4}):
            with pytest.raises(InputError, match=r"(card|pair 1): no file .*no\."):
                export(material.network, material.spec, folder, **given)

    @pytest.mark.parametrize("fault", ["spec", "parity", "card"])
    def test_failure_leaves_the_old_package(
        self, folder: Path, material: Any, stand_ins: Any, fault: str
    ) -> None:
        before = {name: (folder / name).read_bytes() for name in files(folder)}
        with pytest.raises((PackageError, OSError)):
            fail_to_export(fault, folder, material, stand_ins)
        assert {name: (folder / name).read_bytes() for name in files(folder)} == before
        assert [path.name for path in folder.parent.iterdir()] == ["small"]


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch, exported: Package) -> Any:
    """Replaces tracing and proving, which take seconds; the proof finds the ``faults`` given."""

    def replace(*faults: str) -> None:
        def write(*arguments: Any, **_: Any) -> Graph:
            shutil.copy(exported.network, arguments[3])
            return Graph(("batch", "space"), {"Conv": 3})

        def measure(*_: Any, **__: Any) -> Parity:
            return Parity(faults=list(faults))

        monkeypatch.setattr(exporter_module, "write_graph", write)
        monkeypatch.setattr(exporter_module, "measure_parity", measure)

    return replace


def fail_to_export(fault: str, folder: Path, material: Any, stand_ins: Any) -> None:
    """An export that fails early, late or in between."""
    spec, texts = copy.deepcopy(material.spec), dict(material.texts)
    stand_ins(*(["differs"] if fault == "parity" else []))
    if fault == "spec":
        spec["segreg"]["canvas"] = [15]
    if fault == "card":
        texts["card"] = folder.parent  # no file, which shows when it is read
    export(material.network, spec, folder, **texts)


@pytest.mark.parametrize("fault", ["spec", "parity", "card"])
def test_failure_leaves_nothing(
    tmp_path: Path, material: Any, stand_ins: Any, fault: str
) -> None:
    with pytest.raises((PackageError, OSError)):
        fail_to_export(fault, tmp_path / "small", material, stand_ins)
    assert list(tmp_path.iterdir()) == []


def test_parity_is_in_the_package(exported: Package) -> None:
    report = json.loads((exported.folder / "docs/parity.json").read_text())
    assert report["verdict"] == "passed"
    assert report["conventions"]["conventions"].startswith("not measurable")
    assert report["graph"]["operators"]["Conv"] == 13
    assert report["made_with"]["torch"] == str(torch.__version__)
    table = (exported.folder / "docs/parity.md").read_text()
    for case in report["cases"]:
        line = next(
            line
            for line in table.splitlines()
            if line.startswith(f"| {case['backend']} | {case['precision']} |")
            and f" {case['input']} |" in line
        )
        assert f"| {case['worst']:.2g} |" in line or case["input"] == "real"
    assert "Whole registration, given to given" in table


class TestFailedParity:
    def test_all_faults_are_raised(self, tmp_path: Path, material: Any, stand_ins: Any) -> None:
        stand_ins("one thing", "another thing")
        with pytest.raises(ParityError, match="one thing; another thing") as caught:
            export(material.network, material.spec, tmp_path / "small")
        assert caught.value.faults == ("one thing", "another thing")

    def test_allowed_but_said_for_ever(
        self, tmp_path: Path, material: Any, stand_ins: Any, sides: Any
    ) -> None:
        stand_ins("one thing")
        folder = tmp_path / "small"
        package = export(material.network, material.spec, folder, allow_failed_parity=True)
        assert package.settings["parity"] == "failed"
        assert "- one thing" in (folder / "docs/parity.md").read_text()
        assert "differs from the trained one" in package.notes[0]
        with Engine(folder) as engine:
            assert engine.register(*sides).notes[0] == package.notes[0]
        metadata = json.loads((folder / "configs/metadata.json").read_text())
        metadata["segreg"]["parity"] = "passed"
        (folder / "configs/metadata.json").write_text(json.dumps(metadata))
        with pytest.raises(PackageError, match=r"checksum of configs/metadata\.json"):
            load_package(folder)

    def test_passed_says_nothing(self, exported: Package) -> None:
        assert exported.notes == ()


def test_large_weights_lie_beside_the_graph(tmp_path: Path, material: Any, sides: Any) -> None:
    package = export(
        material.network, material.spec, tmp_path / "small", pair=sides, external_from=1000
    )
    assert files(package.folder) == FILES - {"LICENSE"} | {"models/registration.onnx.data"}
    for backend in ("openvino", "onnxruntime"):
        pytest.importorskip(backend)
        with Engine(package.folder, backend=backend) as engine:
            assert engine.register(*sides).provenance.backend == backend
    with (package.folder / "models/registration.onnx.data").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(PackageError, match=r"checksum of models/registration\.onnx\.data"):
        load_package(package.folder)


PLAIN, MASKED = [["moving_image"], ["fixed_image"]], IMAGES


@pytest.mark.parametrize(
    ("placement", "inputs", "shape", "free"),
    [
        ("crop", MASKED, [32, 40, 48], True),
        ("grid", MASKED, [32, 32, 32], False),
        ("grid", PLAIN, [20, 24, 24], True),
    ],
    ids=["crop", "grid", "whole images"],
)
def test_networks_that_know_a_spacing(
    tmp_path: Path, make_spec: MakeSpec, sides: Any, placement: str, inputs: Any, shape: list[int],
    free: bool,
) -> None:  # fmt: skip
    spec = make_spec({"take": 1}, inputs=inputs, free_space=free)
    del spec["segreg"]["canvas"]
    spec["segreg"].update(placement=placement, shape=shape, spacing=[5, 4, 4], passes=2)
    network = WarpingFollower()
    package = export(network, spec, tmp_path / "small", pair=sides if free else None)
    assert ("space" in package.settings["free_axes"]) == free
    report = json.loads((package.folder / "docs/parity.json").read_text())
    assert report["verdict"] == "passed"
    assert report["conventions"]["conventions"] == "measured"
    kinds = {"random", "structured", "real"} | ({"structured, wider"} if free else set())
    assert {case["input"] for case in report["cases"]} == kinds
    shown = {tuple(case["shape"]) for case in report["cases"] if case["input"] == "real"}
    if not free:
        assert shown == {tuple(shape)}
    assert report["pair"]["backends"]
    with Engine(package.folder) as engine, Engine(package.folder, passes=0) as still:
        found, before = engine.register(*sides), still.register(*sides)
    assert found.notes == ()
    assert found.quality.dice > found.quality.dice_before
    assert not np.array_equal(found.displacement.displacement, before.displacement.displacement)


def test_generated_pair_fits_a_network_of_one_size(
    tmp_path: Path, make_spec: MakeSpec
) -> None:
    """It sees 32 mm, where the pair that proves other networks is four times as wide."""
    spec = make_spec({"take": 1}, inputs=MASKED, free_space=False)
    del spec["segreg"]["canvas"]
    spec["segreg"].update(placement="crop", shape=[32] * 3, spacing=[1] * 3)
    package = export(WarpingFollower(), spec, tmp_path / "small")
    assert package.settings["parity"] == "passed"


class OneSize(NormUNet):
    """Keeps a grid of the size it was first shown, as some released networks do."""

    weights = None

    def forward(self, regions: torch.Tensor) -> torch.Tensor:
        if self.weights is None:
            self.weights = torch.linspace(0, 1, regions.shape[-1])
        return super().forward(regions) * self.weights


@pytest.mark.parametrize("canvas", [[16], [16, 32]])
def test_network_of_one_size(
    tmp_path: Path, make_spec: MakeSpec, sides: Any, canvas: list[int]
) -> None:
    spec = make_spec()
    spec["segreg"]["canvas"] = canvas
    if len(canvas) > 1:
        with pytest.raises(PackageError, match=r"takes one size only.* lists \[16, 32\]"):
            export(OneSize(), spec, tmp_path / "small")
        return
    package = export(OneSize(), spec, tmp_path / "small", pair=sides)
    assert package.settings["free_axes"] == ["batch"]
    with Engine(package.folder) as engine:
        assert engine.register(*sides).provenance.package == "small"
