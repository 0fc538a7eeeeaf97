"""A segmentation network in precisions that need no file of their own: proved, timed, kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.backends import availability, open_backend
from segreg.engine.errors import BackendError
from segreg.engine.machine import processor_flags
from segreg.engine.package import SEGMENTATION, Package
from segreg.engine.precision import FILES, FULL, PRECISIONS, can_run
from segreg.engine.scores import ScoreCheck, ScoreTolerance, check_scores
from segreg.export.adapter import first_line
from segreg.export.variants import FASTER, computed_by, measure_speed_up

FloatArray = NDArray[np.float32]
# (kind, images, the trained network's scores)
Shown = tuple[str, FloatArray, FloatArray]
Progress = Callable[[str], None]
# (variants by precision, why the others were dropped: reasons by "precision in backend")
Kept = tuple[dict[str, Any], dict[str, list[str]]]

ROUNDS = 5  # of timing: whole images take long, and what is kept gains far more than a clock errs


def measure_reduced(
    package: Package,
    batches: Sequence[Shown],
    refused_by: Collection[str],
    tolerance: ScoreTolerance,
    progress: Progress,
) -> Kept:
    """What the metadata say under ``segmentation/variants``, and what was tried in vain.

    A precision is kept in the backends where every batch stays within ``tolerance`` and the last
    one is faster than in float32.
    """
    flags = processor_flags()
    variants: dict[str, Any] = {}
    dropped: dict[str, list[str]] = {}
    for precision in PRECISIONS[1:]:
        for entry in availability():
            if precision in FILES or not (entry.usable and can_run(precision, entry.name, flags)):
                continue
            if entry.name in refused_by:
                continue
            progress(f"parity: {entry.name} in {precision}")
            try:
                checks, gain = _try(package, entry.name, precision, batches, tolerance)
                reasons = _reasons(checks, gain)
            except BackendError as error:
                checks, gain, reasons = [], 0.0, [first_line(error)]
            if reasons:
                dropped[f"{precision} in {entry.name}"] = reasons
                continue
            variant = variants.setdefault(
                precision, {"worst_probability": 0.0, "labels_changed": 0.0, "speed": {}}
            )
            for name in ("worst_probability", "labels_changed"):
                found = max(getattr(check, name) for check in checks)
                variant[name] = max(variant[name], float(f"{found:.3g}"))
            variant["speed"][entry.name] = {
                "speed_up": round(gain, 2), "capability": computed_by(precision),
            }  # fmt: skip
    return variants, dropped


def _try(
    package: Package,
    name: str,
    precision: str,
    batches: Sequence[Shown],
    tolerance: ScoreTolerance,
) -> tuple[list[ScoreCheck], float]:
    """Its scores of every batch, and its speed-up on the last."""
    outputs = 1 + len(package.settings["segmentation"]["classes"])
    facts: dict[str, Any] = {"channels": 1, "outputs": outputs}
    network = package.folder / SEGMENTATION
    with (
        closing(open_backend(name, network, **facts, precision=FULL)) as plain,
        closing(open_backend(name, network, **facts, precision=precision)) as reduced,
    ):
        checks = [
            check_scores(reduced, reduced.library_version(), images, expected, tolerance)
            for _, images, expected in batches
        ]
        return checks, measure_speed_up(plain, reduced, batches[-1][1], ROUNDS)


def _reasons(checks: Iterable[ScoreCheck], gain: float) -> list[str]:
    """Why a precision is dropped; empty if it is not."""
    reasons = [
        f"probabilities {check.worst_probability:.2g} and scores {check.worst_score:.2g} of their "
        f"spread apart (allowed {check.allowed:.2g}), {check.labels_changed:.2%} of labels changed "
        f"(allowed {check.allowed_labels:.2%})"
        for check in checks
        if not check.sound
    ]
    return reasons if gain >= FASTER else [*reasons, f"{gain:.2f} times as fast as float32"]
