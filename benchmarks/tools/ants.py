"""ANTs through antspyx: the scripts' own settings for affine, SyN quick, SyN, and labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from benchmarks.tools.base import Outcome, Task, Tool
from benchmarks.tools.inputs import SEED, read_channels, read_outcome


class Ants(Tool):
    """``ants.registration`` with a preset, or ``ants.label_image_registration``."""

    distributions = ("antspyx",)
    preset = ""

    def prepare(self, task: Task) -> None:
        os.environ["ANTS_RANDOM_SEED"] = str(SEED)
        import ants

        self._ants = ants
        self._task = task
        self._moving = ants.image_read(str(task.moving))
        self._fixed = ants.image_read(str(task.fixed))
        if self.driven_by == "labels":
            self._channels = [self._own(side, task) for side in read_channels(task)]

    def _own(self, image: Any, task: Task) -> Any:
        path = task.folder / "channels.nii"
        sitk.WriteImage(image, str(path))
        return self._ants.image_read(str(path))

    def register(self) -> None:
        prefix = str(self._task.folder / "ants")
        if self.driven_by == "labels":
            self._transforms = self._register_labels(prefix)
            return
        found = self._ants.registration(
            self._fixed, self._moving, type_of_transform=self.preset, outprefix=prefix
        )
        self._transforms = found["fwdtransforms"]

    def _register_labels(self, prefix: str) -> list[str]:
        """The labels' own affine, from their centres of mass, needs many labels: not used."""
        moving, fixed = self._channels
        unions = [self._ants.threshold_image(side, 1) for side in (fixed, moving)]
        start = self._ants.registration(
            *unions, type_of_transform="Affine", aff_metric="meansquares",
            outprefix=f"{prefix}Union",
        )  # fmt: skip
        found = self._ants.label_image_registration(
            fixed, moving, self._fixed, self._moving,
            initial_transforms=start["fwdtransforms"],
            type_of_deformable_transform=self.preset, output_prefix=prefix,
        )  # fmt: skip
        return [str(path) for path in found["fwdtransforms"]]

    def export(self) -> Outcome:
        ants, folder = self._ants, self._task.folder
        composed = ants.apply_transforms(
            self._fixed, self._moving, self._transforms, compose=str(folder / "composed")
        )
        warped = ants.apply_transforms(self._fixed, self._moving, self._transforms)
        ants.image_write(warped, str(folder / "warped.nii"))
        return read_outcome(self._task, Path(composed).name, "warped.nii")


def _ants(id: str, name: str, driven_by: Any, preset: str, settings: str) -> Ants:
    tool = Ants(id, name, driven_by, settings)
    tool.preset = preset
    return tool


TOOLS = [
    _ants(
        "ants-affine", "ANTs affine", "affine", "antsRegistrationSyNQuick[a]",
        "antsRegistrationSyNQuick[a]: rigid and affine, MI.",
    ),
    _ants(
        "ants-quick", "ANTs SyN quick", "image", "antsRegistrationSyNQuick[s]",
        "antsRegistrationSyNQuick[s]: rigid, affine, SyN, all MI.",
    ),
    _ants(
        "ants", "ANTs SyN", "image", "antsRegistrationSyN[s]",
        "antsRegistrationSyN[s]: rigid and affine MI, SyN CC radius 2, 100x70x50x20.",
    ),
    _ants(
        "ants-labels", "ANTs SyN quick", "labels", "antsRegistrationSyNQuick[so]",
        "Affine by mean squares of the union of the labels, then label_image_registration: SyN "
        "quick with MI of the images and mean squares of every channel.",
    ),
]  # fmt: skip
