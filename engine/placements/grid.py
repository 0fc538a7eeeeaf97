"""The whole fixed grid for every region, at the spacing the network was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np

from segreg.engine.canvases import Boxes, bounding_boxes
from segreg.engine.errors import InputError
from segreg.engine.geometry import spacing_of
from segreg.engine.placements.layout import Array, Cells, Layout, times
from segreg.engine.placements.spaced import SpacedPlacement, coarsen
from segreg.engine.regions import RegionPlan

MARGIN = 0.1  # of a region's box, around it: how much of its field is kept for fusion
LEAST_MARGIN = 4  # field cells


class GridPlacement(SpacedPlacement):
    """One canvas a region, all over the same box: the fixed grid, padded, the image centred.

    A network that is shown no mask sees the same for every region; it is asked once, through the
    global map. Where the size is fixed and the image is larger, the canvas lies about the regions.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.whole = not any("mask" in name for name in settings["channels"])

    def lay_out(self, plan: RegionPlan) -> Layout:
        step = self.spacing / spacing_of(plan.fixed.affine)
        extent = np.array(plan.fixed.image.shape, np.float64)
        cells = extent / step
        factor = coarsen(cells, self.fits) if self.free else 1.0
        shape = self.canvas_of(cells / factor) if self.free else self.shape
        size = shape * step * factor
        low = self._centre(plan, extent, size, step)
        boxes = Boxes(np.tile(low, (len(plan.maps), 1)), np.tile(size, (len(plan.maps), 1)))
        shapes = np.tile(shape, (len(plan.maps), 1))
        cuts = None if plan.is_union else self._cuts(plan, boxes, shapes)
        return Layout(boxes, shapes, cuts, self._notes(cells, factor))

    def _centre(self, plan: RegionPlan, extent: Array, size: Array, step: Array) -> Array:
        """First face (3,) of a box of ``size`` voxels: about the image, or else the regions."""
        regions = bounding_boxes(plan.fixed, 0.0, least=0.0)
        begin, end = regions.low.min(axis=0), (regions.low + regions.size).max(axis=0)
        larger = extent > size + 1e-6
        if (larger & (end - begin > size + 1e-6)).any():
            raise InputError(
                f"fixed labels: the regions span {times(np.ceil((end - begin) / step))} cells at "
                f"{self.spacing_words()}, and the network takes {times(self.shape)} only. Leave "
                "regions out, or export the network with free spatial axes."
            )
        about = np.clip((begin + end - size) / 2, -0.5, np.maximum(extent - 0.5 - size, -0.5))
        return np.where(larger, about, (extent - 1 - size) / 2)

    def _cuts(self, plan: RegionPlan, boxes: Boxes, shapes: Cells) -> Cells:
        """Field cells about each region (K, 2, 3): whole grids for all would not fit memory."""
        fields = shapes // self.stride
        cell = boxes.size / fields
        near = bounding_boxes(plan.fixed, MARGIN)
        begin = np.floor((near.low - boxes.low) / cell) - LEAST_MARGIN
        end = np.ceil((near.low + near.size - boxes.low) / cell) + LEAST_MARGIN
        begin = np.clip(begin, 0, fields - 1)
        return np.stack([begin, np.clip(end, begin + 1, fields)], axis=1).astype(np.intp)

    def _notes(self, cells: Array, factor: float) -> tuple[str, ...]:
        said = f"fixed image: {times(np.ceil(cells))} cells at {self.spacing_words()}, more than "
        if factor > 1:
            return (f"{said}{self.room()}; shown to the network at {factor:.2f} times it",)
        if not self.free and (cells > self.shape + 1e-6).any():
            return (f"{said}{self.room()}; what lies far from the regions was not shown to it",)
        return ()
