"""Arrays in kept memory behave as all others, and what is kept has an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from segreg.kernels import _memory, hold_memory, kept_memory
from segreg.kernels._machines import compiled

MIB = 2**20


def handler_of(array: np.ndarray) -> str:
    return str(np._core.multiarray.get_handler_name(array))


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if no engine of another test were open."""
    monkeypatch.setattr(_memory, "_holders", 0)
    compiled().keep_memory(0)
    yield
    assert compiled().kept_memory() == 0


def test_memory_of_an_array_that_is_gone_is_used_again() -> None:
    with hold_memory(), kept_memory():
        first = np.empty(4 * MIB, np.uint8)
        address = first.ctypes.data
        del first
        assert compiled().kept_memory() == 4 * MIB
        again = np.empty((2, MIB), np.uint16)
        assert again.ctypes.data == address
        assert compiled().kept_memory() == 0


def test_zeros_are_zero_in_used_memory() -> None:
    with hold_memory(), kept_memory():
        dirty = np.full(3 * MIB, 7, np.uint8)
        address = dirty.ctypes.data
        del dirty
        clean = np.zeros(3 * MIB, np.uint8)
        assert clean.ctypes.data == address
        assert not clean.any()


def test_much_smaller_arrays_do_not_take_large_memory() -> None:
    with hold_memory(), kept_memory():
        large = np.empty(32 * MIB, np.uint8)
        address = large.ctypes.data
        del large
        assert np.empty(16 * MIB, np.uint8).ctypes.data != address


def test_arrays_may_outlive_everything() -> None:
    with hold_memory(), kept_memory():
        kept = np.arange(MIB, dtype=np.float64)
    np.testing.assert_array_equal(kept[[0, -1]], [0, MIB - 1])
    assert handler_of(kept) == "segreg_kept_memory"
    del kept


def test_arrays_may_grow_and_shrink() -> None:
    with hold_memory(), kept_memory():
        array = np.arange(10, dtype=np.int64)
        for length in (MIB, 3 * MIB, MIB // 2, 20):
            array.resize(length, refcheck=False)
            np.testing.assert_array_equal(array[:10], np.arange(10))
            assert not array[10:].any()


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_small_arrays_are_not_kept(size: int) -> None:
    with hold_memory(), kept_memory():
        small = np.zeros(size)
        assert small.shape == (size,)
        del small
        assert compiled().kept_memory() == 0


def test_only_the_thread_that_asked_is_served() -> None:
    names = []
    with hold_memory(), kept_memory():
        thread = threading.Thread(target=lambda: names.append(handler_of(np.empty(MIB))))
        thread.start()
        thread.join()
        names.append(handler_of(np.empty(MIB)))
    names.append(handler_of(np.empty(MIB)))
    assert names == ["default_allocator", "segreg_kept_memory", "default_allocator"]


def test_without_a_holder_nothing_changes() -> None:
    with kept_memory():
        assert handler_of(np.empty(MIB)) == "default_allocator"


def test_the_last_holder_frees_what_is_kept() -> None:
    with hold_memory():
        with hold_memory(), kept_memory():
            np.empty(2 * MIB, np.uint8)
        assert compiled().kept_memory() == 2 * MIB
    assert compiled().kept_memory() == 0


def test_no_more_is_kept_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "KEPT", 5 * MIB)
    with hold_memory(), kept_memory():
        arrays = [np.empty(2 * MIB, np.uint8) for _ in range(4)]
        del arrays
        assert compiled().kept_memory() == 4 * MIB


def test_what_lay_idle_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "KEPT", 5 * MIB)
    with hold_memory(), kept_memory():
        first, second = (np.empty(2 * MIB, np.uint8) for _ in range(2))
        del first, second
        larger = np.empty(3 * MIB, np.uint8)
        address = larger.ctypes.data
        del larger  # and one of the others goes
        assert compiled().kept_memory() == 5 * MIB
        assert np.empty(3 * MIB, np.uint8).ctypes.data == address


def test_threads_share_what_is_kept() -> None:
    """Many threads at once, each checking that nobody else writes into its arrays."""
    wrong = []

    def work(number: int) -> None:
        with kept_memory():
            for i in range(200):
                array = np.full(MIB + 4096 * (i % 5), number, np.uint8)
                if (array != number).any():
                    wrong.append(number)

    with hold_memory():
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_an_error_inside_gives_numpy_its_own_memory_back() -> None:
    with hold_memory(), pytest.raises(RuntimeError), kept_memory():
        raise RuntimeError("as it happens")
    assert handler_of(np.empty(MIB)) == "default_allocator"
