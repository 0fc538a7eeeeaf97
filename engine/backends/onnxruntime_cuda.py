"""onnxruntime on a GPU, bound to CuPy's memory both ways.

The session has a stream of its own, since onnxruntime takes one when it loads and cannot change it
later: it waits for the caller's stream, and the caller's stream waits for it. The host never does.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from segreg.engine.backends.base import refused_operators
from segreg.engine.backends.cuda import MOST_GRAPHS, CudaBackend, DeviceArray, view_memory
from segreg.engine.backends.onnx_file import read_onnx
from segreg.engine.backends.onnxruntime import open_session
from segreg.engine.errors import BackendError

PROVIDER = "CUDAExecutionProvider"
DEVICE = "cuda"  # as I/O binding calls it

# onnxruntime computes shapes on the CPU on purpose; anything else there is a fallback.
SHAPE_OPERATORS = {
    "Add", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand",
    "Floor", "Gather", "Identity", "Mod", "Mul", "Range", "ReduceProd", "Reshape", "Shape", "Size",
    "Slice", "Squeeze", "Sub", "Unsqueeze", "Where",
}
NO_GRAPH = -1  # onnxruntime's number for a run that is neither recorded nor replayed


class OnnxRuntimeCudaBackend(CudaBackend):
    name = "onnxruntime-cuda"

    @classmethod
    def library_version(cls) -> str:
        return str(onnxruntime.__version__)

    @classmethod
    def obstacles(cls) -> list[str]:
        found = super().obstacles()
        if PROVIDER in onnxruntime.get_available_providers():
            return found
        mend = "pip uninstall onnxruntime, then pip install --force-reinstall onnxruntime-gpu"
        return [*found, f"onnxruntime {onnxruntime.__version__} has no {PROVIDER}; {mend}"]

    @property
    def precision(self) -> str:
        return self._precision

    @property
    def arena(self) -> int:
        return self.options.memory or 0

    def _load(self, network: Path, threads: int | None) -> None:
        self._open_device()
        self._stream = self._cupy.cuda.Stream(non_blocking=True)
        with redirect_stdout(sys.stderr):  # it prints what it does not find
            onnxruntime.preload_dlls(directory="")  # CUDA and cuDNN that pip installed
        self._session = open_session(self.name, network, threads, PROVIDER, self._settings())
        self._check_placement(network)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        kinds = [value.type for value in (*inputs, *outputs)]
        if kinds != ["tensor(float)"] * 2:
            raise BackendError(
                f"backend {self.name} refuses {network.name}: expected one input and one output, "
                f"float32, got {', '.join(kinds)}. Cast inside the network."
            )
        self._input, self._output = inputs[0].name, outputs[0].name
        self._precision = read_onnx(network).precision
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._graphs: dict[tuple[int, ...], tuple[int, DeviceArray, DeviceArray]] = {}

    def _settings(self) -> dict[str, str]:
        settings = {
            "device_id": str(self._gpu.number),
            "user_compute_stream": str(self._stream.ptr),
            "cudnn_conv_algo_search": self.options.search.upper(),
            # The arena's habit of doubling would take memory that the kernels need.
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": str(int(self.options.tf32)),
            "enable_cuda_graph": str(int(self.options.record)),
        }
        if self.options.memory is not None:
            settings["gpu_mem_limit"] = str(self.options.memory)
        return settings

    def _check_placement(self, network: Path) -> None:
        """Single nodes fall back to the CPU without a word, too."""
        left = {
            node.op_type
            for part in self._session.get_provider_graph_assignment_info()
            if part.ep_name != PROVIDER
            for node in part.get_nodes()
        }
        if lacking := tuple(sorted(left - SHAPE_OPERATORS)):
            words = f"onnxruntime {onnxruntime.__version__} would run it on the CPU."
            raise refused_operators(self.name, network, lacking, words)

    def _run_part(self, regions: DeviceArray) -> DeviceArray:
        cupy, caller = self._cupy, self._cupy.cuda.get_current_stream()
        self._stream.wait_event(caller.record())
        shape, answer = self._shapes.get(regions.shape), None
        if shape is None:  # the first of its shape: onnxruntime says how large the field is
            answer = view_memory(cupy, self._bind_and_run(regions, None))
            shape = self._shapes[regions.shape] = answer.shape
        # The field's memory is the caller's: it is used, and freed, on the caller's stream.
        field = cupy.empty(shape, np.float32)
        with self._stream:
            if answer is not None:
                field[...] = answer
            elif recorded := self._static(regions.shape, shape):
                number, static_regions, static_field = recorded
                static_regions[...] = regions
                self._bind_and_run(static_regions, static_field, number)
                field[...] = static_field
            else:
                self._bind_and_run(regions, field)
        caller.wait_event(self._stream.record())
        return field

    def _bind_and_run(
        self, regions: DeviceArray, field: DeviceArray | None, number: int = NO_GRAPH
    ) -> Any:
        """Run into ``field``, or for None into memory of onnxruntime's, which is returned."""
        binding, place = self._session.io_binding(), (DEVICE, self._gpu.number)
        binding.bind_input(self._input, *place, np.float32, regions.shape, regions.data.ptr)
        if field is None:
            binding.bind_output(self._output, *place)
        else:
            binding.bind_output(self._output, *place, np.float32, field.shape, field.data.ptr)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if self.options.record:
            options.add_run_config_entry("gpu_graph_id", str(number))
        self._session.run_with_iobinding(binding, options)
        return binding.get_outputs()[0] if field is None else None

    def _static(
        self, shape: tuple[int, ...], field: tuple[int, ...]
    ) -> tuple[int, DeviceArray, DeviceArray] | None:
        """Number and buffers of the graph for a batch shape; None where none is recorded."""
        if self.options.record and shape not in self._graphs and len(self._graphs) < MOST_GRAPHS:
            empty, number = self._cupy.empty, len(self._graphs) + 1
            self._graphs[shape] = number, empty(shape, np.float32), empty(field, np.float32)
        return self._graphs.get(shape)

    def _close(self) -> None:
        self._stream.synchronize()
        del self._session
        self._graphs.clear()
