"""Inference backends behind one interface; the registry here is the only dispatch."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segreg.engine.backends.base import ANY_CANVAS, Backend
from segreg.engine.backends.options import CudaOptions
from segreg.engine.errors import BackendError, OperatorError, PrecisionError
from segreg.engine.machine import describe_cupy

# Backend -> the file it shall load and the precision it shall run in, None for that of the file;
# raises PrecisionError where there is none for it.
Networks = Callable[[str], tuple[Path, str | None]]

__all__ = ["REGISTRY", "Availability", "Backend", "CudaOptions", "availability", "open_backend"]


@dataclass(frozen=True)
class Entry:
    """Where a backend is written, the extra of segreg that brings its library, its device."""

    home: str
    extra: str
    device: str = "cpu"


# In order of preference. TensorRT is the fastest of a GPU, but builds for minutes when a network
# is new: asked for by name, or where onnxruntime is not. OpenVINO is the fast one of a CPU.
REGISTRY = {
    "onnxruntime-cuda": Entry(
        "segreg.engine.backends.onnxruntime_cuda:OnnxRuntimeCudaBackend", "gpu", "cuda"
    ),
    "tensorrt": Entry("segreg.engine.backends.tensorrt:TensorRTBackend", "tensorrt", "cuda"),
    "tensorrt-rtx": Entry(
        "segreg.engine.backends.tensorrt:TensorRTRTXBackend", "tensorrt-rtx", "cuda"
    ),
    "openvino": Entry("segreg.engine.backends.openvino:OpenVINOBackend", "cpu"),
    "onnxruntime": Entry("segreg.engine.backends.onnxruntime:OnnxRuntimeBackend", "cpu"),
}


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here, its library's version, and why it cannot."""

    name: str
    version: str | None
    reason: str | None

    @property
    def usable(self) -> bool:
        return self.reason is None


def availability() -> list[Availability]:
    """Every known backend, in order of preference."""
    return [_look_at(name) for name in REGISTRY]


def open_backend(
    name: str | None,
    network: Path | Networks,
    *,
    channels: int,
    outputs: int = 3,
    threads: int | None = None,
    canvas: Sequence[int] = ANY_CANVAS,
    options: CudaOptions | None = None,
    precision: str | None = None,
) -> Backend:
    """Load ``network`` (ONNX) in the named backend, or for ``None`` in the first that can.

    Parameters
    ----------
    network : a file, or a function from a backend's name to the file and precision for it.
    channels, outputs : of the network's input and output.
    canvas : the package's canvas sizes, for backends that build for shapes.
    options : for a backend of the GPU; those of the CPU refuse them when asked for by name, and
        when chosen do without them and say so in their notes.
    precision : of a file: what it shall run in; None leaves it to the type of its weights.

    Raises
    ------
    PrecisionError : the backend, or every one that is installed, cannot compute in it.
    OperatorError : the network holds operators that the backend does not have; the message names
        them and the backends here that have them.
    BackendError : unknown name, library or device missing, or a network that is refused.
    """
    facts: dict[str, Any] = {
        "channels": channels, "outputs": outputs, "threads": threads, "canvas": canvas,
    }  # fmt: skip
    find = network if callable(network) else lambda _: (network, precision)
    if name is None:
        return _open_first(find, facts, options)
    backend = _backend_class(name)
    file, asked = find(name)
    try:
        return backend(file, **facts, options=options, precision=asked)
    except OperatorError as error:
        others = [other for other in REGISTRY if other != name and _look_at(other).usable]
        able = [other for other in others if _has_operators(other, file, channels)]
        way_out = (
            f"Backends here that have what it needs: {', '.join(able)}; ask for one by name."
            if able
            else "No backend that is installed here has what it needs."
        )
        raise OperatorError(f"{error} {way_out}", error.operators) from error


def _open_first(
    find: Callable[[str], tuple[Path, str | None]],
    facts: dict[str, Any],
    options: CudaOptions | None,
) -> Backend:
    """The first usable backend that has the precision and all operators.

    Its notes say which ones lack operators; who asks for a precision expects some to lack it.
    """
    refusals: list[OperatorError] = []
    unable: list[PrecisionError] = []
    no_gpu = describe_cupy()[1] is not None  # then no library of a GPU need be imported
    for name, entry in REGISTRY.items():
        on_gpu = entry.device == "cuda"
        if (on_gpu and no_gpu) or not _look_at(name).usable:
            continue
        fitting = options if on_gpu else None
        try:
            file, asked = find(name)
            backend = _backend_class(name)(file, **facts, options=fitting, precision=asked)
        except OperatorError as error:
            refusals.append(error)
            continue
        except PrecisionError as error:
            unable.append(error)
            continue
        backend.notes += [f"{error} Backend {name} runs it instead." for error in refusals]
        if options is not None and options.chosen and not on_gpu:
            backend.notes.append(
                f"options of the GPU (--gpu, --cuda-graph, --engine-cache) change nothing: backend "
                f"{name} runs on the CPU. segreg doctor says what a GPU lacks here."
            )
        return backend
    if refusals:
        operators = tuple(sorted({o for error in refusals for o in error.operators}))
        raise OperatorError(" ".join(map(str, refusals)), operators)
    if unable:
        raise unable[-1]
    raise BackendError(
        f"no inference backend is installed for {platform.machine()}; "
        "pip install 'segreg[cpu]' brings OpenVINO and onnxruntime."
    )


def _look_at(name: str) -> Availability:
    version = None
    try:
        backend = _backend_class(name)
        version = backend.library_version()
        obstacles = backend.obstacles()
    except BackendError as error:
        return Availability(name, version, str(error))
    return Availability(name, version, "; ".join(obstacles) or None)


def _has_operators(name: str, network: Path, channels: int) -> bool:
    try:
        _backend_class(name).check(network, channels=channels)
    except BackendError:
        return False
    return True


def _backend_class(name: str) -> type[Backend]:
    if name not in REGISTRY:
        raise BackendError(f"backend: expected one of {', '.join(REGISTRY)}, got {name!r}.")
    entry = REGISTRY[name]
    module, _, attribute = entry.home.partition(":")
    try:
        backend: type[Backend] = getattr(importlib.import_module(module), attribute)
        backend.library_version()
    except ImportError as error:
        raise BackendError(
            f"backend {name}: its library cannot be imported ({error}). "
            f"pip install 'segreg[{entry.extra}]' brings it."
        ) from error
    return backend
