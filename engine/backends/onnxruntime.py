"""onnxruntime on the CPU: the reference backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from segreg.engine.backends.base import Backend, Batch
from segreg.engine.backends.onnx_file import read_onnx
from segreg.engine.errors import BackendError

PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeBackend(Backend):
    name = "onnxruntime"

    @classmethod
    def library_version(cls) -> str:
        return str(onnxruntime.__version__)

    def _load(self, network: Path, threads: int | None) -> None:
        self._session = open_session(self.name, network, threads, PROVIDER)
        self._input = self._session.get_inputs()[0].name
        self._precision = read_onnx(network).precision

    @property
    def precision(self) -> str:
        return self._precision

    def _run(self, regions: Batch) -> Batch:
        return np.asarray(self._session.run(None, {self._input: regions})[0])

    def _close(self) -> None:
        del self._session


def open_session(
    backend: str,
    network: Path,
    threads: int | None,
    provider: str,
    settings: dict[str, str] | None = None,
) -> Any:
    """A session on ``provider`` and no other; ``settings`` are the provider's.

    onnxruntime falls back to another provider without a word: it is compared with what was asked.
    """
    options = onnxruntime.SessionOptions()
    # What get_provider_graph_assignment_info tells.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    asked = provider if settings is None else (provider, settings)
    session = onnxruntime.InferenceSession(str(network), options, providers=[asked])
    if session.get_providers()[:1] != [provider]:
        raise BackendError(
            f"backend {backend}: asked for {provider}, got {', '.join(session.get_providers())}. "
            "onnxruntime's log names the library that it could not load."
        )
    return session
