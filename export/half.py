"""float32 -> float16 for GPUs, in the graph itself: TensorRT and onnxruntime do as it says.

Products of matrices and convolutions are halved; norms, reductions and whatever else is not listed
here stay in float32. Casts stand where the two meet, so input and output stay float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from segreg.engine.errors import PackageError

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
# They cost the time, and accumulate in float32 on the hardware.
HALVED = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
# They do no sums: halved where all that they work on is.
FOLLOWING = {
    "Add", "Clip", "Concat", "Elu", "Expand", "Flatten", "Identity", "LeakyRelu", "MaxPool",
    "Mul", "Neg", "PRelu", "Pad", "Relu", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Sub",
    "Transpose", "Unsqueeze",
}
FIRST_ALONE = {"Resize"}  # whose other floats, the scales, are float32 by definition
LARGEST = float(np.finfo(np.float16).max)


def write_half(source: Path, target: Path, *, external_from: int) -> None:
    """Write the ONNX network ``source`` in float16 as ``target``.

    ``external_from`` : from how many bytes of weights on they go into ``<target>.data``.

    Raises
    ------
    PackageError : a weight does not fit float16, the network holds control flow, or nothing in it
        would be halved.
    """
    model = ir.load(source)
    _infer_types(model, source)
    _Converter(model.graph).convert()
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)
    beside = f"{target.name}.data" if weights >= external_from else None
    ir.save(model, target, external_data=beside)
    onnx.checker.check_model(target, full_check=True)


def _infer_types(model: ir.Model, source: Path) -> None:
    """Give every value a type; the converter asks which ones are float32."""
    inferred = onnx.shape_inference.infer_shapes(onnx.load(source, load_external_data=False))
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    for node in model.graph:
        for value in node.outputs:
            if value.dtype is None and value.name in types:
                value.dtype = ir.DataType(types[value.name])


class _Converter:
    """One pass over the nodes in order; every value is had in either type where it is needed."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.halves: dict[ir.Value, ir.Value] = {}  # float32 value -> the same in float16
        self.originals: dict[ir.Value, ir.Value] = {}  # halved node's value -> itself in float32

    def convert(self) -> None:
        nodes = list(self.graph)
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
               for node in nodes for a in node.attributes.values()):
            raise PackageError("network: holds loops or branches, which are not halved.")
        if not any(node.op_type in HALVED for node in nodes):
            raise PackageError("network: holds no convolution or product of matrices to halve.")
        for node in nodes:
            if self._is_halved(node):
                self._halve(node)
            else:
                for index, value in enumerate(node.inputs):
                    if value in self.originals:
                        node.replace_input_with(index, self._full(value, before=node))
        for index, value in enumerate(self.graph.outputs):
            if value in self.originals:
                self.graph.outputs[index] = self._full_output(value)
        self._remove_unused()

    def _is_halved(self, node: ir.Node) -> bool:
        if node.domain not in ("", "ai.onnx") or node.op_type not in HALVED | FOLLOWING:
            return False
        if node.op_type in HALVED:
            return True
        floats = [value for value in self._floats(node) if value.const_value is None]
        return bool(floats) and all(value in self.originals for value in floats)

    def _floats(self, node: ir.Node) -> list[ir.Value]:
        inputs = node.inputs[:1] if node.op_type in FIRST_ALONE else node.inputs
        return [v for v in inputs if v is not None and (v in self.originals or v.dtype == FLOAT)]

    def _halve(self, node: ir.Node) -> None:
        wanted = set(self._floats(node))
        for index, value in enumerate(node.inputs):
            if value in wanted and value not in self.originals:
                node.replace_input_with(index, self._half(value, before=node))
        for value in node.outputs:
            if value.dtype in (FLOAT, None):
                value.dtype = HALF
                self.originals[value] = value

    def _half(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """``value``, float32, in float16: a constant rounded, anything else cast once."""
        if value not in self.halves:
            if value.const_value is not None:
                self.halves[value] = self._rounded(value)
            else:
                self.halves[value] = self._cast(value, HALF, "half", before)
        return self.halves[value]

    def _full(self, value: ir.Value, before: ir.Node) -> ir.Value:
        if self.originals[value] is value:
            self.originals[value] = self._cast(value, FLOAT, "full", before)
        return self.originals[value]

    def _full_output(self, value: ir.Value) -> ir.Value:
        """The graph's output keeps its name and its type; what was halved gets another name."""
        name, value.name = value.name, f"{value.name}_half"
        node = ir.node("Cast", [value], attributes={"to": FLOAT}, name=f"cast_{name}")
        self.graph.append(node)
        full = node.outputs[0]
        full.name, full.dtype, full.shape = name, FLOAT, value.shape
        return full

    def _cast(self, value: ir.Value, kind: ir.DataType, suffix: str, before: ir.Node) -> ir.Value:
        node = ir.node("Cast", [value], attributes={"to": kind}, name=f"cast_{value.name}_{suffix}")
        cast = node.outputs[0]
        cast.name, cast.dtype, cast.shape = f"{value.name}_{suffix}", kind, value.shape
        self.graph.insert_before(before, node)
        return cast

    def _rounded(self, value: ir.Value) -> ir.Value:
        assert value.const_value is not None
        array = value.const_value.numpy()
        if np.abs(array).max(initial=0) > LARGEST:
            raise PackageError(
                f"network: {value.name} holds {np.abs(array).max():.3g}, float16 ends at "
                f"{LARGEST:g}; scale the weights down."
            )
        # The initializer keeps its name where nothing else needs it in float32.
        tensor = ir.tensor(array.astype(np.float16), name=f"{value.name}.half")
        rounded = ir.val(f"{value.name}.half", HALF, value.shape, const_value=tensor)
        self.graph.register_initializer(rounded)
        return rounded

    def _remove_unused(self) -> None:
        """Initializers that only halved nodes used go; their float16 copies take their names."""
        for value, half in self.halves.items():
            if value.name in self.graph.initializers and not value.uses():
                name = str(value.name)
                self.graph.initializers.pop(name)
                self.graph.initializers.pop(str(half.name))
                half.name = name
                if half.const_value is not None:
                    half.const_value.name = name
                self.graph.register_initializer(half)
