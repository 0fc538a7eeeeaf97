"""Runs a TensorRT engine on CuPy's memory and the caller's stream; nothing here runs without a GPU.

Working memory comes from CuPy's pool, as much as the shapes of a run need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from segreg.engine.backends.cuda import MOST_GRAPHS, DeviceArray
from segreg.engine.backends.engine_build import RTX, library_name
from segreg.engine.errors import BackendError


@dataclass(frozen=True)
class Recording:
    """A CUDA graph and the memory that it reads and writes."""

    graph: Any
    regions: DeviceArray
    field: DeviceArray
    working: Any


class EngineRunner:
    """An engine with one execution context.

    Parameters
    ----------
    record : replay a CUDA graph for each batch shape. TensorRT for RTX records by itself.
    compiled : kernels that TensorRT for RTX compiled in an earlier run, as ``close`` gave them.
    """

    def __init__(
        self, cupy: Any, library: Any, engine: Any, *, record: bool, compiled: bytes
    ) -> None:
        self._cupy, self._engine = cupy, engine
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        inputs = [n for n in names if engine.get_tensor_mode(n) == library.TensorIOMode.INPUT]
        self._input = inputs[0]
        self._output = next(n for n in names if n not in inputs)
        settings = engine.create_runtime_config()
        strategy = library.ExecutionContextAllocationStrategy.USER_MANAGED
        settings.set_execution_context_allocation_strategy(strategy)
        self._kernels: Any = None
        if library_name(library) == RTX:
            if record:
                settings.cuda_graph_strategy = library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self._kernels = settings.create_runtime_cache()
            if compiled:
                self._kernels.deserialize(compiled)  # what does not fit is left out, as on day one
            settings.set_runtime_cache(self._kernels)
        self._context = engine.create_execution_context(settings)
        self._records = record and library_name(library) != RTX
        self._recordings: dict[tuple[int, ...], Recording] = {}
        self._last: Any = None

    def run(self, regions: DeviceArray) -> DeviceArray:
        """Field (K, 3, D', H', W') for ``regions`` (K, C, D, H, W), on the current stream."""
        stream = self._cupy.cuda.get_current_stream()
        if self._last is not None:  # the context runs one batch at a time, whatever the stream
            stream.wait_event(self._last)
        recording = self._recording(regions.shape, stream) if self._records else None
        if recording is None:
            field = self._cupy.empty(self._set_shape(regions.shape), np.float32)
            self._enqueue(regions, field, stream)
        else:
            recording.regions[...] = regions
            recording.graph.launch(stream)
            field = recording.field.copy()
        self._last = stream.record()
        return field

    def close(self) -> bytes:
        """Wait for the last run and let go; returns the kernels compiled by TensorRT for RTX."""
        if self._last is not None:
            self._last.synchronize()
        compiled = b"" if self._kernels is None else bytes(self._kernels.serialize())
        self._recordings.clear()
        del self._context, self._engine
        return compiled

    def _set_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the field for a batch of ``shape``."""
        if not self._context.set_input_shape(self._input, shape):
            smallest, _, largest = self._engine.get_tensor_profile_shape(self._input, 0)
            raise BackendError(
                f"its engine takes {tuple(smallest)} to {tuple(largest)}, got {shape}; "
                "open it with other CudaOptions (batch, canvas)."
            )
        return tuple(self._context.get_tensor_shape(self._output))

    def _enqueue(self, regions: DeviceArray, field: DeviceArray, stream: Any) -> Any:
        """Run on ``stream``; returns the working memory, which CuPy reuses in stream order."""
        size = max(1, self._context.update_device_memory_size_for_shapes())
        working = self._cupy.cuda.alloc(size)
        self._context.set_device_memory(working.ptr, size)
        self._context.set_tensor_address(self._input, regions.data.ptr)
        self._context.set_tensor_address(self._output, field.data.ptr)
        self._execute(stream)
        return working

    def _execute(self, stream: Any) -> None:
        if not self._context.execute_async_v3(stream.ptr):
            raise BackendError("TensorRT did not start the run; its log says why.")

    def _recording(self, shape: tuple[int, ...], caller: Any) -> Recording | None:
        """The graph for a batch shape, recorded when it is new; None once there are enough."""
        if shape not in self._recordings and len(self._recordings) < MOST_GRAPHS:
            stream = self._cupy.cuda.Stream(non_blocking=True)
            stream.wait_event(caller.record())
            with stream:
                regions = self._cupy.zeros(shape, np.float32)
                field = self._cupy.empty(self._set_shape(shape), np.float32)
                working = self._enqueue(regions, field, stream)  # the first run sets things up
                stream.begin_capture()
                self._execute(stream)
                graph = stream.end_capture()
            stream.synchronize()
            self._recordings[shape] = Recording(graph, regions, field, working)
        return self._recordings.get(shape)
