"""What is read from an ONNX file without the onnx package, against the onnx package."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from segreg.engine.backends.onnx_file import _fields, read_onnx
from segreg.engine.package import shipped_packages
from tests.engine.networks import network, network_with_a_warp


def hash_of(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


@pytest.mark.parametrize("folder", shipped_packages().values(), ids=shipped_packages())
def test_shipped_packages(folder: Path) -> None:
    path = folder / "models/registration.onnx"
    found = read_onnx(path)
    assert found.operators == {node.op_type for node in onnx.load(path).graph.node}
    assert found.digest == hash_of(path)
    assert found.precision == "float32"


def test_operators_of_a_graph(tmp_path: Path) -> None:
    found = read_onnx(network_with_a_warp(tmp_path))
    assert found.operators == {"Conv", "AffineGrid", "GridSample"}


def test_subgraphs_and_functions(tmp_path: Path) -> None:
    info = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    branches = {
        f"{side}_branch": helper.make_graph(
            [helper.make_node(operator, ["x"], ["y"])], side, [], info
        )
        for side, operator in (("then", "Exp"), ("else", "Log"))
    }
    function = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Softsign", ["a"], ["b"])],
        [helper.make_opsetid("", 20)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("If", ["c"], ["y"], **branches),
            helper.make_node("Twice", ["y"], ["z"], domain="own"),
        ],
        "nested",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, functions=[function]), tmp_path / "nested.onnx")
    found = read_onnx(tmp_path / "nested.onnx")
    assert found.operators == {"If", "Exp", "Log", "Twice", "Softsign"}


@pytest.mark.parametrize(
    ("kind", "precision"), [(np.float32, "float32"), (np.float16, "float16"), (None, "bfloat16")]
)
def test_precision_is_that_of_the_weights(tmp_path: Path, kind: object, precision: str) -> None:
    weights = [numpy_helper.from_array(np.zeros(3, np.int64), "shape")]
    if kind is None:
        weights.append(helper.make_tensor("w", TensorProto.BFLOAT16, [1], [1.0]))
    else:
        weights.append(numpy_helper.from_array(np.zeros(3, kind), "w"))  # type: ignore[call-overload]
    graph = helper.make_graph([], "weights", [], [], weights)
    onnx.save(helper.make_model(graph), tmp_path / "weights.onnx")
    assert read_onnx(tmp_path / "weights.onnx").precision == precision


def test_weights_in_a_file_apart_are_hashed_too(tmp_path: Path) -> None:
    model = onnx.load(network(tmp_path))
    path, apart = tmp_path / "apart.onnx", tmp_path / "apart.data"
    onnx.save(
        model, path, save_as_external_data=True, location="apart.data", size_threshold=0
    )
    before = read_onnx(path)
    assert before.digest == hash_of(path, apart)
    content = bytearray(apart.read_bytes())
    content[0] ^= 1
    apart.write_bytes(content)
    assert read_onnx(path).digest != before.digest
    apart.unlink()
    with pytest.raises(FileNotFoundError, match=r"apart\.data"):
        read_onnx(path)


@given(st.binary(max_size=300))
def test_anything_else_ends_quietly(content: bytes) -> None:
    """Protobuf or not: never an error but ValueError, never a loop without end."""
    try:
        total = sum(1 for _ in _fields(memoryview(content)))
    except ValueError:
        return
    assert total <= len(content)


def test_file_that_is_not_onnx(tmp_path: Path) -> None:
    path = tmp_path / "wrong.onnx"
    path.write_bytes(b"not a network")
    assert read_onnx(path).operators == frozenset()
    assert read_onnx(path).digest == hash_of(path)
    whole = network(tmp_path)
    path.write_bytes(whole.read_bytes()[:-40])
    assert read_onnx(path).operators == frozenset()
