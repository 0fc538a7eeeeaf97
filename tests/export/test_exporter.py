"""A trained network becomes a package that the engine runs, or nothing at all."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from segreg.engine.backends import open_backend
from segreg.engine.errors import PackageError
from segreg.engine.package import Package, load_package
from segreg.engine.phantom import make_phantom
from segreg.engine.runtime import Engine
from segreg.engine.version import __version__
from segreg.export import export, load_network
from segreg.export import exporter as exporter_module
from segreg.export.parity import ParityError

FILES = {
    "LICENSE",
    "SHA256SUMS",
    "configs/metadata.json",
    "docs/README.md",
    "docs/parity.json",
    "models/registration.onnx",
}
NETWORK = "tests.export.conftest:SmallNetwork"


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


class TestPackage:
    def test_is_whole(self, exported: Package, material: Any) -> None:
        assert files(exported.folder) == FILES
        assert exported.metadata == material.spec
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


class TestGraph:
    @pytest.fixture(scope="class")
    @classmethod
    def graph(cls, exported: Package) -> onnx.ModelProto:
        return onnx.load(exported.network)

    def test_names_and_free_axes(self, graph: onnx.ModelProto) -> None:
        (regions,), (vectors,) = graph.graph.input, graph.graph.output
        assert (regions.name, vectors.name) == ("regions", "vectors")
        axes = regions.type.tensor_type.shape.dim
        assert axes[1].dim_value == 4
        assert all(axes[i].dim_param for i in (0, 2, 3, 4))  # batch and canvas are free
        assert vectors.type.tensor_type.shape.dim[1].dim_value == 3

    def test_says_what_it_is(self, graph: onnx.ModelProto) -> None:
        properties = {entry.key: entry.value for entry in graph.metadata_props}
        assert properties == {"name": "small", "version": "0.1.0", "segreg": __version__}

    def test_holds_no_path_of_this_machine(self, exported: Package) -> None:
        content = exported.network.read_bytes()
        for trace in (os.getcwd(), str(Path.home()), "site-packages", ".py"):  # noqa: PTH109
            assert trace.encode() not in content

    @pytest.mark.parametrize("canvas", [16, 32])
    @pytest.mark.parametrize("count", [1, 3])
    def test_takes_other_batches_and_canvases(
        self, exported: Package, material: Any, count: int, canvas: int
    ) -> None:
        shape = (count, 4, canvas, canvas, canvas)
        regions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        with torch.inference_mode():
            expected = material.network(torch.from_numpy(regions)).numpy()
        backend = open_backend("onnxruntime", exported.network, channels=4)
        np.testing.assert_allclose(backend.infer(regions), expected, atol=1e-4)
        backend.close()


class TestAgain:
    @pytest.fixture
    def folder(self, exported: Package, tmp_path: Path) -> Path:
        return Path(shutil.copytree(exported.folder, tmp_path / "small"))

    def test_replaces_the_package_and_leaves_the_recipe(
        self,
        folder: Path,
        material: Any,
        exported: Package,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Card and licence may be the very files that are replaced."""
        graph = exported.network.read_bytes()  # it takes seconds to trace, and would be the same
        monkeypatch.setattr(
            exporter_module, "write_graph", lambda *arguments: arguments[3].write_bytes(graph)
        )
        (folder / "train.py").write_text("recipe")
        spec = copy.deepcopy(material.spec)
        spec["version"] = "0.2.0"
        texts = {"card": folder / "docs/README.md", "licence": folder / "LICENSE"}
        package = export(material.network, spec, folder, **texts)
        assert package.version == "0.2.0"
        assert files(folder) == FILES | {"train.py"}
        assert (folder / "docs/README.md").read_text() == material.card.read_text()

    def test_stray_files_are_refused_before_the_work(
        self, folder: Path, material: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "docs/notes.md").write_text("mine")
        monkeypatch.setattr(exporter_module, "write_graph", None)
        with pytest.raises(PackageError, match=r"docs/notes\.md lies where only files"):
            export(material.network, material.spec, folder, **material.texts)

    @pytest.mark.parametrize("fault", ["spec", "parity", "card"])
    def test_failure_leaves_the_old_package(
        self, folder: Path, material: Any, monkeypatch: pytest.MonkeyPatch, fault: str
    ) -> None:
        before = {name: (folder / name).read_bytes() for name in files(folder)}
        with pytest.raises((PackageError, ParityError, OSError)):
            fail_to_export(fault, folder, material, monkeypatch)
        assert {name: (folder / name).read_bytes() for name in files(folder)} == before
        assert [path.name for path in folder.parent.iterdir()] == ["small"]


def fail_to_export(
    fault: str, folder: Path, material: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that fails early, late or in between, without the time a graph takes."""

    def stand_in(network: Any, canvas: int, channels: int, path: Path, properties: Any) -> None:
        path.write_bytes(b"graph")

    def measure(*_: Any) -> dict[str, Any]:
        if fault == "parity":
            raise ParityError("differs")
        return {"cases": []}

    monkeypatch.setattr(exporter_module, "write_graph", stand_in)
    monkeypatch.setattr(exporter_module, "measure_parity", measure)
    spec, texts = copy.deepcopy(material.spec), dict(material.texts)
    if fault == "spec":
        spec["segreg"]["canvas"] = [15]
    if fault == "card":
        texts["card"] = folder.parent / "nowhere.md"
    export(material.network, spec, folder, **texts)


@pytest.mark.parametrize("fault", ["spec", "parity", "card"])
def test_failure_leaves_nothing(
    tmp_path: Path, material: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    with pytest.raises((PackageError, ParityError, OSError)):
        fail_to_export(fault, tmp_path / "small", material, monkeypatch)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Not A Name"}, "name: 'Not A Name' does not match"),
        ({"surprise": 1}, "'surprise' was unexpected"),
        ({"segreg": {}}, "'schema' is a required property"),
        ({"segreg": None}, "None is not of type 'object'"),
    ],
)
def test_spec_is_checked_before_the_work(
    tmp_path: Path,
    material: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(exporter_module, "write_graph", None)
    with pytest.raises(PackageError, match=message):
        export(material.network, {**material.spec, **change}, tmp_path / "p", **material.texts)
    assert list(tmp_path.iterdir()) == []


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


class TestLoadNetwork:
    def test_state_dict(self, material: Any) -> None:
        network = load_network(NETWORK, material.weights)
        assert not network.training
        for name, value in network.state_dict().items():
            assert torch.equal(value, material.network.state_dict()[name])

    @pytest.mark.parametrize("save", [torch.save, None])
    def test_pickle_with_code_is_not_run(self, tmp_path: Path, save: Any) -> None:
        weights, marker = tmp_path / "evil.pt", tmp_path / "ran"
        if save is None:
            weights.write_bytes(pickle.dumps(Malicious(marker), protocol=2))
        else:
            save({"velocity": Malicious(marker)}, weights)
        with pytest.raises(PackageError, match=r"evil\.pt: expected a plain state dict"):
            load_network(NETWORK, weights)
        assert not marker.exists()

    @pytest.mark.parametrize(
        "state", [{}, {"unknown": torch.zeros(1)}, [1, 2], {"velocity.bias": torch.zeros(7)}]
    )
    def test_state_of_another_network(self, tmp_path: Path, state: Any) -> None:
        torch.save(state, tmp_path / "other.pt")
        with pytest.raises(PackageError, match=r"other\.pt: not the state dict of"):
            load_network(NETWORK, tmp_path / "other.pt")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x02r", bytes(99)])
    def test_damaged_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "cut.pt").write_bytes(content)
        with pytest.raises(PackageError, match=r"cut\.pt"):
            load_network(NETWORK, tmp_path / "cut.pt")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(PackageError, match=r"nowhere\.pt"):
            load_network(NETWORK, tmp_path / "nowhere.pt")

    @pytest.mark.parametrize(
        "reference", ["nowhere:Network", "json:Nothing", "json", "", "json:loads", ":Network"]
    )
    def test_no_such_network(self, material: Any, reference: str) -> None:
        with pytest.raises(PackageError, match="network: expected module:Class"):
            load_network(reference, material.weights)


def test_parity_report_is_in_the_package(exported: Package) -> None:
    report = json.loads((exported.folder / "docs/parity.json").read_text())
    assert {case["input"] for case in report["cases"]} == {"random", "structured"}
    assert report["trained_with"] == {"torch": str(torch.__version__)}
