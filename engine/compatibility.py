"""Whether this engine and this machine can run a package, said before anything is loaded."""

from __future__ import annotations

from segreg.engine.backends import availability
from segreg.engine.errors import BackendError
from segreg.engine.package import Package


def choose_backend(package: Package, asked: str | None) -> str | None:
    """The backend to open for ``package``: the one asked for, or the first that can run it.

    Some networks hold operators that a backend lacks; the exporter found out which, and the
    package says so.

    Raises
    ------
    BackendError : the backend asked for, or every one that is installed, cannot run the package.
    """
    refused: dict[str, str] = package.settings.get("refused_by", {})
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
