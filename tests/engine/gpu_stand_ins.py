"""CuPy, and TensorRT's runtime, on host memory: the code for a GPU runs where there is none.

Arrays, pointers, streams and graphs behave as CuPy's do, but for time: work is done at once, unless
a stream is capturing. Copies between host and device are counted.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

GPU_NAME, CAPABILITY = "Stand-in GPU", (8, 6)


class Array:
    """A CuPy array whose device memory is a NumPy array."""

    def __init__(self, shape: Any, dtype: Any = np.float32, memptr: Any = None) -> None:
        if memptr is None:
            self.host = np.full(shape, 7, dtype)  # memory is never clean
        else:
            self.owner, count = memptr, int(np.prod(shape))
            self.host = read_memory(memptr.ptr, count).reshape(shape)

    @classmethod
    def around(cls, host: Any) -> Array:
        array = cls.__new__(cls)
        array.host = host
        return array

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    data = property(lambda self: SimpleNamespace(ptr=self.host.ctypes.data))
    device = property(lambda self: SimpleNamespace(id=0))

    def __len__(self) -> int:
        return len(self.host)

    def __getitem__(self, key: Any) -> Array:
        return Array.around(self.host[key])

    def __setitem__(self, key: Any, value: Array) -> None:
        self.host[key] = value.host

    def __array_ufunc__(self, ufunc: Any, method: str, *arrays: Any) -> Any:
        return getattr(ufunc, method)(*(a.host for a in arrays))

    def __array__(self, *_: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def copy(self) -> Array:
        return Array.around(self.host.copy())


Array.__module__, Array.__qualname__ = "cupy", "ndarray"


class Stream:
    """Numbers itself and remembers whom it waited for."""

    opened: list[Stream] = []  # noqa: RUF012
    current: list[Stream] = []  # noqa: RUF012

    def __init__(self, non_blocking: bool = False) -> None:
        self.waited: list[Stream] = []
        self.capturing: list[Callable[[], None]] | None = None
        self.opened.append(self)
        self.ptr = len(self.opened)

    def record(self) -> Any:
        return SimpleNamespace(stream=self, synchronize=lambda: None)

    def wait_event(self, event: Any) -> None:
        self.waited.append(event.stream)

    def synchronize(self) -> None:
        pass

    def __enter__(self) -> Stream:
        self.current.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        self.current.pop()

    def begin_capture(self) -> None:
        self.capturing = []

    def end_capture(self) -> Any:
        work, self.capturing = self.capturing or [], None
        return SimpleNamespace(launch=lambda stream: [step() for step in work])


def make_cupy() -> Any:
    """The module; ``copies`` lists what crossed the bus: "up" and "down"."""
    Stream.opened.clear()
    Stream.current[:] = [Stream()]
    cupy = ModuleType("cupy")
    cupy.__spec__ = ModuleSpec("cupy", None)
    copies: list[str] = []

    def asarray(host: Any) -> Array:
        if isinstance(host, Array):
            return host
        copies.append("up")
        return Array.around(np.array(host))

    def asnumpy(array: Array) -> Any:
        copies.append("down")
        return array.host.copy()

    properties = {"name": GPU_NAME.encode(), "major": CAPABILITY[0], "minor": CAPABILITY[1]}
    contents = {
        "__version__": "14.2.0",
        "copies": copies,
        "ndarray": Array,
        "asarray": asarray,
        "asnumpy": asnumpy,
        "empty": Array,
        "zeros": lambda shape, dtype: Array.around(np.zeros(shape, dtype)),
        "ascontiguousarray": lambda a: Array.around(np.ascontiguousarray(a.host)),
        "concatenate": lambda parts: Array.around(np.concatenate([p.host for p in parts])),
        "cuda": SimpleNamespace(
            Device=lambda: SimpleNamespace(id=0),
            Stream=Stream,
            get_current_stream=lambda: Stream.current[-1],
            alloc=lambda size: SimpleNamespace(ptr=256, size=size),
            UnownedMemory=lambda ptr, size, owner: SimpleNamespace(ptr=ptr, owner=owner),
            MemoryPointer=lambda memory, offset: SimpleNamespace(
                ptr=memory.ptr + offset, memory=memory
            ),
            runtime=SimpleNamespace(
                getDeviceCount=lambda: 1, getDeviceProperties=lambda number: properties
            ),
        ),
    }
    cupy.__dict__.update(contents)
    return cupy


def read_memory(pointer: int, count: int) -> Any:
    """The float32 numbers at ``pointer``, not copied."""
    return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (count,))


class Engine:
    """TensorRT's engine and its context in one: onnxruntime on the memory it is given."""

    num_io_tensors = 2

    def __init__(self, library: Any, network: Path, profile: Any) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(
            str(network), providers=["CPUExecutionProvider"]
        )
        self.library, self.profile = library, profile
        self.addresses: dict[str, int] = {}
        self.runs = 0

    def get_tensor_name(self, number: int) -> str:
        return str([*self.session.get_inputs(), *self.session.get_outputs()][number].name)

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.library.TensorIOMode
        return modes.INPUT if name == self.session.get_inputs()[0].name else modes.OUTPUT

    def create_runtime_config(self) -> Any:
        cache = SimpleNamespace(
            serialize=lambda: b"compiled kernels",
            deserialize=lambda content: setattr(self, "given", content),
        )
        self.settings = SimpleNamespace(
            set_execution_context_allocation_strategy=lambda strategy: None,
            create_runtime_cache=lambda: cache,
            set_runtime_cache=lambda given: True,
            cuda_graph_strategy=None,
        )
        return self.settings

    def create_execution_context(self, settings: Any) -> Engine:
        return self

    def get_tensor_profile_shape(self, name: str, number: int) -> Any:
        return self.profile

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        smallest, _, largest = self.profile
        return all(a <= b <= c for a, b, c in zip(smallest, shape, largest, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._compute(np.zeros(self.shape, np.float32)).shape)

    def update_device_memory_size_for_shapes(self) -> int:
        return 1000

    def set_device_memory(self, pointer: int, size: int) -> None:
        assert (pointer % 256, size) == (0, 1000)

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.addresses[name] = pointer
        return True

    def execute_async_v3(self, stream: int) -> bool:
        pointers = [self.addresses[self.get_tensor_name(k)] for k in range(2)]
        shape = self.shape

        def work() -> None:
            self.runs += 1
            field = self._compute(read_memory(pointers[0], int(np.prod(shape))).reshape(shape))
            read_memory(pointers[1], field.size)[:] = field.ravel()

        capturing = Stream.opened[stream - 1].capturing
        if capturing is None:
            work()
        else:
            capturing.append(work)
        return True

    def _compute(self, regions: Any) -> Any:
        return self.session.run(None, {self.session.get_inputs()[0].name: regions})[0]


def replace_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime binds host memory; TensorRT for RTX builds, also as TensorRT, and does not run.

    Whatever of them is not installed is left alone.
    """
    if importlib.util.find_spec("onnxruntime"):
        module = importlib.import_module("segreg.engine.backends.onnxruntime_cuda")
        monkeypatch.setattr(module, "PROVIDER", "CPUExecutionProvider")
        monkeypatch.setattr(module, "DEVICE", "cpu")
        monkeypatch.setattr(module.OnnxRuntimeCudaBackend, "_settings", lambda self: {})
    if importlib.util.find_spec("tensorrt_rtx"):
        _replace_tensorrt(monkeypatch)


def _replace_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    rtx = importlib.import_module("tensorrt_rtx")
    full = ModuleType("tensorrt")
    full.__dict__.update({k: v for k, v in vars(rtx).items() if not k.startswith("__")})
    full.__dict__["__version__"] = "11.2.1"
    monkeypatch.setitem(sys.modules, "tensorrt", full)
    module = importlib.import_module("segreg.engine.backends.tensorrt")
    building = importlib.import_module("segreg.engine.backends.engine_build")
    load, build = module.TensorRTBackend._load, module.build_engine
    at_hand: dict[str, Any] = {}

    def remember(self: Any, network: Path, threads: int | None) -> None:
        at_hand.update(network=network, canvas=self.canvas, batch=self.options.batch)
        load(self, network, threads)

    def build_without_gpu(*arguments: Any, **options: Any) -> Any:
        with warnings.catch_warnings():  # that nothing is timed
            warnings.simplefilter("ignore", DeprecationWarning)
            return build(*arguments, **options, capability=CAPABILITY)

    class Runtime:
        def __init__(self, log: Any) -> None:
            pass

        def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
            parsed = building.parse_network(rtx, at_hand["network"], "tensorrt-rtx")
            shape = tuple(parsed.definition.get_input(0).shape)
            profile = building.profile_shapes(shape, at_hand["batch"], at_hand["canvas"])
            return Engine(rtx, at_hand["network"], profile) if content[:4] != b"torn" else None

    monkeypatch.setattr(module.TensorRTBackend, "_load", remember)
    monkeypatch.setattr(module, "build_engine", build_without_gpu)
    for library in (rtx, full):
        monkeypatch.setattr(library, "Runtime", Runtime)
