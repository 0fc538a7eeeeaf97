"""Tools for the tests of the harness: one that does nothing well, and some that go wrong."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from benchmarks.tools.base import Outcome, Task, Tool
from benchmarks.tools.inputs import outcome_of_transform
from segreg.engine.field import Field

SECONDS = 1.25


class Still(Tool):
    """Moves by a millimetre, as SimpleITK resamples it, and says how long that took."""

    distributions = ("SimpleITK",)

    def prepare(self, task: Task) -> None:
        limits = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        if set(limits.values()) != {str(task.threads)}:
            raise RuntimeError(f"threads are not limited: {limits}")
        self._task = task

    def register(self) -> float:
        return SECONDS

    def export(self) -> Outcome:
        return outcome_of_transform(sitk.TranslationTransform(3, (1.0, -0.5, 0.25)), self._task)


class Wrong(Still):
    """Its field is not what it warped with."""

    def export(self) -> Outcome:
        right = super().export()
        elsewhere = right.field.displacement + np.float32(2)
        return replace(right, field=Field(elsewhere, right.field.affine))


class Slow(Still):
    def register(self) -> float:
        time.sleep(600)
        return SECONDS


class Broken(Still):
    def register(self) -> float:
        raise RuntimeError("the optimiser diverged")


class Absent(Still):
    distributions = ("segreg-tool-that-nobody-wrote",)


TOOLS = [
    Still("still", "Still", "affine", "A translation."),
    Wrong("wrong", "Wrong", "image", "A translation, told wrongly."),
    Slow("slow", "Slow", "image", "Never done."),
    Broken("broken", "Broken", "image", "Raises."),
    Absent("absent", "Absent", "image", "Not installed."),
]
