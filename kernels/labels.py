"""Numbers of labels: which there are, and other numbers for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segreg.kernels._checks import check_count, check_integers
from segreg.kernels._machines import Array, Machine, machine_of
from segreg.kernels._streams import on_stream
from segreg.kernels.sampling import table_count

_DTYPES = ("uint8", "int16", "int32")


@on_stream
def find_labels(labels: Array, limit: int, *, stream: Any = None) -> NDArray[np.int64]:
    """The labels from 0 to limit - 1 that occur, ascending, on the host.

    Parameters
    ----------
    labels : uint8, int16 or int32, of any shape
    limit : int
        At most 2^24.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Raises
    ------
    TypeError, ValueError
        For another dtype or a limit out of range.
    """
    machine = machine_of(labels=labels)
    labels = _checked(machine, labels)
    limit = check_count("limit", limit, 1, 1 << 24)
    tables = table_count(machine, max(labels.size, 1), limit)
    seen = machine.zeros((tables, limit), "uint8")
    machine.launch(
        "mark_labels", labels.size, labels.view("uint8"), labels.itemsize, limit, tables, seen
    )
    return np.flatnonzero(machine.fetch(seen.max(axis=0)))


@on_stream
def relabel(labels: Array, table: ArrayLike, *, stream: Any = None) -> Array:
    """The map with each label replaced by its entry in ``table``, 0 for labels beyond it.

    Parameters
    ----------
    labels : uint8, int16 or int32, of any shape
    table : (n,) integers, at least one
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    int32, of the shape of ``labels``

    Raises
    ------
    TypeError, ValueError
        For another dtype or an empty table.
    """
    machine = machine_of(labels=labels)
    shape = labels.shape
    labels = _checked(machine, labels)
    entries = check_integers("table", table, (int(np.shape(table)[0]),))
    check_count("table", len(entries), 1)
    regions = machine.empty(shape, "int32")
    machine.launch(
        "relabel", labels.size, labels.view("uint8"), labels.itemsize, machine.move(entries),
        len(entries), regions,
    )  # fmt: skip
    return regions


def _checked(machine: Machine, labels: Array) -> Array:
    """Flat and C-contiguous."""
    if labels.dtype.name not in _DTYPES:
        raise TypeError(
            f"labels: expected {' or '.join(_DTYPES)}, got {labels.dtype}. "
            "Convert with labels.astype('int32')."
        )
    return machine.contiguous(labels).reshape(-1)
