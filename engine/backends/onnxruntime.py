"""onnxruntime on the CPU: the reference backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from segreg.engine.backends.base import Backend, Batch
from segreg.engine.errors import BackendError

PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeBackend(Backend):
    name = "onnxruntime"

    @classmethod
    def library_version(cls) -> str:
        return str(onnxruntime.__version__)

    def _load(self, network: Path, threads: int | None) -> None:
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(network), options, providers=[PROVIDER])
        # onnxruntime falls back to another provider without a word: compare with what was asked.
        if self._session.get_providers() != [PROVIDER]:
            raise BackendError(
                f"backend {self.name}: asked for {PROVIDER}, got {self._session.get_providers()}."
            )
        self._input = self._session.get_inputs()[0].name

    def _run(self, regions: Batch) -> Batch:
        return np.asarray(self._session.run(None, {self._input: regions})[0])

    def _close(self) -> None:
        del self._session
