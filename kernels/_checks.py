"""What every public operation checks before it launches a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segreg.kernels._machines import Array, Machine, on_device

# Inside one volume the kernels count voxels with 32-bit integers.
LARGEST_VOLUME = 2**31 - 1

Shape = tuple[int, ...]


def check_array(
    machine: Machine,
    name: str,
    array: Array,
    form: str,
    dtypes: tuple[str, ...] = ("float32",),
    shape: Shape | None = None,
) -> Array:
    """The array, C-contiguous, after a look at its shape and dtype.

    ``form`` names the axes, as in ``"B 3 D H W"``: a letter is free (the same letter is the same
    length), a number is fixed. ``shape``, when given, is the exact shape.
    """
    expected = f"({', '.join(form.split())})"
    if array.dtype.name not in dtypes:
        raise TypeError(
            f"{name}: expected {' or '.join(dtypes)}, got {array.dtype}. "
            f"Convert with {name}.astype({dtypes[0]!r})."
        )
    if not _matches(array.shape, form):
        raise ValueError(
            f"{name}: expected {expected}, got {array.shape}.{_mend(name, array, form)}"
        )
    if shape is not None and array.shape != shape:
        raise ValueError(
            f"{name}: expected {shape} to fit the other arrays, got {array.shape}. "
            "Resample it to their grid first."
        )
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one voxel, got {array.shape}.")
    check_volume(name, array.shape[-3:])
    return machine.contiguous(array)


def _matches(shape: Shape, form: str) -> bool:
    axes = form.split()
    if len(axes) != len(shape):
        return False
    lengths: dict[str, int] = {}
    for axis, length in zip(axes, shape, strict=True):
        wanted = int(axis) if axis.isdigit() else lengths.setdefault(axis, length)
        if wanted != length:
            return False
    return True


def _mend(name: str, array: Array, form: str) -> str:
    axes = form.split()
    if "3" in axes and array.ndim == len(axes) and array.shape[-1] == 3:
        place = axes.index("3")
        return f" Components belong on axis {place}: np.moveaxis({name}, -1, {place})."
    if array.ndim < len(axes):
        return f" Add the missing axes in front: {name}[None]. A 2-D image is a volume with D=1."
    return ""


def check_volume(name: str, shape: Shape) -> None:
    """Raises ValueError for a volume that 32-bit indices cannot count."""
    voxels = int(np.prod([int(length) for length in shape], dtype=object))
    if voxels > LARGEST_VOLUME:
        raise ValueError(
            f"{name}: expected at most 2^31 - 1 voxels in a volume, got {voxels} in {shape}. "
            "Split the volume or work at a coarser spacing."
        )


def check_spacing(spacing: ArrayLike) -> Array:
    """Three positive numbers of mm per voxel, as ``check_parameters`` gives them."""
    steps = check_parameters("spacing", spacing, (3,))
    if not (steps > 0).all():
        raise ValueError(f"spacing: expected positive mm per voxel, got {steps.min()} among them.")
    return steps


def check_parameters(name: str, values: ArrayLike, shape: Shape) -> Array:
    """A small table of numbers on the host, as float32, finite, of the given shape.

    A contiguous float32 CuPy array of that shape is returned as it lies, its values unchecked:
    looking at them would wait for the GPU.
    """
    if _lies_ready(values, shape, "float32"):
        return values
    table = _host(values).astype(np.float32)
    if table.shape != shape:
        raise ValueError(f"{name}: expected {shape}, got {table.shape}.")
    if not np.isfinite(table).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity among them.")
    return np.ascontiguousarray(table)


def check_affine(name: str, affine: ArrayLike | None) -> NDArray[np.float32]:
    """A (3, 4) affine as float32; a (4, 4) one without its last row; None is the identity."""
    if affine is None:
        return np.eye(3, 4, dtype=np.float32)
    table = _host(affine)
    if table.shape == (4, 4) and np.array_equal(table[3], (0, 0, 0, 1)):
        table = table[:3]
    if table.shape != (3, 4):
        raise ValueError(
            f"{name}: expected a (3, 4) or (4, 4) affine on (z, y, x) indices, got {table.shape}."
        )
    parameters: NDArray[np.float32] = check_parameters(name, table, (3, 4))
    return parameters


def check_integers(name: str, values: ArrayLike, shape: Shape) -> Array:
    """A small table of integers on the host, as int32, of the given shape.

    A contiguous int32 CuPy array of that shape is returned as it lies, its values unchecked.
    """
    if _lies_ready(values, shape, "int32"):
        return values
    table = _host(values)
    if not np.issubdtype(table.dtype, np.integer):
        raise TypeError(f"{name}: expected integers, got {table.dtype}.")
    if table.shape != shape:
        raise ValueError(f"{name}: expected {shape}, got {table.shape}.")
    return np.ascontiguousarray(table, dtype=np.int32)


def _lies_ready(values: Any, shape: Shape, dtype: str) -> bool:
    fits = on_device(values) and values.shape == shape and values.dtype.name == dtype
    return bool(fits and values.flags.c_contiguous)


def _host(values: Any) -> NDArray[Any]:
    # CuPy refuses to become NumPy unasked; a parameter table is small enough to fetch.
    return np.asarray(values.get() if hasattr(values, "get") else values)


def check_count(name: str, value: int, least: int, most: int | None = None) -> int:
    """An integer within its limits."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {type(value).__qualname__}.")
    if value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name}: expected {limits}, got {value}.")
    return int(value)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if value not in choices:
        raise ValueError(f"{name}: expected {' or '.join(map(repr, choices))}, got {value!r}.")
    return value


def check_out(
    machine: Machine, name: str, out: Array | None, shape: Shape, dtype: str, *inputs: Array
) -> Array:
    """The array to write to: ``out`` if it fits and overlaps no input, or a new one."""
    if out is None:
        return machine.empty(shape, dtype)
    if out.shape != shape or out.dtype.name != dtype:
        raise ValueError(
            f"{name}: expected {shape} {dtype}, got {out.shape} {out.dtype}. "
            "Leave it out to have it allocated."
        )
    flags = out.flags
    if not flags.c_contiguous or not getattr(flags, "writeable", True):
        raise ValueError(
            f"{name}: expected a writeable C-contiguous array, got a view that is not."
        )
    begin = machine.address(out)
    for array in inputs:
        if array is None:
            continue
        start = machine.address(array)
        if start < begin + out.nbytes and begin < start + array.nbytes:
            raise ValueError(
                f"{name}: expected memory of its own, got an array that overlaps an input."
            )
    return out
