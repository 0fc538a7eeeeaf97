"""float16 graphs: what is halved, what stays, where the casts stand, and what they compute."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from segreg.engine.backends import open_backend
from segreg.engine.errors import PackageError
from segreg.engine.package import Package
from segreg.engine.probes import structured_batch
from segreg.export.half import write_half
from tests.engine.networks import CHANNELS, WEIGHTS, regions, write_network

SHAPES = ([None, CHANNELS, 16, 16, 16], [None, 3, 8, 8, 8])
LARGE = 1 << 40


def halved(source: Path, external_from: int = LARGE) -> Path:
    target = source.with_name("half.onnx")
    write_half(source, target, external_from=external_from)
    return target


def types(path: Path) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    found = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_shipped_architecture(exported: Package, tmp_path: Path) -> None:
    source = tmp_path / "network.onnx"
    source.write_bytes(exported.network.read_bytes())
    path = halved(source)
    graph, before = onnx.load(path).graph, onnx.load(source).graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators["Cast"] == 2  # at both ends, and nowhere between
    assert {t.name for t in graph.initializer} == {t.name for t in before.initializer}
    weights = [t for t in graph.initializer if t.name.endswith(("weight", "bias"))]
    assert weights
    assert {t.data_type for t in weights} == {TensorProto.FLOAT16}
    ends = [v.type.tensor_type.elem_type for v in (graph.input[0], graph.output[0])]
    assert ends == [TensorProto.FLOAT] * 2
    assert (graph.input[0].name, graph.output[0].name) == ("regions", "vectors")
    assert path.stat().st_size < 0.75 * source.stat().st_size
    batch = structured_batch((16, 16, 16), exported.settings["channels"])
    fields = []
    for file in (source, path):
        backend = open_backend("onnxruntime", file, channels=CHANNELS)
        fields.append(backend.infer(batch))
        backend.close()
    apart = np.abs(fields[0] - fields[1]).max()
    assert 0 < apart < 2e-3 * np.abs(fields[0]).max()


def test_norms_and_reductions_stay(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["regions", "w"], ["a"], strides=[2, 2, 2]),
        helper.make_node("InstanceNormalization", ["a", "scale", "shift"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "v"], ["d"]),
        helper.make_node("ReduceMean", ["d", "axes"], ["e"], keepdims=1),
        helper.make_node("Sub", ["d", "e"], ["vectors"]),
    ]
    path = halved(
        write_network(
            tmp_path / "norm.onnx", nodes, SHAPES,
            w=WEIGHTS, v=np.ones((3, 3, 1, 1, 1), np.float32),
            scale=np.ones(3, np.float32), shift=np.zeros(3, np.float32),
            axes=np.array([2, 3, 4]),
        )
    )
    found = types(path)
    assert found["w"] == found["v"] == found["a"] == found["d"] == TensorProto.FLOAT16
    assert found["b"] == found["c"] == found["e"] == found["scale"] == TensorProto.FLOAT
    backend = open_backend("onnxruntime", path, channels=CHANNELS)
    assert np.isfinite(backend.infer(regions())).all()
    assert backend.precision == "float16"


def test_weight_that_both_need_is_there_twice(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["regions", "w"], ["a"], strides=[2, 2, 2]),
        helper.make_node("ReduceSum", ["w"], ["s"], keepdims=0),
        helper.make_node("Mul", ["a", "s"], ["vectors"]),
    ]
    path = halved(write_network(tmp_path / "twice.onnx", nodes, SHAPES, w=WEIGHTS))
    assert types(path)["w"] == TensorProto.FLOAT
    assert types(path)["w.half"] == TensorProto.FLOAT16


@pytest.mark.parametrize(
    ("nodes", "weights", "sentence"),
    [
        ([("Conv", ["regions", "w"])], {"w": 1e6 * WEIGHTS}, "float16 ends at 65504"),
        ([("MaxPool", ["regions"])], {}, "holds no convolution"),
    ],
)
def test_refusals(tmp_path: Path, nodes: Any, weights: Any, sentence: str) -> None:
    (kind, inputs), = nodes
    more = {"kernel_shape": [2, 2, 2]} if kind == "MaxPool" else {}
    made = [helper.make_node(kind, inputs, ["vectors"], strides=[2, 2, 2], **more)]
    source = write_network(tmp_path / "bad.onnx", made, SHAPES, **weights)
    with pytest.raises(PackageError, match=sentence):
        halved(source)


def test_large_weights_lie_beside(exported: Package, tmp_path: Path) -> None:
    source = tmp_path / "network.onnx"
    source.write_bytes(exported.network.read_bytes())
    path = halved(source, external_from=1)
    assert (tmp_path / "half.onnx.data").is_file()
    assert onnx.load(path).graph.initializer[0].raw_data
