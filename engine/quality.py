"""Judge a registration: overlap, distance, volume and Jacobian per region, and a verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.labels import LabelScheme
from segreg.engine.plausibility import LabelledSide, label_faults
from segreg.kernels import (
    JacobianSums,
    RegionStats,
    jacobian_determinant,
    jacobian_sums,
    overlap,
    region_stats,
    surface_distances,
)

RegionMap = NDArray[np.int32]


@dataclass(frozen=True)
class Thresholds:
    """Limits of the verdict; those of the registration follow AAPM TG-132 (Brock et al. 2017).

    The others are about the label maps, see ``segreg.engine.plausibility``. Healthy hearts and
    brains of different people stay below half of ``volume_change`` and below 0.8 of
    ``swap_ratio``.
    """

    dice: float = 0.80
    surface_distance_voxels: float = 1.0  # mean distance, in units of the largest voxel dimension
    folding_percent: float = 0.0
    volume_change: float = 8.0  # of a region between the sides: twice as long along each axis
    swap_ratio: float = 1.2  # by how much better two regions fit if they are exchanged
    gap_share: float = 0.25  # of a region's mean slice, in the neighbours of an empty one
    unmatched_percent: float = 2.0  # of what is labelled, in a region that one side lacks


@dataclass(frozen=True)
class RegionQuality:
    """One region; distances in mm, volumes in ml, shares in percent, NaN where undefined."""

    name: str
    labels: tuple[int, ...]
    dice_before: float
    dice: float
    hd95_mm: float
    surface_distance_mm: float
    moving_volume_ml: float
    fixed_volume_ml: float
    mean_jacobian: float
    folding_percent: float
    log_jacobian_sd: float


@dataclass(frozen=True)
class Quality:
    """The verdict and what it rests on.

    ``folding_inside_percent`` counts voxels with a Jacobian determinant <= 0 whose six neighbours
    belong to the same region; ``folding_seams_percent`` those at a border between regions or to
    the background, where fields meet and organs may slide.
    """

    regions: tuple[RegionQuality, ...]
    dice_before: float
    dice: float
    hd95_mm: float
    folding_inside_percent: float
    folding_seams_percent: float
    folding_background_percent: float
    log_jacobian_sd: float
    thresholds: Thresholds
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.faults

    @property
    def verdict(self) -> str:
        return "pass" if self.passed else "fail"

    def as_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict, **asdict(self)}


def judge(
    scheme: LabelScheme,
    moving: RegionMap,
    fixed: RegionMap,
    warped: RegionMap,
    displacement: NDArray[np.float32],
    to_moving: NDArray[np.float64],
    spacing: NDArray[np.float64],
    stats: tuple[RegionStats, RegionStats],
    moving_voxel_ml: float,
    thresholds: Thresholds | None = None,
) -> tuple[Quality, NDArray[np.float32]]:
    """Quality of a displacement and its Jacobian determinant (D, H, W).

    Parameters
    ----------
    moving, fixed, warped : region maps; the moving one on its own grid.
    displacement : (1, 3, D, H, W) voxels of the fixed grid.
    to_moving : (3, 4) fixed voxel -> moving voxel by the headers alone.
    spacing : (3,) mm of the fixed grid.
    stats : of the moving and of the fixed side, for the volumes.
    """
    thresholds = thresholds or Thresholds()
    count = len(scheme)
    dice_before = dice_of_table(
        overlap(moving, fixed, None, count, affine=to_moving, mode="nearest")
    )
    dice = dice_of_table(overlap(warped, fixed, None, count, mode="nearest"))
    jacobian = jacobian_determinant(displacement)[0]
    sums = jacobian_sums(jacobian, fixed, count)
    folding, mean, deviation = sums.folding_percent, sums.mean, sums.log_deviation
    voxel_ml = float(np.prod(spacing)) / 1000
    moving_stats, fixed_stats = stats
    warped_stats = region_stats(warped, jacobian, count)  # for its boxes
    surfaces = surface_distances(fixed, warped, (fixed_stats, warped_stats), spacing)
    regions = []
    for k, name in enumerate(scheme.names):
        regions.append(
            RegionQuality(
                name=name,
                labels=scheme.labels[k],
                dice_before=float(dice_before[k]),
                dice=float(dice[k]),
                hd95_mm=surfaces.percentile(k + 1, 95),
                surface_distance_mm=surfaces.mean(k + 1),
                moving_volume_ml=float(moving_stats.voxels[k + 1]) * moving_voxel_ml,
                fixed_volume_ml=float(fixed_stats.voxels[k + 1]) * voxel_ml,
                mean_jacobian=float(mean[k + 1]),
                folding_percent=float(folding[k + 1]),
                log_jacobian_sd=float(deviation[k + 1]),
            )
        )
    sides = (
        LabelledSide(
            "moving", moving, moving_stats,
            np.linalg.inv(np.vstack([to_moving, (0, 0, 0, 1)])), moving_voxel_ml,
        ),
        LabelledSide("fixed", fixed, fixed_stats, np.eye(4), voxel_ml),
    )  # fmt: skip
    faults = _faults(regions, thresholds, float(spacing.max()))
    faults += label_faults(scheme, *sides, spacing, thresholds)
    return _summarise(regions, sums, thresholds, faults), jacobian


def _summarise(
    regions: list[RegionQuality], sums: JacobianSums, thresholds: Thresholds, faults: list[str]
) -> Quality:
    """Means over the regions, and the Jacobian by the place of its voxels."""
    background, inside, seams = (
        sums.joined(rows) for rows in (slice(0, 1), slice(1, -1), slice(-1, None))
    )
    return Quality(
        regions=tuple(regions),
        dice_before=float(np.mean([region.dice_before for region in regions])),
        dice=float(np.mean([region.dice for region in regions])),
        hd95_mm=_mean_of_finite([region.hd95_mm for region in regions]),
        folding_inside_percent=_folding(inside),
        folding_seams_percent=_folding(seams),
        folding_background_percent=_folding(background),
        log_jacobian_sd=float(inside.log_deviation),
        thresholds=thresholds,
        faults=tuple(faults),
    )


def dice_of_table(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice (K,) of regions 1..K from a confusion table (K + 1, K + 1) [fixed, warped]."""
    both = table.sum(0) + table.sum(1)
    return np.asarray(2 * table.diagonal()[1:] / np.maximum(both[1:], 1))


def _folding(sums: JacobianSums) -> float:
    return float(sums.folding_percent) if sums.voxels else 0.0


def _mean_of_finite(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _faults(
    regions: list[RegionQuality], thresholds: Thresholds, largest_voxel: float
) -> list[str]:
    faults = []
    limit = thresholds.surface_distance_voxels * largest_voxel
    for region in regions:
        if region.dice < thresholds.dice:
            faults.append(f"{region.name}: Dice {region.dice:.3f}, below {thresholds.dice:.2f}")
        if np.isnan(region.surface_distance_mm):
            faults.append(f"{region.name}: nothing of it is left after warping")
        elif region.surface_distance_mm > limit:
            faults.append(
                f"{region.name}: mean surface distance {region.surface_distance_mm:.2f} mm, "
                f"above {limit:.2f} mm"
            )
        if region.folding_percent > thresholds.folding_percent:
            faults.append(f"{region.name}: {region.folding_percent:.3f} % of its inside is folded")
    return faults
