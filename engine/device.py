"""Where a pair is computed: on the host's own arrays, or on those of a GPU.

A pair goes up once (``upload``), is computed inside ``computing``, and its results come down once
(``download``). On the host all three hand over what they are given.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from segreg.engine.arrays import Array
from segreg.engine.backends import Backend, CudaOptions
from segreg.engine.backends.cuda import CudaBackend
from segreg.engine.errors import InputError
from segreg.engine.machine import describe_cupy
from segreg.engine.memory import format_bytes, parse_bytes
from segreg.kernels import get_threads, kept_memory

# Canvas cells at a time on a CPU: bounds memory, keeps a batch near the caches.
HOST_CELLS = 2_200_000


@dataclass
class Parcel:
    """Arrays of a pair where they are computed.

    Attributes
    ----------
    ready : event after which they have arrived; None if they were there.
    staging : host memory that is read until then.
    waiting : what there was no room for yet, on the host.
    """

    arrays: dict[str, Array]
    ready: Any = None
    staging: list[Any] = field(default_factory=list)
    waiting: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Delivery:
    """Results on their way to the host; ``wait`` gives them once they are there."""

    wait: Callable[[], dict[str, NDArray[Any]]]


class Device(ABC):
    """What the engine asks of the place where it computes.

    Attributes
    ----------
    name : what the provenance of a result says.
    threads : CPU threads of the kernels; 0 where they run on a GPU.
    budget : bytes that may be taken; None for no bound.
    """

    name: str
    budget: int | None = None

    @property
    @abstractmethod
    def threads(self) -> int: ...

    @abstractmethod
    def upload(self, arrays: Mapping[str, NDArray[Any]]) -> Parcel:
        """Send ``arrays``; returns before they have arrived. Any thread may call it."""

    @abstractmethod
    def computing(self, parcel: Parcel) -> AbstractContextManager[dict[str, Array]]:
        """The arrays of ``parcel``, to be computed with inside; the parcel is empty afterwards."""

    @abstractmethod
    def download(self, arrays: Mapping[str, Array]) -> Delivery:
        """Fetch ``arrays``, called inside ``computing``; returns before they have arrived."""

    @abstractmethod
    def most_regions(self, cells: int, bytes_each: int) -> int:
        """Regions of ``cells`` canvas cells and ``bytes_each`` that go together, at least one."""

    @abstractmethod
    def tidy(self) -> None:
        """Give memory back that is only kept for later."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything, after what is under way."""


class HostDevice(Device):
    """NumPy's arrays, in memory that is kept from one to the next."""

    name = "cpu"

    @property
    def threads(self) -> int:
        return get_threads()

    def upload(self, arrays: Mapping[str, NDArray[Any]]) -> Parcel:
        return Parcel(dict(arrays))

    @contextmanager
    def computing(self, parcel: Parcel) -> Iterator[dict[str, Array]]:
        try:
            with kept_memory():
                yield dict(parcel.arrays)
        finally:
            parcel.arrays.clear()

    def download(self, arrays: Mapping[str, Array]) -> Delivery:
        there = dict(arrays)
        return Delivery(lambda: there)

    def most_regions(self, cells: int, bytes_each: int) -> int:
        return max(1, HOST_CELLS // cells)

    def tidy(self) -> None:
        pass

    def close(self) -> None:
        pass


HOST = HostDevice()

# Of a memory budget: what onnxruntime's arena may take, unless ``CudaOptions.memory`` says it.
NETWORK_SHARE = 0.5


def split_memory(
    budget: int | str | None, options: CudaOptions | None
) -> tuple[int | None, CudaOptions | None]:
    """``budget`` in bytes, and options that bound the network to its share of it."""
    if budget is None:
        return None, options
    size, options = parse_bytes(budget, "gpu_memory"), options or CudaOptions()
    if options.memory is None:
        options = replace(options, memory=max(1, int(NETWORK_SHARE * size)))
    return size, options


def use_gpu(options: CudaOptions | None) -> AbstractContextManager[Any]:
    """The GPU that ``options`` name, as the current one."""
    if options is None or options.device is None or describe_cupy()[1] is not None:
        return nullcontext()
    place: AbstractContextManager[Any] = importlib.import_module("cupy").cuda.Device(options.device)
    return place


def open_device(backend: Backend, budget: int | None) -> Device:
    """Where ``backend`` computes; what it takes of the ``budget`` is not for others.

    Raises
    ------
    InputError : a budget that the network alone takes.
    """
    if not isinstance(backend, CudaBackend):
        if budget is not None:
            backend.notes.append(
                f"gpu_memory: backend {backend.name} runs on the CPU; there is nothing to bound"
            )
        return HOST
    left = None if budget is None else budget - backend.arena
    if left is not None and left <= 0:
        raise InputError(
            f"gpu_memory: expected more than the network's own {format_bytes(backend.arena)}, got "
            f"{format_bytes(budget or 0)}. Raise it, or lower CudaOptions.memory."
        )
    module = importlib.import_module("segreg.engine.cuda_device")
    device: Device = module.CudaDevice(
        backend.gpu.number, left, budget, backend.arena, backend.options.batch
    )
    return device
