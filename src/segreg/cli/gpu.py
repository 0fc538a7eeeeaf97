"""Options of the GPU: which, how much of its memory, how networks are loaded on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from segreg.engine.backends import CudaOptions

GpuMemory = Annotated[
    str | None,
    typer.Option(
        "--gpu-memory",
        metavar="SIZE",
        help="What may be taken of the GPU's memory, such as 4GiB: less means smaller batches.",
    ),
]
GpuNumber = Annotated[
    int | None, typer.Option("--gpu", min=0, help="Number of the GPU, where there are several.")
]
CudaGraph = Annotated[
    bool,
    typer.Option(
        "--cuda-graph",
        help="Record the network's run for each batch shape and replay it: faster from the second "
        "pair of a size on, and more memory.",
    ),
]
EngineCache = Annotated[
    Path | None,
    typer.Option(
        "--engine-cache",
        metavar="FOLDER",
        help="Where TensorRT's engines are kept; without it SEGREG_CACHE, or the user's cache.",
    ),
]


def cuda_options(
    backend: str | None,
    number: int | None,
    graph: bool,
    cache: Path | None,
    progress: Callable[[str, int, int], None] | None,
) -> CudaOptions | None:
    """What was asked for; None if nothing was, or if ``progress`` alone goes to a CPU's backend."""
    from segreg.engine.backends import REGISTRY, CudaOptions

    asked = number is not None or graph or cache is not None
    on_cpu = backend in REGISTRY and REGISTRY[backend].device == "cpu"
    if not asked and (progress is None or on_cpu):
        return None
    return CudaOptions(device=number, record=graph, cache=cache, progress=progress)
