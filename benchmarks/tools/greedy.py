"""Greedy through picsl_greedy: affine, then the greedy diffeomorphic warp."""

from __future__ import annotations

from typing import Any

import SimpleITK as sitk

from benchmarks.tools.base import Outcome, Task, Tool
from benchmarks.tools.inputs import (
    SEED,
    read_channels,
    read_outcome,
    split_channels,
    union_of,
)

LEVELS = "-n 100x50x10"


class Greedy(Tool):
    """The two commands of Greedy's guide; on label masks with SSD instead of NCC."""

    distributions = ("picsl_greedy",)

    def prepare(self, task: Task) -> None:
        from picsl_greedy import Greedy3D

        self._greedy = Greedy3D()
        self._task = task
        if self.driven_by == "labels":
            moving, fixed = read_channels(task)
            pairs = [(union_of(moving), union_of(fixed)), *split_channels(moving, fixed)]
            self._metric, start = "-m SSD", f"-ia {task.folder}/moments.mat"
        else:
            pairs = [(sitk.ReadImage(str(task.moving)), sitk.ReadImage(str(task.fixed)))]
            self._metric, start = "-m NCC 2x2x2", "-ia-image-centers"
        self._images: dict[str, Any] = {}
        words = []
        for number, (one, two) in enumerate(pairs):
            self._images |= {f"m{number}": one, f"f{number}": two}
            words.append(f"-i f{number} m{number}")
        self._inputs = " ".join(words)
        self._start = start

    def _execute(self, command: str) -> None:
        common = f"-threads {self._task.threads} -seed {SEED} -V 0"
        self._greedy.execute(f"{command} {common}", **self._images)

    def register(self) -> None:
        folder = self._task.folder
        if self.driven_by == "labels":
            self._execute(f"-moments 1 -i f0 m0 -o {folder}/moments.mat")
        # The moments that start an affine are those of one pair.
        inputs = "-i f0 m0" if self.driven_by == "labels" else self._inputs
        self._execute(
            f"-a -dof 12 {self._metric} {inputs} {self._start} {LEVELS} -o {folder}/affine.mat"
        )
        self._chain = f"{folder}/affine.mat"
        if self.driven_by != "affine":
            self._execute(
                f"{self._metric} {self._inputs} -it {folder}/affine.mat {LEVELS} "
                f"-wp 0 -o {folder}/warp.nii"
            )
            self._chain = f"{folder}/warp.nii {self._chain}"

    def export(self) -> Outcome:
        folder, task = self._task.folder, self._task
        self._execute(
            f"-rf {task.fixed} -rt float -rm {task.moving} {folder}/warped.nii -wp 0 "
            f"-rc {folder}/composed.nii -r {self._chain}"
        )
        return read_outcome(task, "composed.nii", "warped.nii")


TOOLS = [
    Greedy("greedy-affine", "Greedy affine", "affine", "-a, NCC 2x2x2, image centres, 100x50x10."),
    Greedy(
        "greedy", "Greedy", "image",
        "Affine as alone, then NCC 2x2x2, 100x50x10, smoothing as it comes.",
    ),
    Greedy(
        "greedy-labels", "Greedy", "labels",
        "Affine by SSD of the union of the labels from its moments, then SSD of the union and one "
        "mask per channel, 100x50x10.",
    ),
]  # fmt: skip
