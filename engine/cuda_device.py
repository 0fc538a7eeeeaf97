"""A GPU as the engine uses it: one stream to compute, one each way to copy, pinned host memory.

Memory belongs to the stream that it was allocated on: CuPy hands a freed block to the next who asks
on that stream, without waiting. So the stream that uploads waits for the computing before blocks of
a pair come back to it, and results are freed once their copy is over.
"""

from __future__ import annotations

import importlib
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import Array
from segreg.engine.backends.cuda import current_gpu
from segreg.engine.device import Delivery, Device, Parcel
from segreg.engine.errors import BackendError
from segreg.engine.memory import format_bytes

# Bytes of pinned memory that results may hold while somebody keeps them. What is beyond is copied:
# pinned memory is taken from the whole system.
MOST_PINNED = 4 * 2**30
SHARE = 0.8  # of what is free: the rest is for fragments, and for what is only estimated
# Feature maps at the canvas's resolution that a registration network keeps at once, estimated: two
# or three of a U-Net's first level.
FEATURES = 64
FLOAT = 4  # bytes


class CudaDevice(Device):
    """CuPy's arrays on one GPU.

    Parameters
    ----------
    number : of the device.
    memory : bytes that arrays may take in all; None for no bound but the GPU's.
    budget : what a sentence about memory calls the bound, the network's share included.
    arena : bytes that the network takes from elsewhere; 0 where it shares ``memory``.
    batch : most regions that the network is shown at once.
    """

    threads = 0

    def __init__(
        self,
        number: int,
        memory: int | None = None,
        budget: int | None = None,
        arena: int = 0,
        batch: int = 16,
    ) -> None:
        self._cupy = importlib.import_module("cupy")
        self._number, self._limit, self.budget = number, memory, budget
        self._arena, self._batch = arena, batch
        with self._cupy.cuda.Device(number):
            self.name = current_gpu(self._cupy).name
            self.stream, self._up, self._down = (
                self._cupy.cuda.Stream(non_blocking=True) for _ in range(3)
            )
            if memory is None:
                self._pool = self._cupy.get_default_memory_pool()
            else:
                self._pool = self._cupy.cuda.MemoryPool()
                self._pool.set_limit(size=memory)
        self._lent = 0
        self._lock = threading.Lock()

    def upload(self, arrays: Mapping[str, NDArray[Any]]) -> Parcel:
        try:
            return self._send(arrays)
        except MemoryError:  # another pair takes the room: once that is done there may be enough
            return Parcel({}, waiting=dict(arrays))

    def _send(self, arrays: Mapping[str, NDArray[Any]]) -> Parcel:
        with self._on(self._up):
            moved = {n: self._cupy.empty(host.shape, host.dtype) for n, host in arrays.items()}
            staging = []
            for name, host in arrays.items():
                pinned = self._pinned(host.shape, host.dtype)
                pinned[...] = host
                moved[name].data.copy_from_host_async(pinned.ctypes.data, host.nbytes, self._up)
                staging.append(pinned)
            parcel = Parcel(moved, self._up.record(), staging)
        weakref.finalize(parcel, parcel.ready.synchronize)  # a copy that nobody waits for
        return parcel

    @contextmanager
    def computing(self, parcel: Parcel) -> Iterator[dict[str, Array]]:
        try:
            if parcel.waiting:
                parcel = self._send(parcel.waiting)
            with self._on(self.stream):
                self.stream.wait_event(parcel.ready)
                try:
                    yield dict(parcel.arrays)
                finally:
                    self._up.wait_event(self.stream.record())
                    parcel.arrays.clear()
                    parcel.ready.synchronize()  # long over, unless computing failed at once
                    parcel.staging.clear()
        except MemoryError as error:
            raise self._no_room(error) from error

    def download(self, arrays: Mapping[str, Array]) -> Delivery:
        self._down.wait_event(self.stream.record())
        landing = {}
        for name, array in arrays.items():
            source = self._cupy.ascontiguousarray(array)
            if source is not array:
                self._down.wait_event(self.stream.record())
            target = self._pinned(source.shape, source.dtype)
            source.data.copy_to_host_async(target.ctypes.data, source.nbytes, self._down)
            landing[name] = source, target
        there = self._down.record()

        def wait() -> dict[str, NDArray[Any]]:
            there.synchronize()
            hosts = {name: self._lend(target) for name, (_, target) in landing.items()}
            landing.clear()
            return hosts

        delivery = Delivery(wait)
        weakref.finalize(delivery, there.synchronize)  # pinned memory is not given back before
        return delivery

    def most_regions(self, cells: int, bytes_each: int) -> int:
        if self._limit is not None:
            free = self._limit - self._pool.used_bytes()
        else:
            free = self._cupy.cuda.runtime.memGetInfo()[0] + self._pool.free_bytes()
        free, network = int(SHARE * free), FLOAT * FEATURES * cells
        if self._arena:
            shown = int(SHARE * self._arena) // network
            most = free // bytes_each if shown >= self._batch else min(free // bytes_each, shown)
        else:
            most = free // (bytes_each + network)
            if most > self._batch:  # the network takes them in parts
                most = (free - self._batch * network) // bytes_each
        return max(1, most)

    def tidy(self) -> None:
        self._pool.free_all_blocks()

    def close(self) -> None:
        with self._cupy.cuda.Device(self._number):
            for stream in (self._up, self.stream, self._down):
                stream.synchronize()
            if self._limit is not None:
                self._pool.free_all_blocks()

    def _no_room(self, error: MemoryError) -> BackendError:
        words = " ".join(str(error).split()) or "it does not say how much was asked for"
        if self.budget is None:
            mend = "Free memory of the GPU"
        else:
            mend = f"The budget is {format_bytes(self.budget)}: raise it (--gpu-memory)"
        return BackendError(
            f"out of memory on {self.name} for the volumes and fields of this pair: {words}. "
            f"{mend}, register at a coarser spacing, or use a backend of the CPU."
        )

    @contextmanager
    def _on(self, stream: Any) -> Iterator[None]:
        """This GPU, ``stream`` and this device's memory, for the thread that asks."""
        with ExitStack() as inside:
            inside.enter_context(self._cupy.cuda.Device(self._number))
            inside.enter_context(stream)
            if self._limit is not None:
                inside.enter_context(self._cupy.cuda.using_allocator(self._pool.malloc))
            yield

    def _pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Host memory that is copied at once and meanwhile; CuPy's pool has it back in the end."""
        count = int(np.prod(shape))
        size = count * np.dtype(dtype).itemsize
        step = 1 << max(size.bit_length() - 3, 9)  # few sizes, so that they are used again
        memory = self._cupy.cuda.alloc_pinned_memory(-(-size // step) * step)
        flat: NDArray[Any] = np.frombuffer(memory, dtype, count)
        return flat.reshape(shape)

    def _lend(self, pinned: NDArray[Any]) -> NDArray[Any]:
        """``pinned`` as a result's own array, or a copy where too much is lent already."""
        size = pinned.nbytes
        with self._lock:
            if self._lent + size > MOST_PINNED:
                copied: NDArray[Any] = pinned.copy()
                return copied
            self._lent += size
        weakref.finalize(pinned.base, self._returned, size)
        return pinned

    def _returned(self, size: int) -> None:
        with self._lock:
            self._lent -= size
