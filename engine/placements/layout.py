"""What a placement decides: where the canvas of each region lies, and how fine it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import array_module
from segreg.engine.canvases import Boxes, Shape
from segreg.engine.regions import RegionPlan
from segreg.kernels import resample_field

Array = NDArray[np.float64]
Cells = NDArray[np.intp]
FloatArray = NDArray[np.float32]

SIZE_STEP = 16  # canvases are multiples of the network's coarsest cell
FUSED_CELLS = 48_000_000  # of all regions' fields together: with distances, 16 bytes each


@dataclass(frozen=True)
class Layout:
    """Canvases of K regions.

    Attributes
    ----------
    boxes : what each canvas covers.
    shapes : (K, 3) cells of each region's finest canvas.
    cuts : (K, 2, 3) first field cell and one past the last whose field is fused, on the field of
        the finest canvas; None for all.
    notes : what whoever reads the result must be told.
    """

    boxes: Boxes
    shapes: Cells
    cuts: Cells | None = None
    notes: tuple[str, ...] = ()

    def fused_boxes(self, stride: int) -> Boxes:
        """What each region's field covers when it is fused."""
        if self.cuts is None:
            return self.boxes
        cell = self.boxes.size / (self.shapes // stride)
        low = self.boxes.low + self.cuts[:, 0] * cell
        return Boxes(low, (self.cuts[:, 1] - self.cuts[:, 0]) * cell)

    def fused_cells(self, stride: int) -> Shape:
        """Cells of all regions' fields when they are fused: the most that one has along each axis.

        If all together would exceed ``FUSED_CELLS``, fewer.
        """
        finest = self._field_cells(stride)
        excess = len(self.shapes) * int(finest.prod()) / FUSED_CELLS
        return shape_of(np.maximum(finest / max(excess, 1) ** (1 / 3), 1))

    def keep(self, field: FloatArray, regions: Cells, cells: Shape) -> FloatArray:
        """The part of ``field`` (k, 3, d, h, w) of some ``regions`` that is fused, on ``cells``."""
        if self.cuts is None:
            return on_grid(field, cells)
        xp = array_module(field)
        parts = []
        for place, region in enumerate(regions):
            index = (slice(place, place + 1), slice(None), *self._slices(int(region)))
            part = field[index]
            parts.append(on_grid(xp.ascontiguousarray(part), cells))
        kept: FloatArray = xp.concatenate(parts)
        return kept

    def all_notes(self, stride: int) -> tuple[str, ...]:
        """``notes``, and whether the fields are fused coarser than the network gives them."""
        finest = self._field_cells(stride)
        coarser = float((finest / self.fused_cells(stride)).max())
        if coarser <= 1:
            return self.notes
        return (
            *self.notes,
            f"to bound memory, the network's fields of up to {times(finest)} cells, "
            f"{len(self.shapes)} in all, were fused on cells up to {coarser:.2f} times as wide",
        )

    def _field_cells(self, stride: int) -> Cells:
        spans = self.shapes // stride if self.cuts is None else self.cuts[:, 1] - self.cuts[:, 0]
        return np.asarray(spans.max(axis=0), np.intp)

    def _slices(self, region: int) -> tuple[slice, ...]:
        assert self.cuts is not None
        low, high = self.cuts[region]
        return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


class Placement(ABC):
    """One way to show regions to a network.

    Attributes
    ----------
    settings : the package's ``segreg`` block.
    whole : the network is shown both images whole, so that one field does for all regions.
    bounded : a canvas costs no more for a larger region, so that the body may be one.
    """

    whole = False
    bounded = False

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.stride = int(settings["output"]["stride"])

    @abstractmethod
    def lay_out(self, plan: RegionPlan) -> Layout:
        """Canvases of the regions of ``plan``, or of their union.

        Raises
        ------
        InputError : the network's size is fixed, and a region does not fit.
        """

    def levels(self, shape: Shape, passes: int) -> list[Shape]:
        """Canvas of each pass over a region whose finest canvas has ``shape``."""
        return [shape] * passes


def shape_of(cells: Sequence[float] | NDArray[Any]) -> Shape:
    depth, height, width = (int(n) for n in cells)
    return depth, height, width


def times(numbers: NDArray[Any]) -> str:
    return "x".join(f"{n:g}" for n in numbers)


def on_grid(field: FloatArray, cells: Shape) -> FloatArray:
    """``field`` on another grid over the same box."""
    if field.shape[2:] == cells:
        return field
    resampled: FloatArray = resample_field(field, cells)
    return resampled
