"""CuPy on host memory, stricter than CuPy: what a GPU would do later is done late here, too.

Arrays refuse to meet NumPy's unasked. Copies between host and device are done when somebody waits
for them, not before. Memory has a limit that counts. Kernels are the CUDA sources, built by the
host's compiler, launched through the same call as on a GPU. All of it is written down in ``Log``.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segreg.kernels import _machines
from segreg.kernels._launches import AFFINE
from tests.engine.gpu_stand_ins import replace_libraries
from tests.engine.strict_streams import Event, Memory, Pool, Stream
from tests.kernels.conftest import Affine, Emulated, Extent

GARBAGE = 0x5A  # what memory holds before something is written to it


@dataclass
class Log:
    """What happened: bytes that crossed the bus asynchronously and at once, launches, waits."""

    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    small_up: list[int] = field(default_factory=list)
    small_down: list[int] = field(default_factory=list)
    launches: list[tuple[str, Any]] = field(default_factory=list)
    waits: int = 0

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that NumPy cannot look into."""

    gpu: StrictGpu  # of the module that it was made by

    def __init__(self, shape: Any, dtype: Any = np.float32, memptr: Any = None) -> None:
        if memptr is None:
            self.host = np.empty(shape, dtype)
            self.host.view(np.uint8).fill(GARBAGE) if self.host.size else None
            self.gpu.pool.take(self.host)
        else:
            kind = ctypes.c_ubyte * (int(np.prod(shape)) * np.dtype(dtype).itemsize)
            self.owner = memptr
            self.host = np.frombuffer(kind.from_address(memptr.ptr), dtype).reshape(shape)

    @classmethod
    def around(cls, host: Any, *, fresh: bool = True) -> Array:
        array = cls.__new__(cls)
        array.host = np.asarray(host)
        if fresh and array.host.base is None:
            cls.gpu.pool.take(array.host)
        return array

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    flags = property(lambda self: SimpleNamespace(c_contiguous=self.host.flags.c_contiguous))
    data = property(lambda self: Memory(self))
    device = property(lambda self: SimpleNamespace(id=0))

    def __len__(self) -> int:
        return len(self.host)

    def _key(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        found = []
        for part in parts:
            if isinstance(part, Array):
                self.gpu.log.waits += part.dtype == bool  # CuPy counts them on the host
                found.append(part.host)
            elif part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)):
                found.append(part)
            else:
                raise TypeError(f"an index of {type(part).__name__} into an array of the GPU")
        return tuple(found)

    def __getitem__(self, key: Any) -> Array:
        return Array.around(self.host[self._key(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.host[self._key(key)] = _unwrap(value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        assert method == "__call__"
        options = {name: _unwrap(value) for name, value in options.items()}
        return Array.around(ufunc(*map(_unwrap, inputs), **options))

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was given an array of the GPU")

    def __array__(self, *_: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def _number(self) -> Any:
        self.gpu.log.waits += 1
        return self.host.item()

    def __bool__(self) -> bool:
        return bool(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def get(self) -> np.ndarray:
        self.gpu.log.waits += 1
        self.gpu.log.small_down.append(self.nbytes)
        return self.host.copy()

    def nonzero(self) -> tuple[Array, ...]:
        self.gpu.log.waits += 1
        return tuple(map(Array.around, self.host.nonzero()))


Array.__module__, Array.__qualname__ = "cupy", "ndarray"


def _method(name: str) -> Any:
    def call(self: Array, *arguments: Any, **options: Any) -> Array:
        result = getattr(self.host, name)(*map(_unwrap, arguments), **options)
        return self if result is self.host else Array.around(result)

    return call


for _name in ("astype", "view", "reshape", "ravel", "copy", "sum", "min", "max", "all", "clip"):
    setattr(Array, _name, _method(_name))


def _unwrap(value: Any) -> Any:
    if isinstance(value, Array):
        return value.host
    if isinstance(value, (tuple, list)):
        return tuple(map(_unwrap, value))
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value


def _wrapped(function: Callable[..., Any]) -> Callable[..., Array]:
    def call(*arguments: Any, **options: Any) -> Array:
        return Array.around(function(*map(_unwrap, arguments), **options))

    return call


class StrictGpu:
    """The stand-in and its bookkeeping; ``module`` is what ``import cupy`` shall find."""

    def __init__(self, kernels: Emulated) -> None:
        self.log, self.lock, self.streams = Log(), threading.RLock(), list[Stream]()
        self.pinned: list[tuple[int, int]] = []
        self._kernels, self._here = kernels, threading.local()
        self.default_pool, self.default_stream = Pool(), Stream(self)
        self.pools = [self.default_pool]
        Array.gpu = self
        self.module = self._make_module()

    @property
    def stack(self) -> list[Stream]:
        if not hasattr(self._here, "stack"):
            self._here.stack = [self.default_stream]
        found: list[Stream] = self._here.stack
        return found

    @property
    def pool(self) -> Pool:
        return getattr(self._here, "pool", self.default_pool)

    def _make_module(self) -> Any:
        cupy = ModuleType("cupy")
        cupy.__spec__ = ModuleSpec("cupy", None)
        properties = {"name": b"Strict GPU", "major": 8, "minor": 6}
        same = (
            "where", "searchsorted", "zeros_like", "concatenate", "unique", "argwhere", "bincount",
            "full_like",
        )  # fmt: skip
        cupy.__dict__.update(
            {name: _wrapped(getattr(np, name)) for name in same},
            __version__="14.2.0",
            ndarray=Array,
            empty=Array,
            zeros=lambda shape, dtype: Array.around(np.zeros(shape, dtype)),
            ones=lambda shape, dtype: Array.around(np.ones(shape, dtype)),
            asarray=self._asarray,
            asnumpy=lambda array: array.get(),
            stack=lambda arrays: Array.around(np.stack([array.host for array in arrays])),
            ascontiguousarray=lambda a: (
                a if a.host.flags.c_contiguous else Array.around(np.ascontiguousarray(a.host))
            ),
            get_default_memory_pool=lambda: self.default_pool,
            RawModule=lambda code, options: SimpleNamespace(get_function=self._function),
            cuda=SimpleNamespace(
                Device=_Device,
                Event=lambda: Event(self.stack[-1]),
                get_elapsed_time=lambda begin, end: 1000 * (end.at - begin.at),
                Stream=lambda non_blocking: Stream(self),
                get_current_stream=lambda: self.stack[-1],
                MemoryPool=self._new_pool,
                using_allocator=self._using,
                alloc_pinned_memory=self._alloc_pinned,
                UnownedMemory=lambda ptr, size, owner: SimpleNamespace(ptr=ptr, owner=owner),
                MemoryPointer=lambda memory, offset: SimpleNamespace(ptr=memory.ptr, memory=memory),
                runtime=SimpleNamespace(
                    getDeviceCount=lambda: 1,
                    getDeviceProperties=lambda number: properties,
                    memGetInfo=lambda: (8 << 30, 16 << 30),
                ),
            ),
        )
        return cupy

    def _asarray(self, host: Any) -> Array:
        if isinstance(host, Array):
            return host
        self.log.small_up.append(host.nbytes)
        return Array.around(np.array(host))

    def _new_pool(self) -> Pool:
        self.pools.append(Pool())
        return self.pools[-1]

    @contextmanager
    def _using(self, malloc: Any) -> Iterator[None]:
        before, self._here.pool = self.pool, malloc.__self__
        yield
        self._here.pool = before

    def _alloc_pinned(self, size: int) -> Any:
        memory = (ctypes.c_ubyte * size)()
        ctypes.memset(memory, GARBAGE, size)
        place = (ctypes.addressof(memory), size)
        self.pinned.append(place)
        weakref.finalize(memory, self.pinned.remove, place)
        return memory

    def _function(self, name: str) -> Callable[..., None]:
        run = getattr(self._kernels._library, f"run_{name}")

        def launch(blocks: Any, threads: Any, arguments: tuple[Any, ...]) -> None:
            with self.lock:  # the emulation has one grid
                self.log.launches.append((name, self.stack[-1]))
                count, *others = arguments
                run(Extent(*blocks), Extent(*threads), ctypes.c_longlong(int(count)),
                    *map(_argument, others))  # fmt: skip

        return launch


@contextmanager
def strict_gpu(kernels: Emulated, patch: pytest.MonkeyPatch) -> Iterator[StrictGpu]:
    """The stand-in in CuPy's place, and onnxruntime on its memory."""
    pytest.importorskip("onnxruntime")
    gpu = StrictGpu(kernels)
    patch.setitem(sys.modules, "cupy", gpu.module)
    replace_libraries(patch)
    caches = _machines._cuda_machine, _machines._cuda_module, _machines._cuda_function
    for cache in caches:
        cache.cache_clear()
    yield gpu
    for cache in caches:
        cache.cache_clear()


class _Device:
    def __init__(self, number: int = 0) -> None:
        self.id = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass


def _argument(value: Any) -> Any:
    """A launch's argument as C takes it: CuPy goes by the width of the NumPy scalar."""
    if isinstance(value, Array):
        assert value.host.flags.c_contiguous
        return ctypes.c_void_p(value.host.ctypes.data)
    if isinstance(value, np.ndarray):
        assert value.dtype == AFFINE, "a host array was passed to a kernel"
        return Affine.from_buffer_copy(value)
    kinds = {"int32": ctypes.c_int, "float32": ctypes.c_float, "uint64": ctypes.c_void_p}
    return kinds[value.dtype.name](value.item())
