"""Each region fills a cube of its own, however large it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.canvases import Shape, bounding_boxes
from segreg.engine.placements.layout import SIZE_STEP, Layout, Placement
from segreg.engine.regions import RegionPlan, Side

MOST_CELLS = 6_500_000  # canvas cells of all regions together, in one pass
FINE = 96  # cells per axis that sharpen the outline of a region of any size
# Canvas cells per voxel that still sharpen a large region, and all regions taken as one.
REGION_OVERSAMPLING = 14.0
UNION_OVERSAMPLING = 2.7


class RegionPlacement(Placement):
    """The bounding box and its margin, every axis scaled on its own to fill a cube."""

    bounded = True

    def lay_out(self, plan: RegionPlan) -> Layout:
        oversampling = UNION_OVERSAMPLING if plan.is_union else REGION_OVERSAMPLING
        sizes = choose_sizes(plan.fixed, self.settings, oversampling)
        boxes = bounding_boxes(plan.fixed, self.settings["margin"])
        return Layout(boxes, np.repeat(sizes[:, None], 3, axis=1))

    def levels(self, shape: Shape, passes: int) -> list[Shape]:
        sizes = [min(size, shape[0]) for size in self.settings["canvas"]][:passes]
        sizes += sizes[-1:] * (passes - len(sizes))
        return [(size, size, size) for size in sizes]


def choose_sizes(
    fixed: Side, settings: dict[str, Any], oversampling: float
) -> NDArray[np.intp]:
    """Cells per axis of the finest canvas of each region (K,).

    A canvas has ``FINE`` cells per axis, or ``oversampling`` cells per voxel if that is more. If
    all together would exceed ``MOST_CELLS``, all shrink by one factor: the time of a pair stays
    bounded however finely it is labelled. Never less than the package's smallest canvas nor more
    than its largest.
    """
    smallest, largest = min(settings["canvas"]), max(settings["canvas"])
    extent = (fixed.stats.high[1:] - fixed.stats.low[1:]).astype(float)
    voxels = np.prod(extent + 2 * np.maximum(extent * settings["margin"], 1), axis=1)
    wanted = np.clip((oversampling * voxels) ** (1 / 3), FINE, largest)
    while True:
        sizes = np.rint(wanted / SIZE_STEP).astype(np.intp) * SIZE_STEP
        sizes = np.clip(sizes, smallest, largest)
        if (sizes**3).sum() <= MOST_CELLS or (sizes == smallest).all():
            return np.asarray(sizes)
        wanted *= 0.97
