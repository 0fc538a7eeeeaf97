"""Label maps in the forms that tools for images can take, and an affine by SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from benchmarks.tools.base import Outcome, Task
from segreg.engine.field import Field
from segreg.engine.geometry import apply_map, index_to_world, world_to_index
from segreg.engine.labels import make_scheme
from segreg.engine.volume import Volume

MOST_CHANNELS = 8
SMOOTHING = 1.0  # voxels
SEED = 1  # of tools that sample at random: the same pair gives the same field


def read_image(path: Path) -> Any:
    return sitk.ReadImage(str(path), sitk.sitkFloat32)


def read_channels(task: Task, most: int = MOST_CHANNELS) -> tuple[Any, Any]:
    """Channel maps of both sides as SimpleITK uint8 images, channels 1.. and background 0.

    A channel is a label that both sides have. Beyond ``most``, labels share channels in turn:
    cost grows with the channels in most tools, and neighbours in number rarely share one.
    """
    sides = [sitk.ReadImage(str(path)) for path in (task.moving_labels, task.fixed_labels)]
    arrays = [np.rint(sitk.GetArrayFromImage(side)).astype(np.int32) for side in sides]
    scheme = make_scheme(*arrays)
    channels = []
    for side, array in zip(sides, arrays, strict=True):
        regions = scheme.region_map(array)
        shared = np.where(regions > 0, (regions - 1) % most + 1, 0).astype(np.uint8)
        image = sitk.GetImageFromArray(shared)
        image.CopyInformation(side)
        channels.append(image)
    return channels[0], channels[1]


def split_channels(moving: Any, fixed: Any) -> list[tuple[Any, Any]]:
    """One pair (moving, fixed) of masks, float 0 or 1, per channel."""
    count = int(sitk.GetArrayViewFromImage(fixed).max())
    return [
        (sitk.Cast(moving == k, sitk.sitkFloat32), sitk.Cast(fixed == k, sitk.sitkFloat32))
        for k in range(1, count + 1)
    ]


def blend_channels(channels: Any) -> Any:
    """One smooth image for tools that take no more: channel numbers, blurred by a voxel."""
    return _blur(sitk.Cast(channels, sitk.sitkFloat32))


def union_of(channels: Any) -> Any:
    """All labels as one smooth mask."""
    return _blur(sitk.Cast(channels > 0, sitk.sitkFloat32))


def _blur(image: Any) -> Any:
    sigmas = [SMOOTHING * step for step in image.GetSpacing()]
    return sitk.SmoothingRecursiveGaussian(image, sigmas)


def register_affine(moving: Any, fixed: Any, *, similarity: str = "information") -> Any:
    """Affine (fixed -> moving, LPS mm), three levels, started from the images' moments.

    Parameters
    ----------
    similarity : {"information", "squares"} Mattes mutual information, or mean squares for masks.
    """
    method = sitk.ImageRegistrationMethod()
    if similarity == "information":
        method.SetMetricAsMattesMutualInformation(32)
    else:
        method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.2, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    return sitk.AffineTransform(found.GetNthTransform(0)) if _is_composite(found) else found


def _is_composite(transform: Any) -> bool:
    return bool(transform.GetName() == "CompositeTransform")


def outcome_of_transform(transform: Any, task: Task) -> Outcome:
    """Dense field of a SimpleITK transform, and the moving image as SimpleITK resamples it."""
    fixed, moving = read_image(task.fixed), read_image(task.moving)
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        fixed.GetSize(),
        fixed.GetOrigin(),
        fixed.GetSpacing(),
        fixed.GetDirection(),
    )
    sitk.WriteImage(sitk.Cast(field, sitk.sitkVectorFloat32), str(task.folder / "field.nii"))
    warped = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
    sitk.WriteImage(warped, str(task.folder / "warped.nii"))
    return read_outcome(task, "field.nii", "warped.nii")


def read_outcome(task: Task, field: str, warped: str) -> Outcome:
    """Files that the tool, or ITK for it, wrote into the task's folder."""
    return Outcome(Field.read(task.folder / field), Volume.read(task.folder / warped))


def field_of_map(carried: NDArray[Any], affine: NDArray[Any]) -> Field:
    """Field of the places (D, H, W, 3), RAS mm, that the voxels of a grid are carried to."""
    shape = carried.shape[:3]
    there = apply_map(world_to_index(affine), carried.reshape(-1, 3))
    here = np.indices(shape).reshape(3, -1)
    return Field((there.T - here).reshape(3, *shape).astype(np.float32), affine)


def grid_points(shape: tuple[int, ...], affine: NDArray[Any]) -> NDArray[np.float64]:
    """RAS mm (D, H, W, 3) of the voxels of a grid."""
    indices = np.indices(shape).reshape(3, -1).T
    return apply_map(index_to_world(affine), indices).reshape(*shape, 3)
