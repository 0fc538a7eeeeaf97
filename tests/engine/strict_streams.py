"""Streams and memory of the strict stand-in for CuPy: copies are done when somebody waits."""

from __future__ import annotations

import ctypes
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.engine.strict_cupy import Array, StrictGpu


class OutOfMemoryError(MemoryError):
    pass


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class Event:
    """A place on a stream, and on the clock."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.record()

    def record(self) -> None:
        self._work, self.at = list(self._stream.pending), time.perf_counter()

    def synchronize(self) -> None:
        self._stream.do(self._work)


class Stream:
    """Copies wait in ``pending`` until somebody waits for an event behind them."""

    def __init__(self, gpu: StrictGpu) -> None:
        self._gpu = gpu
        self.pending: list[Callable[[], None]] = []
        self.waited_for: list[Stream] = []
        gpu.streams.append(self)
        self.ptr = len(gpu.streams)

    def record(self) -> Event:
        return Event(self)

    def wait_event(self, event: Event) -> None:
        self.waited_for.append(event._stream)
        event.synchronize()

    def synchronize(self) -> None:
        self.do(list(self.pending))

    def do(self, work: list[Callable[[], None]]) -> None:
        with self._gpu.lock:
            for step in work:
                if step in self.pending:
                    self.pending.remove(step)
                    step()

    def __enter__(self) -> Stream:
        self._gpu.stack.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        assert self._gpu.stack.pop() is self


class Pool:
    """Counts the bytes of the arrays that live."""

    def __init__(self) -> None:
        self.limit, self.used, self.most, self.tidied = 0, 0, 0, 0

    def set_limit(self, size: int) -> None:
        self.limit = size

    def malloc(self, size: int) -> None:
        """Only its owner counts: arrays ask for ``take``."""

    def take(self, owner: np.ndarray) -> None:
        size = owner.nbytes
        if self.limit and self.used + size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes")
        self.used += size
        self.most = max(self.most, self.used)
        weakref.finalize(owner, self._release, size)

    def _release(self, size: int) -> None:
        self.used -= size

    def used_bytes(self) -> int:
        return self.used

    def free_bytes(self) -> int:
        return 0

    def free_all_blocks(self) -> None:
        self.tidied += 1


class Memory:
    """``array.data``: where it lies, and copies that only begin."""

    def __init__(self, array: Array) -> None:
        self.array, self.ptr = array, array.host.ctypes.data

    def copy_from_host_async(self, pointer: int, size: int, stream: Stream) -> None:
        self.array.gpu.log.up.append(size)
        self._later(self.ptr, pointer, size, stream)

    def copy_to_host_async(self, pointer: int, size: int, stream: Stream) -> None:
        self.array.gpu.log.down.append(size)
        self._later(pointer, self.ptr, size, stream)

    def _later(self, target: int, source: int, size: int, stream: Stream) -> None:
        gpu = self.array.gpu
        for end in (source, target):
            inside = any(begin <= end < begin + n for begin, n in gpu.pinned)
            assert inside or end == self.ptr, "copied from or to memory that is not pinned"
        assert self.array.host.flags.c_contiguous
        stream.pending.append(lambda: ctypes.memmove(target, source, size) and None)
