"""Refinement: from the network's field to what texture and outlines say, voxel by voxel.

The network matches regions. Inside them the texture decides, and at their outlines the voxels. So
the fused displacement takes Gauss-Newton steps (``segreg.kernels.match_sides``), coarse to fine on
the fixed grid, all regions at once: first on image and outlines together, smoothed widely, then on
the outlines alone, which only moves voxels that look into another region. Regions are coupled
across their border unless the field slides there (``couple``), so texture on one side helps the
other and organs may still slide.

Lengths are in units of the smallest spacing of the level: a thick slice is a long way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import Array, array_module, fetch
from segreg.engine.errors import InputError
from segreg.engine.outlines import LONGEST, SLIP, fit_outlines
from segreg.engine.quality import dice_of_table
from segreg.engine.regions import RegionPlan, Side
from segreg.kernels import (
    MatchingSide,
    add_change,
    couple,
    find_borders,
    form_normals,
    match_sides,
    overlap,
    smooth,
    smooth_within,
    take_step,
)

FloatArray = NDArray[np.float32]
Refine: TypeAlias = str | int

OFF, AUTO = "off", "auto"
MOST_ITERATIONS = 200
REACH = 2.5  # of an outline
COARSE_ITERATIONS = 5
FINE_ITERATIONS = 5  # after coarser levels
# Without any: as many as so many voxels of work allow, within limits.
ALONE_VOXELS, ALONE_LIMITS = 3e7, (8, 20)
OUTLINE_ITERATIONS = 15
# A level is worth its while if its voxels still show the inside of regions: so many of theirs are
# at least so far from the outline.
DEEP, LEAST_DEEP = 1.5, 0.35
COARSENINGS = (8, 4, 2)
LEAST_CELLS = 8  # voxels of a level along an axis that was made coarser
# Squared local correlation below which the images have no texture in common.
NO_TEXTURE = 0.03
SAMPLE = 2  # every second voxel on an axis is measured


@dataclass(frozen=True)
class Steps:
    """How steps are taken; lengths in units of the level's smallest spacing."""

    image: float
    outline: float
    window: float = 1.5  # sigma of the local correlation
    agreement: float = 3.0  # sigma of the normal equations
    smoothness: float = 1.5  # sigma of the field before each step
    slack: float = 0.5
    rest: float = 0.3
    margin: float = 0.1
    damping: float = 0.05
    floor: float = 0.003


INSIDE = Steps(image=1.0, outline=4.0)


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
    fixed, moving = _normalised(plan.fixed), _normalised(plan.moving)
    field = displacement[0]
    start = field.copy()
    native = _Level.make(fixed, moving, to_moving, spacing, 1)
    before, overlapped = native.measure(field), _dice(plan, field, to_moving)
    steps, reason = _Iterations(), f"squared local correlation {before.similarity:.3f}"
    if before.similarity >= NO_TEXTURE:
        steps = _both(field, native, plan, (fixed, moving), to_moving, spacing, refine)
        reason = f"Texture agrees ({reason}, from {NO_TEXTURE:g} on): image and outlines."
        if _dice(plan, field, to_moving) < overlapped:
            field[...], steps = start, _Iterations()
            reason = "Texture pulled regions apart: outlines alone."
    else:
        reason = f"No texture in common ({reason}, below {NO_TEXTURE:g}): outlines alone."
    if not steps.levels:
        steps = _Iterations((), native.fit(field, _count(refine, OUTLINE_ITERATIONS)))
        if _dice(plan, field, to_moving) < overlapped:
            field[...], steps = start, _Iterations()
            reason = "Neither texture nor outlines brought regions nearer: left as it was."
    after = native.measure(field)
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


def _both(
    field: FloatArray,
    native: _Level,
    plan: RegionPlan,
    sources: tuple[_Source, _Source],
    to_moving: NDArray[np.float64],
    spacing: tuple[NDArray[np.float64], NDArray[np.float64]],
    refine: Refine,
) -> _Iterations:
    """Steps on image and outlines, coarse to fine, then on outlines alone; in place."""
    levels: list[tuple[int, int]] = []
    for coarsening in COARSENINGS:
        level = _Level.make(*sources, to_moving, spacing, coarsening)
        if level.deep_share >= LEAST_DEEP:
            count = _count(refine, COARSE_ITERATIONS)
            level.improve(field, plan.fixed.region_map, count)
            levels.append((coarsening, count))
    alone = int(np.clip(ALONE_VOXELS / field[0].size, *ALONE_LIMITS))
    count = _count(refine, FINE_ITERATIONS if levels else alone)
    native.advance(field, INSIDE, count)
    outlines = native.fit(field, _count(refine, OUTLINE_ITERATIONS))
    return _Iterations((*levels, (1, count)), outlines)


def _count(refine: Refine, otherwise: int) -> int:
    return refine if isinstance(refine, int) else otherwise


def _dice(plan: RegionPlan, field: FloatArray, to_moving: NDArray[np.float64]) -> float:
    """Mean Dice of the regions under a displacement (3, D, H, W)."""
    moving, fixed = plan.moving.region_map, plan.fixed.region_map
    table = overlap(moving, fixed, field[None], len(plan.maps), affine=to_moving)
    return float(dice_of_table(table).mean())


@dataclass(frozen=True)
class _Source:
    """An image with mean 0 and deviation 1 inside its regions, and the region map."""

    image: FloatArray
    regions: NDArray[np.int32]


def _normalised(side: Side) -> _Source:
    stats = side.stats.union()
    mean, deviation = float(stats.intensity_mean[1]), float(stats.intensity_std[1])
    scale = np.float32(1 / deviation if deviation > 0 else 0)
    return _Source((side.image - np.float32(mean)) * scale, side.region_map)


def _factors(shape: tuple[int, ...], spacing: NDArray[np.float64], coarsening: int) -> list[int]:
    """By how much to coarsen each axis, so that spacings become alike."""
    finest = min(step for step, length in zip(spacing, shape, strict=True) if length > 1)
    factors = []
    for step, length in zip(spacing, shape, strict=True):
        factor = 1
        while (
            2 * factor * step <= 1.5 * finest * coarsening and length // (2 * factor) >= LEAST_CELLS
        ):
            factor *= 2
        factors.append(factor)
    return factors


def _picked(array: Array, factors: list[int]) -> Array:
    return array_module(array).ascontiguousarray(
        array[tuple(slice(factor // 2, None, factor) for factor in factors)]
    )


def _mean(values: Array) -> float:
    """Waits for the GPU."""
    return float(fetch(values.sum(dtype=np.float64))) / max(int(values.size), 1)


def _coarse_to_fine(factors: list[int]) -> NDArray[np.float64]:
    """(4, 4) index on the coarse grid -> index on the fine one."""
    matrix = np.diag([*map(float, factors), 1.0])
    matrix[:3, 3] = [factor // 2 for factor in factors]
    return matrix


def _coarser(source: _Source, factors: list[int]) -> _Source:
    if max(factors) == 1:
        return source
    sigma = [factor / 2 if factor > 1 else 0 for factor in factors]
    image = smooth(source.image[None, None], sigma, truncate=2.0)[0, 0]
    return _Source(_picked(image, factors), _picked(source.regions, factors))


@dataclass(frozen=True)
class _Measures:
    similarity: float
    outline_error: float  # mm


@dataclass(frozen=True)
class _Level:
    """Both sides at one resolution, and what is the same in every step."""

    fixed: MatchingSide
    moving: MatchingSide
    factors: list[int]
    to_moving: NDArray[np.float64]
    spacing: NDArray[np.float64]
    """(3,) of the level, in units of its smallest."""
    unit_mm: float

    @classmethod
    def make(
        cls,
        fixed: _Source,
        moving: _Source,
        to_moving: NDArray[np.float64],
        spacing: tuple[NDArray[np.float64], NDArray[np.float64]],
        coarsening: int,
    ) -> _Level:
        sources = (fixed, moving)
        factors = [
            _factors(source.image.shape, np.asarray(steps), coarsening)
            for source, steps in zip(sources, spacing, strict=True)
        ]
        shape = fixed.image.shape
        steps = [np.asarray(s) * f for s, f in zip(spacing, factors, strict=True)]
        unit = min(s for s, length in zip(steps[0], shape, strict=True) if length > 1)
        sides = []
        for source, factor, step in zip(sources, factors, steps, strict=True):
            coarse = _coarser(source, factor)
            words, distances = find_borders(coarse.regions, step / unit, farthest=REACH)
            sides.append(MatchingSide(coarse.image, words, distances))
        through = (
            np.linalg.inv(_coarse_to_fine(factors[1]))
            @ np.vstack([to_moving, (0, 0, 0, 1)])
            @ _coarse_to_fine(factors[0])
        )
        return cls(sides[0], sides[1], factors[0], through[:3], steps[0] / unit, float(unit))

    @property
    def deep_share(self) -> float:
        """Share of the regions' voxels that are inside rather than at an outline."""
        inside = (self.fixed.words & 0xFFFF) > 0
        deep = inside & (self.fixed.distances >= DEEP)
        return int(deep.sum()) / max(int(inside.sum()), 1)

    @property
    def _units(self) -> NDArray[np.float64]:
        """Voxels per length; an axis of one voxel has no way to go."""
        lengths = np.array(self.fixed.image.shape)
        return np.where(lengths > 1, 1 / self.spacing, 0.0)

    def improve(self, field: FloatArray, regions: NDArray[np.int32], count: int) -> None:
        """Take steps at this level for a finer displacement (3, D, H, W), in place."""
        start = array_module(field).stack(
            [_picked(component, self.factors) / np.float32(factor)
             for component, factor in zip(field, self.factors, strict=True)]
        )  # fmt: skip
        coarse = start.copy()
        self.advance(coarse, INSIDE, count)
        add_change(
            coarse - start,
            self.fixed.words & 0xFFFF,
            regions,
            field,
            step=self.factors,
            first=[factor // 2 for factor in self.factors],
        )

    def advance(self, field: FloatArray, steps: Steps, count: int) -> None:
        """Take steps on image and outlines on a displacement (3, D, H, W), in place."""
        edges = couple(self.fixed.words, field, self.spacing, slip=SLIP)
        shape = self.fixed.image.shape
        xp = array_module(field)
        matches, normals = xp.empty((10, *shape), np.float32), xp.empty((9, *shape), np.float32)
        smoothed, means = xp.empty(normals.shape, np.float32), xp.zeros((3, *shape), np.float32)
        fixed_means, other = self._fixed_means(edges, steps), xp.empty(field.shape, np.float32)
        for step in range(count):
            if step:
                couple(self.fixed.words, field, self.spacing, slip=SLIP, out=edges)
            self._match(field, steps, matches)
            smooth_within(matches[:3], edges, steps.window, self.spacing, out=means)
            form_normals(
                self.fixed.image, fixed_means, matches, means,
                image=steps.image, outline=steps.outline, floor=steps.floor, out=normals,
            )  # fmt: skip
            smooth_within(normals, edges, steps.agreement, self.spacing, out=smoothed)
            smooth_within(
                field, edges, steps.smoothness, self.spacing,
                paired=True, truncate=3.0, out=other,
            )  # fmt: skip
            field[...] = other
            take_step(
                smoothed, field, damping=steps.damping, longest=LONGEST, unit=self._units
            )

    def fit(self, field: FloatArray, count: int) -> int:
        """Take steps on outlines alone, in place; how many were worth it."""
        return fit_outlines(
            self.moving, self.fixed, field, self.to_moving, self.spacing, count
        )

    def measure(self, field: FloatArray) -> _Measures:
        """Similarity of the images and error of the outlines, over the regions' voxels."""
        part = (slice(None), *(slice(0, None, SAMPLE) if n > 16 else slice(None)
                               for n in self.fixed.image.shape))  # fmt: skip
        inside = (self.fixed.words[part[1:]] & 0xFFFF) > 0
        matches = self._match(field, replace(INSIDE, slack=0.5))
        edges = couple(self.fixed.words, field, self.spacing, slip=SLIP)
        fixed = self._fixed_means(edges, INSIDE)[part][:, inside].astype(np.float64)
        means = smooth_within(matches[:3], edges, INSIDE.window, self.spacing)
        moving = means[part][:, inside].astype(np.float64)
        variances = (fixed[1] - fixed[0] ** 2, moving[1] - moving[0] ** 2)
        floors = [v.clip(0, None) + INSIDE.floor for v in variances]
        covariance = moving[2] - moving[0] * fixed[0]
        similarity = _mean(covariance**2 / (floors[0] * floors[1]))
        error = _mean(abs(matches[6][part[1:]][inside]))
        return _Measures(similarity, error * self.unit_mm)

    def _match(
        self, field: FloatArray, steps: Steps, out: FloatArray | None = None
    ) -> FloatArray:
        matches: FloatArray = match_sides(
            self.moving, self.fixed, field, affine=self.to_moving, unit=self._units,
            margin=steps.margin, slack=steps.slack, rest=steps.rest, out=out,
        )  # fmt: skip
        return matches

    def _fixed_means(self, edges: FloatArray, steps: Steps) -> FloatArray:
        image = self.fixed.image
        means: FloatArray = smooth_within(
            array_module(image).stack([image, image * image]), edges, steps.window, self.spacing
        )
        return means
