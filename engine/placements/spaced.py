"""Placements on cells of the package's spacing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from segreg.engine.placements.layout import SIZE_STEP, Array, Cells, Placement, times


class SpacedPlacement(Placement):
    """A placement on cells of the package's spacing.

    Attributes
    ----------
    spacing : (3,) mm per cell.
    shape : (3,) cells that the network was trained on; the only ones it takes unless ``free``.
    most : cells of the largest canvas that is shown where the size is free.
    """

    MOST_CELLS = 8_000_000  # a network that was trained on more is shown more

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.spacing = np.array(settings["spacing"], np.float64)
        self.shape = np.array(settings["shape"], np.intp)
        self.free = "space" in settings.get("free_axes", ())
        self.most = max(self.MOST_CELLS, int(self.shape.prod()))

    def canvas_of(self, cells: Array) -> Cells:
        """Canvas shape that holds ``cells`` (3,), where the size is free."""
        return np.asarray(np.ceil(cells / SIZE_STEP - 1e-6) * SIZE_STEP, np.intp)

    def fits(self, cells: Array) -> bool:
        """Whether ``cells`` (3,) can be shown at once."""
        if self.free:
            return int(self.canvas_of(cells).prod()) <= self.most
        return bool((cells <= self.shape + 1e-6).all())

    def room(self) -> str:
        """What can be shown at once, in words."""
        return f"{self.most:,} cells" if self.free else f"the network's {times(self.shape)} cells"

    def spacing_words(self) -> str:
        return f"the package's spacing of {times(self.spacing)} mm"


def coarsen(cells: Array, fits: Callable[[Array], bool]) -> float:
    """How many times wider cells must be for ``cells`` of them to fit; 1 if they do."""
    factor = 1.0
    while not fits(cells / factor):
        factor *= 1.01
    return factor
