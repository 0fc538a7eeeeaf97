"""Both sides of a refinement, at any of their resolutions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import array_module
from segreg.engine.levels import Level, Source
from segreg.engine.quality import dice_of_table
from segreg.kernels import overlap, warp_labels

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Resolutions:
    """Both sides, and how they lie to each other; ``filled`` if no fixed voxel is background.

    Attributes
    ----------
    to_moving : (3, 4) fixed voxel -> moving voxel by the headers alone.
    spacing : mm of the fixed and of the moving grid, (z, y, x).
    count : regions.
    """

    fixed: Source
    moving: Source
    to_moving: NDArray[np.float64]
    spacing: tuple[NDArray[np.float64], NDArray[np.float64]]
    count: int
    filled: bool
    _levels: dict[int, Level] = field(default_factory=dict)

    def level(self, coarsening: int) -> Level:
        """Both sides at a resolution; made once."""
        if coarsening not in self._levels:
            self._levels[coarsening] = Level.make(
                self.fixed, self.moving, self.to_moving, self.spacing, coarsening
            )
        return self._levels[coarsening]

    def dice(self, displacement: FloatArray) -> float:
        """Mean Dice of the regions under a displacement (3, D, H, W).

        Regions that fill the grid end where the image does: to look beyond is no error then.
        """
        moving, fixed = self.moving.regions, self.fixed.regions
        if self.filled:
            everywhere = array_module(moving).ones_like(moving)
            fixed = fixed * warp_labels(everywhere, displacement[None], affine=self.to_moving)
        table = overlap(moving, fixed, displacement[None], self.count, affine=self.to_moving)
        return float(dice_of_table(table).mean())
