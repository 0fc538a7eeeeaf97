"""Networks small enough to be computed by hand, and canvases for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from segreg.engine.backends import CudaOptions, open_backend

CHANNELS, CANVAS = 4, 16
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(0, 0.5, (3, CHANNELS, 2, 2, 2)).astype(np.float32)
BIAS = np.array([0.5, -1.0, 2.0], np.float32)


def network(folder: Path, weights: Any = WEIGHTS, bias: Any = BIAS) -> Path:
    """One strided convolution: small enough to be computed by hand."""
    outputs, channels = weights.shape[:2]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["regions", "w", "b"], ["vectors"], strides=[2, 2, 2])],
        "conv",
        [helper.make_tensor_value_info("regions", TensorProto.FLOAT, ["K", channels, *"DHW"])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["K", outputs, *"dhw"])],
        [
            numpy_helper.from_array(np.asarray(weights, np.float32), "w"),
            numpy_helper.from_array(np.asarray(bias, np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path = folder / "network.onnx"
    onnx.save(model, path)
    return path


def regions(count: int = 3, seed: int = 1) -> np.ndarray:
    shape = (count, CHANNELS, CANVAS, CANVAS, CANVAS)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def by_hand(batch: np.ndarray) -> np.ndarray:
    k, c, half = len(batch), CHANNELS, CANVAS // 2
    blocks = batch.reshape(k, c, half, 2, half, 2, half, 2)
    fields = np.einsum("kczaybxd,ocabd->kozyx", blocks, WEIGHTS, dtype=np.float64)
    return np.asarray(fields + BIAS[:, None, None, None])


def network_with_a_warp(folder: Path) -> Path:
    """A graph that samples its own vectors in 5-D, as foreign networks do."""
    grid = np.eye(3, 4, dtype=np.float32)[None]
    size = np.array([1, 3, 8, 8, 8])
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["regions", "w", "b"], ["inner"], strides=[2, 2, 2]),
            helper.make_node("AffineGrid", ["theta", "size"], ["grid"], align_corners=0),
            helper.make_node("GridSample", ["inner", "grid"], ["vectors"], mode="linear"),
        ],
        "warp",
        [helper.make_tensor_value_info("regions", TensorProto.FLOAT, [1, CHANNELS, 16, 16, 16])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [1, 3, 8, 8, 8])],
        [
            numpy_helper.from_array(array, name)
            for name, array in (("w", 0 * WEIGHTS), ("b", BIAS), ("theta", grid), ("size", size))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, folder / "warp.onnx")
    return folder / "warp.onnx"


def write_network(path: Path, nodes: Sequence[Any], shapes: Any, **weights: Any) -> Path:
    """An ONNX file of ``nodes`` from ``regions`` to ``vectors``, float32, of the given shapes."""
    graph = helper.make_graph(
        list(nodes),
        "written",
        [helper.make_tensor_value_info("regions", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    sets = [helper.make_opsetid("", 20), helper.make_opsetid("elsewhere", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=9), path)
    return path


def opened(name: str, folder: Path, **options: Any) -> Any:
    """The small network in a backend of the GPU, for canvases of 8 to 24 cells."""
    return open_backend(
        name, network(folder), channels=CHANNELS, canvas=(8, 16, 24), options=CudaOptions(**options)
    )
