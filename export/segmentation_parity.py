"""Whether an exported segmentation network scores as the trained one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.backends import Backend, availability, open_backend
from segreg.engine.errors import BackendError
from segreg.engine.package import SEGMENTATION, Package
from segreg.engine.probes import image_batch
from segreg.engine.scores import ScoreTolerance, check_scores, image_shapes
from segreg.engine.segmentation import Segmenter
from segreg.engine.volume import Volume
from segreg.engine.windows import run_windows
from segreg.export.segmentation_variants import Kept, measure_reduced

FloatArray = NDArray[np.float32]
Ask = Callable[[FloatArray], FloatArray]
Progress = Callable[[str], None]
# (kind, images, the trained network's scores)
Shown = tuple[str, FloatArray, FloatArray]


def measure_scores(
    ask: Ask,
    package: Package,
    image: Volume | None,
    tolerance: ScoreTolerance,
    progress: Progress,
) -> dict[str, Any]:
    """Every installed backend against the trained network ``ask``: what the report holds."""
    batches = _batches(ask, package, image)
    cases: list[dict[str, Any]] = []
    faults: list[str] = []
    refused: dict[str, str] = {}
    for entry in availability():
        if not entry.usable:
            continue
        progress(f"parity: {entry.name}")
        try:
            backend = open_backend(
                entry.name, package.folder / SEGMENTATION,
                channels=1, outputs=1 + len(package.settings["segmentation"]["classes"]),
            )
        except BackendError as error:
            refused[entry.name] = _reason(error)
            continue
        try:
            for shown in batches:
                _compare(backend, entry.version, shown, tolerance, cases, faults)
        except BackendError as error:
            faults.append(f"{entry.name}: {_reason(error)}")
        finally:
            backend.close()
    if not cases and not faults:
        faults.append("no backend here runs the network; pip install 'segreg[cpu]'")
    reduced: Kept = ({}, {})
    if not faults:
        reduced = measure_reduced(package, batches, refused, tolerance, progress)
    return {
        "schema": 1, "verdict": "failed" if faults else "passed", "faults": faults,
        "tolerance": asdict(tolerance), "cases": cases, "refused_by": refused,
        "variants": reduced[0], "dropped": reduced[1],
    }


def _reason(error: BackendError) -> str:
    return str(error).splitlines()[0][:200]


def _compare(
    backend: Backend,
    version: str | None,
    shown: Shown,
    tolerance: ScoreTolerance,
    cases: list[dict[str, Any]],
    faults: list[str],
) -> None:
    """Add the case of one batch, and its fault if it has one."""
    kind, images, expected = shown
    check = check_scores(backend, version, images, expected, tolerance)
    case = check.as_dict()
    del case["refusal"], case["sound"]
    cases.append({**case, "input": kind, "shape": list(images.shape[2:])})
    if not check.sound:
        faults.append(
            f"{backend.name} ({backend.precision}) on {kind} images: probabilities "
            f"{check.worst_probability:.2g} and scores {check.worst_score:.2g} of their spread "
            f"apart (allowed {check.allowed:.2g}), {check.labels_changed:.2%} of labels changed "
            f"(allowed {tolerance.labels:.2%})"
        )


def _batches(ask: Ask, package: Package, image: Volume | None) -> list[Shown]:
    settings = package.settings["segmentation"]
    generated = [image_batch(shape) for shape in image_shapes(settings)]
    batches = [("generated", images, ask(images)) for images in generated]
    if image is not None:
        prepared = Segmenter(package).prepare(image)

        def record(images: FloatArray) -> FloatArray:
            batches.append(("real", images, ask(images)))
            return batches[-1][2]

        run_windows(
            record, prepared[None], settings["patch"], settings["stride"], settings["overlap"]
        )
    return batches
