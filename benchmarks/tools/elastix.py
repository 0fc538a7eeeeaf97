"""elastix through itk-elastix: its default affine and B-spline parameter maps."""

from __future__ import annotations

from typing import Any

from benchmarks.tools.base import Outcome, Task, Tool
from benchmarks.tools.inputs import blend_channels, read_channels, read_outcome


class Elastix(Tool):
    """``affine`` and ``bspline`` as elastix ships them; labels as a second image and metric."""

    distributions = ("itk-elastix",)

    def prepare(self, task: Task) -> None:
        import itk

        self._itk = itk
        self._task = task
        self._moving = [itk.imread(str(task.moving), itk.F)]
        self._fixed = [itk.imread(str(task.fixed), itk.F)]
        if self.driven_by == "labels":
            moving, fixed = read_channels(task)
            self._moving.append(self._own(blend_channels(moving)))
            self._fixed.append(self._own(blend_channels(fixed)))
        # itk loads its libraries when they are first asked for: here, not under the clock.
        self._parameters = self._choose_parameters()
        kinds = type(self._fixed[0]), type(self._moving[0])
        self._method = itk.ElastixRegistrationMethod[kinds].New()

    def _own(self, image: Any) -> Any:
        import SimpleITK as sitk

        path = str(self._task.folder / "channels.nii")
        sitk.WriteImage(image, path)
        return self._itk.imread(path, self._itk.F)

    def _choose_parameters(self) -> Any:
        parameters = self._itk.ParameterObject.New()
        kinds = ["affine"] if self.driven_by == "affine" else ["affine", "bspline"]
        for kind in kinds:
            chosen = parameters.GetDefaultParameterMap(kind)
            chosen["AutomaticTransformInitialization"] = ["true"]
            chosen["AutomaticTransformInitializationMethod"] = ["GeometricalCenter"]
            chosen["ResultImageFormat"] = ["nii"]
            if self.driven_by == "labels":
                _add_metric(chosen)
            parameters.AddParameterMap(chosen)
        return parameters

    def register(self) -> None:
        method = self._method
        for fixed, moving in zip(self._fixed, self._moving, strict=True):
            method.AddFixedImage(fixed)
            method.AddMovingImage(moving)
        method.SetParameterObject(self._parameters)
        # Several metrics and SetNumberOfThreads crash together (ITKElastix issue 160); the
        # environment's limit on ITK's threads holds without it.
        method.SetLogToConsole(False)
        method.UpdateLargestPossibleRegion()
        self._found = method.GetTransformParameterObject()

    def export(self) -> Outcome:
        itk, folder = self._itk, self._task.folder
        count = self._found.GetNumberOfParameterMaps()
        self._found.SetParameter(count - 1, "FinalBSplineInterpolationOrder", "1")
        warped = itk.transformix_filter(self._moving[0], self._found)
        field = itk.transformix_deformation_field(self._moving[0], self._found)
        itk.imwrite(field, str(folder / "field.nii"))
        itk.imwrite(warped, str(folder / "warped.nii"))
        return read_outcome(self._task, "field.nii", "warped.nii")


def _add_metric(chosen: Any) -> None:
    """Mean squares of the second image beside mutual information of the first.

    As many metrics as images: the B-spline's bending penalty has to go.
    """
    chosen["Registration"] = ["MultiMetricMultiResolutionRegistration"]
    chosen["Metric"] = ["AdvancedMattesMutualInformation", "AdvancedMeanSquares"]
    for name in ("FixedImagePyramid", "MovingImagePyramid", "Interpolator", "ImageSampler"):
        chosen[name] = [chosen[name][0]] * 2


TOOLS = [
    Elastix("elastix-affine", "elastix affine", "affine", "The default affine parameter map."),
    Elastix("elastix", "elastix", "image", "The default affine and B-spline parameter maps."),
    Elastix(
        "elastix-labels", "elastix", "labels",
        "The default maps with two metrics: mutual information of the images, mean squares of the "
        "blurred channel maps, no bending penalty.",
    ),
]  # fmt: skip
