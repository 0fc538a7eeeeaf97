"""The machines that run kernels: one launch form, chosen by the kind of array.

``machine.launch(name, size, *arguments)`` runs the kernel ``name`` over ``size`` work items, or,
where size is (slices, height, width), over the rows of so many slices. Name and arguments are the
same on every machine: arrays go as pointers, ``None`` as the null pointer, Python integers as
32-bit and Python floats as single precision numbers, what ``by_value`` returns as a struct.
"""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from segreg.kernels._launches import AFFINE, Size, count_items, plan_launch

# NumPy's or CuPy's array. CuPy has no types to check against, and is not always there.
Array: TypeAlias = Any
Argument: TypeAlias = Any

_FOLDER = Path(__file__).parent
_MOST_CONSTANTS = 64
_KERNEL = re.compile(r'extern "C" __global__ (?:SEGREG_BOUNDED )?void (\w+)\(')


class Machine(Protocol):
    """Allocates arrays and launches kernels."""

    name: str
    lanes: int
    """Pieces to cut a reduction into so that the machine is busy."""
    window: int
    """Bytes that may lie around a row while a launch filters several axes at once: they stay in
    a core's cache. 0 where a launch takes one axis."""

    rounds: int
    """Rounds of a loop between two looks at how far it came: to look waits for a GPU."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array: ...

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array: ...

    def contiguous(self, array: Array) -> Array:
        """The array itself, or a C-contiguous copy."""
        ...

    def move(self, values: Array) -> Array:
        """A few parameters, where the kernel reads them; those that lie there stay."""
        ...

    def constant(self, values: np.ndarray[Any, Any]) -> Array:
        """Parameters that depend on nothing but numbers: moved once and kept."""
        ...

    def fetch(self, array: Array) -> np.ndarray[Any, Any]:
        """A few results, back on the host."""
        ...

    def fetch_together(self, *arrays: Array) -> list[np.ndarray[Any, Any]]:
        """Several results back on the host, with one wait for all."""
        ...

    def count_marks(self, marks: Array, rows: Array) -> Array:
        """Ones among the ``marks`` (..., W) in those ``rows`` (...) that hold a one: a number that
        ``fetch_numbers`` brings to the host."""
        ...

    def fetch_numbers(self, numbers: list[Array]) -> list[int]:
        """Integers that were counted, back on the host together."""
        ...

    def address(self, array: Array) -> int: ...

    def launch(self, kernel: str, size: Size, *arguments: Argument) -> None: ...


def on_device(values: Any) -> bool:
    """Whether this is CuPy's. Asked of the type, so that nobody imports CuPy in vain."""
    return type(values).__module__.partition(".")[0] == "cupy" and hasattr(values, "data")


def by_value(affine: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A (3, 4) affine as an argument that is copied into the launch, not pointed to."""
    return np.ascontiguousarray(affine, np.float32).reshape(12).view(AFFINE)


class Cpu:
    """NumPy arrays and the compiled extension."""

    name = "cpu"
    lanes = 32
    window = 2**20
    rounds = 1

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return np.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return np.zeros(shape, dtype)

    def contiguous(self, array: Array) -> Array:
        return np.ascontiguousarray(array)

    def move(self, values: Array) -> Array:
        return np.ascontiguousarray(values.get() if on_device(values) else values)

    def constant(self, values: np.ndarray[Any, Any]) -> Array:
        return values

    def fetch(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array)

    def fetch_together(self, *arrays: Array) -> list[np.ndarray[Any, Any]]:
        return [np.asarray(array) for array in arrays]

    def count_marks(self, marks: Array, rows: Array) -> Array:
        return np.count_nonzero(marks[rows.view("bool")])

    def fetch_numbers(self, numbers: list[Array]) -> list[int]:
        return [int(number) for number in numbers]

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def launch(self, kernel: str, size: Size, *arguments: Argument) -> None:
        getattr(compiled(), kernel)(count_items(size), *arguments)


@functools.cache
def compiled() -> Any:
    """The compiled CPU kernels, loaded by the first use: CuPy arrays do without them."""
    try:
        from segreg.kernels import _cpu
    except ImportError as error:
        raise ImportError(
            "expected the compiled extension segreg.kernels._cpu, found none that loads. "
            "Install segreg with `pip install .`, or use CuPy arrays, which need none."
        ) from error
    return _cpu


class Cuda:
    """CuPy arrays and the CUDA sources, compiled by NVRTC for the current device.

    CuPy keeps compiled kernels in its own cache, so only the first launch on a machine waits.
    """

    name = "cuda"
    lanes = 4096
    window = 0
    rounds = 8

    def __init__(self) -> None:
        import cupy  # only reached once a CuPy array was passed

        self._cupy = cupy
        self._constants: dict[tuple[int, str, bytes], Array] = {}

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

    def move(self, values: Array) -> Array:
        if on_device(values):
            return values
        return self._cupy.asarray(np.ascontiguousarray(values))

    def constant(self, values: np.ndarray[Any, Any]) -> Array:
        key = (self._cupy.cuda.Device().id, values.dtype.str, values.tobytes())
        if key not in self._constants:
            if len(self._constants) == _MOST_CONSTANTS:
                self._constants.pop(next(iter(self._constants)))
            self._constants[key] = self.move(values)
        return self._constants[key]

    def fetch(self, array: Array) -> np.ndarray[Any, Any]:
        fetched: np.ndarray[Any, Any] = self._cupy.asnumpy(array)
        return fetched

    def fetch_together(self, *arrays: Array) -> list[np.ndarray[Any, Any]]:
        flat = [self.contiguous(array).reshape(-1).view("uint8") for array in arrays]
        parts = np.split(
            self.fetch(self._cupy.concatenate(flat)), np.cumsum([p.size for p in flat])[:-1]
        )
        return [
            part.view(array.dtype).reshape(array.shape)
            for part, array in zip(parts, arrays, strict=True)
        ]

    def count_marks(self, marks: Array, rows: Array) -> Array:
        # To pick the rows out would wait for their number.
        return (marks & rows[..., None]).sum(dtype="int64")

    def fetch_numbers(self, numbers: list[Array]) -> list[int]:
        return [int(number) for number in self.fetch(self._cupy.stack(numbers))]

    def address(self, array: Array) -> int:
        return int(array.data.ptr)

    def launch(self, kernel: str, size: Size, *arguments: Argument) -> None:
        plan = plan_launch(kernel, size, arguments, self.address, cuda_sources())
        function = _cuda_function(plan.kernel, plan.wide, self._cupy.cuda.Device().id)
        function(plan.blocks, plan.threads, (np.int64(plan.count), *map(_packed, arguments)))


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
        for name in _KERNEL.findall(path.read_text()):
            found[name] = path
    return found


def cuda_options(path: Path, wide: bool) -> tuple[str, ...]:
    """Options of the compiler: with 32-bit indices, or with 64-bit ones and names that say so."""
    options = ("-std=c++17", f"-I{_FOLDER / 'bodies'}")
    if not wide:
        return (*options, "-DSEGREG_NARROW")
    names = [name for name, home in cuda_sources().items() if home == path]
    return (*options, *(f"-D{name}={name}_wide" for name in names))


@functools.cache
def _bodies_digest() -> str:
    text = b"".join(path.read_bytes() for path in sorted((_FOLDER / "bodies").glob("*.cuh")))
    return hashlib.sha256(text).hexdigest()[:16]


@functools.cache
def _cuda_module(path: Path, wide: bool, device: int) -> Any:
    import cupy

    # CuPy's cache of compiled code knows the source and the options, not what it includes.
    options = (*cuda_options(path, wide), f"-DSEGREG_BODIES={_bodies_digest()}")
    return cupy.RawModule(code=path.read_text(), options=options)


@functools.cache
def _cuda_function(kernel: str, wide: bool, device: int) -> Any:
    module = _cuda_module(cuda_sources()[kernel], wide, device)
    return module.get_function(f"{kernel}_wide" if wide else kernel)


@functools.cache
def _cpu_machine() -> Cpu:
    return Cpu()


@functools.cache
def _cuda_machine() -> Cuda:
    return Cuda()


def _kind(name: str, array: Array) -> str:
    if isinstance(array, np.ndarray):
        return "cpu"
    if on_device(array):
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
    compiled().set_threads(threads)


def get_threads() -> int:
    """Number of threads the CPU kernels use."""
    threads: int = compiled().get_threads()
    return threads
