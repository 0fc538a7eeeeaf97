"""How a network is loaded on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Called while an engine is built with (phase, steps done, steps in all).
BuildProgress = Callable[[str, int, int], None]

SEARCHES = ("heuristic", "exhaustive", "default")


@dataclass(frozen=True)
class CudaOptions:
    """Options of the backends that run on a GPU.

    Attributes
    ----------
    batch : most regions in one run; a larger batch runs in parts.
    device : number of the GPU; None takes the current one.
    cache : folder where TensorRT's engines are kept; None takes the user's cache folder.
    record : record a CUDA graph for each batch shape and replay it: faster where launching takes
        long, and memory for each shape.
    tf32 : let float32 products round to TensorFloat-32, ten bits: faster, errors of about 1e-3.
    memory : bytes that onnxruntime's arena may take; None for no bound.
    search : how cuDNN's convolutions are chosen by onnxruntime: ``heuristic`` starts at once,
        ``exhaustive`` times them all at the first run of each shape.
    progress : called while TensorRT builds; an exception it raises stops the build.
    """

    batch: int = 16
    device: int | None = None
    cache: Path | None = None
    record: bool = False
    tf32: bool = False
    memory: int | None = None
    search: str = "heuristic"
    progress: BuildProgress | None = None

    @property
    def chosen(self) -> bool:
        """Whether they ask for something that only a GPU can do; a bound or a bar does not."""
        return self.device is not None or self.record or self.cache is not None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch: expected at least 1 region, got {self.batch}.")
        if self.device is not None and self.device < 0:
            raise ValueError(f"device: expected the number of a GPU, from 0, got {self.device}.")
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"memory: expected bytes, at least 1, or None, got {self.memory}.")
        if self.search not in SEARCHES:
            raise ValueError(
                f"search: expected one of {', '.join(SEARCHES)}, got {self.search!r}."
            )
