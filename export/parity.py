"""Proof that the deployed network computes what the trained one did, alone and in the engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segreg.engine.backends import Backend, availability, open_backend
from segreg.engine.backends.base import Batch
from segreg.engine.errors import BackendError, PackageError
from segreg.engine.package import Package
from segreg.engine.phantom import make_phantom
from segreg.engine.precision import FULL
from segreg.engine.probes import random_batch, structured_batch
from segreg.engine.runtime import Engine
from segreg.engine.verification import REFERENCE, compare
from segreg.engine.volume import VolumeLike
from segreg.export.adapter import Adapter
from segreg.export.spec import Shape
from segreg.export.torch_backend import TorchBackend

Pair = Sequence[VolumeLike]  # moving, fixed, moving_labels, fixed_labels
Progress = Callable[[str], None]

STEP = 16  # cells between the canvas sizes that the engine chooses from
PHANTOM = ((48, 60, 54), (2.6, 2.1, 2.1))


class ParityError(PackageError):
    """The exported network differs from the trained one; the message lists every fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(
            "the exported network differs from the trained one: " + "; ".join(self.faults) + "."
        )


@dataclass(frozen=True)
class Evidence:
    """What a network is proved on: (kind, regions, torch's vectors), and a pair to register."""

    batches: list[tuple[str, Batch, Batch]]
    sides: Pair


@dataclass
class Parity:
    """What was measured; ``refused`` are the backends that cannot run the network, and why."""

    cases: list[dict[str, Any]] = field(default_factory=list)
    pair: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    evidence: Evidence | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "unit": "cells of the canvas; lengths of displacement",
            "verdict": "failed" if self.faults else "passed",
            "faults": self.faults,
            "cases": self.cases,
            "pair": self.pair,
            "refused_by": self.refused,
        }


def measure_parity(
    adapter: Adapter,
    package: Package,
    *,
    operators: Sequence[str] = (),
    pair: Pair | None = None,
    progress: Progress = lambda stage: None,
) -> Parity:
    """Compare torch with every installed backend in float32, and with it in the engine.

    Alone: on noise, on generated regions and on regions as the engine gathers them from the pair.
    In the engine: the Dice and the folding of the whole registration.

    Parameters
    ----------
    package : holds the exported network.
    operators : those of its graph; named where a backend refuses one.
    pair : a real pair; None takes a generated one.
    """
    parity = Parity()
    batches = _generated(adapter, "space" in package.settings.get("free_axes", ()))
    progress("parity: torch on the pair")
    sides, parity.pair = _pair(pair, package.settings)
    batches += _register_with_torch(adapter, package, sides, parity)
    parity.evidence = Evidence(batches, sides)
    usable = [entry for entry in availability() if entry.usable]
    for entry in usable:
        progress(f"parity: {entry.name}")
        try:
            backend = open_backend(
                entry.name, package.network, channels=len(adapter.spec.channels), precision=FULL
            )
        except BackendError as error:
            parity.refused[entry.name] = _reason(str(error), operators)
            continue
        try:
            compare_backend(parity, parity.evidence, adapter, package, backend)
        finally:
            backend.close()
    if not usable:
        parity.faults.append("no inference backend is installed; pip install 'segreg[cpu]'")
    elif len(parity.refused) == len(usable):
        parity.faults += [f"{name} refuses it: {why}" for name, why in parity.refused.items()]
    return parity


def compare_backend(
    parity: Parity, evidence: Evidence, adapter: Adapter, package: Package, backend: Backend
) -> None:
    """Add the cases, the pair and the faults of one open ``backend`` to ``parity``."""
    for kind, regions, expected in evidence.batches:
        _compare(parity, adapter, backend, kind, regions, expected)
    _compare_results(parity, adapter, package, backend, evidence.sides)


def takes_other_sizes(adapter: Adapter, network: Path) -> bool:
    """Whether the trained and the exported ``network`` both run on a size not traced.

    The exported one is asked in the reference backend, or else in the first that takes it; where
    none is installed, the answer rests on torch alone.
    """
    channels = adapter.spec.channels
    regions = structured_batch(_wider(adapter.spec.shapes[0]), channels, 1)
    try:
        with torch.inference_mode():
            adapter(torch.from_numpy(regions))
    except RuntimeError:
        return False
    usable = [entry.name for entry in availability() if entry.usable]
    for name in sorted(usable, key=lambda name: name != REFERENCE):
        try:
            backend = open_backend(name, network, channels=len(channels))
        except BackendError:
            continue  # it lacks an operator: parity says so
        try:
            backend.infer(regions)
        except BackendError:
            return False
        finally:
            backend.close()
        break
    return True


def _wider(shape: Shape) -> Shape:
    depth, height, width = (size + STEP for size in shape)
    return depth, height, width


def _generated(adapter: Adapter, free_space: bool) -> list[tuple[str, Batch, Batch]]:
    """(kind, regions, torch's vectors); with free axes on a second size, too."""
    shape, channels = adapter.spec.shapes[0], adapter.spec.channels
    batches = [("random", random_batch(shape, channels))]
    batches.append(("structured", structured_batch(shape, channels)))
    if free_space:
        batches.append(("structured, wider", structured_batch(_wider(shape), channels, 1)))
    with torch.inference_mode():
        return [
            (kind, regions, adapter(torch.from_numpy(regions)).numpy())
            for kind, regions in batches
        ]


def _pair(pair: Pair | None, settings: dict[str, Any]) -> tuple[Pair, dict[str, Any]]:
    if pair is None:
        shape, spacing = PHANTOM
        if "spacing" in settings:  # a network of one size and spacing sees so many mm, no more
            room = np.multiply(settings["shape"], settings["spacing"])
            shrink = min(1.0, float((room / np.multiply(shape, spacing)).min()))
            depth, height, width = (shrink * step for step in spacing)
            spacing = depth, height, width
        phantom = make_phantom(shape, spacing)
        sides = (phantom.moving, phantom.fixed, phantom.moving_labels, phantom.fixed_labels)
        return sides, {"source": "generated phantom"}
    names = [Path(side).name if isinstance(side, (str, Path)) else "given" for side in pair[:2]]
    return pair, {"source": f"{names[0]} to {names[1]}"}


def _register_with_torch(
    adapter: Adapter, package: Package, sides: Pair, parity: Parity
) -> list[tuple[str, Batch, Batch]]:
    """Register the pair with the trained network; gives the regions it was shown."""
    backend = TorchBackend(adapter)
    with Engine(package.folder, backend=backend) as engine:
        quality = engine.register(*sides, refine="off").quality
    parity.pair["torch"] = {
        "dice_before": round(quality.dice_before, 5),
        "dice": round(quality.dice, 5),
        "folding_percent": round(quality.folding_inside_percent, 5),
    }
    parity.pair["backends"] = []
    return [("real", regions, vectors) for regions, vectors in backend.seen]


def _compare(
    parity: Parity, adapter: Adapter, backend: Backend, kind: str, regions: Batch, expected: Batch
) -> None:
    allowed = adapter.spec.tolerance.of(backend.precision)
    name = f"{backend.name} ({backend.precision})"
    shape = "x".join(map(str, regions.shape[2:]))
    try:
        difference = compare(expected, backend.infer(regions), adapter.spec.settings)
    except BackendError as error:
        parity.faults.append(f"{name} on {kind} regions of {shape}: {error}")
        return
    parity.cases.append(
        {
            "backend": backend.name,
            "version": backend.library_version(),
            "precision": backend.precision,
            "input": kind,
            "regions": len(regions),
            "shape": list(regions.shape[2:]),
            **difference.as_dict(),
            "allowed": allowed,
        }
    )
    if not difference.worst <= allowed:
        parity.faults.append(
            f"{name} on {kind} regions of {shape}: {difference.worst:.2g} voxel apart, "
            f"allowed {allowed:.2g}"
        )


def _compare_results(
    parity: Parity, adapter: Adapter, package: Package, backend: Backend, sides: Pair
) -> None:
    name, wanted = f"{backend.name} ({backend.precision})", parity.pair["torch"]
    try:
        with Engine(package.folder, backend=backend) as engine:
            quality = engine.register(*sides, refine="off").quality
    except BackendError as error:
        parity.faults.append(f"{name} on the pair: {error}")
        return
    change = quality.dice - wanted["dice"]
    allowed = adapter.spec.tolerance.dice
    parity.pair["backends"].append(
        {
            "backend": backend.name,
            "precision": backend.precision,
            "dice": round(quality.dice, 5),
            "dice_change": round(change, 5),
            "folding_percent": round(quality.folding_inside_percent, 5),
            "folding_change": round(
                quality.folding_inside_percent - wanted["folding_percent"], 5
            ),
            "allowed_dice_change": allowed,
        }
    )
    if not np.abs(change) <= allowed:
        parity.faults.append(
            f"{name} on the pair: Dice {quality.dice:.4f} against {wanted['dice']:.4f} of torch, "
            f"allowed {allowed:.4f} apart"
        )


def _reason(message: str, operators: Sequence[str]) -> str:
    """The operators a backend's message names, or its first line."""
    named = [name for name in operators if re.search(rf"\b{re.escape(name)}\b", message)]
    return f"lacks {', '.join(named)}" if named else message.splitlines()[0][:200]
