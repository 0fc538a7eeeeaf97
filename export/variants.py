"""The network in reduced precision: made, proved, timed, and kept only if it passes and gains."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segreg.engine.backends import Backend, availability, open_backend
from segreg.engine.backends.base import Batch
from segreg.engine.errors import BackendError, PackageError
from segreg.engine.machine import describe_machine, processor_flags
from segreg.engine.package import Package, write_checksums
from segreg.engine.precision import (
    CAPABILITIES,
    FULL,
    PRECISIONS,
    Choice,
    can_run,
    capability,
    computes,
)
from segreg.engine.probes import structured_batch
from segreg.engine.verification import compare, network_shapes
from segreg.export.adapter import Adapter
from segreg.export.graph import EXTERNAL_FROM
from segreg.export.half import write_half
from segreg.export.parity import Evidence, Parity, Progress, compare_backend
from segreg.export.quantisation import calibration_regions, quantise

FASTER = 1.05  # than float32; less is within what a clock repeats
ROUNDS = 25  # of timing, both precisions in turn; the least of each counts

# (in float32, in reduced precision, regions) -> time of the first over that of the second
SpeedUp = Callable[[Backend, Backend, Batch], float]


@dataclass
class Trial:
    """One precision that was tried.

    Attributes
    ----------
    reasons : why it was dropped, but for its speed and its accuracy.
    parity : its cases, its registrations of the pair and its faults, as in float32.
    speed : backend -> speed-up over float32 and what the machine computes it with.
    slow : the backends in which it gains too little; it must gain in one.
    notes : what was decided while it was made, such as which layers stay in floating point.
    """

    precision: str
    reasons: list[str] = field(default_factory=list)
    parity: Parity = field(default_factory=Parity)
    speed: dict[str, dict[str, Any]] = field(default_factory=dict)
    slow: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Every reason to drop it."""
        gains_nowhere = len(self.slow) == len(self.speed)
        return [*self.reasons, *self.parity.faults, *(self.slow if gains_nowhere else [])]

    @property
    def kept(self) -> bool:
        return not self.faults

    @property
    def figures(self) -> dict[str, Any]:
        """What the package's metadata say of it; without the file and the speed."""
        cases, pairs = self.parity.cases, self.parity.pair.get("backends", [])
        found: dict[str, Any] = {}
        for name in ("worst", "percentile_99_9"):
            if cases:
                found[name] = round(max(case[name] for case in cases), 5)
        for name in ("dice_change", "folding_change"):
            if pairs:
                found[name] = max((pair[name] for pair in pairs), key=abs)
        return found

    def as_metadata(self) -> dict[str, Any]:
        """Its entry under ``segreg.variants``."""
        file = Choice.of(self.precision).file
        beside = {} if file == Choice.of(FULL).file else {"file": file}
        gaining = {name: gain for name, gain in self.speed.items() if gain["speed_up"] > 1}
        return {**beside, **self.figures, "speed": gaining}

    def as_dict(self) -> dict[str, Any]:
        """Its entry in ``docs/parity.json``."""
        return {
            "verdict": "kept" if self.kept else "dropped",
            "reasons": self.faults,
            **self.figures,
            "speed": self.speed,
            "notes": self.notes,
            "cases": self.parity.cases,
            "pair": self.parity.pair.get("backends", []),
        }


def measure_variants(
    adapter: Adapter,
    package: Package,
    parity: Parity,
    precisions: Sequence[str],
    *,
    progress: Progress = lambda said: None,
    speed_up: SpeedUp | None = None,
) -> list[Trial]:
    """Try ``precisions``; the files of those that are kept lie in the package's folder afterwards.

    Parameters
    ----------
    parity : of float32, without faults, with the evidence that proved it.
    speed_up : times a backend in float32 against one in reduced precision; None takes the clock.
    """
    reduced = [precision for precision in PRECISIONS[1:] if precision in precisions]
    if not reduced:
        return []
    if parity.evidence is None:
        raise ValueError("parity: expected one with its evidence, as measure_parity gives it.")
    trials: list[Trial] = []
    for precision in reduced:
        progress(f"{precision}: making and proving it")
        trial = Trial(precision, parity=Parity(pair={**parity.pair, "backends": []}))
        trials.append(trial)
        if names := _able(precision, parity, trial):
            try:
                _write(adapter, package, trial, parity.evidence, names[0])
            except PackageError as error:
                trial.reasons.append(str(error).rstrip("."))
                names = []
        for name in names:
            clock = speed_up or measure_speed_up
            _try(trial, name, adapter, package, parity.evidence, clock)
        if not trial.kept:
            _remove(package, precision)
        progress(f"{precision}: {'kept' if trial.kept else 'dropped, ' + '; '.join(trial.faults)}")
    return trials


def _remove(package: Package, precision: str) -> None:
    file = package.folder / Choice.of(precision).file
    if file != package.network:
        for path in (file, file.with_name(f"{file.name}.data")):
            path.unlink(missing_ok=True)
        write_checksums(package.folder)


def measure_speed_up(
    plain: Backend, reduced: Backend, regions: Batch, rounds: int = ROUNDS
) -> float:
    """Time of ``plain`` over that of ``reduced``: the least of several runs each, in turn."""
    least = {plain: float("inf"), reduced: float("inf")}
    for backend in least:
        backend.infer(regions)  # warm
    for _ in range(rounds):
        for backend in least:
            start = time.perf_counter()
            backend.infer(regions)
            least[backend] = min(least[backend], time.perf_counter() - start)
    return least[plain] / least[reduced]


def _able(precision: str, parity: Parity, trial: Trial) -> list[str]:
    """Backends that can be measured in ``precision`` here; if none, the reasons go to ``trial``."""
    flags, names, unable = processor_flags(), [], []
    for entry in availability():
        if not computes(precision, entry.name):
            continue
        if not entry.usable:
            unable.append(f"{entry.name} does not run on this machine")
        elif entry.name in parity.refused:
            unable.append(f"{entry.name} {parity.refused[entry.name]}")
        elif not can_run(precision, entry.name, flags):
            needed = " or ".join(CAPABILITIES[precision])
            unable.append(f"{entry.name}: the processor lacks {needed}")
        else:
            names.append(entry.name)
    if not names:
        why = ", ".join(unable) or "no backend that computes in it is known here"
        trial.reasons.append(f"not measured: {why}")
    return names


def _try(
    trial: Trial,
    name: str,
    adapter: Adapter,
    package: Package,
    evidence: Evidence,
    speed_up: SpeedUp,
) -> None:
    """Prove and time one backend; add what it says against the variant to ``trial``."""
    channels = len(adapter.spec.channels)
    file = package.folder / Choice.of(trial.precision).file
    try:
        reduced = open_backend(name, file, channels=channels, precision=trial.precision)
    except BackendError as error:
        trial.reasons.append(str(error).rstrip("."))
        return
    plain = open_backend(name, package.network, channels=channels, precision=FULL)
    try:
        compare_backend(trial.parity, evidence, adapter, package, reduced)
        shapes = network_shapes(package.settings)
        regions = structured_batch(shapes[len(shapes) // 2], adapter.spec.channels, 1)
        gain = round(speed_up(plain, reduced, regions), 2)
    finally:
        reduced.close()
        plain.close()
    trial.speed[name] = {"speed_up": gain, "capability": computed_by(trial.precision)}
    if gain < FASTER:
        trial.slow.append(f"{name}: {gain:.2f} times as fast as float32")


def computed_by(precision: str) -> str:
    """What this machine computes ``precision`` with."""
    if flag := capability(precision, processor_flags()):
        return flag
    return next((gpu.split(",")[0] for gpu in describe_machine().gpus), "GPU")


def _write(
    adapter: Adapter, package: Package, trial: Trial, evidence: Evidence, backend: str
) -> None:
    """The variant's file, where it has one; ``backend`` judges what int8 may round."""
    target = package.folder / Choice.of(trial.precision).file
    if trial.precision == "float16":
        write_half(package.network, target, external_from=EXTERNAL_FROM)
    if trial.precision == "int8":
        trial.notes += quantise(
            package.network,
            target,
            calibration_regions(adapter, package),
            lambda file: _worst(file, adapter, evidence, backend, trial.precision),
            adapter.spec.tolerance.of(trial.precision),
        )
    if target != package.network:
        write_checksums(package.folder)


def _worst(
    file: Path, adapter: Adapter, evidence: Evidence, backend: str, precision: str
) -> float:
    """Largest distance in voxels of a file's network from torch on the batches of ``evidence``."""
    opened = open_backend(
        backend, file, channels=len(adapter.spec.channels), precision=precision
    )
    try:
        return max(
            compare(expected, opened.infer(regions), adapter.spec.settings).worst
            for _, regions, expected in evidence.batches
        )
    finally:
        opened.close()
