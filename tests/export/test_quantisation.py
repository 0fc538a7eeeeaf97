"""int8: calibrated on what the engine shows, and no more of it than stays near the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from segreg.engine.backends import open_backend
from segreg.engine.errors import BackendError
from segreg.engine.package import Package
from segreg.engine.probes import REGIONS, random_batch, structured_batch
from segreg.export import export, quantisation
from segreg.export.adapter import Adapter
from segreg.export.quantisation import calibration_regions, quantise
from segreg.export.spec import parse_spec

pytest.importorskip("nncf")

SHAPE = (16, 16, 16)


@pytest.fixture(scope="module")
def regions(exported: Package) -> list[Any]:
    batch = structured_batch(SHAPE, exported.settings["channels"])
    return [batch[k : k + 1] for k in range(len(batch))]


def products(path: Path) -> tuple[set[str], set[str]]:
    """Names of the convolutions, and of those whose weights are quantised."""
    graph = onnx.load(path).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return {node.name for node in convolutions}, {
        node.name for node in convolutions if made_by.get(node.input[1]) == "DequantizeLinear"
    }


def test_whole_network_where_it_is_near_enough(
    exported: Package, regions: list[Any], tmp_path: Path
) -> None:
    target = tmp_path / "int8.onnx"
    said = quantise(exported.network, target, regions, lambda path: 0.01, 0.1)
    assert said == ["all 13 layers in int8: 0.01 voxel apart"]
    every, quantised = products(target)
    assert quantised == every
    backend = open_backend("onnxruntime", target, channels=4)
    plain = open_backend("onnxruntime", exported.network, channels=4)
    assert backend.precision == "int8"
    batch = np.concatenate(regions)
    expected, found = plain.infer(batch), backend.infer(batch)
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_layers_that_hurt_stay_in_floating_point(
    exported: Package, regions: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As few as it takes: the distance here is the sum of what the quantised layers hurt."""
    names = sorted(products(exported.network)[0])
    hurt = dict.fromkeys(names, 0.001) | {names[2]: 0.2, names[7]: 0.05, names[9]: 0.5}
    written: list[set[str]] = []

    def write(source: Path, target: Path, regions: Any, floating: Any) -> None:
        written.append(set(names) - set(floating))

    monkeypatch.setattr(quantisation, "_write", write)
    said = quantise(
        exported.network, tmp_path / "int8.onnx", regions,
        lambda path: sum(hurt[name] for name in written[-1]), 0.1,
    )
    assert written[-1] == set(names) - {names[2], names[9]}
    assert said[0] == "all 13 layers in int8: 0.76 voxel apart"
    assert said[1].startswith(f"2 in floating point, {names[9]} (0.5 voxel alone), {names[2]}")
    assert said[1].endswith(": 0.06 voxel apart")
    written.clear()
    hopeless = quantise(
        exported.network, tmp_path / "int8.onnx", regions, lambda path: len(written[-1]), 0.1
    )
    assert hopeless[1] == "each layer alone is 1 voxel apart at the least"
    assert written[-1] == set(names)  # what is dropped is the whole network in int8


def test_layers_named_are_left_alone(
    exported: Package, regions: list[Any], tmp_path: Path
) -> None:
    target = tmp_path / "int8.onnx"
    every = products(exported.network)[0]
    floating = sorted(every)[:4]
    quantisation._write(exported.network, target, regions, floating)
    assert products(target)[1] == every - set(floating)


def test_calibrates_on_other_regions_than_parity(
    exported: Package, material: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "PHANTOM", ((20, 24, 22), (5.0, 4.0, 4.0)))
    channels = exported.settings["channels"]
    found = calibration_regions(Adapter(material.network, parse_spec(material.spec)), exported)
    assert len(found) > REGIONS + 2  # the engine's own besides the generated ones
    assert all(region.shape == (1, 4, *SHAPE) for region in found)
    parity = [*structured_batch(SHAPE, channels), *random_batch(SHAPE, channels)]
    assert not any(np.array_equal(region[0], other) for region in found for other in parity)
    monkeypatch.setattr(quantisation, "MOST_CELLS", 3 * 16**3)
    adapter = Adapter(material.network, parse_spec(material.spec))
    assert len(calibration_regions(adapter, exported)) == 3


def test_without_nncf_refused_before_the_work(
    material: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"NNCF; pip install 'segreg\[quantize\]'"):
        export(material.network, material.spec, tmp_path / "small", precisions=["int8"])
    assert list(tmp_path.iterdir()) == []
