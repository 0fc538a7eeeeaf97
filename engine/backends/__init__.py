"""Inference backends behind one interface; the registry here is the only dispatch."""

from __future__ import annotations

import importlib
import platform
from dataclasses import dataclass
from pathlib import Path

from segreg.engine.backends.base import Backend
from segreg.engine.errors import BackendError

__all__ = ["REGISTRY", "Availability", "Backend", "availability", "open_backend"]

# In order of preference: OpenVINO is the fast one on CPUs, onnxruntime the reference.
REGISTRY = {
    "openvino": "segreg.engine.backends.openvino:OpenVINOBackend",
    "onnxruntime": "segreg.engine.backends.onnxruntime:OnnxRuntimeBackend",
}


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here, its library's version, or why it cannot."""

    name: str
    version: str | None
    reason: str | None

    @property
    def usable(self) -> bool:
        return self.reason is None


def availability() -> list[Availability]:
    """Every known backend, in order of preference."""
    found = []
    for name in REGISTRY:
        try:
            found.append(Availability(name, _backend_class(name).library_version(), None))
        except BackendError as error:
            found.append(Availability(name, None, str(error)))
    return found


def open_backend(
    name: str | None, network: Path, *, channels: int, threads: int | None = None
) -> Backend:
    """Load ``network`` (ONNX) in the named backend, or in the first usable one for ``None``.

    Raises
    ------
    BackendError : unknown name, library missing, or a network that the backend refuses.
    """
    if name is None:
        usable = [entry.name for entry in availability() if entry.usable]
        if not usable:
            raise BackendError(
                f"no inference backend is installed for {platform.machine()}; "
                "pip install 'segreg[cpu]' brings OpenVINO and onnxruntime."
            )
        name = usable[0]
    return _backend_class(name)(network, channels=channels, threads=threads)


def _backend_class(name: str) -> type[Backend]:
    if name not in REGISTRY:
        raise BackendError(f"backend: expected one of {', '.join(REGISTRY)}, got {name!r}.")
    module, _, attribute = REGISTRY[name].partition(":")
    try:
        backend: type[Backend] = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise BackendError(
            f"backend {name}: its library cannot be imported ({error}). "
            "pip install 'segreg[cpu]' brings it."
        ) from error
    return backend
