"""PyTorch -> ONNX."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch

OPSET = 20  # the first with a 5-D GridSample


def write_graph(
    network: torch.nn.Module, canvas: int, channels: int, path: Path, properties: dict[str, str]
) -> None:
    """Write ``network`` as one ONNX file with input ``regions`` (K, C, S, S, S), K dynamic, and
    output ``vectors``.

    Parameters
    ----------
    properties : written into the ONNX metadata.
    """
    # Two regions: an example of one would let the exporter take the batch for a constant.
    example = torch.zeros(2, channels, canvas, canvas, canvas)
    cells = dict.fromkeys((2, 3, 4), torch.export.Dim.AUTO)
    program = torch.onnx.export(
        network.eval().to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["regions"],
        output_names=["vectors"],
        dynamic_shapes=({0: torch.export.Dim("regions", min=1, max=4096), **cells},),
        optimize=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    graph = program.model_proto
    for node in graph.graph.node:  # the exporter notes source files of this machine in every node
        del node.metadata_props[:]
        node.doc_string = ""
    for entry in (*graph.graph.value_info, *graph.graph.initializer, graph.graph):
        del entry.metadata_props[:]
    onnx.helper.set_model_props(graph, properties)
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString())
