"""The machines that run kernels: one launch form, chosen by the kind of array.

``machine.launch(name, size, *arguments)`` runs the kernel ``name`` over ``size`` work items.
Name and arguments are the same on every machine: arrays go as pointers, ``None`` as the null
pointer, Python integers as 32-bit and Python floats as single precision numbers.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from segreg.kernels import _cpu

# NumPy's or CuPy's array. CuPy has no types to check against, and is not always there.
Array: TypeAlias = Any
Argument: TypeAlias = Any

_FOLDER = Path(__file__).parent
_CUDA_BLOCK = 128


class Machine(Protocol):
    """Allocates arrays and launches kernels."""

    name: str
    lanes: int
    """Pieces to cut a reduction into so that the machine is busy."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array: ...

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array: ...

    def contiguous(self, array: Array) -> Array:
        """The array itself, or a C-contiguous copy."""
        ...

    def move(self, values: np.ndarray[Any, Any]) -> Array:
        """A few parameters, from the host to where the kernel reads them."""
        ...

    def fetch(self, array: Array) -> np.ndarray[Any, Any]:
        """A few results, back on the host."""
        ...

    def count(self, array: Array) -> int:
        """Entries that are not zero."""
        ...

    def address(self, array: Array) -> int: ...

    def launch(self, kernel: str, size: int, *arguments: Argument) -> None: ...


class Cpu:
    """NumPy arrays and the compiled extension."""

    name = "cpu"
    lanes = 32

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return np.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return np.zeros(shape, dtype)

    def contiguous(self, array: Array) -> Array:
        return np.ascontiguousarray(array)

    def move(self, values: np.ndarray[Any, Any]) -> Array:
        return np.ascontiguousarray(values)

    def fetch(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array)

    def count(self, array: Array) -> int:
        return int(np.count_nonzero(array))

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def launch(self, kernel: str, size: int, *arguments: Argument) -> None:
        getattr(_cpu, kernel)(size, *arguments)


class Cuda:
    """CuPy arrays and the CUDA sources, compiled by NVRTC for the current device.

    CuPy keeps compiled kernels in its own cache, so only the first launch on a machine waits.
    """

    name = "cuda"
    lanes = 4096

    def __init__(self) -> None:
        import cupy  # only reached once a CuPy array was passed

        self._cupy = cupy

    def check_device(self, **arrays: Array) -> None:
        """Raises ValueError unless all arrays lie on the current device."""
        current = int(self._cupy.cuda.Device().id)
        for name, array in arrays.items():
            if array is not None and array.device.id != current:
                raise ValueError(
                    f"{name}: expected an array on the current device {current}, got one on "
                    f"{array.device.id}. Call inside `with cupy.cuda.Device({array.device.id}):`."
                )

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self._cupy.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self._cupy.zeros(shape, dtype)

    def contiguous(self, array: Array) -> Array:
        return self._cupy.ascontiguousarray(array)

    def move(self, values: np.ndarray[Any, Any]) -> Array:
        return self._cupy.asarray(np.ascontiguousarray(values))

    def fetch(self, array: Array) -> np.ndarray[Any, Any]:
        fetched: np.ndarray[Any, Any] = self._cupy.asnumpy(array)
        return fetched

    def count(self, array: Array) -> int:
        return int(self._cupy.count_nonzero(array))

    def address(self, array: Array) -> int:
        return int(array.data.ptr)

    def launch(self, kernel: str, size: int, *arguments: Argument) -> None:
        function = _cuda_function(kernel, self._cupy.cuda.Device().id)
        blocks = (size + _CUDA_BLOCK - 1) // _CUDA_BLOCK
        packed = (np.int64(size), *map(_packed, arguments))
        function((blocks,), (_CUDA_BLOCK,), packed)


def _packed(argument: Argument) -> Argument:
    """An argument with the width that the kernel's signature has."""
    if argument is None:
        return np.uintp(0)
    if isinstance(argument, int):
        return np.int32(argument)
    if isinstance(argument, float):
        return np.float32(argument)
    return argument


@functools.cache
def cuda_sources() -> dict[str, Path]:
    """Which file under ``cuda/`` defines each kernel."""
    found = {}
    for path in sorted((_FOLDER / "cuda").glob("*.cu")):
        for name in re.findall(r'extern "C" __global__ void (\w+)\(', path.read_text()):
            found[name] = path
    return found


@functools.cache
def _cuda_module(path: Path, device: int) -> Any:
    import cupy

    options = ("-std=c++17", f"-I{_FOLDER / 'bodies'}")
    return cupy.RawModule(code=path.read_text(), options=options)


@functools.cache
def _cuda_function(kernel: str, device: int) -> Any:
    return _cuda_module(cuda_sources()[kernel], device).get_function(kernel)


@functools.cache
def _cpu_machine() -> Cpu:
    return Cpu()


@functools.cache
def _cuda_machine() -> Cuda:
    return Cuda()


def _kind(name: str, array: Array) -> str:
    if isinstance(array, np.ndarray):
        return "cpu"
    # Asked of the type, so that CuPy is never imported for those who do not use it.
    if type(array).__module__.partition(".")[0] == "cupy" and hasattr(array, "data"):
        return "cuda"
    raise TypeError(
        f"{name}: expected a NumPy or a CuPy array, got {type(array).__qualname__}. "
        "Convert it with numpy.asarray or cupy.asarray first."
    )


def machine_of(**arrays: Array) -> Machine:
    """The machine that holds all the arrays; those that are None are left out.

    Raises
    ------
    TypeError
        For anything but arrays, and for arrays of both kinds in one call.
    """
    kinds = {name: _kind(name, array) for name, array in arrays.items() if array is not None}
    if len(set(kinds.values())) > 1:
        listing = ", ".join(f"{name} on the {kind}" for name, kind in kinds.items())
        raise TypeError(
            f"expected all arrays on one machine, got {listing}. "
            "Move them with cupy.asarray or cupy.asnumpy."
        )
    if "cuda" not in kinds.values():
        return _cpu_machine()
    machine = _cuda_machine()
    machine.check_device(**arrays)
    return machine


def set_threads(threads: int) -> None:
    """Number of threads the CPU kernels use from now on. It changes no result.

    Raises
    ------
    ValueError
        If fewer than one is asked for.
    """
    _cpu.set_threads(threads)


def get_threads() -> int:
    """Number of threads the CPU kernels use."""
    return _cpu.get_threads()
