"""What every inference backend does: check, run, check again."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segreg.engine.errors import BackendError

Batch = NDArray[np.float32]


class Backend(ABC):
    """A loaded registration network: region canvases in, vector fields out.

    The base checks state, shapes and values; a subclass writes ``_load``, ``_run`` and ``_close``.
    One instance may be shared by threads: runs are serialised, since a CPU run uses all cores.
    """

    name: ClassVar[str]

    def __init__(self, network: Path, *, channels: int, threads: int | None = None) -> None:
        self.channels = channels
        self._lock = threading.Lock()
        self._open = False
        try:
            self._load(network, threads)
        except BackendError:
            raise
        except Exception as error:  # libraries raise their own types
            raise BackendError(
                f"backend {self.name} refuses {network.name}: {str(error).strip()} "
                "(If it lacks an operator, ask for another backend by name.)"
            ) from error
        self._open = True

    @classmethod
    @abstractmethod
    def library_version(cls) -> str:
        """Version of the library behind the backend."""

    @property
    def precision(self) -> str:
        """Arithmetic the network runs in, such as ``float32`` or ``bfloat16``."""
        return "float32"

    def infer(self, regions: Batch) -> Batch:
        """Vector field (K, 3, D', H', W') for canvases ``regions`` (K, C, D, H, W) float32."""
        if regions.ndim != 5 or regions.shape[1] != self.channels or regions.dtype != np.float32:
            raise ValueError(
                f"regions: expected (K, {self.channels}, D, H, W) float32, "
                f"got {regions.shape} {regions.dtype}."
            )
        with self._lock:
            if not self._open:
                raise BackendError(f"backend {self.name}: infer after close; open it again.")
            try:
                field = self._run(np.ascontiguousarray(regions))
            except Exception as error:
                raise BackendError(f"backend {self.name} failed while running: {error}") from error
        if field.ndim != 5 or field.shape[:2] != (len(regions), 3):
            raise BackendError(
                f"backend {self.name}: expected the network to give ({len(regions)}, 3, D, H, W), "
                f"got {field.shape}. The package's metadata does not fit its network."
            )
        if not np.isfinite(field).all():
            raise BackendError(
                f"backend {self.name}: the network gave NaN or infinite vectors; "
                "its weights or the intensities are damaged."
            )
        return field

    def close(self) -> None:
        """Free the network, after a run that is under way; further ``infer`` calls raise."""
        with self._lock:
            if self._open:
                self._open = False
                self._close()

    @abstractmethod
    def _load(self, network: Path, threads: int | None) -> None: ...

    @abstractmethod
    def _run(self, regions: Batch) -> Batch: ...

    @abstractmethod
    def _close(self) -> None: ...
