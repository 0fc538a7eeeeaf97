"""A graph that computes something else than the network is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from segreg.engine.backends import availability
from segreg.engine.package import Package
from segreg.export import parity
from segreg.export.parity import WORST, ParityError, measure_parity


def tampered(exported: Package, folder: Path, change: Any) -> Path:
    """The graph with its last convolution's bias changed."""
    graph = onnx.load(exported.network)
    bias = next(t for t in graph.graph.initializer if list(t.dims) == [3])
    array = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array(change(array).astype(np.float32), bias.name))
    onnx.save(graph, folder / "tampered.onnx")
    return folder / "tampered.onnx"


def test_report_has_a_case_per_backend_and_input(exported: Package, material: Any) -> None:
    report = measure_parity(material.network, exported.network, 16, material.channels)
    usable = {entry.name: entry.version for entry in availability() if entry.usable}
    cases = {(case["backend"], case["input"]): case for case in report["cases"]}
    assert set(cases) == {(name, kind) for name in usable for kind in ("random", "structured")}
    for (name, _), case in cases.items():
        assert case["version"] == usable[name]
        assert case["allowed"] == WORST[case["precision"]]
        assert 0 <= case["percentile_99_9"] <= case["worst"] <= case["allowed"]
        assert case["largest_vector"] > 1  # an error of a tenth is measured against voxels


def test_other_weights_raise(exported: Package, material: Any, tmp_path: Path) -> None:
    graph = tampered(exported, tmp_path, lambda bias: bias + 0.5)
    with pytest.raises(ParityError, match="differs from the trained one") as caught:
        measure_parity(material.network, graph, 16, material.channels)
    for entry in availability():  # every fault is listed, not only the first
        if entry.usable:
            assert str(caught.value).count(f"{entry.name} (") == 2


def test_small_change_is_found_in_full_precision(
    exported: Package, material: Any, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    graph = tampered(exported, tmp_path, lambda bias: bias + 0.01)
    with pytest.raises(ParityError, match=r"onnxruntime \(float32\) on random input: 0\.01"):
        measure_parity(material.network, graph, 16, material.channels)


def test_no_backend_proves_nothing(
    exported: Package, material: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "availability", list)
    with pytest.raises(ParityError, match="no inference backend is installed"):
        measure_parity(material.network, exported.network, 16, material.channels)


def test_network_is_left_as_it_was(exported: Package, material: Any) -> None:
    before = {name: value.clone() for name, value in material.network.state_dict().items()}
    measure_parity(material.network, exported.network, 16, material.channels)
    for name, value in material.network.state_dict().items():
        assert torch.equal(value, before[name])
