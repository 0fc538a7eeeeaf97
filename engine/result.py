"""What a registration gives back, and how it is written."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.expectation import GIVEN, Expectation
from segreg.engine.field import Field, place_image
from segreg.engine.files import OutputFolder
from segreg.engine.quality import Quality
from segreg.engine.refinement import Refinement
from segreg.engine.timing import Stopwatch
from segreg.engine.volume import Volume


@dataclass(frozen=True)
class Provenance:
    """What computed a result: versions, package, backend and the options that matter."""

    segreg: str
    package: str
    package_version: str
    package_digest: str
    backend: str
    backend_version: str
    precision: str
    threads: int
    """CPU threads of the kernels; 0 where they ran on a GPU."""
    passes: int
    interpolation: str
    blend: tuple[tuple[str, str], ...]
    """Regions whose fields were asked to blend, by name."""
    blend_mm: float
    refine: str | int
    repair: bool
    device: str = "cpu"
    """What computed it: ``cpu``, or the GPU's name."""
    label_sources: tuple[str, str] = (GIVEN, GIVEN)
    """Where the label maps of the moving and the fixed side are from."""
    background: str = "regions"
    """What carried the background far from the labels: "body" or "regions"."""

    def as_dict(self) -> dict[str, Any]:
        blend = [list(pair) for pair in self.blend]
        sources = dict(zip(("moving", "fixed"), self.label_sources, strict=True))
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        return {**self.__dict__, "blend": blend, "label_sources": sources, **versions}


@dataclass(frozen=True)
class Result:
    """A registered pair; everything on the fixed grid unless it says otherwise.

    Attributes
    ----------
    warped : moving image carried onto the fixed grid.
    warped_labels : moving label map carried onto the fixed grid, original label numbers.
    displacement : the field, fixed grid -> moving space.
    quality : measures per region and the verdict.
    jacobian : (D, H, W) determinant of the displacement's Jacobian.
    refinement : what was done to the network's field, and what it brought.
    folds_repaired : voxels that folded before the repair and do not after it; 0 if none was asked
        for.
    moving_labels : on the moving image's grid.
    expectation : accuracy to expect of labels like these; None where nothing is known of it.
    notes : sentences about what was met on the way (labels on one side only, headers that
        contradict themselves ...).
    """

    moving: Volume
    fixed: Volume
    fixed_labels: Volume
    warped: Volume
    warped_labels: Volume
    displacement: Field
    jacobian: NDArray[np.float32] = field(repr=False)
    quality: Quality
    provenance: Provenance
    notes: tuple[str, ...]
    watch: Stopwatch = field(repr=False)
    refinement: Refinement = field(default_factory=Refinement)
    folds_repaired: int = 0
    moving_labels: Volume | None = None
    expectation: Expectation | None = None

    @property
    def timings(self) -> dict[str, float]:
        """Milliseconds per stage."""
        return {name: 1000 * seconds for name, seconds in self.watch.seconds.items()}

    @cached_property
    def before(self) -> Volume:
        """The moving image on the fixed grid, placed by the headers alone."""
        return place_image(self.moving, self.fixed)

    @cached_property
    def inverse(self) -> Field:
        """The inverse field, moving grid -> fixed space; computed when first asked for."""
        return self.displacement.inverse(self.moving.shape, self.moving.affine)

    def save(
        self, folder: str | Path, *, inverse: bool = False, report: bool = True
    ) -> dict[str, Path]:
        """Write the result into ``folder``: all files or none.

        Label maps that were segmented are among them. Returns the paths by name: displacement,
        warped, warped_labels, [fixed_labels], [moving_labels], [inverse], result, [report].
        """
        writers: dict[str, tuple[str, Callable[[Path], None]]] = {
            "displacement": ("displacement.nii.gz", self.displacement.write),
            "warped": ("warped.nii.gz", self.warped.write),
            "warped_labels": ("warped_labels.nii.gz", self.warped_labels.write),
        }
        for side, labels, source in zip(
            ("moving", "fixed"),
            (self.moving_labels, self.fixed_labels),
            self.provenance.label_sources,
            strict=True,
        ):
            if labels is not None and source != GIVEN:
                writers[f"{side}_labels"] = (f"{side}_labels.nii.gz", labels.write)
        if inverse:
            writers["inverse"] = ("inverse.nii.gz", self.inverse.write)
        with OutputFolder(folder) as output, self.watch.stage("write"):
            paths = {}
            for name, (file, write) in writers.items():
                write(output.path(file))
                paths[name] = Path(folder) / file
            names = [file for file, _ in writers.values()]
            if report:
                from segreg.engine.report import render_report  # templating is not always needed

                output.path("report.html").write_text(render_report(self), encoding="utf-8")
                paths["report"] = Path(folder) / "report.html"
                names.append("report.html")
            paths["result"] = Path(folder) / "result.json"
            text = json.dumps(self.summary(names), indent=2, allow_nan=False)
            output.path("result.json").write_text(text + "\n", encoding="utf-8")
        return paths

    def summary(self, files: list[str] | None = None) -> dict[str, Any]:
        """What ``result.json`` holds; NaN becomes null."""
        summary: dict[str, Any] = without_nan(
            {
                "schema": 1,
                "provenance": self.provenance.as_dict(),
                "fixed": _grid(self.fixed),
                "moving": _grid(self.moving),
                "notes": list(self.notes),
                "refinement": self.refinement.as_dict(),
                "folds_repaired": self.folds_repaired,
                "expectation": self.expectation and self.expectation.as_dict(),
                "quality": self.quality.as_dict(),
                "timings_ms": self.timings,
                "files": files or [],
            }
        )
        return summary


def _grid(volume: Volume) -> dict[str, Any]:
    return {"shape_zyx": list(volume.shape), "spacing_zyx_mm": [float(s) for s in volume.spacing]}


def without_nan(value: Any) -> Any:
    """``value`` with every NaN or infinite float replaced by None: JSON has neither."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
