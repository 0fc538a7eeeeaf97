"""Whether this engine and this machine can run a package, and its network opened in what can."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segreg.engine.backends import Backend, CudaOptions, availability, open_backend
from segreg.engine.errors import BackendError, PackageError
from segreg.engine.machine import processor_flags
from segreg.engine.package import Package
from segreg.engine.placements import canvas_sizes
from segreg.engine.precision import checked_precision, choose_precision


def check_registers(package: Package) -> None:
    """Refuse a package that holds no registration network."""
    if not package.registers:
        raise PackageError(
            f"package {package.name}: holds no registration network, it segments only. Register "
            "with another package, such as shapes, and segment with this one."
        )


def choose_backend(
    package: Package, asked: str | None, refused_by: Mapping[str, str] | None = None
) -> str | None:
    """The backend to open for ``package``: the one asked for, or the first that can run it.

    Some networks hold operators that a backend lacks; the exporter found out which, and the
    package says so. ``refused_by`` is what it says of its segmentation network; None asks about
    the registration network.

    Raises
    ------
    BackendError : the backend asked for, or every one that is installed, cannot run the package.
    """
    refused = package.settings.get("refused_by", {}) if refused_by is None else refused_by
    if not refused:
        return asked
    usable = [entry.name for entry in availability() if entry.usable]
    able = [name for name in usable if name not in refused]
    if asked is None and able:
        return able[0]
    if asked is not None and asked not in refused:
        return asked
    reasons = "; ".join(
        f"{name} {why}" for name, why in refused.items() if name in ([asked] if asked else usable)
    )
    raise BackendError(
        f"package {package.name} cannot run here: {reasons or 'no backend is installed'}. "
        f"Backends that can and are installed: {', '.join(able) or 'none'}; "
        "pip install 'segreg[cpu]' brings onnxruntime, which runs all networks."
    )


def open_network(
    package: Package,
    asked: str | None,
    precision: str,
    *,
    threads: int | None,
    options: CudaOptions | None,
) -> Backend:
    """The package's network, in the backend asked for or the first that can, in ``precision``.

    ``precision`` is "auto" for the fastest variant that passed the exporter's proof, or a name; see
    ``segreg.engine.precision``.

    Raises
    ------
    PrecisionError : package, backend or processor lacks the precision.
    BackendError : no backend can run the package.
    """
    settings, flags = package.settings, processor_flags()
    wanted = checked_precision(precision)

    def find(backend: str) -> tuple[Path, str]:
        choice = choose_precision(settings, backend, flags, wanted)
        return package.folder / choice.file, choice.precision

    return open_backend(
        choose_backend(package, asked),
        find,
        channels=len(settings["channels"]),
        threads=threads,
        canvas=canvas_sizes(settings),
        options=options,
    )
