"""PyTorch -> ONNX."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import onnx
import onnx_ir
import torch

from segreg.engine.errors import PackageError
from segreg.export.spec import Shape

OPSET = 20  # the first with a 5-D GridSample
EXTERNAL_FROM = 1_800_000_000  # bytes of weights; a protobuf ends at 2 GiB
WRAPPED = "network."  # what the adapter puts before the network's names
# Operators whose result has a shape that depends on values.
VALUE_SHAPED = ("NonZero", "Unique", "Compress", "NonMaxSuppression")
_FIXED_BATCH = (
    "network: works for the one batch size it was traced with ({reason}); remove what fixes the "
    "batch in forward (a reshape to a number, a buffer of that size)."
)


@dataclass(frozen=True)
class Graph:
    """What was written.

    ``free_axes`` : which of "batch" and "space" take any size. ``operators`` : how many of each.
    """

    free_axes: tuple[str, ...]
    operators: dict[str, int]


def write_graph(
    network: torch.nn.Module,
    shape: Shape,
    channels: int,
    path: Path,
    properties: dict[str, str],
    *,
    free_space: bool = True,
    external_from: int = EXTERNAL_FROM,
) -> Graph:
    """Write ``network`` as ONNX with input ``regions`` (K, C, D, H, W) and output ``vectors``.

    The batch is always free, the spatial axes where ``free_space`` asks for it and the network
    allows it. What does not lead to ``vectors`` is not written.

    Parameters
    ----------
    network : takes ``regions``, gives ``vectors``; see ``Adapter``.
    shape : of the example region.
    properties : written into the ONNX metadata.
    external_from : from how many bytes of weights on they go into ``<path>.data``.

    Raises
    ------
    PackageError : the network cannot be exported; the message says what to change in it.
    """
    model = _trace(network, shape, channels, free_space)
    operators = Counter(node.op_type for node in model.graph.all_nodes())
    _refuse_value_shapes(operators)
    _forget_sources(model)
    _name_weights(model)
    model.metadata_props.update(properties)
    axes = model.graph.inputs[0].shape
    if axes is None or isinstance(axes[0], int):
        raise PackageError(_FIXED_BATCH.format(reason="the traced batch is a constant"))
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)
    beside = f"{path.name}.data" if weights >= external_from else None
    onnx_ir.save(model, path, external_data=beside)
    onnx.checker.check_model(path, full_check=True)
    return Graph(
        free_axes=("batch",) if any(isinstance(axes[i], int) for i in (2, 3, 4))
        else ("batch", "space"),
        operators=dict(sorted(operators.items())),
    )


def _forget_sources(model: onnx_ir.Model) -> None:
    """Remove what the exporter notes everywhere: source files and paths of this machine."""
    values = [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None
    for whole in (model, model.graph):
        whole.metadata_props.clear()
        whole.doc_string = None


def _name_weights(model: onnx_ir.Model) -> None:
    """Weights are named as in the network's own state dict, not in the adapter's."""
    for value in list(model.graph.initializers.values()):
        value.name = str(value.name).removeprefix(WRAPPED)


def _trace(
    network: torch.nn.Module, shape: Shape, channels: int, free_space: bool
) -> onnx_ir.Model:
    # Two regions: an example of one would let the exporter take the batch for a constant.
    example = torch.zeros(2, channels, *shape)
    batch = torch.export.Dim("regions", min=1, max=4096)
    cells = dict.fromkeys((2, 3, 4), torch.export.Dim.AUTO) if free_space else {}
    with _quiet():
        try:
            program = torch.onnx.export(
                network.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["regions"],
                output_names=["vectors"],
                dynamic_shapes=({0: batch, **cells},),
                optimize=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise PackageError(_explain(error)) from error
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    return program.model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of packages and symbols, and of graphs that it cannot export."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # torch has handlers of its own on the first stderr
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with redirect_stderr(StringIO()):
                yield
    finally:
        logging.disable(disabled)


def _explain(error: BaseException) -> str:
    """Why the network cannot be exported, and what to change."""
    cause: BaseException | None = error
    chain = []
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__
    text = " ".join(str(part) for part in chain)
    reason = next((line for line in str(chain[-1]).splitlines() if line.strip()), "no reason given")
    if "data-dependent" in text or "DataDependent" in text:
        return (
            f"network: its course or a shape depends on the values it is shown ({reason.strip()}). "
            "A deployed graph cannot have that: replace boolean indexing and branches on tensors "
            "by torch.where, and loops until convergence by a fixed number of steps."
        )
    if "Constraints violated (regions)" in text or "regions" in reason:
        return _FIXED_BATCH.format(reason=reason.strip())
    return f"network: PyTorch cannot export it ({type(chain[-1]).__name__}: {reason.strip()})."


def _refuse_value_shapes(operators: Counter[str]) -> None:
    if found := [name for name in VALUE_SHAPED if operators[name]]:
        raise PackageError(
            f"network: the shape of a tensor depends on the values it is shown "
            f"({', '.join(found)}). A deployed graph cannot have that: replace boolean indexing "
            "and nonzero() by torch.where or a multiplication with the mask."
        )
