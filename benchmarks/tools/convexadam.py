"""ConvexAdam: discrete displacements by coupled convex optimisation, refined by Adam."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import SimpleITK as sitk

from benchmarks.tools.base import Outcome, Task, Tool
from benchmarks.tools.inputs import (
    read_channels,
    read_image,
    read_outcome,
    register_affine,
    union_of,
)

MOST_VOXELS = 7e6  # of the common grid: a brain of 1 mm


class ConvexAdam(Tool):
    """``convex_adam_pt`` on a common isotropic grid after SimpleITK's affine."""

    distributions = ("torch", "convexAdam", "SimpleITK")

    def prepare(self, task: Task) -> None:
        import torch
        from convexAdam import convex_adam_MIND

        torch.set_num_threads(task.threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(task.threads)
        self._library = convex_adam_MIND
        self._task = task
        self._moving, self._fixed = read_image(task.moving), read_image(task.fixed)
        if self.driven_by == "labels":
            self._channels = read_channels(task)
            convex_adam_MIND.extract_features = _one_hot

    def register(self) -> None:
        self._grid = isotropic_grid(self._fixed)
        if self.driven_by == "labels":
            unions = [union_of(side) for side in self._channels]
            self._affine = register_affine(*unions, similarity="squares")
            images, interpolator = self._channels, sitk.sitkNearestNeighbor
        else:
            self._affine = register_affine(self._moving, self._fixed)
            images, interpolator = (self._moving, self._fixed), sitk.sitkLinear
        moving = sitk.Resample(images[0], self._grid, self._affine, interpolator, 0.0)
        fixed = sitk.Resample(images[1], self._grid, sitk.Transform(), interpolator, 0.0)
        arrays = [sitk.GetArrayFromImage(i).astype(np.float32) for i in (fixed, moving)]
        with contextlib.redirect_stdout(io.StringIO()):  # it says that a CPU has no float16
            self._found = self._library.convex_adam_pt(*arrays)

    def export(self) -> Outcome:
        """The warp in voxels of the common grid, axes (z, y, x), becomes an ITK field."""
        from convexAdam.apply_convex import apply_convex

        folder, grid = self._task.folder, self._grid
        linear = np.array(grid.GetDirection()).reshape(3, 3) * grid.GetSpacing()
        vectors = sitk.GetImageFromArray(self._found[..., ::-1] @ linear.T, isVector=True)
        vectors.CopyInformation(grid)
        warp = sitk.DisplacementFieldTransform(sitk.Cast(vectors, sitk.sitkVectorFloat64))
        chain = sitk.CompositeTransform([self._affine, warp])
        field = sitk.TransformToDisplacementField(
            chain, sitk.sitkVectorFloat32, self._fixed.GetSize(), self._fixed.GetOrigin(),
            self._fixed.GetSpacing(), self._fixed.GetDirection(),
        )  # fmt: skip
        moving = sitk.Resample(self._moving, grid, self._affine, sitk.sitkLinear, float("nan"))
        array = sitk.GetArrayFromImage(moving)
        own = apply_convex(self._found, array)
        own[apply_convex(self._found, np.ones_like(array)) < 0.999] = np.nan  # beyond the grid
        warped = sitk.GetImageFromArray(own)
        warped.CopyInformation(grid)
        sitk.WriteImage(field, str(folder / "field.nii"))
        sitk.WriteImage(
            sitk.Resample(warped, self._fixed, sitk.Transform(), sitk.sitkLinear, float("nan")),
            str(folder / "warped.nii"),
        )
        return read_outcome(self._task, "field.nii", "warped.nii")


def isotropic_grid(image: Any) -> Any:
    """An empty image over the field of view of ``image``, voxels as fine as its finest axis."""
    spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    extent = spacing * size
    step = max(spacing.min(), float((extent.prod() / MOST_VOXELS) ** (1 / 3)))
    cells = np.maximum(np.rint(extent / step), 1).astype(int)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    corner = np.array(image.GetOrigin()) + direction @ ((step - spacing) / 2)
    grid = sitk.Image([int(n) for n in cells], sitk.sitkUInt8)
    grid.SetSpacing([step] * 3)
    grid.SetOrigin(corner.tolist())
    grid.SetDirection(image.GetDirection())
    return grid


def _one_hot(img_fixed: Any, img_moving: Any, device: Any, dtype: Any, **_: Any) -> Any:
    """Features of its label variant (written for CUDA alone): one-hot, rare labels weighing more.

    Ten times one-hot, weighted by voxel count to the power -0.3, mean weight one.
    """
    import torch

    labels = [image.long() for image in (img_fixed, img_moving)]
    counts = torch.bincount(torch.cat([side.reshape(-1) for side in labels]))
    present = torch.nonzero(counts).reshape(-1)
    weight = counts[present].float().pow(-0.3)
    weight = 10 * weight / weight.mean()
    return tuple(
        torch.stack([(side == k).float() * w for k, w in zip(present, weight, strict=True)])
        .unsqueeze(0)
        .to(device, dtype)
        for side in labels
    )


TOOLS = [
    ConvexAdam(
        "convexadam", "ConvexAdam", "image",
        "SimpleITK's affine, then MIND features, grid spacing 6, 80 Adam steps, on an isotropic "
        "grid of at most seven million voxels.",
    ),
    ConvexAdam(
        "convexadam-labels", "ConvexAdam", "labels",
        "Affine by mean squares of the union of the labels, then one-hot channels as features "
        "with the weights of its label variant.",
    ),
]  # fmt: skip
