"""Whether an exported segmentation network scores as the trained one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segreg.engine.backends import Backend, availability, open_backend
from segreg.engine.errors import BackendError
from segreg.engine.package import SEGMENTATION, Package
from segreg.engine.segmentation import Segmenter
from segreg.engine.volume import Volume
from segreg.engine.windows import run_windows

SMALLEST = 32  # cells at least of a generated image, along an axis that is taken whole

FloatArray = NDArray[np.float32]
Ask = Callable[[FloatArray], FloatArray]
Progress = Callable[[str], None]
# (kind, images, the trained network's scores)
Shown = tuple[str, FloatArray, FloatArray]


@dataclass(frozen=True)
class SegmentationTolerance:
    """Largest differences between the trained and the exported network that pass.

    Of a class probability (softmax of the scores) in float32 and in reduced precision, and the
    share of voxels that get another label in either.
    """

    float32: float = 1e-3
    reduced: float = 0.1
    labels: float = 0.005


def image_shapes(settings: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Sizes of generated images: the patch; with axes taken whole, two sizes."""
    shapes = []
    for more in (0, 1):
        sizes = [
            (-(-SMALLEST // step) + more) * step if n is None else n
            for n, step in zip(settings["patch"], settings["stride"], strict=True)
        ]
        shapes.append((sizes[0], sizes[1], sizes[2]))
    return shapes if None in settings["patch"] else shapes[:1]


def measure_scores(
    ask: Ask,
    package: Package,
    image: Volume | None,
    tolerance: SegmentationTolerance,
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
    return {
        "schema": 1, "verdict": "failed" if faults else "passed", "faults": faults,
        "tolerance": asdict(tolerance), "cases": cases, "refused_by": refused,
    }


def _reason(error: BackendError) -> str:
    return str(error).splitlines()[0][:200]


def _compare(
    backend: Backend,
    version: str | None,
    shown: Shown,
    tolerance: SegmentationTolerance,
    cases: list[dict[str, Any]],
    faults: list[str],
) -> None:
    """Add the case of one batch, and its fault if it has one."""
    kind, images, expected = shown
    allowed = tolerance.float32 if backend.precision == "float32" else tolerance.reduced
    worst, changed = compare_scores(expected, backend.infer(images))
    cases.append(
        {
            "backend": backend.name, "version": version, "precision": backend.precision,
            "input": kind, "shape": list(images.shape[2:]), "worst_probability": worst,
            "labels_changed": changed, "allowed_probability": allowed,
            "allowed_labels": tolerance.labels,
        }
    )
    if not (worst <= allowed and changed <= tolerance.labels):
        faults.append(
            f"{backend.name} ({backend.precision}) on {kind} images: probabilities "
            f"{worst:.2g} apart (allowed {allowed:.2g}), {changed:.2%} of labels changed "
            f"(allowed {tolerance.labels:.2%})"
        )


def compare_scores(expected: FloatArray, found: FloatArray) -> tuple[float, float]:
    """(largest difference of a class probability, share of voxels whose label changes)."""
    worst = float(np.abs(_softmax(expected) - _softmax(found)).max())
    return worst, float((expected.argmax(1) != found.argmax(1)).mean())


def _softmax(scores: FloatArray) -> NDArray[np.float64]:
    powers = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def _batches(ask: Ask, package: Package, image: Volume | None) -> list[Shown]:
    random = np.random.default_rng(0)
    settings = package.settings["segmentation"]
    shown: list[tuple[str, FloatArray]] = []
    for shape in image_shapes(settings):
        coarse = random.normal(size=(1, 1, *(max(2, n // 8) for n in shape)))
        smooth = torch.nn.functional.interpolate(
            torch.from_numpy(coarse), shape, mode="trilinear", align_corners=False
        )
        noisy = smooth.numpy() * 2 + random.normal(0, 0.1, shape)
        shown.append(("generated", noisy.astype(np.float32)))
    batches = [(kind, images, ask(images)) for kind, images in shown]
    if image is not None:
        prepared = Segmenter(package).prepare(image)

        def record(images: FloatArray) -> FloatArray:
            batches.append(("real", images, ask(images)))
            return batches[-1][2]

        run_windows(
            record, prepared[None], settings["patch"], settings["stride"], settings["overlap"]
        )
    return batches
