"""OpenVINO on the CPU: bfloat16 where the processor multiplies it natively, else float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino

from segreg.engine.backends.base import Backend, Batch


class OpenVINOBackend(Backend):
    """One compiled model, one request; regions run one by one, which costs nothing on a CPU
    and keeps a region's result independent of its batch."""

    name = "openvino"

    @classmethod
    def library_version(cls) -> str:
        return str(openvino.__version__).split("-")[0]

    @property
    def precision(self) -> str:
        return {"bf16": "bfloat16", "f32": "float32", "f16": "float16"}[self._precision]

    def _load(self, network: Path, threads: int | None) -> None:
        core = openvino.Core()
        model = core.read_model(network)
        options: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(model, "CPU", options)
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        self._precision = hint.to_string() if hasattr(hint, "to_string") else str(hint)
        self._request = self._compiled.create_infer_request()

    def _run(self, regions: Batch) -> Batch:
        fields = []
        for region in regions:
            self._request.infer({0: region[None]}, share_inputs=True)
            fields.append(self._request.get_output_tensor(0).data.copy())
        return np.concatenate(fields)

    def _close(self) -> None:
        del self._request, self._compiled
