"""What a registration would use of a GPU on this machine, before one is opened."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from segreg.engine.backends import REGISTRY, availability
from segreg.engine.backends.cuda import current_gpu
from segreg.engine.backends.engine_cache import cache_folder
from segreg.engine.machine import describe_cupy


@dataclass(frozen=True)
class GpuPath:
    """The GPU, the backend that runs networks there, and where built engines are kept.

    Attributes
    ----------
    backend : None where no backend of a GPU can run; ``reason`` says why.
    device : None where CuPy finds no GPU.
    """

    backend: str | None
    device: str | None
    memory_gib: float | None
    free_memory_gib: float | None
    engine_cache: str
    reason: str | None


def describe_gpu_path() -> GpuPath:
    """The path that ``Engine`` takes if it is not told another."""
    reason = describe_cupy()[1]
    if reason is not None:
        return GpuPath(None, None, None, None, str(cache_folder()), reason)
    cupy = importlib.import_module("cupy")
    free, total = cupy.cuda.runtime.memGetInfo()
    found = [entry for entry in availability() if REGISTRY[entry.name].device == "cuda"]
    usable = [entry.name for entry in found if entry.usable]
    return GpuPath(
        backend=usable[0] if usable else None,
        device=current_gpu(cupy).name,
        memory_gib=total / 2**30,
        free_memory_gib=free / 2**30,
        engine_cache=str(cache_folder()),
        reason=None if usable else "; ".join(f"{entry.name}: {entry.reason}" for entry in found),
    )
