"""SimpleITK's diffeomorphic demons, coarse to fine, after its affine."""

from __future__ import annotations

from typing import Any

import SimpleITK as sitk

from benchmarks.tools.base import Outcome, Task, Tool
from benchmarks.tools.inputs import (
    blend_channels,
    outcome_of_transform,
    read_channels,
    read_image,
    register_affine,
    union_of,
)

FACTORS = (4, 2, 1)
SMALLEST = 16  # voxels along an axis below which a level does not shrink it further
ITERATIONS = 50
SIGMA = 1.5  # voxels


class Demons(Tool):
    """Affine by ``ImageRegistrationMethod``, then ``DiffeomorphicDemonsRegistrationFilter``."""

    distributions = ("SimpleITK",)

    def prepare(self, task: Task) -> None:
        self._task = task
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(task.threads)
        if self.driven_by == "labels":
            channels = read_channels(task)
            self._unions = [union_of(side) for side in channels]
            self._moving, self._fixed = (blend_channels(side) for side in channels)
        else:
            self._moving, self._fixed = read_image(task.moving), read_image(task.fixed)

    def register(self) -> None:
        if self.driven_by == "labels":
            affine = register_affine(*self._unions, similarity="squares")
        else:
            affine = register_affine(self._moving, self._fixed)
        self._transform = sitk.CompositeTransform([affine])
        if self.driven_by == "affine":
            return
        moving = sitk.Resample(self._moving, self._fixed, affine, sitk.sitkLinear, 0.0)
        if self.driven_by == "image":
            moving = sitk.HistogramMatching(moving, self._fixed, 1024, 7, True)
        field = _run_levels(moving, self._fixed)
        # The last of a composite acts first: the warp, then the affine.
        self._transform.AddTransform(sitk.DisplacementFieldTransform(field))

    def export(self) -> Outcome:
        return outcome_of_transform(self._transform, self._task)


def _run_levels(moving: Any, fixed: Any) -> Any:
    """Displacement image (vector float64, LPS mm) on the grid of ``fixed``."""
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfIterations(ITERATIONS)
    demons.SetStandardDeviations(SIGMA)
    field = None
    for factor in FACTORS:
        shrink = [max(1, min(factor, size // SMALLEST)) for size in fixed.GetSize()]
        one, two = (_shrink(image, shrink) for image in (moving, fixed))
        if field is None:
            field = sitk.Image(two.GetSize(), sitk.sitkVectorFloat64)
            field.CopyInformation(two)
        else:
            field = sitk.Resample(field, two)
        field = demons.Execute(two, one, field)
    return field


def _shrink(image: Any, factors: list[int]) -> Any:
    sigmas = [
        0.5 * factor * step if factor > 1 else 1e-3 * step
        for factor, step in zip(factors, image.GetSpacing(), strict=True)
    ]
    return sitk.Shrink(sitk.SmoothingRecursiveGaussian(image, sigmas), factors)


TOOLS = [
    Demons(
        "demons-affine", "SimpleITK affine", "affine",
        "Mattes MI, 20 % regular samples, three levels, started from moments.",
    ),
    Demons(
        "demons", "SimpleITK demons", "image",
        "Affine as alone, histogram matching, diffeomorphic demons, 3 levels of 50 iterations, "
        "sigma 1.5 voxels.",
    ),
    Demons(
        "demons-labels", "SimpleITK demons", "labels",
        "Affine by mean squares of the union of the labels, then the same demons on the blurred "
        "channel maps.",
    ),
]  # fmt: skip
