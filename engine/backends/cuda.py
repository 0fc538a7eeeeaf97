"""What backends of the GPU share: CuPy's arrays in and out, batches in parts, the device."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from segreg.engine.backends.base import Backend
from segreg.engine.errors import BackendError
from segreg.engine.machine import describe_cupy

# CuPy has no types to check against, and is not always there.
DeviceArray = Any

MOST_GRAPHS = 16  # batch shapes for which a CUDA graph is recorded; each keeps its memory


@dataclass(frozen=True)
class Gpu:
    """The current device: its number, name and compute capability."""

    number: int
    name: str
    capability: tuple[int, int]


class CudaBackend(Backend):
    """A backend that computes on CuPy's current device, and stays there.

    A subclass writes ``_run_part``: at most ``options.batch`` regions, on the current stream.
    """

    device = "cuda"

    @property
    def gpu(self) -> Gpu:
        """The device it was loaded on."""
        return self._gpu

    @property
    def arena(self) -> int:
        """Bytes that its library may take beside CuPy's memory, as far as that is bounded."""
        return 0

    @classmethod
    def obstacles(cls) -> list[str]:
        reason = describe_cupy()[1]
        return [] if reason is None else [reason]

    def _open_device(self) -> Gpu:
        """CuPy, kept for the runs, and the device; BackendError where there is none."""
        if found := self.obstacles():
            raise BackendError(f"backend {self.name} cannot run here: {'; '.join(found)}.")
        self._cupy = importlib.import_module("cupy")
        self._gpu = current_gpu(self._cupy)
        return self._gpu

    def _run(self, regions: DeviceArray) -> DeviceArray:
        cupy, most = self._cupy, self.options.batch
        if (current := cupy.cuda.Device().id) != self._gpu.number:
            raise BackendError(
                f"it was loaded on GPU {self._gpu.number}, the current one is {current}; call "
                f"inside `with cupy.cuda.Device({self._gpu.number}):`."
            )
        on_host = isinstance(regions, np.ndarray)
        batch = cupy.asarray(regions) if on_host else regions
        parts = [self._run_part(batch[k : k + most]) for k in range(0, len(batch), most)]
        fields = parts[0] if len(parts) == 1 else cupy.concatenate(parts)
        return cupy.asnumpy(fields) if on_host else fields

    @abstractmethod
    def _run_part(self, regions: DeviceArray) -> DeviceArray: ...


def current_gpu(cupy: Any) -> Gpu:
    """The device that CuPy computes on at the moment."""
    number = int(cupy.cuda.Device().id)
    facts = cupy.cuda.runtime.getDeviceProperties(number)
    name = facts["name"].decode() if isinstance(facts["name"], bytes) else str(facts["name"])
    return Gpu(number, name, (int(facts["major"]), int(facts["minor"])))


def view_memory(cupy: Any, tensor: Any) -> DeviceArray:
    """CuPy's view of a float32 OrtValue on the GPU, which lives as long as the view."""
    shape = tuple(tensor.shape())
    size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    memory = cupy.cuda.UnownedMemory(tensor.data_ptr(), size, tensor)
    return cupy.ndarray(shape, np.float32, cupy.cuda.MemoryPointer(memory, 0))
