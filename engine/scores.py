"""Class scores of a segmentation network in several backends, compared with one another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.backends import Backend, availability, open_backend
from segreg.engine.errors import BackendError
from segreg.engine.machine import processor_flags
from segreg.engine.package import SEGMENTATION, Package
from segreg.engine.precision import can_run
from segreg.engine.probes import image_batch
from segreg.engine.verification import REFERENCE

PARITY = "docs/segmentation_parity.json"
SMALLEST = 32  # cells at least of a generated image, along an axis that is taken whole

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class ScoreTolerance:
    """Largest differences between two runs of a segmentation network that pass.

    Of a class probability (softmax of the scores), and of a score as a share of the scores' spread,
    in float32 and in reduced precision; and the share of voxels that get another label in either.
    """

    float32: float = 1e-3
    reduced: float = 0.1
    labels: float = 0.005

    def of(self, precision: str) -> float:
        return self.float32 if precision == "float32" else self.reduced


@dataclass(frozen=True)
class ScoreCheck:
    """A backend's scores against the expected ones; ``refusal`` says why it gave none.

    Attributes
    ----------
    worst_probability : largest difference of a class probability.
    worst_score : largest difference of a score, as a share of the scores' standard deviation: it
        tells networks apart that are sure of every voxel of a generated image, too.
    labels_changed : share of voxels whose label changes.
    allowed : of probability and score.
    """

    backend: str
    version: str
    precision: str
    worst_probability: float
    worst_score: float
    labels_changed: float
    allowed: float
    allowed_labels: float
    refusal: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sound": self.sound}

    @property
    def sound(self) -> bool:
        return self.refusal is not None or (
            self.worst_probability <= self.allowed
            and self.worst_score <= self.allowed
            and self.labels_changed <= self.allowed_labels
        )


def image_shapes(settings: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Sizes (D, H, W) of generated images: the patch; with axes taken whole, two sizes.

    ``settings`` is a package's ``segmentation`` block.
    """
    shapes = []
    for more in (0, 1):
        sizes = [
            (-(-SMALLEST // step) + more) * step if n is None else n
            for n, step in zip(settings["patch"], settings["stride"], strict=True)
        ]
        shapes.append((sizes[0], sizes[1], sizes[2]))
    return shapes if None in settings["patch"] else shapes[:1]


def compare_scores(expected: FloatArray, found: FloatArray) -> tuple[float, float, float]:
    """(probability, score, labels): the largest differences and the share that changes.

    See ``ScoreCheck`` for their units.
    """
    probability = float(np.abs(_softmax(expected) - _softmax(found)).max())
    spread = float(expected.std(dtype=np.float64))
    score = float(np.abs(found - expected).max()) / spread if spread > 0 else 0.0
    return probability, score, float((expected.argmax(1) != found.argmax(1)).mean())


def _softmax(scores: FloatArray) -> NDArray[np.float64]:
    powers = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def check_scores(
    backend: Backend,
    version: str | None,
    images: FloatArray,
    expected: FloatArray,
    tolerance: ScoreTolerance,
) -> ScoreCheck:
    """The scores of ``images`` in an open backend against those ``expected``.

    Raises
    ------
    BackendError : it fails on them.
    """
    allowed = tolerance.of(backend.precision)
    differences = compare_scores(expected, backend.infer(images))
    return ScoreCheck(
        backend.name, str(version), backend.precision, *differences, allowed, tolerance.labels
    )


def check_segmentation(package: Package) -> list[ScoreCheck]:
    """The segmentation network in every installed backend against the reference.

    A package without one has nothing to compare. What may differ is what its own proof allowed.

    Raises
    ------
    BackendError : the reference backend is missing or refuses the network.
    """
    if not package.segments:
        return []
    settings, proof = package.settings["segmentation"], package.folder / PARITY
    known = json.loads(proof.read_text(encoding="utf-8"))["tolerance"] if proof.is_file() else {}
    tolerance = ScoreTolerance(**known)
    images = image_batch(image_shapes(settings)[0])
    network, outputs = package.folder / SEGMENTATION, 1 + len(settings["classes"])
    reference = open_backend(REFERENCE, network, channels=1, outputs=outputs)
    try:
        expected = reference.infer(images)
    finally:
        reference.close()
    checks = []
    for name, version, precision in _others(settings):
        try:
            backend = open_backend(name, network, channels=1, outputs=outputs, precision=precision)
            try:
                checks.append(check_scores(backend, version, images, expected, tolerance))
            finally:
                backend.close()
        except BackendError as error:
            checks.append(_refused(name, str(version), error))
    return checks


def _others(settings: dict[str, Any]) -> Iterator[tuple[str, str | None, str | None]]:
    """(backend, version, precision) of all that is not the reference; None: as it is stored."""
    flags = processor_flags()
    for entry in availability():
        if entry.usable and entry.name != REFERENCE:
            yield entry.name, entry.version, None
            for precision in settings.get("variants", {}):
                if can_run(precision, entry.name, flags):
                    yield entry.name, entry.version, precision


def _refused(name: str, version: str, error: BackendError) -> ScoreCheck:
    return ScoreCheck(name, version, "", 0.0, 0.0, 0.0, 0.0, 0.0, str(error))
