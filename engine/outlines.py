"""Steps on outlines alone: voxels that look into another region find their way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import Array, array_module, fetch
from segreg.kernels import (
    MatchingSide,
    couple,
    follow_pulls,
    mark_blocks,
    outline_pulls,
)

FloatArray = NDArray[np.float32]

SLIP = 1.0  # jump of the field at which two regions are coupled by half
LONGEST = 1.0  # step
# Steps end where so many have left more than so much of the error: one alone may be worth nothing,
# a voxel has to make way for the next.
PATIENCE, SETTLED = 3, 0.8


@dataclass(frozen=True)
class OutlineSteps:
    """How steps are taken; lengths in units of the smallest spacing."""

    margin: float = 0.2
    slack: float = 1.0
    rest: float = 0.0
    beyond: float = 0.75  # voxels
    agreement: float = 1.0  # sigma of the normal equations
    damping: float = 0.03
    bound: float = 0.1  # error from which on a voxel is worth a step


STEPS = OutlineSteps()


def fit_outlines(
    moving: MatchingSide,
    fixed: MatchingSide,
    field: FloatArray,
    to_moving: NDArray[np.float64],
    spacing: NDArray[np.float64],
    count: int,
    steps: OutlineSteps = STEPS,
) -> int:
    """Take up to ``count`` steps on a displacement (3, D, H, W) in place; how many were taken.

    Only blocks near a voxel that is off move; equations are formed anew only where it moved.

    Parameters
    ----------
    to_moving : (3, 4) fixed voxel -> moving voxel.
    spacing : (3,) of the fixed grid, in units of its smallest.
    """
    xp = array_module(field)
    shape = field.shape[1:]
    edges = couple(fixed.words, field, spacing, slip=SLIP)
    pulls = xp.empty((4, *shape), np.float32)
    units = np.where(np.array(shape) > 1, 1 / spacing, 0.0)
    rim = int(np.ceil(2 * steps.agreement / spacing.min()))
    blocks: Array | None = None
    errors: list[float] = []
    for step in range(count):
        outline_pulls(
            moving, fixed, field, affine=to_moving, unit=units, margin=steps.margin,
            slack=steps.slack, rest=steps.rest, beyond=steps.beyond, blocks=blocks, out=pulls,
        )  # fmt: skip
        errors.append(float(fetch(pulls[3].sum(dtype=np.float64))))
        blocks = mark_blocks(pulls[3], rim=rim, bound=steps.bound)
        if _settled(errors) or not int(fetch(blocks.sum(dtype=np.int64))):
            return step
        follow_pulls(
            pulls, edges, field, steps.agreement, spacing, damping=steps.damping, longest=LONGEST,
            unit=units, blocks=blocks,
        )  # fmt: skip
    return count


def _settled(errors: list[float]) -> bool:
    """Whether the last steps, whose errors these are, were not worth their while."""
    return len(errors) > PATIENCE and errors[-1] >= SETTLED * errors[-1 - PATIENCE]
