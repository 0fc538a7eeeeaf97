"""One call of another library, and where it can be compared with a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.operation import parts

Array = NDArray[Any]
Arguments = dict[str, Any]
Run = Callable[[], Array]


@dataclass(frozen=True)
class Outside:
    """Another implementation of an operation.

    Attributes
    ----------
    where : mask of the values that both define alike; None compares all of them.
    tolerance : largest difference that counts as equal; None takes the operation's.
    single : whether it always runs on one thread.
    """

    name: str
    prepare: Callable[[Arguments, int], Run]
    where: Callable[[Arguments], NDArray[np.bool_]] | None = None
    tolerance: float | None = None
    single: bool = False


def values(result: Any) -> Array:
    """The numbers of a result to be compared: of a tuple, the first."""
    if is_dataclass(result):
        columns = parts(result)
        rows = len(columns[0])
        return np.concatenate([np.reshape(c, (rows, -1)) for c in columns], axis=1, dtype=float)
    return np.asarray(result[0] if isinstance(result, tuple) else result)


def inside(arguments: Arguments) -> NDArray[np.bool_]:
    """Voxels (1, 1, D, H, W) that look at a place between voxels: borders are treated apart."""
    return _between(arguments["displacement"])[None, None]


def inside_labels(arguments: Arguments) -> NDArray[np.bool_]:
    return _between(arguments["displacement"])


def far_inside(arguments: Arguments) -> NDArray[np.bool_]:
    """Voxels (1, 3, D, H, W) whose inverse has nothing to do with the border."""
    displacement = arguments["displacement"]
    margin = 2 * int(np.ceil(np.abs(displacement).max())) + 2
    mask = np.zeros(displacement.shape, bool)
    mask[..., margin:-margin, margin:-margin, margin:-margin] = True
    return mask


def _between(displacement: Array) -> NDArray[np.bool_]:
    positions = looked_at(displacement)
    last = np.array(positions.shape[1:]).reshape(3, 1, 1, 1) - 1
    return np.asarray(((positions >= 0) & (positions <= last)).all(axis=0))


def looked_at(displacement: Array) -> Array:
    """x + u(x), (3, D, H, W)."""
    identity = np.indices(displacement.shape[2:], dtype=np.float32)
    return np.asarray(identity + displacement[0])
