"""What every inference backend does: check, run, check again."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from segreg.engine.backends.onnx_file import read_onnx
from segreg.engine.backends.options import CudaOptions
from segreg.engine.errors import BackendError, OperatorError, PrecisionError
from segreg.kernels._machines import machine_of

# (K, C, D, H, W) float32; a backend of device "cuda" takes and gives CuPy arrays too.
Batch = NDArray[np.float32]

ANY_CANVAS = (16, 80, 160)


class Backend(ABC):
    """A loaded network: region canvases in, vector fields out; or images in, scores out.

    The base checks state, shapes and values; a subclass writes ``_load``, ``_run`` and ``_close``.
    One instance may be shared by threads: runs are serialised, since one run uses the whole
    processor or GPU.

    Attributes
    ----------
    asked : the arithmetic asked for, or None for that of the network's weights. The file holds it,
        but for bfloat16, which only a backend that makes it from float32 can do.
    channels, outputs : of the network's input and output.
    canvas : smallest, usual and largest canvas, cells per axis. A backend that builds for shapes
        builds for these, if the network leaves the size open.
    device : ``cpu`` takes NumPy arrays; ``cuda`` takes CuPy arrays, and NumPy arrays, which it
        copies to the GPU and back.
    notes : sentences about what happened while loading that nobody asked for.
    """

    name: ClassVar[str]
    device: ClassVar[str] = "cpu"

    def __init__(
        self,
        network: Path,
        *,
        channels: int,
        outputs: int = 3,
        threads: int | None = None,
        canvas: Sequence[int] = ANY_CANVAS,
        options: CudaOptions | None = None,
        precision: str | None = None,
    ) -> None:
        if options is not None and self.device == "cpu":
            raise BackendError(
                f"backend {self.name} runs on the CPU and takes no CudaOptions; leave them "
                "out (--gpu, --gpu-memory, --cuda-graph, --engine-cache)."
            )
        self.channels, self.outputs = channels, outputs
        self.asked = precision
        self.canvas = canvas_range(canvas)
        self.options = options or CudaOptions()
        self.notes: list[str] = []
        self._lock = threading.Lock()
        self._open = False
        try:
            self._load(network, threads)
        except BackendError:
            raise
        except Exception as error:  # libraries raise their own types
            raise self._refusal(network, str(error).strip()) from error
        self._open = True
        if precision not in (None, self.precision):
            self.close()
            raise PrecisionError(
                f"backend {self.name}: asked to run {network.name} in {precision}, it would in "
                f"{self.precision}; ask for that, or name another backend."
            )

    @classmethod
    @abstractmethod
    def library_version(cls) -> str:
        """Version of the library behind the backend."""

    @classmethod
    def obstacles(cls) -> list[str]:
        """Why the backend cannot run on this machine although its library is there."""
        return []

    @classmethod
    def check(cls, network: Path, *, channels: int) -> None:
        """Raises BackendError unless the backend has all operators of ``network``."""
        cls(network, channels=channels).close()

    @property
    def precision(self) -> str:
        """Arithmetic the network runs in: ``float32``, ``bfloat16``, ``float16`` or ``int8``."""
        return "float32"

    def infer(self, regions: Batch) -> Batch:
        """Vector field (K, 3, D', H', W') for canvases ``regions`` (K, C, D, H, W) float32.

        A network of other ``outputs`` gives as many channels. The field is an array of the same
        kind, NumPy or CuPy; it is computed on CuPy's current stream.
        """
        batch = self._checked(regions)
        with self._lock:
            if not self._open:
                raise BackendError(f"backend {self.name}: infer after close; open it again.")
            try:
                field = self._run(batch)
            except Exception as error:
                raise BackendError(f"backend {self.name} failed while running: {error}") from error
        if field.ndim != 5 or field.shape[:2] != (len(regions), self.outputs):
            raise BackendError(
                f"backend {self.name}: expected the network to give ({len(regions)}, "
                f"{self.outputs}, D, H, W), got {field.shape}. The package's metadata does not fit "
                "its network."
            )
        if not np.isfinite(field).all():
            raise BackendError(
                f"backend {self.name}: the network gave NaN or infinite values; "
                "its weights or the intensities are damaged."
            )
        return field

    def close(self) -> None:
        """Free the network, after a run that is under way; further ``infer`` calls raise."""
        with self._lock:
            if self._open:
                self._open = False
                self._close()

    def _checked(self, regions: Any) -> Batch:
        machine = machine_of(regions=regions)
        if machine.name == "cuda" and self.device == "cpu":
            raise TypeError(
                f"regions: backend {self.name} runs on the CPU and takes NumPy arrays, got a CuPy "
                "array. Move it with cupy.asnumpy, or open a backend of the GPU."
            )
        if regions.ndim != 5 or regions.shape[1] != self.channels or regions.dtype != np.float32:
            raise ValueError(
                f"regions: expected (K, {self.channels}, D, H, W) float32, "
                f"got {regions.shape} {regions.dtype}."
            )
        batch: Batch = machine.contiguous(regions)
        return batch

    def _refusal(self, network: Path, words: str) -> BackendError:
        """The error for a network that the library refused with ``words``."""
        known = read_onnx(network).operators if network.is_file() else frozenset()
        named = tuple(sorted(o for o in known if re.search(rf"\b{re.escape(o)}\b", words)))
        if not named:
            return BackendError(f"backend {self.name} refuses {network.name}: {words}")
        return refused_operators(self.name, network, named, words)

    @abstractmethod
    def _load(self, network: Path, threads: int | None) -> None: ...

    @abstractmethod
    def _run(self, regions: Batch) -> Batch: ...

    @abstractmethod
    def _close(self) -> None: ...


def canvas_range(canvas: Sequence[int]) -> tuple[int, int, int]:
    """Smallest, usual and largest of a package's canvas sizes."""
    sizes = sorted(canvas)
    if not sizes or sizes[0] < 1:
        raise ValueError(f"canvas: expected sizes of at least 1 cell, got {tuple(canvas)}.")
    return sizes[0], sizes[len(sizes) // 2], sizes[-1]


def refused_operators(
    backend: str, network: Path, operators: tuple[str, ...], words: str
) -> OperatorError:
    """The error of a backend that lacks ``operators``; ``words`` are those of its library."""
    return OperatorError(
        f"backend {backend} refuses {network.name} because of {', '.join(operators)}: {words}",
        operators,
    )
