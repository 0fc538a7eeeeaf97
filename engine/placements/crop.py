"""Each region cut out of the fixed grid, at the spacing the network was trained on."""

from __future__ import annotations

import numpy as np

from segreg.engine.canvases import Boxes, bounding_boxes
from segreg.engine.errors import InputError
from segreg.engine.geometry import spacing_of
from segreg.engine.placements.layout import Array, Cells, Layout, times
from segreg.engine.placements.spaced import SpacedPlacement, coarsen
from segreg.engine.regions import RegionPlan

MOST_SHAPES = 4  # distinct ones: backends build for each
WASTE = 0.1  # of all cells, that may be added to have one shape less


class CropPlacement(SpacedPlacement):
    """The bounding box and its margin, padded to whole cells of the network, the region centred.

    Regions of similar size share a shape, so a crop may be wider than its region needs. A network
    of one size is shown that size. A region that is larger than what can be shown is refused where
    the size is fixed, and shown coarser where it is free; the union of all regions, which makes
    the background's field only, is shown coarser in either case.
    """

    def lay_out(self, plan: RegionPlan) -> Layout:
        boxes = bounding_boxes(plan.fixed, self.settings.get("margin", 0.0))
        step = self.spacing / spacing_of(plan.fixed.affine)
        cells = boxes.size / step
        factors = np.ones((len(cells), 1))
        for k, wanted in enumerate(cells):
            if not self.fits(wanted):
                if not (self.free or plan.is_union):
                    raise self._too_large(plan.name_of(k), wanted)
                factors[k] = coarsen(wanted, self.fits)
        if self.free:
            shapes = merge_shapes(
                np.stack([self.canvas_of(wanted) for wanted in cells / factors]), self.most
            )
        else:
            shapes = np.tile(self.shape, (len(cells), 1))
        size = shapes * step * factors
        low = boxes.low + (boxes.size - size) / 2
        return Layout(Boxes(low, size), shapes, notes=self._notes(plan, factors[:, 0]))

    def _too_large(self, name: str, cells: Array) -> InputError:
        return InputError(
            f"{name}: with its margin it takes {times(np.ceil(cells))} cells at "
            f"{self.spacing_words()}, and the network takes {times(self.shape)} only. Leave it "
            "out, split its label, or export the network with free spatial axes."
        )

    def _notes(self, plan: RegionPlan, factors: Array) -> tuple[str, ...]:
        return tuple(
            f"{plan.name_of(k)}: larger than {self.room()} at {self.spacing_words()}; shown to the "
            f"network at {factor:.2f} times that spacing"
            for k, factor in enumerate(factors)
            if factor > 1
        )


def merge_shapes(shapes: Cells, most: int) -> Cells:
    """Larger ``shapes`` (K, 3), few of them distinct, none of more than ``most`` cells.

    The two shapes whose common hull adds the fewest cells become one, as long as there are more
    than ``MOST_SHAPES`` or it adds less than ``WASTE``.
    """
    distinct, which = np.unique(shapes, axis=0, return_inverse=True)
    which, counts = which.ravel(), np.bincount(which.ravel())
    bound = WASTE * (counts * distinct.prod(axis=1)).sum()
    while len(distinct) > 1:
        cells = distinct.prod(axis=1)
        hulls = np.maximum(distinct[:, None], distinct).prod(axis=2)
        added = counts * (hulls - cells)
        costs = np.where(hulls <= most, added + added.T, np.inf)
        np.fill_diagonal(costs, np.inf)
        one, other = sorted(int(n) for n in np.unravel_index(costs.argmin(), costs.shape))
        cost = costs[one, other]
        if np.isinf(cost) or (len(distinct) <= MOST_SHAPES and cost > bound):
            break
        bound -= min(cost, bound)
        distinct[one] = np.maximum(distinct[one], distinct[other])
        which[which == other] = one
        which[which > other] -= 1
        distinct = np.delete(distinct, other, axis=0)
        counts = np.bincount(which, minlength=len(distinct))
    return np.asarray(distinct[which], np.intp)
