"""Floating-point operations of a network, counted from its ONNX file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def count_flops(path: Path, shape: tuple[int, ...]) -> int:
    """Multiplications and additions of the convolutions for an input of ``shape``.

    Everything else of a registration network is a few per cent of them.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    axes = model.graph.input[0].type.tensor_type.shape.dim
    for axis, size in zip(axes, shape, strict=True):
        axis.dim_value = size
    del model.graph.value_info[:]  # what was written for other shapes
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    weights = {w.name: tuple(numpy_helper.to_array(w).shape) for w in inferred.initializer}
    return sum(
        _count(node, shapes, weights[node.input[1]])
        for node in inferred.node
        if node.op_type in ("Conv", "ConvTranspose")
    )


def _count(node: Any, shapes: dict[str, tuple[int, ...]], weights: tuple[int, ...]) -> int:
    """A weight is used once for each place: of the output, or of a transposed one's input."""
    transposed = node.op_type == "ConvTranspose"
    batch, channels, *places = shapes[node.input[0] if transposed else node.output[0]]
    each = math.prod(weights[1:])
    if 0 in (batch, *places):
        raise ValueError(f"{node.name}: the shape of {node.output[0]} is not known.")
    return 2 * batch * channels * math.prod(places) * each
