"""Refinement: from the network's field to what texture and outlines say, voxel by voxel.

The network matches regions. Inside them the texture decides, and at their outlines the voxels. So
the fused displacement takes Gauss-Newton steps (``segreg.kernels.match_sides``), coarse to fine on
the fixed grid, all regions at once: first on image and outlines together, smoothed widely, then on
the outlines alone, which only moves voxels that look into another region. Regions are coupled
across their border unless the field slides there (``couple``), so texture on one side helps the
other and organs may still slide.

Only the part of the grid around the regions is looked at; towards its rim changes fade. Where the
overlap of the regions would fall, texture is left out, or nothing is changed at all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import array_module
from segreg.engine.errors import InputError
from segreg.engine.frames import Frame
from segreg.engine.levels import Level, Source, normalised
from segreg.engine.quality import dice_of_table
from segreg.engine.regions import RegionPlan
from segreg.kernels import overlap, warp_labels

FloatArray = NDArray[np.float32]
Refine: TypeAlias = str | int

OFF, AUTO = "off", "auto"
MOST_ITERATIONS = 200
COARSE_ITERATIONS = 5
FINE_ITERATIONS = 5  # after coarser levels
# Without any: as many as so many voxels of work allow, within limits.
ALONE_VOXELS, ALONE_LIMITS = 3e7, (8, 20)
OUTLINE_ITERATIONS = 15
# A level is worth its while if its voxels still show the inside of regions: so many of theirs are
# deep in one.
LEAST_DEEP = 0.35
COARSENINGS = (8, 4, 2)
REACH = 16.0  # smallest spacings around the regions that are refined; over them changes fade
# Squared local correlation below which the images have no texture in common.
NO_TEXTURE = 0.03


@dataclass(frozen=True)
class Refinement:
    """What a refinement did.

    Attributes
    ----------
    requested : "off", "auto" or the iterations asked for.
    iterations : steps on image and outlines per level, coarsest first: ((coarsening, steps), ...).
    outline_iterations : steps on outlines alone, at the image's own resolution.
    similarity : squared local correlation inside regions, before and after.
    outline_error_mm : mean over regions' voxels of how far outlines are off, before and after.
    reason : why it did what it did, in a sentence.
    """

    requested: Refine = OFF
    iterations: tuple[tuple[int, int], ...] = ()
    outline_iterations: int = 0
    similarity: tuple[float, float] | None = None
    outline_error_mm: tuple[float, float] | None = None
    reason: str = "Not asked for."

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for the reader of a result, if anything was done."""
        if self.similarity is None or self.outline_error_mm is None:
            return ()
        return (
            f"Refined. {self.reason} Squared local correlation "
            f"{self.similarity[0]:.3f} -> {self.similarity[1]:.3f}, outlines off by "
            f"{self.outline_error_mm[0]:.3f} -> {self.outline_error_mm[1]:.3f} mm.",
        )


def check_refine(refine: object) -> Refine:
    """``refine`` as given, if it is "off", "auto" or a number of iterations.

    Raises
    ------
    InputError : anything else.
    """
    if isinstance(refine, str) and refine in (OFF, AUTO):
        return refine
    if isinstance(refine, int) and not isinstance(refine, bool) and 0 < refine <= MOST_ITERATIONS:
        return refine
    raise InputError(
        f'refine: expected "{OFF}", "{AUTO}" or iterations from 1 to {MOST_ITERATIONS}, '
        f"got {refine!r}."
    )


def refine_displacement(
    displacement: FloatArray,
    plan: RegionPlan,
    to_moving: NDArray[np.float64],
    spacing: tuple[NDArray[np.float64], NDArray[np.float64]],
    refine: Refine = AUTO,
) -> Refinement:
    """Refine a displacement (1, 3, D, H, W), voxels of the fixed grid, in place.

    Parameters
    ----------
    to_moving : (3, 4) fixed voxel -> moving voxel by the headers alone.
    spacing : mm of the fixed and of the moving grid, (z, y, x).
    """
    if refine == OFF:
        return Refinement()
    frame = Frame.around(plan.fixed.stats, plan.fixed.image.shape, spacing[0], REACH)
    fixed, moving = normalised(plan.fixed), normalised(plan.moving)
    fixed = Source(frame.cut(fixed.image), frame.cut(fixed.regions))
    start, through = frame.cut(displacement[0]), frame.shift(to_moving)
    field = start.copy()
    filled = int(plan.fixed.stats.voxels[1:].sum()) == plan.fixed.image.size
    pair = _Pair(fixed, moving, through, spacing, len(plan.maps), filled)
    native = pair.level(1)
    before, overlapped = native.measure(field), pair.dice(field)
    steps, reason = _Iterations(), f"squared local correlation {before.similarity:.3f}"
    if before.similarity >= NO_TEXTURE:
        steps = _both(field, native, pair, refine)
        reason = f"Texture agrees ({reason}, from {NO_TEXTURE:g} on): image and outlines."
        if pair.dice(field) < overlapped:
            field[...], steps = start, _Iterations()
            reason = "Texture pulled regions apart: outlines alone."
    else:
        reason = f"No texture in common ({reason}, below {NO_TEXTURE:g}): outlines alone."
    if not steps.levels:
        steps = _Iterations((), native.fit(field, _count(refine, OUTLINE_ITERATIONS)))
        if pair.dice(field) < overlapped:
            field[...], steps = start, _Iterations()
            reason = "Neither texture nor outlines brought regions nearer: left as it was."
    after = native.measure(field)
    field -= start
    frame.add(field, displacement[0])
    return Refinement(
        refine,
        steps.levels,
        steps.outlines,
        (before.similarity, after.similarity),
        (before.outline_error, after.outline_error),
        reason,
    )


@dataclass(frozen=True)
class _Iterations:
    levels: tuple[tuple[int, int], ...] = ()
    outlines: int = 0


@dataclass(frozen=True)
class _Pair:
    """Both sides, and how they lie to each other; ``filled`` if no fixed voxel is background."""

    fixed: Source
    moving: Source
    to_moving: NDArray[np.float64]
    spacing: tuple[NDArray[np.float64], NDArray[np.float64]]
    count: int
    filled: bool

    def level(self, coarsening: int) -> Level:
        return Level.make(self.fixed, self.moving, self.to_moving, self.spacing, coarsening)

    def dice(self, field: FloatArray) -> float:
        """Mean Dice of the regions under a displacement (3, D, H, W).

        Regions that fill the grid end where the image does: to look beyond is no error then.
        """
        moving, fixed = self.moving.regions, self.fixed.regions
        if self.filled:
            everywhere = array_module(moving).ones_like(moving)
            fixed = fixed * warp_labels(everywhere, field[None], affine=self.to_moving)
        table = overlap(moving, fixed, field[None], self.count, affine=self.to_moving)
        return float(dice_of_table(table).mean())


def _both(field: FloatArray, native: Level, pair: _Pair, refine: Refine) -> _Iterations:
    """Steps on image and outlines, coarse to fine, then on outlines alone; in place."""
    levels: list[tuple[int, int]] = []
    for coarsening in COARSENINGS:
        level = pair.level(coarsening)
        if level.deep_share >= LEAST_DEEP:
            count = _count(refine, COARSE_ITERATIONS)
            level.improve(field, pair.fixed.regions, count)
            levels.append((coarsening, count))
    alone = int(np.clip(ALONE_VOXELS / field[0].size, *ALONE_LIMITS))
    count = _count(refine, FINE_ITERATIONS if levels else alone)
    native.advance(field, count)
    outlines = native.fit(field, _count(refine, OUTLINE_ITERATIONS))
    return _Iterations((*levels, (1, count)), outlines)


def _count(refine: Refine, otherwise: int) -> int:
    return refine if isinstance(refine, int) else otherwise
