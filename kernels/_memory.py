"""Memory of large NumPy arrays, kept for the next ones.

The system clears every page that it gives, and takes it back as soon as an array goes: for an
array that is filled once that is as much work as filling it. CuPy keeps a pool for the same
reason.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from segreg.kernels._machines import compiled

KEPT = 512 * 2**20  # bytes that no array uses, at most

_lock = threading.Lock()
_holders = 0


@contextmanager
def hold_memory() -> Iterator[None]:
    """As long as the block runs, memory of ``kept_memory`` is kept when its arrays go.

    Up to ``KEPT`` bytes in all, however many blocks run, in whatever threads; the last one's end
    frees what no array uses.
    """
    _count_holder(1)
    try:
        yield
    finally:
        _count_holder(-1)


@contextmanager
def kept_memory() -> Iterator[None]:
    """NumPy arrays made inside the block, by whomever, lie in memory that may be kept.

    In the current thread only, and while somebody holds memory. The arrays may outlive the block.
    """
    if not _holders:
        yield
        return
    extension = compiled()
    before = extension.exchange_handler(extension.memory_handler())
    try:
        yield
    finally:
        extension.exchange_handler(before)


def _count_holder(change: int) -> None:
    global _holders
    with _lock:
        _holders += change
        compiled().keep_memory(KEPT if _holders else 0)
