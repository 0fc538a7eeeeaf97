"""Proof that the deployed network computes what the trained one did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segreg.engine.backends import availability, open_backend

Batch = NDArray[np.float32]

# Worst vector difference in the network's unit; reduced precision rounds, but must not move.
WORST = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}


class ParityError(RuntimeError):
    """The exported network differs from the trained one; the message lists every fault."""


def measure_parity(
    network: torch.nn.Module, graph: Path, canvas: int, channels: Sequence[str]
) -> dict[str, Any]:
    """Compare torch with every installed backend on random and structured canvases.

    ``channels`` are the names in the package's metadata.

    Returns the report, ready for ``docs/parity.json``.

    Raises
    ------
    ParityError : lists all backends and inputs over their bar.
    """
    report: dict[str, Any] = {"unit": "network output unit", "cases": []}
    faults = []
    inputs = {
        "random": _random(canvas, len(channels)),
        "structured": _structured(canvas, channels),
    }
    for entry in availability():
        if not entry.usable:
            continue
        backend = open_backend(entry.name, graph, channels=len(channels))
        for name, regions in inputs.items():
            with torch.inference_mode():
                expected = network(torch.from_numpy(regions)).numpy()
            error = np.abs(backend.infer(regions) - expected)
            case: dict[str, Any] = {
                "backend": entry.name,
                "version": entry.version,
                "precision": backend.precision,
                "input": name,
                "largest_vector": float(np.abs(expected).max()),
                "worst": float(error.max()),
                "percentile_99_9": float(np.percentile(error, 99.9)),
                "allowed": WORST[backend.precision],
            }
            report["cases"].append(case)
            if case["worst"] > case["allowed"]:
                faults.append(
                    f"{entry.name} ({backend.precision}) on {name} input: "
                    f"{case['worst']:.2g}, allowed {case['allowed']:.2g}"
                )
        backend.close()
    if not report["cases"]:
        raise ParityError("no inference backend is installed; pip install 'segreg[cpu]'.")
    if faults:
        raise ParityError("the exported network differs from the trained one: " + "; ".join(faults))
    return report


def _random(canvas: int, channels: int) -> Batch:
    noise = np.random.default_rng(0).uniform(-1, 1, (2, channels, canvas, canvas, canvas))
    return noise.astype(np.float32)


def _structured(canvas: int, channels: Sequence[str]) -> Batch:
    """Regions as the engine shows them: moments matched, image only inside the mask."""
    rng = np.random.default_rng(1)
    axes = np.stack(np.meshgrid(*[np.linspace(-1, 1, canvas)] * 3, indexing="ij"))
    batch = np.empty((4, len(channels), canvas, canvas, canvas), np.float32)
    for region in batch:
        shown = {}
        for side in ("moving", "fixed"):
            radii = 0.7 * np.exp(rng.normal(0, 0.08, 3))
            radius = np.linalg.norm(axes / radii[:, None, None, None], axis=0)
            mask = np.clip((1 - radius) * canvas / 4 + 0.5, 0, 1)
            waves = rng.uniform(3, 9, 3)[:, None, None, None]
            image = np.sin(axes * waves + rng.uniform(0, 6, (3, 1, 1, 1))).mean(0)
            shown[f"{side}_mask"], shown[f"{side}_image"] = mask, image
            shown[f"{side}_masked_image"] = image * mask
        for values, name in zip(region, channels, strict=True):
            values[:] = shown[name]
    return batch
