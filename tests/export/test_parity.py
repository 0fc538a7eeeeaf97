"""A graph that computes something else than the network is found out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from segreg.engine.backends import availability
from segreg.engine.package import Package, load_package, write_checksums
from segreg.engine.phantom import make_phantom
from segreg.export import parity as parity_module
from segreg.export.adapter import Adapter
from segreg.export.parity import Parity, ParityError, measure_parity
from segreg.export.spec import parse_spec
from segreg.export.torch_backend import TorchBackend

KINDS = {"random", "structured", "structured, wider", "real"}


def adapter(material: Any) -> Adapter:
    return Adapter(material.network, parse_spec(material.spec))


def tampered(exported: Package, folder: Path, change: Any) -> Package:
    """The package with its last convolution's bias changed, checksums and all."""
    copied = Path(shutil.copytree(exported.folder, folder / "tampered"))
    graph = onnx.load(copied / "models/registration.onnx")
    bias = next(t for t in graph.graph.initializer if list(t.dims) == [3])
    array = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array(change(array).astype(np.float32), bias.name))
    onnx.save(graph, copied / "models/registration.onnx")
    write_checksums(copied)
    return load_package(copied)


@pytest.fixture(scope="module")
def measured(exported: Package, material: Any, sides: Any) -> Parity:
    return measure_parity(adapter(material), exported, pair=sides)


def test_has_a_case_per_backend_and_input(measured: Parity) -> None:
    usable = {entry.name: entry.version for entry in availability() if entry.usable}
    assert {(c["backend"], c["input"]) for c in measured.cases} == {
        (name, kind) for name in usable for kind in KINDS
    }
    for case in measured.cases:
        assert case["version"] == usable[case["backend"]]
        assert case["allowed"] == (1e-3 if case["precision"] == "float32" else 0.1)
        assert 0 <= case["percentile_99_9"] <= case["worst"] <= case["allowed"]
        assert case["largest_displacement"] > 1  # a tenth of a voxel is measured against voxels
    assert measured.faults == []


def test_registers_the_pair_on_every_backend(measured: Parity) -> None:
    usable = [entry.name for entry in availability() if entry.usable]
    assert [entry["backend"] for entry in measured.pair["backends"]] == usable
    torch_dice = measured.pair["torch"]["dice"]
    assert torch_dice != measured.pair["torch"]["dice_before"]
    for entry in measured.pair["backends"]:
        assert abs(entry["dice_change"]) <= entry["allowed_dice_change"] == 0.002
        assert entry["dice"] == pytest.approx(torch_dice + entry["dice_change"], abs=2e-5)


def test_real_pair(exported: Package, material: Any, tmp_path: Path) -> None:
    phantom = make_phantom((20, 24, 22), (5.0, 4.0, 4.0), seed=3)
    paths = []
    for side in ("moving", "fixed", "moving_labels", "fixed_labels"):
        paths.append(tmp_path / f"{side}.nii.gz")
        getattr(phantom, side).write(paths[-1])
    found = measure_parity(adapter(material), exported, pair=paths)
    assert found.pair["source"] == "moving.nii.gz to fixed.nii.gz"
    assert found.faults == []


def test_other_weights_fail_everywhere(
    exported: Package, material: Any, sides: Any, tmp_path: Path
) -> None:
    package = tampered(exported, tmp_path, lambda bias: bias + 8)
    found = measure_parity(adapter(material), package, pair=sides)
    for entry in availability():  # every fault is listed, not only the first
        if entry.usable:
            faults = [fault for fault in found.faults if fault.startswith(entry.name)]
            assert all(any(f" on {kind}" in fault for fault in faults) for kind in KINDS)
            # The whole registration is judged, too, not the network alone.
            assert any(" on the pair: Dice " in fault and "of torch" in fault for fault in faults)
    message = str(ParityError(found.faults))
    assert message.startswith("the exported network differs from the trained one: ")
    assert all(fault in message for fault in found.faults)


def test_small_change_is_found_in_full_precision(
    exported: Package, material: Any, sides: Any, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    package = tampered(exported, tmp_path, lambda bias: bias + 0.01)
    found = measure_parity(adapter(material), package, pair=sides)
    assert any(
        fault.startswith("onnxruntime (float32) on random regions of 16x16x16: 0.0")
        for fault in found.faults
    )


def test_own_tolerance(exported: Package, material: Any, sides: Any) -> None:
    strict = {**material.spec["network"], "tolerance": {"float32": 1e-12, "dice": 1e-12}}
    spec = parse_spec({**material.spec, "network": strict})
    found = measure_parity(Adapter(material.network, spec), exported, pair=sides)
    assert any(fault.startswith("onnxruntime (float32)") for fault in found.faults)


def test_no_backend_proves_nothing(
    exported: Package, material: Any, sides: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity_module, "availability", list)
    found = measure_parity(adapter(material), exported, pair=sides)
    assert found.faults == ["no inference backend is installed; pip install 'segreg[cpu]'"]


def test_network_is_left_as_it_was(exported: Package, material: Any, sides: Any) -> None:
    before = {name: value.clone() for name, value in material.network.state_dict().items()}
    measure_parity(adapter(material), exported, pair=sides)
    for name, value in material.network.state_dict().items():
        assert torch.equal(value, before[name])


def test_torch_backend_remembers_a_few(material: Any) -> None:
    backend = TorchBackend(adapter(material))
    for cells in (16, 16, 16, 32):
        regions = np.zeros((1, 4, cells, cells, cells), np.float32)
        assert backend.infer(regions).shape == (1, 3, cells // 2, cells // 2, cells // 2)
    assert [regions.shape[-1] for regions, _ in backend.seen] == [16, 16, 32]
    assert backend.library_version() == str(torch.__version__)
    backend.close()
    assert backend.seen == []
