"""From an ONNX file to a serialised engine, with TensorRT or TensorRT for RTX.

Both libraries have one Python interface, and ``library`` is either module. Parsing needs no GPU,
nor does building with ``tensorrt_rtx`` for a given compute capability.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segreg.engine.backends.base import refused_operators
from segreg.engine.backends.options import BuildProgress, CudaOptions
from segreg.engine.errors import BackendError

FULL, RTX = "tensorrt", "tensorrt_rtx"
VOLUME_GRID_SAMPLE = (11, 2, 1)  # the first TensorRT whose grid sampling takes volumes
VOLUME_AXES = 5
USUAL_BATCH = 4  # regions that kernels are chosen for


@dataclass(frozen=True)
class Layer:
    """One layer of a parsed network: TensorRT's kind, the ONNX node's name, the output's type."""

    kind: str
    name: str
    precision: str


@dataclass(frozen=True)
class ParsedNetwork:
    """A network as TensorRT took it; the library's objects are kept alive together."""

    library: Any
    builder: Any
    definition: Any
    parser: Any

    @property
    def layers(self) -> list[Layer]:
        layers = map(self.definition.get_layer, range(self.definition.num_layers))
        return [
            Layer(layer.type.name, layer.name, layer.get_output(0).dtype.name) for layer in layers
        ]


def library_name(library: Any) -> str:
    return str(library.__name__)


def version_of(library: Any) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", library.__version__)))


@functools.cache
def library_log(library: Any) -> Any:
    """The library's one log, which keeps the last errors in ``words``."""

    class Log(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.words: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                self.words.append(message)

    return Log()


def parse_network(library: Any, network: Path, backend: str) -> ParsedNetwork:
    """Parse ``network``; ``backend`` is the name that errors speak of.

    Raises
    ------
    OperatorError : names every operator that the library does not have.
    BackendError : the file cannot be parsed, or is no network of one input and one output.
    """
    log = library_log(library)
    builder = library.Builder(log)
    # Strong typing is all there is from TensorRT 11 on, and what every other backend does.
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    definition = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = library.OnnxParser(definition, log)
    if not parser.parse_from_file(str(network)):
        faults = [parser.get_error(k) for k in range(parser.num_errors)]
        operators = tuple(sorted({fault.node_operator() for fault in faults} - {""}))
        words = "; ".join(map(_fault, faults))
        if operators:
            raise refused_operators(backend, network, operators, words)
        raise BackendError(f"backend {backend} refuses {network.name}: {words}")
    if (definition.num_inputs, definition.num_outputs) != (1, 1):
        raise BackendError(
            f"backend {backend} refuses {network.name}: expected one input and one output, got "
            f"{definition.num_inputs} and {definition.num_outputs}."
        )
    parsed = ParsedNetwork(library, builder, definition, parser)
    _check_tensors(parsed, network, backend)
    return parsed


def build_engine(
    parsed: ParsedNetwork,
    canvas: tuple[int, int, int],
    options: CudaOptions,
    *,
    capability: tuple[int, int] | None = None,
    threads: int | None = None,
    timing: bytes = b"",
) -> tuple[bytes, bytes]:
    """Serialised engine, and the timing cache after it.

    Parameters
    ----------
    canvas : smallest, usual and largest canvas, for networks that leave the size open.
    capability : compute capability to build for, without a GPU (``tensorrt_rtx`` only); None
        builds for the current GPU.
    timing : what an earlier build returned as its timing cache (``tensorrt`` only).

    Raises
    ------
    BackendError : the library's own words.
    """
    library, builder, log = parsed.library, parsed.builder, library_log(parsed.library)
    config = _configure(parsed, canvas, options, capability)
    if threads is not None:
        builder.max_threads = threads
    timed = library_name(library) == FULL  # the other library times nothing while it builds
    if timed:
        config.set_timing_cache(config.create_timing_cache(timing), False)
    monitor = _monitor(library, options.progress)
    config.progress_monitor = monitor
    log.words.clear()
    engine = builder.build_serialized_network(parsed.definition, config)
    if monitor.stopped_by is not None:
        raise monitor.stopped_by
    if engine is None:
        words = " ".join(log.words) or "it does not say why"
        raise BackendError(f"{library_name(library)} cannot build an engine: {words}")
    return bytes(engine), bytes(config.get_timing_cache().serialize()) if timed else b""


def profile_shapes(
    shape: tuple[int, ...], batch: int, canvas: tuple[int, int, int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Smallest, usual and largest shape of an input (K, C, D, H, W) whose open axes are -1."""
    ranges = ((1, min(USUAL_BATCH, batch), batch), None, canvas, canvas, canvas)
    smallest, usual, largest = (
        tuple(
            size if size >= 0 or extent is None else extent[k]
            for size, extent in zip(shape, ranges, strict=True)
        )
        for k in range(3)
    )
    return smallest, usual, largest


def targets(library: Any) -> dict[tuple[int, int], Any]:
    """Compute capability -> the library's name for it; empty where it takes any."""
    if not hasattr(library, "ComputeCapability"):
        return {}
    names = {n: re.fullmatch(r"SM(\d+)(\d)", n) for n in dir(library.ComputeCapability)}
    return {
        (int(found[1]), int(found[2])): getattr(library.ComputeCapability, name)
        for name, found in names.items()
        if found
    }


def _configure(
    parsed: ParsedNetwork,
    canvas: tuple[int, int, int],
    options: CudaOptions,
    capability: tuple[int, int] | None,
) -> Any:
    library, config = parsed.library, parsed.builder.create_builder_config()
    if not options.tf32:
        config.clear_flag(library.BuilderFlag.TF32)
    resize = getattr(library.PreviewFeature, "RUNTIME_ACTIVATION_RESIZE_10_10", None)
    if resize is not None:  # working memory then follows the shapes of a run, not the largest
        config.set_preview_feature(resize, True)
    if capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(_target(library, capability), 0)
    tensor, profile = parsed.definition.get_input(0), parsed.builder.create_optimization_profile()
    profile.set_shape(tensor.name, *profile_shapes(tuple(tensor.shape), options.batch, canvas))
    config.add_optimization_profile(profile)
    return config


def _target(library: Any, capability: tuple[int, int]) -> Any:
    known = targets(library)
    if capability not in known:
        listed = ", ".join(f"{major}.{minor}" for major, minor in sorted(known)) or "none"
        raise BackendError(
            f"{library_name(library)} {library.__version__} builds for compute capabilities "
            f"{listed}; got {capability[0]}.{capability[1]}."
        )
    return known[capability]


def _check_tensors(parsed: ParsedNetwork, network: Path, backend: str) -> None:
    library, definition = parsed.library, parsed.definition
    tensors = definition.get_input(0), definition.get_output(0)
    for tensor in tensors:
        if tensor.dtype != library.float32 or len(tensor.shape) != VOLUME_AXES:
            raise BackendError(
                f"backend {backend} refuses {network.name}: expected {tensor.name} to be float32 "
                f"(K, C, D, H, W), got {tensor.dtype.name} {tuple(tensor.shape)}. "
                "Cast inside the network."
            )
    if library_name(library) == FULL and version_of(library) < VOLUME_GRID_SAMPLE:
        layers = map(definition.get_layer, range(definition.num_layers))
        if any(
            layer.type == library.LayerType.GRID_SAMPLE
            and len(layer.get_input(0).shape) == VOLUME_AXES
            for layer in layers
        ):
            words = f"TensorRT {library.__version__} samples planes only, 11.2.1 volumes too."
            raise refused_operators(backend, network, ("GridSample",), words)


def _fault(fault: Any) -> str:
    """The parser's words: the node, its code, and the condition that did not hold."""
    where = f"{fault.node_operator()} ({fault.node_name()}): " if fault.node_operator() else ""
    return f"{where}{fault.code().name}, {fault.desc()}"


def _monitor(library: Any, progress: BuildProgress | None) -> Any:
    """Hands the phases of a build on; what ``progress`` raises stops the build and is kept."""

    class Monitor(library.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.sizes: dict[str, int] = {}
            self.stopped_by: BaseException | None = None

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.sizes[phase] = steps
            self._tell(phase, 0)

        def step_complete(self, phase: str, step: int) -> bool:
            return self._tell(phase, step + 1)

        def phase_finish(self, phase: str) -> None:
            self._tell(phase, self.sizes[phase])

        def _tell(self, phase: str, done: int) -> bool:
            if progress is not None and self.stopped_by is None:
                try:
                    progress(phase, done, self.sizes[phase])
                except BaseException as error:  # raised again once the library has let go
                    self.stopped_by = error
            return self.stopped_by is None

    return Monitor()
