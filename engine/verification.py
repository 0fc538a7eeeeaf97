"""Whether a package's network computes the same on every backend of this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.backends import availability, open_backend
from segreg.engine.errors import BackendError, PackageError
from segreg.engine.machine import processor_flags
from segreg.engine.package import Package
from segreg.engine.precision import FULL, Choice, can_run
from segreg.engine.probes import structured_batch
from segreg.engine.vectors import in_field_cells
from segreg.kernels import integrate

Vectors = NDArray[np.float32]

REFERENCE = "onnxruntime"  # in float32 on any processor
# Longest differences of displacement that pass, in canvas cells. Reduced precision rounds, but
# must not move.
WORST_FLOAT32, WORST_REDUCED = 1e-3, 0.1


@dataclass(frozen=True)
class Difference:
    """How far two fields lie apart, in canvas cells.

    Attributes
    ----------
    largest_displacement : longest vector of the expected field, to see the difference against.
    worst, percentile_99_9 : lengths of the difference.
    """

    largest_displacement: float
    worst: float
    percentile_99_9: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class BackendCheck:
    """One backend in one precision against the reference; ``refusal`` says why it cannot run."""

    backend: str
    version: str
    precision: str
    difference: Difference | None
    allowed: float
    refusal: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sound": self.sound}

    @property
    def sound(self) -> bool:
        return self.difference is None or self.difference.worst <= self.allowed


def displacement_cells(vectors: Vectors, settings: dict[str, Any]) -> NDArray[np.float64]:
    """Displacement (K, 3, d, h, w) in canvas cells of what a package's network gave.

    ``settings`` is the package's ``segreg`` block.
    """
    output = settings["output"]
    steps = int(settings["integration_steps"]) if output["kind"] == "velocity" else 0
    vectors, cells = in_field_cells(np.ascontiguousarray(vectors, np.float32), output)
    return np.asarray(integrate(vectors, steps, scale=cells) * output["stride"], np.float64)


def compare(expected: Vectors, found: Vectors, settings: dict[str, Any]) -> Difference:
    """Difference of two answers (K, 3, d, h, w) of a package's network, as displacements."""
    wanted = displacement_cells(expected, settings)
    apart = np.linalg.norm(displacement_cells(found, settings) - wanted, axis=1)
    return Difference(
        largest_displacement=float(np.linalg.norm(wanted, axis=1).max()),
        worst=float(apart.max()),
        percentile_99_9=float(np.percentile(apart, 99.9)),
    )


def network_shapes(settings: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Shapes (D, H, W) a package's network is shown, smallest first."""
    if "shape" in settings:
        depth, height, width = settings["shape"]
        return [(depth, height, width)]
    return [(size, size, size) for size in sorted(set(settings["canvas"]))]


def check_backends(package: Package) -> list[BackendCheck]:
    """Every variant in every installed backend against the reference, on generated regions.

    Variants that a backend or the processor does not compute in are left out.

    A package without a registration network has nothing to compare.

    Raises
    ------
    PackageError : the network does not give what the metadata promise.
    BackendError : the reference backend is missing or refuses the network.
    """
    if not package.registers:
        return []
    settings, flags = package.settings, processor_flags()
    regions = structured_batch(network_shapes(settings)[0], settings["channels"])

    def answer(name: str, precision: str) -> Vectors:
        network = package.folder / Choice.of(precision).file
        channels = len(settings["channels"])
        backend = open_backend(name, network, channels=channels, precision=precision)
        try:
            return backend.infer(regions)
        finally:
            backend.close()

    expected = answer(REFERENCE, FULL)
    _check_shape(package, regions, expected)
    checks = []
    for entry in availability():
        precisions = [FULL, *settings.get("variants", {})]
        for precision in precisions[entry.name == REFERENCE :] if entry.usable else ():
            if not can_run(precision, entry.name, flags):
                continue
            backend, version = entry.name, str(entry.version)
            try:
                difference = compare(expected, answer(backend, precision), settings)
            except BackendError as error:
                checks.append(BackendCheck(backend, version, precision, None, 0.0, str(error)))
                continue
            allowed = WORST_FLOAT32 if precision == FULL else WORST_REDUCED
            checks.append(BackendCheck(backend, version, precision, difference, allowed))
    return checks


def _check_shape(package: Package, regions: Vectors, vectors: Vectors) -> None:
    """Refuse a network whose answer lies on another grid than the metadata say."""
    stride = int(package.settings["output"]["stride"])
    expected = (len(regions), 3, *(size // stride for size in regions.shape[2:]))
    if vectors.shape != expected:
        raise PackageError(
            f"package {package.name}: its metadata promise vectors {expected} for regions "
            f"{regions.shape}, its network gives {vectors.shape}. They do not belong together; "
            "fetch the package again, or export it anew."
        )
