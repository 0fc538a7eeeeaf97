"""One resolution of a pair, and the steps on image and outlines there.

Lengths are in units of the smallest spacing of the level: a thick slice is a long way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import Array, array_module, fetch
from segreg.engine.outlines import LONGEST, SLIP, fit_outlines
from segreg.engine.regions import Side
from segreg.kernels import (
    MatchingSide,
    add_change,
    cell_normals,
    cell_windows,
    couple,
    find_borders,
    match_sides,
    smooth,
    smooth_within,
    take_step,
)

FloatArray = NDArray[np.float32]

REACH = 2.5  # of an outline
LEAST_CELLS = 8  # voxels of a level along an axis that was made coarser
CELL = 2  # voxels on an axis of the cells that equations may be of
LEVELLING = 1.0  # sigma of the last smoothing of a level
DEEP = 1.5  # from the outline


@dataclass(frozen=True)
class Steps:
    """How steps are taken; lengths in units of the level's smallest spacing."""

    image: float
    outline: float
    window: float = 1.5  # sigma of the local correlation
    agreement: float = 3.0  # sigma of the normal equations
    smoothness: float = 1.0  # sigma of the field before each step
    slack: float = 0.5
    rest: float = 0.3
    margin: float = 0.1
    damping: float = 0.05
    floor: float = 0.003
    most_voxels: float = 0.0  # of a grid that gets an equation a voxel, not a cell
    outlines: int = 15  # steps on outlines alone that follow, at most
    slip: float = SLIP  # jump of the field at which two regions are coupled by half
    found: bool = False  # whether the one region is a body found in the images


INSIDE = Steps(image=1.0, outline=4.0)
# Where a network drew the outlines, texture on a wider window knows better than they do. While it
# is followed regions part sooner, so that one drawn wrongly does not drag its neighbour along.
GUESSED = replace(
    INSIDE, window=4.0, agreement=2.5, smoothness=0.7, damping=0.1, outlines=4, slip=0.25
)
# A body found in the images ends about where their noise begins.
FOUND = replace(INSIDE, window=3.0, agreement=2.5, smoothness=0.7, outlines=4, found=True)


@dataclass(frozen=True)
class Source:
    """One side: an image with mean 0 and deviation 1 inside its regions, and the region map."""

    image: FloatArray
    regions: NDArray[np.int32]


def normalised(side: Side) -> Source:
    """A side as levels are made of it."""
    stats = side.stats.union()
    mean, deviation = float(stats.intensity_mean[1]), float(stats.intensity_std[1])
    scale = np.float32(1 / deviation if deviation > 0 else 0)
    return Source((side.image - np.float32(mean)) * scale, side.region_map)


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


def _divide(field: Array, factors: list[int]) -> None:
    """Fine voxels -> voxels of a coarser grid, in place."""
    for component, factor in zip(field, factors, strict=True):
        component /= np.float32(factor)


def _total(values: Array, counted: Array) -> float:
    """Waits for the GPU."""
    zero = np.float32(0)
    return float(fetch(array_module(values).where(counted, values, zero).sum(dtype=np.float64)))


def _coarse_to_fine(factors: list[int]) -> NDArray[np.float64]:
    """(4, 4) index on the coarse grid -> index on the fine one."""
    matrix = np.diag([*map(float, factors), 1.0])
    matrix[:3, 3] = [factor // 2 for factor in factors]
    return matrix


def _coarser(source: Source, factors: list[int]) -> Source:
    if max(factors) == 1:
        return source
    sigma = [factor / 2 if factor > 1 else 0 for factor in factors]
    image = smooth(source.image[None, None], sigma, truncate=2.0)[0, 0]
    return Source(_picked(image, factors), _picked(source.regions, factors))


@dataclass(frozen=True)
class Measures:
    similarity: float
    outline_error: float  # mm


@dataclass(frozen=True)
class Level:
    """Both sides at one resolution, and what is the same in every step."""

    fixed: MatchingSide
    moving: MatchingSide
    factors: list[int]
    to_moving: NDArray[np.float64]
    spacing: NDArray[np.float64]
    """(3,) of the level, in units of its smallest."""
    unit_mm: float
    divided: bool = True
    """Whether there are regions, which may slide along each other."""

    @classmethod
    def make(
        cls,
        fixed: Source,
        moving: Source,
        to_moving: NDArray[np.float64],
        spacing: tuple[NDArray[np.float64], NDArray[np.float64]],
        coarsening: int,
    ) -> Level:
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

    def undivided(self) -> Level:
        """This level without regions: everything in it is one body, and has no outline."""
        fixed, moving = (
            MatchingSide(
                side.image,
                array_module(side.words).zeros_like(side.words),
                array_module(side.words).full_like(side.distances, REACH),
            )
            for side in (self.fixed, self.moving)
        )
        return replace(self, fixed=fixed, moving=moving, divided=False)

    def improve(
        self,
        field: FloatArray,
        regions: NDArray[np.int32],
        count: int,
        steps: Steps,
    ) -> None:
        """Take steps at this level for a finer displacement (3, D, H, W), in place."""
        start = array_module(field).stack(
            [_picked(component, self.factors) / np.float32(factor)
             for component, factor in zip(field, self.factors, strict=True)]
        )  # fmt: skip
        coarse = start.copy()
        self.advance(coarse, count, steps)
        add_change(
            coarse - start,
            self.fixed.words & 0xFFFF,
            regions,
            field,
            step=self.factors,
            first=[factor // 2 for factor in self.factors],
        )

    def advance(self, field: FloatArray, count: int, steps: Steps) -> None:
        """Take steps on image and outlines on a displacement (3, D, H, W), in place.

        On a large grid equations are those of cells: what is smoothed over ``agreement`` needs
        no finer ones.
        """
        cell = CELL if field[0].size > steps.most_voxels else 1
        factors = _factors(self.fixed.image.shape, self.spacing, cell)
        spacing, whole = self.spacing * factors, self.fixed.words & 0xFFFF
        centre = [(factor - 1) / 2 for factor in factors]
        for _ in range(count):
            windows, start, regions, edges = self._windows(field, factors, steps)
            normals = cell_normals(
                self.moving, self.fixed, field, windows, regions, factors, affine=self.to_moving,
                unit=self._units, margin=steps.margin, slack=steps.slack, rest=steps.rest,
                image=steps.image, outline=steps.outline, floor=steps.floor,
            )  # fmt: skip
            change = smooth_within(
                start, edges, steps.smoothness, spacing, paired=True, truncate=3.0
            ) - start
            take_step(
                smooth_within(normals, edges, steps.agreement, spacing), change,
                damping=steps.damping, longest=LONGEST, unit=self._units,
            )  # fmt: skip
            _divide(change, factors)
            add_change(change, regions, whole, field, step=factors, first=centre)
        # Changes that are smooth between cells are not where these differ in region.
        edges = self._couple(self.fixed.words, field, steps.slip)
        field[...] = smooth_within(
            field, edges, LEVELLING, self.spacing, paired=True, truncate=3.0
        )

    def fit(self, field: FloatArray, count: int) -> int:
        """Take steps on outlines alone, in place; how many were worth it."""
        return fit_outlines(
            self.moving, self.fixed, field, self.to_moving, self.spacing, count
        )

    def measure(self, field: FloatArray) -> Measures:
        """Similarity of the images and error of the outlines, over the regions' voxels."""
        factors = _factors(self.fixed.image.shape, self.spacing, CELL)
        windows, start, regions, _ = self._windows(field, factors, INSIDE)
        inside = regions > 0
        cells = max(int(fetch(inside.sum(dtype=np.int64))), 1)
        means = windows[1:]
        means /= windows[0].clip(1e-6, None)
        floors = [
            (means[n + 1] - means[n] ** 2).clip(0, None) + np.float32(INSIDE.floor) for n in (0, 2)
        ]
        covariance = means[4] - means[0] * means[2]
        similarity = _total(covariance**2 / (floors[0] * floors[1]), inside) / cells
        _divide(start, factors)
        seen = MatchingSide(*(_picked(array, factors) for array in self.fixed))
        through = np.vstack([self.to_moving, (0, 0, 0, 1)]) @ _coarse_to_fine(factors)
        matches = match_sides(
            self.moving, seen, start, affine=through, margin=INSIDE.margin, slack=INSIDE.slack
        )
        return Measures(similarity, _total(abs(matches[6]), inside) / cells * self.unit_mm)

    def _couple(
        self, regions: NDArray[np.int32], field: FloatArray, slip: float
    ) -> FloatArray | None:
        """How voxels move as one with their neighbours; None is wholly."""
        return couple(regions, field, self.spacing, slip=slip) if self.divided else None

    def _windows(
        self, field: FloatArray, factors: list[int], steps: Steps
    ) -> tuple[FloatArray, FloatArray, NDArray[np.int32], FloatArray | None]:
        """Of cells: sums over windows, displacement in voxels, regions, and how they couple."""
        regions = _picked(self.fixed.words & 0xFFFF, factors)
        start = array_module(field).stack([_picked(part, factors) for part in field])
        edges = self._couple(regions, start, steps.slip)
        sums = cell_windows(
            self.moving, self.fixed, field, regions, factors, affine=self.to_moving
        )
        windows = smooth_within(sums, edges, steps.window, self.spacing * factors)
        return windows, start, regions, edges
