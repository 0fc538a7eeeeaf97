"""What label maps betray of themselves: swapped regions, volumes that do not go together, gaps.

A registration matches whatever it is given, and overlap then says nothing of labels that were
wrong. Some faults show in the label maps of a pair: by the size of a region on both sides, by where
and how it lies among the others, and by slices that are empty between full ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import Array, array_module, fetch
from segreg.engine.labels import LabelScheme
from segreg.engine.moments import match_moments
from segreg.kernels import RegionStats

Floats = NDArray[np.float64]

CHUNK = 1 << 24  # voxels counted at once: what they take of memory is bounded
FEW_SLICES = 3  # a longer gap parts a region, a shorter region has no slices to compare with
THICKER = 2  # times as thick as others: slices lie across this axis and no other
SAMPLES = 4096  # voxels of a slice that are looked at
FULL_SLICE = 25  # voxels at least: specks and strings come and go


class PlausibilityLimits(Protocol):
    """The part of ``quality.Thresholds`` that is about label maps."""

    @property
    def volume_change(self) -> float: ...
    @property
    def swap_ratio(self) -> float: ...
    @property
    def gap_share(self) -> float: ...
    @property
    def unmatched_percent(self) -> float: ...


@dataclass(frozen=True)
class LabelledSide:
    """One side's region map (D, H, W) with what one pass over it found.

    Attributes
    ----------
    to_fixed : (4, 4) its voxel -> voxel of the fixed grid, by the headers.
    voxel_ml : volume of a voxel.
    """

    name: str
    region_map: Array
    stats: RegionStats
    to_fixed: Floats
    voxel_ml: float

    def shapes(self, spacing: Floats) -> tuple[Floats, Floats]:
        """Centroids (K, 3) and covariances (K, 3, 3) of the regions, mm along the fixed axes."""
        linear = np.diag(spacing) @ self.to_fixed[:3, :3]
        shift = spacing * self.to_fixed[:3, 3]
        # A voxel is a box, not a point.
        covariance = self.stats.covariance[1:] + np.eye(3) / 12
        return self.stats.mean[1:] @ linear.T + shift, linear @ covariance @ linear.T

    @property
    def volumes(self) -> Floats:
        """(K,) ml."""
        return np.asarray(self.stats.voxels[1:] * self.voxel_ml)

    def slice_axes(self, spacing: Floats) -> list[int]:
        """Axes that slices may lie across: those with voxels about as thick as the thickest."""
        sizes = np.linalg.norm(spacing[:, None] * self.to_fixed[:3, :3], axis=0)
        sizes = np.where(np.array(self.region_map.shape) > 1, sizes, 0.0)
        return [int(axis) for axis in np.flatnonzero(sizes > max(sizes.max() / THICKER, 1e-9))]


def find_swapped(
    moving: LabelledSide, fixed: LabelledSide, spacing: Floats, ratio: float
) -> list[tuple[int, int]]:
    """Pairs of regions, counted from 0, that fit ``ratio`` times better if they are exchanged.

    All regions taken as one are the same whichever is which, so they align the sides; then a region
    is compared by place and shape, as the 2-Wasserstein distance of Gaussians with the regions'
    moments, ``|m - n|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)`` (Dowson and Landau 1982).
    """
    means, spreads = _aligned(moving, fixed, spacing)
    if len(means[0]) < 2:
        return []
    own = _apart(means[0], spreads[0], means[1], spreads[1])
    found = []
    for a in range(len(own) - 1):
        # Centroids are never farther apart than the regions: most pairs end here.
        there = np.linalg.norm(means[0][a] - means[1][a + 1 :], axis=1)
        back = np.linalg.norm(means[0][a + 1 :] - means[1][a], axis=1)
        close = a + 1 + np.flatnonzero(own[a] + own[a + 1 :] > ratio * (there + back))
        if not len(close):
            continue
        one = np.full(len(close), a)
        exchanged = _apart(means[0][one], spreads[0][one], means[1][close], spreads[1][close])
        exchanged += _apart(means[0][close], spreads[0][close], means[1][one], spreads[1][one])
        found += [(a, int(b)) for b in close[own[a] + own[close] > ratio * exchanged]]
    return found


def _aligned(
    moving: LabelledSide, fixed: LabelledSide, spacing: Floats
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Centroids and covariances of both sides, the fixed ones carried to the moving side."""
    sides = [side.shapes(spacing) for side in (moving, fixed)]
    wholes = [
        _join(side.stats.voxels[1:], *shapes)
        for side, shapes in zip((moving, fixed), sides, strict=True)
    ]
    affine = match_moments(*wholes[1], *wholes[0])
    linear, shift = affine[:3, :3], affine[:3, 3]
    (mean, spread), (far_mean, far_spread) = sides
    return (mean, far_mean @ linear.T + shift), (spread, linear @ far_spread @ linear.T)


def _join(voxels: NDArray[np.int64], means: Floats, covariances: Floats) -> tuple[Floats, Floats]:
    """Mean (3,) and covariance (3, 3) of all regions as one."""
    share = voxels / voxels.sum()
    mean = share @ means
    apart = means - mean
    return mean, np.tensordot(share, covariances + apart[:, :, None] * apart[:, None], 1)


def _apart(mean: Floats, spread: Floats, other_mean: Floats, other_spread: Floats) -> Floats:
    """2-Wasserstein distance (N,) of Gaussians, row by row."""
    root = _root(spread)
    both = _root(root @ other_spread @ root)
    shape = np.trace(spread + other_spread - 2 * both, axis1=1, axis2=2)
    return np.asarray(np.sqrt(((mean - other_mean) ** 2).sum(1) + np.maximum(shape, 0)))


def _root(matrices: Floats) -> Floats:
    """Square roots of symmetric matrices (N, 3, 3)."""
    values, vectors = np.linalg.eigh(matrices)
    scaled = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    return np.asarray(scaled @ vectors.transpose(0, 2, 1))


def count_slices(side: LabelledSide, axis: int) -> tuple[int, NDArray[np.int64]]:
    """First labelled slice, and voxels (K, slices) of each region in it and those that follow.

    Of large slices every n-th row and column is looked at, and stands for n: a region that this
    misses may still be there, see ``is_empty``.
    """
    stats = side.stats
    there = stats.voxels[1:] > 0
    low, high = stats.low[1:][there].min(0), stats.high[1:][there].max(0)
    area = float(np.prod(np.delete(high - low, axis)))
    every = max(1, round((area / SAMPLES) ** 0.5))
    steps = [1 if a == axis else every for a in range(3)]
    box = side.region_map[tuple(map(slice, low, high, steps))]
    xp, count, length = array_module(box), len(there) + 1, box.shape[axis]
    step, parts = max(CHUNK * length // max(box.size, 1), 1), []
    for start in range(0, length, step):
        place = [slice(None)] * 3
        place[axis] = slice(start, start + step)
        part = box[tuple(place)]
        line = [1, 1, 1]
        line[axis] = thick = part.shape[axis]
        # A number for each region in each slice: then one pass counts them all.
        numbers = xp.asarray(count * np.arange(thick)).reshape(line)
        found = xp.bincount((numbers + part).ravel(), minlength=thick * count)
        parts.append(fetch(found).reshape(thick, count))
    return int(low[axis]), np.concatenate(parts)[:, 1:].T * every**2


def is_empty(side: LabelledSide, axis: int, first: int, last: int, region: int) -> bool:
    """Whether slices have no voxel of a region, counted from 0; of any region for -1."""
    index = tuple(slice(first, last + 1) if a == axis else slice(None) for a in range(3))
    part = side.region_map[index]
    found = part == region + 1 if region >= 0 else part > 0
    return not int(fetch(found.sum()))


def find_gaps(counts: NDArray[np.int64], share: float) -> list[tuple[int, int]]:
    """Empty slices (first, last) of a region between slices of ``share`` of its mean or more.

    Parts of a region that lie apart taper off; a slice that is missing has full neighbours.
    """
    full = np.flatnonzero(counts)
    if len(full) < FEW_SLICES:
        return []
    least = max(share * float(counts[full].mean()), FULL_SLICE)
    return [
        (int(one) + 1, int(next_) - 1)
        for one, next_ in pairwise(full)
        if 1 < next_ - one <= FEW_SLICES + 1 and min(counts[one], counts[next_]) >= least
    ]


def label_faults(
    scheme: LabelScheme,
    moving: LabelledSide,
    fixed: LabelledSide,
    spacing: Floats,
    thresholds: PlausibilityLimits,
) -> list[str]:
    """Sentences about what is not plausible in the label maps of a pair."""
    return [
        *_unmatched_faults(scheme, moving, fixed, thresholds.unmatched_percent),
        *_volume_faults(scheme, moving, fixed, thresholds.volume_change),
        *(
            f"{scheme.names[a]} and {scheme.names[b]}: each lies on the moving side where the "
            "other is on the fixed one; they look swapped"
            for a, b in find_swapped(moving, fixed, spacing, thresholds.swap_ratio)
        ),
        *(
            fault
            for side in (moving, fixed)
            for axis in side.slice_axes(spacing)
            for fault in _gap_faults(scheme, side, axis, thresholds.gap_share)
        ),
    ]


def _unmatched_faults(
    scheme: LabelScheme, moving: LabelledSide, fixed: LabelledSide, limit: float
) -> Iterator[str]:
    alone = scheme.unmatched
    for side in (moving, fixed):
        missing = [region for region in alone if region.side == side.name]
        labelled = side.stats.voxels[1:].sum() + sum(region.voxels for region in missing)
        for region in missing:
            share = 100 * region.voxels / labelled
            if share >= limit:
                yield (
                    f"{region.name}: only in the {side.name} label map, {share:.1f} % of what is "
                    "labelled there"
                )


def _volume_faults(
    scheme: LabelScheme, moving: LabelledSide, fixed: LabelledSide, limit: float
) -> Iterator[str]:
    for name, one, other in zip(scheme.names, moving.volumes, fixed.volumes, strict=True):
        change = max(one, other) / min(one, other)
        if change > limit:
            yield (
                f"{name}: {one:.3g} ml on the moving side and {other:.3g} ml on the fixed one, "
                f"{change:.3g} times different, above {limit:g}"
            )


def _gap_faults(
    scheme: LabelScheme, side: LabelledSide, axis: int, share: float
) -> Iterator[str]:
    first, counts = count_slices(side, axis)

    def gaps_of(row: NDArray[np.int64], region: int) -> list[tuple[int, int]]:
        return [
            (one, last)
            for one, last in find_gaps(row, share)
            if is_empty(side, axis, first + one, first + last, region)
        ]

    gaps = {k: gaps_of(row, k) for k, row in enumerate(counts)}
    # A slice that all regions miss is one fault, not one for each.
    common = gaps_of(counts.sum(0), -1)
    for gap in common:
        place = _slices(first, gap, axis)
        yield f"{side.name} labels: nothing in {place}, between slices that are full"
    for k, found in gaps.items():
        for gap in sorted(set(found) - set(common)):
            yield (
                f"{scheme.names[k]}: nothing of it in {_slices(first, gap, axis)} of the "
                f"{side.name} label map, between slices that are full"
            )


def _slices(first: int, gap: tuple[int, int], axis: int) -> str:
    one, last = (first + index for index in gap)
    words = f"slice {one}" if one == last else f"slices {one} to {last}"
    return f"{words} along {'zyx'[axis]}"
