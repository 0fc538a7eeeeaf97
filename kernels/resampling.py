"""Vector fields on finer or coarser grids over the same box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segreg.kernels._checks import check_array
from segreg.kernels._machines import Array, machine_of


def resample_field(field: Array, shape: tuple[int, int, int]) -> Array:
    """A displacement on a grid of ``shape`` cells that covers the same box.

    Linear between cell centres, held at the border; one small matrix product per axis.

    Parameters
    ----------
    field : (B, 3, D, H, W) float32
        Displacement in its own cells.
    shape : cells of the result.

    Returns
    -------
    (B, 3, *shape) float32
        The same displacement in cells of the new grid.

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype or shape.
    """
    machine = machine_of(field=field)
    field = check_array(machine, "field", field, "B 3 D H W")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape: expected three positive numbers of cells, got {shape}.")
    old = field.shape[2:]
    # Taking axis 2 and putting it last, three times over, leaves the axes where they were.
    for before, after in zip(old, shape, strict=True):
        weights = machine.move(_linear_weights(before, after))
        field = field.swapaxes(2, 3).swapaxes(3, 4) @ weights
    scale = np.array([after / before for before, after in zip(old, shape, strict=True)], np.float32)
    return machine.contiguous(field * machine.move(scale)[:, None, None, None])


def _linear_weights(before: int, after: int) -> NDArray[np.float32]:
    """(before, after) weights of the old cells in each new one."""
    position = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    weights = np.maximum(0, 1 - np.abs(np.arange(before)[:, None] - position))
    return np.asarray(weights, np.float32)
