"""DIPY's symmetric normalisation after its affine pipeline, as its guides run them."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from benchmarks.tools.base import Outcome, Task, Tool
from benchmarks.tools.inputs import blend_channels, field_of_map, grid_points, read_channels
from segreg.engine.geometry import apply_map
from segreg.engine.volume import Volume, as_volume


class Dipy(Tool):
    """``affine_registration``, then ``SymmetricDiffeomorphicRegistration``."""

    distributions = ("dipy",)

    def prepare(self, task: Task) -> None:
        from dipy.align import affine_registration, imwarp, metrics

        self._library: Any = (affine_registration, imwarp, metrics)
        self._image = as_volume(task.moving)
        moving, fixed = self._image, as_volume(task.fixed)
        if self.driven_by == "labels":
            sides = [sitk.GetArrayFromImage(blend_channels(side)) for side in read_channels(task)]
            moving, fixed = moving.with_array(sides[0]), fixed.with_array(sides[1])
        # DIPY's arrays are (x, y, z), like nibabel's.
        self._moving, self._fixed = (
            np.ascontiguousarray(volume.array.T, np.float64) for volume in (moving, fixed)
        )
        self._affines = moving.affine, fixed.affine

    def register(self) -> None:
        affine_registration, imwarp, metrics = self._library
        moving_affine, fixed_affine = self._affines
        _, self._affine = affine_registration(
            self._moving, self._fixed, moving_affine=moving_affine, static_affine=fixed_affine,
            pipeline=["center_of_mass", "translation", "rigid", "affine"],
            level_iters=[10000, 1000, 100], sigmas=[3.0, 1.0, 0.0], factors=[4, 2, 1], nbins=32,
        )  # fmt: skip
        if self.driven_by == "affine":
            return
        metric = metrics.SSDMetric(3) if self.driven_by == "labels" else metrics.CCMetric(3)
        syn = imwarp.SymmetricDiffeomorphicRegistration(metric, level_iters=[10, 10, 5])
        self._mapping = syn.optimize(
            self._fixed, self._moving, static_grid2world=fixed_affine,
            moving_grid2world=moving_affine, prealign=self._affine,
        )  # fmt: skip

    def export(self) -> Outcome:
        from dipy.align.imaffine import AffineMap

        moving_affine, fixed_affine = self._affines
        points = grid_points(self._fixed.shape[::-1], fixed_affine)
        image = np.ascontiguousarray(self._image.array.T, np.float64)
        if self.driven_by == "affine":
            plain = AffineMap(
                self._affine, domain_grid_shape=self._fixed.shape, domain_grid2world=fixed_affine,
                codomain_grid_shape=self._moving.shape, codomain_grid2world=moving_affine,
            )  # fmt: skip
            warped = plain.transform(image)
        else:
            warped = self._mapping.transform(image)
            # Displacements (x, y, z, 3) in world mm; the affine acts after them.
            points = points + self._mapping.get_forward_field().transpose(2, 1, 0, 3)
        carried = apply_map(self._affine, points.reshape(-1, 3)).reshape(points.shape)
        return Outcome(
            field_of_map(carried, fixed_affine), Volume(warped.T, fixed_affine, "warped")
        )


TOOLS = [
    Dipy(
        "dipy-affine", "DIPY affine", "affine",
        "Centre of mass, translation, rigid, affine; MI; 10000, 1000, 100 iterations.",
    ),
    Dipy("dipy", "DIPY SyN", "image", "Affine as alone, then SyN, CC radius 4, 10, 10, 5."),
    Dipy(
        "dipy-labels", "DIPY SyN", "labels",
        "Affine and SyN on the blurred channel maps; SyN by sum of squares, 10, 10, 5.",
    ),
]  # fmt: skip
