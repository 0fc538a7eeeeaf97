"""Where regions meet: whose fields blend there, and what is done about folds.

Left alone, every region keeps its own field up to its border and slides along its neighbours. That
matches outlines best, and folds only where the maps of two neighbours overlap; the repair takes
the overlap away and leaves the sliding. Blending two regions gives up both: it is for borders that
are no border in the body, such as that of two halves of one organ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import array_module
from segreg.engine.errors import InputError
from segreg.engine.labels import LabelScheme
from segreg.engine.regions import RegionPlan
from segreg.kernels import repair_folds, warp_labels

FloatArray = NDArray[np.float32]
Region: TypeAlias = str | int
BlendPairs: TypeAlias = str | Iterable[tuple[Region, Region]]

BACKGROUND = "background"
BLEND_MM = 2.0
MOST_NAMES = 20  # in a sentence
# How readily a voxel that the field takes to its own region moves, against one that it does not:
# a repair is done with voxels that are wrong, as far as they go.
MATCHED = 0.1


@dataclass(frozen=True)
class Blending:
    """Pairs of region numbers, the background's 0, and the mm over which their fields blend."""

    pairs: tuple[tuple[int, int], ...] = ()
    length: float = BLEND_MM

    def reach(self, count: int, falloff: float) -> FloatArray | float:
        """The table that ``fuse_fields`` takes for ``count`` regions; a number if nothing blends.

        ``falloff`` is the reach of a region into the background unless they are a pair.
        """
        if not self.pairs:
            return falloff
        table = np.zeros((count + 1, count + 1), np.float32)
        table[0, :] = table[:, 0] = falloff
        for one, other in self.pairs:
            table[one, other] = table[other, one] = self.length
        return table


SLIDING = Blending()


def plan_blending(
    scheme: LabelScheme, pairs: BlendPairs | None, length: float = BLEND_MM
) -> Blending:
    """Which regions blend.

    Parameters
    ----------
    pairs : None, "all" for every pair of regions, or pairs of regions by name or label number;
        "background" is one of the names.
    length : mm on each side of the border.

    Raises
    ------
    InputError : an unknown region, a region with itself, a length that is not positive.
    """
    if not isinstance(length, (int, float)) or not math.isfinite(length) or length <= 0:
        raise InputError(f"blend_mm: expected a distance in mm above 0, got {length!r}.")
    if pairs is None:
        return Blending(length=float(length))
    count = len(scheme)
    if isinstance(pairs, str):
        if pairs != "all":
            raise InputError(f'blend: expected "all" or pairs of regions, got {pairs!r}.')
        numbers = {(j, k) for k in range(1, count + 1) for j in range(1, k)}
    else:
        numbers = {_pair_numbers(scheme, pair) for pair in pairs}
    return Blending(tuple(sorted(numbers)), float(length))


def _pair_numbers(scheme: LabelScheme, pair: tuple[Region, Region]) -> tuple[int, int]:
    if isinstance(pair, str) or len(pair) != 2:
        raise InputError(f"blend: expected pairs of two regions, got {pair!r}.")
    low, high = sorted(_region_number(scheme, region) for region in pair)
    if low == high:
        raise InputError(f"blend: expected two different regions, got {pair[0]!r} and {pair[1]!r}.")
    return low, high


def _region_number(scheme: LabelScheme, region: Region) -> int:
    if isinstance(region, str):
        names = (BACKGROUND, *scheme.names)
        if region in names:
            return len(names) - 1 - names[::-1].index(region)  # a region may be called background
    text = str(region)
    for number, labels in enumerate(scheme.labels, 1):
        if text.isdecimal() and int(text) in labels:
            return number
    names = (BACKGROUND, *scheme.names)
    known = ", ".join(names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        known += f" ({len(names) - MOST_NAMES} more)"
    raise InputError(f"blend: no region {region!r}. There are {known}, and their label numbers.")


def repair_seams(
    displacement: FloatArray,
    plan: RegionPlan,
    to_moving: NDArray[np.float64],
    spacing: tuple[float, float, float],
) -> int:
    """Open the folds of a displacement (1, 3, D, H, W) in place; how many voxels were mended.

    Parameters
    ----------
    to_moving : (3, 4) fixed voxel -> moving voxel by the headers alone.
    spacing : mm of the fixed grid.
    """
    warped = warp_labels(plan.moving.region_map, displacement, affine=to_moving, mode="nearest")
    matched = warped == plan.fixed.region_map
    xp = array_module(displacement)
    freedom = xp.where(matched, np.float32(MATCHED), np.float32(1)).astype(np.float32, copy=False)
    _, folds = repair_folds(displacement, spacing=spacing, freedom=freedom[None], out=displacement)
    return folds[0] - folds[-1]
