"""OpenVINO on the CPU: float32, bfloat16 from the same file, or quantised networks in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino

from segreg.engine.backends.base import Backend, Batch
from segreg.engine.backends.onnx_file import read_onnx

HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVINOBackend(Backend):
    """One compiled model, one request; regions run one by one, which costs nothing on a CPU
    and keeps a region's result independent of its batch."""

    name = "openvino"

    @classmethod
    def library_version(cls) -> str:
        return str(openvino.__version__).split("-")[0]

    @property
    def precision(self) -> str:
        return self._precision

    def _load(self, network: Path, threads: int | None) -> None:
        wanted = self.asked or read_onnx(network).precision
        core = openvino.Core()
        model = core.read_model(network)
        options: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        if wanted in HINTS:  # what a quantised network leaves in floats is OpenVINO's choice
            options["INFERENCE_PRECISION_HINT"] = HINTS[wanted]
        self._compiled = core.compile_model(model, "CPU", options)
        self._precision = wanted if wanted not in HINTS else self._executed()
        self._request = self._compiled.create_infer_request()

    def _executed(self) -> str:
        """What OpenVINO made of the hint: it runs what the processor lacks in float32."""
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        name = hint.to_string() if hasattr(hint, "to_string") else str(hint)
        return next(precision for precision, short in HINTS.items() if short == name)

    def _run(self, regions: Batch) -> Batch:
        fields = []
        for region in regions:
            self._request.infer({0: region[None]}, share_inputs=True)
            fields.append(self._request.get_output_tensor(0).data.copy())
        return np.concatenate(fields)

    def _close(self) -> None:
        del self._request, self._compiled
