"""What an operation that is timed is: inputs, buffers, and the bytes that must move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg import kernels
from segreg.kernels import reference

Shape = tuple[int, int, int]
Arguments = dict[str, Any]
Buffers = dict[str, tuple[tuple[int, ...], str]]


@dataclass(frozen=True)
class Operation:
    """One function of ``segreg.kernels`` with one set of options, for volumes of any shape."""

    id: str
    function: str
    inputs: Callable[[Shape], Arguments]
    """Keyword arguments for a volume of this shape; arrays in NumPy."""
    buffers: Callable[[Shape], Buffers] = lambda shape: {}
    """Shape and dtype of what the operation writes to, by keyword; "scratch" moves no byte that
    must move."""
    options: Mapping[str, Any] = field(default_factory=dict)
    prepared: Callable[[Arguments], Arguments] = lambda arguments: arguments
    """What is made of the inputs where they lie, before the operation."""
    rounds: Callable[[Arguments], int] = lambda arguments: 1
    """How often everything must be read and written."""
    margin: Callable[[Shape], int] | None = None
    """How far away the voxels lie that one voxel depends on; None where it may depend on all."""
    waits: bool = False
    """Whether it counts on the host or has no buffers, so that no graph can hold it."""
    tolerance: float = 1e-3
    """Largest absolute difference to the reference that counts as right."""
    ties: float = 0.0
    """Share of the values in which rounding may turn a choice between two."""

    def arguments(self, xp: Any, shape: Shape) -> Arguments:
        """Keyword arguments with their arrays, tables and buffers in ``xp``: NumPy or CuPy."""
        given = self.prepared({n: _moved(xp, value) for n, value in self.inputs(shape).items()})
        return {**given, **self.options, **self.empty_buffers(xp, shape)}

    def empty_buffers(self, xp: Any, shape: Shape) -> Arguments:
        return {name: xp.empty(*form) for name, form in self.buffers(shape).items()}

    def call(self, arguments: Arguments) -> Any:
        """The result: an array, a tuple of arrays or, on the host, a table."""
        return getattr(kernels, self.function)(**arguments)

    def expected(self, arguments: Arguments) -> Any:
        """What ``segreg.kernels.reference`` makes of the unprepared arguments, all in NumPy."""
        written = self.buffers((1, 1, 1))
        given = {name: value for name, value in arguments.items() if name not in written}
        return getattr(reference, self.function)(**given)

    def compare(self, ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[float, bool]:
        """Largest difference, ties aside, and whether it is small enough."""
        difference = np.abs(ours.astype(np.float64) - theirs)
        wrong = ~(difference <= self.tolerance)  # NaN is wrong
        right = np.count_nonzero(wrong) <= self.ties * difference.size
        if right:
            difference = difference[~wrong]
        return float(difference.max(initial=0.0)), bool(right)

    def moved_bytes(self, arguments: Arguments) -> int:
        """Bytes that must move: every input read once and every result written once a round."""
        given = {name: value for name, value in arguments.items() if name != "scratch"}
        return self.rounds(arguments) * sum(int(a.nbytes) for a in _arrays(given.values()))


def parts(result: Any) -> list[Any]:
    """The arrays of a result, whatever holds them."""
    if is_dataclass(result):
        return [getattr(result, f.name) for f in fields(result)]
    if isinstance(result, tuple):
        return [array for entry in result for array in parts(entry)]
    return [result if hasattr(result, "dtype") else np.asarray(result)]


def _moved(xp: Any, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(xp, part) for part in value)
    return xp.asarray(value) if isinstance(value, np.ndarray) else value


def _arrays(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple):
            yield from _arrays(value)
        elif isinstance(value, kernels.RegionShapes):
            yield value.bytes
        elif hasattr(value, "nbytes"):
            yield value
