"""Segmentation networks, PyTorch's and those that are ONNX already, into packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from segreg.cli.commands import app
from segreg.engine.backends.base import Backend
from segreg.engine.errors import BackendError, InputError, PackageError
from segreg.engine.machine import processor_flags
from segreg.engine.package import load_package, write_checksums
from segreg.engine.precision import can_run
from segreg.engine.runtime import Engine
from segreg.engine.segmentation import Segmenter
from segreg.engine.volume import Volume
from segreg.export import add_segmentation, segmentation_variants
from segreg.export.parity import ParityError
from tests.conftest import SEGMENTATION, threshold_network, tiny_network, write_tiny_package


class Thresholds(torch.nn.Module):
    """Scores of three classes from the intensity; as a dictionary where asked for."""

    def __init__(self, named: bool = False) -> None:
        super().__init__()
        self.named = named
        self.scores = torch.nn.Conv3d(1, 3, 1)
        with torch.no_grad():
            self.scores.weight.copy_(torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1, 1))
            self.scores.bias.copy_(torch.tensor([0.0, -0.5, -2.0]))

    def forward(self, images: torch.Tensor) -> Any:
        scores = self.scores(torch.nn.functional.avg_pool3d(images, (1, 3, 3), 1, (0, 1, 1)))
        return {"logits": scores} if self.named else scores


def spec(**network: Any) -> dict[str, Any]:
    block = {**SEGMENTATION, "intensity": {"rule": "zscore"}, "stride": [1, 8, 8]}
    return {
        "name": "blobs", "version": "1.0.0", "authors": "a", "description": "d", "license": "MIT",
        "segreg": {"schema": 1, "segmentation": block}, "network": network,
    }


def image() -> Volume:
    values = np.zeros((6, 20, 26), np.float32)
    values[1:4, 4:12, 5:14], values[2:5, 13:18, 15:24] = 100, 300
    return Volume.from_array(values, spacing=(4.0, 1.5, 1.5))


def test_alone(tmp_path: Path) -> None:
    network = Thresholds(named=True)
    package = add_segmentation(network, spec(take="logits"), tmp_path / "blobs", image=image())
    assert package.segments
    report = json.loads((package.folder / "docs/segmentation_parity.json").read_text())
    assert report["verdict"] == package.settings["segmentation"]["parity"] == "passed"
    assert {case["input"] for case in report["cases"]} == {"generated", "real"}
    assert {case["backend"] for case in report["cases"]} >= {"onnxruntime", "openvino"}
    assert len({tuple(case["shape"]) for case in report["cases"]}) == 3  # the axes are free
    segmenter = Segmenter(package)
    found = segmenter.segment([image()])[0].array
    with torch.no_grad():
        scores = network(torch.from_numpy(segmenter.prepare(image()))[None, None])["logits"]
    classes = np.array([0, 4, 9])[scores[0].argmax(0).numpy()]
    np.testing.assert_array_equal(found, classes)


def test_beside_a_registration_network(tmp_path: Path) -> None:
    folder = write_tiny_package(tmp_path / "tiny", tiny_network())
    before = load_package(folder)
    package = add_segmentation(Thresholds(), spec(), folder)
    assert (package.name, package.licence) == (before.name, before.licence)
    assert {**package.settings, "segmentation": None} == {**before.settings, "segmentation": None}
    assert (folder / "LICENSE").read_text() == "test"
    with Engine(folder) as engine:
        assert engine.register(image(), image()).quality.dice == 1


def test_onnx_of_others_with_a_fixed_patch(tmp_path: Path) -> None:
    model = threshold_network(0.5, 1.5)
    for tensor in (model.graph.input[0], model.graph.output[0]):
        for axis, size in zip((2, 3, 4), (4, 16, 16), strict=True):
            tensor.type.tensor_type.shape.dim[axis].dim_value = size
    onnx.save(model, tmp_path / "foreign.onnx")
    (tmp_path / "spec.json").write_text(json.dumps(spec()).replace(
        '"patch": [null, null, null]', '"patch": [4, 16, 16]'
    ))
    words = ["export", "--onnx", "foreign.onnx", "--spec", "spec.json", "-o", "foreign"]
    words = [str(tmp_path / w) if w.split(".")[0] in ("foreign", "spec") else w for w in words]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.stderr
    found = Segmenter(load_package(tmp_path / "foreign")).segment([image()])[0].array
    assert set(np.unique(found)) == {0, 4, 9}


class TestReduced:
    """bfloat16, which needs no file: kept where the backend gains by it."""

    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if not can_run("bfloat16", "openvino", processor_flags()):
            pytest.skip("the processor does not compute in bfloat16")

    def export(self, path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, **known: Any) -> Any:
        monkeypatch.setattr(segmentation_variants, "measure_speed_up", lambda *shown: gain)
        package = add_segmentation(Thresholds(), spec(**known), path / "blobs", image=image())
        report = json.loads((package.folder / "docs/segmentation_parity.json").read_text())
        return package.settings["segmentation"].get("variants"), report["dropped"]

    def test_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        variants, dropped = self.export(tmp_path, monkeypatch, 3.0)
        assert dropped == {}
        found = variants["bfloat16"]
        assert found["speed"]["openvino"]["speed_up"] == 3
        assert 0 < found["worst_probability"] < 0.1
        assert Segmenter(load_package(tmp_path / "blobs")).backend.precision == "bfloat16"

    def test_dropped_where_slow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        variants, dropped = self.export(tmp_path, monkeypatch, 1.01)
        assert variants is None
        assert dropped == {"bfloat16 in openvino": ["1.01 times as fast as float32"]}

    def test_dropped_where_wrong(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        variants, dropped = self.export(tmp_path, monkeypatch, 3.0, tolerance={"reduced": 1e-7})
        assert variants is None
        assert "(allowed 1e-07)" in dropped["bfloat16 in openvino"][0]

    def test_failing_there_is_a_reason(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = Backend.infer

        def fail(self: Backend, images: Any) -> Any:
            if self.precision == "bfloat16":
                raise BackendError("no memory left\nand more")
            return plain(self, images)

        monkeypatch.setattr(Backend, "infer", fail)
        variants, dropped = self.export(tmp_path, monkeypatch, 3.0)
        assert variants is None
        assert dropped == {"bfloat16 in openvino": ["no memory left"]}


class Different(Thresholds):
    """Another network once it is exported."""

    def forward(self, images: torch.Tensor) -> Any:
        return super().forward(-images if torch.compiler.is_exporting() else images)


def test_network_that_changes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="of labels changed"):
        add_segmentation(Different(), spec(), tmp_path / "blobs")
    assert not (tmp_path / "blobs").exists()
    package = add_segmentation(Different(), spec(), tmp_path / "blobs", allow_failed_parity=True)
    assert package.settings["segmentation"]["parity"] == "failed"
    # Whoever uses it is told.
    assert any("differs from the trained one" in note for note in package.notes)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"take": 3}, "expected output 3"),
        ({"colour": 1}, "network: .*'colour'"),
        ({"tolerance": {"labels": "x"}}, "network/tolerance/labels"),
    ],
)
def test_specs_that_do_not_fit(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(PackageError, match=words):
        add_segmentation(Thresholds(), spec(**changed), tmp_path / "blobs")


def test_wrong_number_of_classes(tmp_path: Path) -> None:
    wrong = spec()
    wrong["segreg"]["segmentation"]["classes"] = [{"name": "one", "label": 1}]
    with pytest.raises(PackageError, match=r"\(B, 2, D, H, W\).* got \(1, 3,"):
        add_segmentation(Thresholds(), wrong, tmp_path / "blobs")


class Failing(Thresholds):
    def forward(self, images: torch.Tensor) -> Any:
        raise ZeroDivisionError("a fault of its own")


class Nan(Thresholds):
    def forward(self, images: torch.Tensor) -> Any:
        return super().forward(images) / (images * 0)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Failing(), r"failed on images \(1, 1,.*ZeroDivisionError: a fault of its own"),
        (Nan(), "gives NaN or infinite scores"),
    ],
)
def test_network_that_fails(tmp_path: Path, network: Any, words: str) -> None:
    with pytest.raises(PackageError, match=words):
        add_segmentation(network, spec(), tmp_path / "blobs")
    assert not any(tmp_path.iterdir())


def test_backend_that_fails_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    def fail(self: Backend, images: Any) -> Any:
        raise BackendError("no memory left\nand more")

    def note(self: Backend) -> None:
        closed.append(self.name)

    monkeypatch.setattr(Backend, "infer", fail)
    monkeypatch.setattr(Backend, "close", note)
    with pytest.raises(ParityError, match="openvino: no memory left") as refused:
        add_segmentation(Thresholds(), spec(), tmp_path / "blobs")
    assert "onnxruntime: no memory left" in str(refused.value)
    assert {"onnxruntime", "openvino"} <= set(closed)


@pytest.mark.parametrize("what", ["card", "licence", "image"])
def test_files_that_are_not_there(tmp_path: Path, what: str) -> None:
    asked: list[Any] = []
    network = Thresholds()
    network.register_forward_hook(lambda *said: asked.append(said))
    files: dict[str, Any] = {what: tmp_path / "absent.nii.gz"}
    with pytest.raises(InputError, match="absent"):
        add_segmentation(network, spec(), tmp_path / "blobs", **files)
    assert not asked  # before any work
    assert not any(tmp_path.iterdir())


def test_exporting_registration_anew_forgets_the_segmentation(tmp_path: Path) -> None:
    folder = write_tiny_package(tmp_path / "tiny", tiny_network())
    add_segmentation(Thresholds(), spec(), folder)
    metadata = json.loads((folder / "configs/metadata.json").read_text())
    del metadata["segreg"]["segmentation"]
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    write_checksums(folder)
    with pytest.raises(PackageError, match="says nothing of"):
        load_package(folder)
