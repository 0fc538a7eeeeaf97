"""Regions in batches that fit the memory, and what is done when they do not."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from segreg.engine.batches import RegionBatches, region_bytes
from segreg.engine.device import HOST, HOST_CELLS, Delivery, HostDevice
from segreg.engine.errors import BackendError, InputError
from segreg.engine.memory import format_bytes, is_out_of_memory, parse_bytes


class Small(HostDevice):
    """A device on which ``room`` bytes are left."""

    name, budget = "small GPU", 3 << 30

    def __init__(self, room: int) -> None:
        self.room, self.tidied = room, 0

    def most_regions(self, cells: int, bytes_each: int) -> int:
        return max(1, self.room // bytes_each)

    def tidy(self) -> None:
        self.tidied += 1


def run(device: Any, count: int, work: Any) -> tuple[list[list[int]], RegionBatches]:
    batches = RegionBatches(device)
    parts = batches.run(10 + np.arange(count), 16**3, 100, work)
    return [part.tolist() for part, result in parts if result is not None], batches


def fine(part: Any) -> Any:
    return part


@pytest.mark.parametrize(("room", "sizes"), [(50, [1] * 5), (230, [2, 2, 1]), (9999, [5])])
def test_as_many_as_fit(room: int, sizes: list[int]) -> None:
    parts, batches = run(Small(room), 5, fine)
    assert [len(part) for part in parts] == sizes
    assert [*itertools.chain(*parts)] == [10, 11, 12, 13, 14]
    assert batches.notes == []


def test_on_the_host_a_batch_stays_near_the_caches() -> None:
    assert HOST.most_regions(HOST_CELLS // 3, 1 << 40) == 3
    assert HOST.most_regions(2 * HOST_CELLS, 1) == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Out of memory allocating 5 bytes"),
        BackendError("failed: BFCArena: Available memory of 5 is smaller than requested bytes"),
        RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=str,
)
def test_memory_that_runs_out_halves_the_batch_once(error: Exception) -> None:
    tried: list[int] = []

    def work(part: Any) -> Any:
        tried.append(len(part))
        if len(part) > 4:
            raise error
        return part

    device = Small(800)
    parts, batches = run(device, 10, work)
    assert tried == [8, 4, 4, 2]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert [*itertools.chain(*parts)] == list(range(10, 20))
    assert device.tidied == 1
    (note,) = batches.notes
    assert "8 regions in one batch" in note
    assert str(error).split(":")[0] in note
    # Later batches of the pair, of other sizes too, begin at half.
    assert [len(p) for p, _ in batches.run(np.arange(8), 16**3, 100, fine)] == [4, 4]


@pytest.mark.parametrize("count", [1, 8])
def test_memory_that_runs_out_again_is_an_error_with_its_mend(count: int) -> None:
    def work(part: Any) -> Any:
        raise MemoryError("Out of memory")

    needed = "1 region needs about 100 bytes" if count == 1 else "4 regions need about 400 bytes"
    with pytest.raises(BackendError, match=r"Raise the budget \(--gpu-memory\)") as caught:
        run(Small(800), count, work)
    assert f"out of memory on small GPU: {needed}" in str(caught.value)
    assert "the budget of 3 GiB" in str(caught.value)


def test_on_the_host_no_gpu_is_spoken_of() -> None:
    def work(part: Any) -> Any:
        raise MemoryError("Unable to allocate")

    batches = RegionBatches(HOST)
    with pytest.raises(BackendError, match=r"out of memory on cpu: .* Free memory, or") as caught:
        list(batches.run(np.arange(8), HOST_CELLS // 4, 100, work))
    assert "GPU" not in str(caught.value)
    assert "gpu" not in " ".join(batches.notes)


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(ZeroDivisionError):
        run(Small(800), 8, lambda part: 1 // 0)


def test_memory_of_a_region_grows_with_its_canvas() -> None:
    # Two batches of 4 channels, 27 components of fields, and what is kept, float32.
    assert region_bytes(4, 96**3, 48**3, 64**3) == 4 * (8 * 96**3 + 27 * 48**3 + 3 * 64**3)


@pytest.mark.parametrize(
    ("text", "size"),
    [(1234, 1234), ("1234", 1234), ("4GiB", 4 << 30), ("1.5 gib", 3 << 29), ("500MB", 500_000_000)],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("wrong", ["", "GiB", "4 apples", "-1", 0, "0", -5, True, 1.5, "1e9"])
def test_sizes_that_are_none(wrong: Any) -> None:
    with pytest.raises(InputError, match="gpu_memory: expected a size such as 4GiB or 500MB, got"):
        parse_bytes(wrong, "gpu_memory")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"), (1000, "1000 bytes"), (1536, "1.5 KiB"), (4 << 30, "4 GiB"),
        (5e15, "4547 TiB"),
    ],
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert format_bytes(size) == text


def test_causes_are_looked_at() -> None:
    outer = BackendError("backend failed while running")
    assert not is_out_of_memory(outer)
    outer.__cause__ = MemoryError()
    assert is_out_of_memory(outer)
    assert not is_out_of_memory(None)


def test_the_host_hands_over_what_it_is_given() -> None:
    array = np.zeros(3)
    parcel = HOST.upload({"one": array})
    with HOST.computing(parcel) as arrays:
        assert arrays["one"] is array
        delivery: Delivery = HOST.download({"two": array})
    assert delivery.wait()["two"] is array
    assert not parcel.arrays
