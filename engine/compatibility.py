"""Whether this engine and this machine can run a package, said before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from segreg.engine.backends import availability
from segreg.engine.errors import BackendError, PackageError
from segreg.engine.package import Package

PLACEMENTS = ("region",)  # what the pipeline can do


def check_placement(package: Package) -> None:
    """Refuse a package whose network must be shown something this engine cannot show."""
    if not package.registers:
        raise PackageError(
            f"package {package.name}: holds no registration network, it segments only. Register "
            "with another package, such as shapes, and segment with this one."
        )
    placement = package.settings["placement"]
    if placement not in PLACEMENTS:
        raise PackageError(
            f"package {package.name}: its network is shown regions by placement {placement!r}, "
            f"and this version of segreg does {', '.join(map(repr, PLACEMENTS))} only. Use a newer "
            "segreg, or a package made for regions."
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
