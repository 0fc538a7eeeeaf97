"""What an ONNX file says of itself, read without the onnx package, which only the exporter needs.

Field numbers are those of the format's own description, onnx.proto3; the encoding is protobuf's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# TensorProto.DataType -> what a network with weights of that type computes in.
PRECISIONS = {10: "float16", 16: "bfloat16"}
QUANTISING = {"QuantizeLinear", "QLinearConv", "QLinearMatMul"}

MODEL_GRAPH, MODEL_FUNCTION = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, FUNCTION_NODE = 1, 5, 7
NODE_OPERATOR, NODE_ATTRIBUTE = 4, 5
ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 6, 11
TENSOR_TYPE, TENSOR_EXTERNAL = 2, 13
ENTRY_KEY, ENTRY_VALUE = 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, "int | memoryview"]


@dataclass(frozen=True)
class OnnxFile:
    """Operators of a network, the arithmetic of its weights, and a hash of all of it.

    Attributes
    ----------
    operators : ONNX names, subgraphs and functions included; empty if the file cannot be read.
    precision : ``int8`` if the network quantises, ``float16`` or ``bfloat16`` if any weight has
        that type, else ``float32``.
    digest : SHA-256 over the file and the files that hold its weights, if those are apart.
    """

    operators: frozenset[str]
    precision: str
    digest: str


def read_onnx(path: Path) -> OnnxFile:
    """Look through the ONNX file at ``path``.

    Raises
    ------
    OSError : the file, or one with its weights, cannot be read.
    """
    content = path.read_bytes()
    operators, types, external = set[str](), set[int](), set[str]()
    try:
        for field, value in _fields(memoryview(content)):
            if field == MODEL_GRAPH:
                _look_through(_message(value), operators, types, external)
            elif field == MODEL_FUNCTION:
                for inner, node in _fields(_message(value)):
                    if inner == FUNCTION_NODE:
                        _look_at_node(_message(node), operators, types, external)
    except ValueError:  # not ONNX; the library that loads it says so better
        operators.clear()
    digest = hashlib.sha256(content)
    for name in sorted(external):
        digest.update((path.parent / name).read_bytes())
    precision = next((PRECISIONS[t] for t in sorted(types) if t in PRECISIONS), "float32")
    if QUANTISING & operators:
        precision = "int8"
    return OnnxFile(frozenset(operators), precision, digest.hexdigest())


def _look_through(
    graph: memoryview, operators: set[str], types: set[int], external: set[str]
) -> None:
    for field, value in _fields(graph):
        if field == GRAPH_NODE:
            _look_at_node(_message(value), operators, types, external)
        elif field == GRAPH_INITIALIZER:
            _look_at_tensor(_message(value), types, external)


def _look_at_node(
    node: memoryview, operators: set[str], types: set[int], external: set[str]
) -> None:
    for field, value in _fields(node):
        if field == NODE_OPERATOR:
            operators.add(_text(value))
        elif field == NODE_ATTRIBUTE:
            for inner, part in _fields(_message(value)):
                if inner in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                    _look_through(_message(part), operators, types, external)


def _look_at_tensor(tensor: memoryview, types: set[int], external: set[str]) -> None:
    for field, value in _fields(tensor):
        if field == TENSOR_TYPE and isinstance(value, int):
            types.add(value)
        elif field == TENSOR_EXTERNAL:
            entry = {key: _text(part) for key, part in _fields(_message(value))}
            if entry.get(ENTRY_KEY) == "location":
                external.add(entry[ENTRY_VALUE])


def _fields(message: memoryview) -> Iterator[Field]:
    """(number, value) of the fields of a protobuf message; ValueError if it is none."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            length, at = _varint(message, at)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"no protobuf field has wire type {kind}")
        if at + length > len(message):
            raise ValueError("the message ends inside a field")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("the message ends inside a number")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 64 bits")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("expected a message, got a number")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")
