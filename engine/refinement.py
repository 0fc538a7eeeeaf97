"""Refinement: from the network's field to what texture and outlines say, voxel by voxel.

The network matches regions. Inside them the texture decides, and at their outlines the voxels. So
the fused displacement takes Gauss-Newton steps (``segreg.kernels.match_sides``), coarse to fine on
the fixed grid, all regions at once: first on image and outlines together, smoothed widely, then on
the outlines alone, which only moves voxels that look into another region. Regions are coupled
across their border unless the field slides there (``couple``), so texture on one side helps the
other and organs may still slide. Where both images show one body, its texture goes first and
regions do not count until the outlines do (``segreg.engine.texture``).

Only the part of the grid around the regions is looked at; towards its rim changes fade. Where the
overlap of the regions would fall, texture is left out, or nothing is changed at all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segreg.engine.errors import InputError
from segreg.engine.frames import Frame
from segreg.engine.levels import INSIDE, Source, Steps, normalised
from segreg.engine.regions import RegionPlan
from segreg.engine.resolutions import Resolutions
from segreg.engine.texture import follow_texture

FloatArray = NDArray[np.float32]
Refine: TypeAlias = str | int

OFF, AUTO = "off", "auto"
MOST_ITERATIONS = 200
COARSE_ITERATIONS = 5
FINE_ITERATIONS = 5  # after coarser levels
# Without any: as many as so many voxels of work allow, within limits.
ALONE_VOXELS, ALONE_LIMITS = 3e7, (8, 20)
# A level is worth its while if its voxels still show the inside of regions: so many of theirs are
# deep in one.
LEAST_DEEP = 0.35
COARSENINGS = (8, 4, 2)
OUTLINES_AGAIN = 4  # steps after folds were opened
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
    steps: Steps = INSIDE,
) -> Refinement:
    """Refine a displacement (1, 3, D, H, W), voxels of the fixed grid, in place.

    Parameters
    ----------
    to_moving : (3, 4) fixed voxel -> moving voxel by the headers alone.
    spacing : mm of the fixed and of the moving grid, (z, y, x).
    steps : how far labels are to be believed: INSIDE, GUESSED or FOUND of ``segreg.engine.levels``.
    """
    if refine == OFF:
        return Refinement()
    frame, pair = _framed(plan, to_moving, spacing)
    start = frame.cut(displacement[0])
    field = start.copy()
    native = pair.level(1)
    before, overlapped = native.measure(field), pair.dice(field)
    measured = before.similarity, overlapped
    taken, reason = _refine(field, start, pair, measured, refine, steps)
    after = native.measure(field)
    field -= start
    frame.add(field, displacement[0])
    return Refinement(
        refine,
        taken.levels,
        taken.outlines,
        (before.similarity, after.similarity),
        (before.outline_error, after.outline_error),
        reason,
    )


def follow_outlines(
    displacement: FloatArray,
    plan: RegionPlan,
    to_moving: NDArray[np.float64],
    spacing: tuple[NDArray[np.float64], NDArray[np.float64]],
    count: int = OUTLINES_AGAIN,
) -> int:
    """Up to ``count`` steps on outlines alone, as ``refine_displacement`` ends with, in place.

    Opening folds moves outlines that had been matched; these steps bring them back. Returns how
    many were taken; parameters as there.
    """
    frame, pair = _framed(plan, to_moving, spacing)
    start = frame.cut(displacement[0])
    field = start.copy()
    taken = pair.level(1).fit(field, count)
    field -= start
    frame.add(field, displacement[0])
    return taken


def _framed(
    plan: RegionPlan,
    to_moving: NDArray[np.float64],
    spacing: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> tuple[Frame, Resolutions]:
    """The part of the grid around the regions, and both sides in it."""
    frame = Frame.around(plan.fixed.stats, plan.fixed.image.shape, spacing[0], REACH)
    fixed, moving = normalised(plan.fixed), normalised(plan.moving)
    fixed = Source(frame.cut(fixed.image), frame.cut(fixed.regions))
    filled = int(plan.fixed.stats.voxels[1:].sum()) == plan.fixed.image.size
    through = frame.shift(to_moving)
    return frame, Resolutions(fixed, moving, through, spacing, len(plan.maps), filled)


@dataclass(frozen=True)
class _Iterations:
    levels: tuple[tuple[int, int], ...] = ()
    outlines: int = 0


def _refine(
    field: FloatArray,
    start: FloatArray,
    pair: Resolutions,
    measured: tuple[float, float],
    refine: Refine,
    steps: Steps,
) -> tuple[_Iterations, str]:
    """The first way to refine ``field``, in place, that does not part regions; and why that."""
    similarity, overlapped = measured
    reason = (
        f"No texture in common (squared local correlation {similarity:.3f}, below {NO_TEXTURE:g})"
    )
    if similarity >= NO_TEXTURE:
        reason = (
            f"Texture agrees (squared local correlation {similarity:.3f}, from {NO_TEXTURE:g} on)"
        )
        taken = _one_body(field, start, pair, measured, refine, steps)
        if taken.levels and pair.dice(field) >= overlapped:
            return taken, f"{reason}, best as one body: image, then outlines."
        field[...] = start
        taken = _both(field, pair, refine, steps)
        if pair.dice(field) >= overlapped:
            return taken, f"{reason}: image and outlines."
        field[...] = start
        reason = "Texture pulled regions apart"
    taken = _Iterations((), pair.level(1).fit(field, _count(refine, steps.outlines)))
    if pair.dice(field) >= overlapped:
        return taken, f"{reason}: outlines alone."
    field[...] = start
    return _Iterations(), "Neither texture nor outlines brought regions nearer: left as it was."


def _one_body(
    field: FloatArray,
    start: FloatArray,
    pair: Resolutions,
    measured: tuple[float, float],
    refine: Refine,
    steps: Steps,
) -> _Iterations:
    """Steps on the texture of all as one body, then on outlines; in place. None if it is not."""
    count = refine if isinstance(refine, int) else None
    followed = follow_texture(start, pair, *measured, count, found=steps.found)
    if followed is None:
        return _Iterations()
    field[...], levels = followed
    return _Iterations(levels, pair.level(1).fit(field, _count(refine, steps.outlines)))


def _both(field: FloatArray, pair: Resolutions, refine: Refine, steps: Steps) -> _Iterations:
    """Steps on image and outlines, coarse to fine, then on outlines alone; in place."""
    levels: list[tuple[int, int]] = []
    native = pair.level(1)
    for coarsening in COARSENINGS:
        level = pair.level(coarsening)
        if level.deep_share >= LEAST_DEEP:
            count = _count(refine, COARSE_ITERATIONS)
            level.improve(field, pair.fixed.regions, count, steps)
            levels.append((coarsening, count))
    alone = int(np.clip(ALONE_VOXELS / field[0].size, *ALONE_LIMITS))
    count = _count(refine, FINE_ITERATIONS if levels else alone)
    native.advance(field, count, steps)
    outlines = native.fit(field, _count(refine, steps.outlines))
    return _Iterations((*levels, (1, count)), outlines)


def _count(refine: Refine, otherwise: int) -> int:
    return refine if isinstance(refine, int) else otherwise
