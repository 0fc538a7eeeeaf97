"""Arrays of either kind, NumPy's or CuPy's, in code that does not care which."""

from __future__ import annotations

import importlib
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segreg.kernels._machines import on_device

# NumPy's or CuPy's array. CuPy has no types to check against, and is not always there.
Array: TypeAlias = Any


def array_module(array: Array) -> Any:
    """``numpy`` or ``cupy``: the module whose functions take and give arrays of this kind."""
    return importlib.import_module("cupy") if on_device(array) else np


def fetch(array: Array) -> NDArray[Any]:
    """A small table on the host; waits for the GPU."""
    return np.asarray(array.get() if on_device(array) else array)


def index_for(array: Array, places: NDArray[np.intp]) -> Array:
    """``places`` as an index into ``array``: CuPy's arrays take only their own."""
    return array_module(array).asarray(places)


def split_places(flags: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places where ``flags`` hold and where they do not. To index a GPU's array by flags would
    wait for it."""
    return np.flatnonzero(flags), np.flatnonzero(~flags)
