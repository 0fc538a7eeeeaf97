"""``export``: graph, parity, metadata, checksums; a package or nothing."""

from __future__ import annotations

import importlib
import json
import pickle
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from segreg.engine.errors import PackageError
from segreg.engine.package import (
    CHECKSUMS,
    METADATA,
    REGISTRATION,
    Package,
    load_package,
    package_files,
    validate_metadata,
    write_checksums,
)
from segreg.engine.version import __version__
from segreg.export.graph import write_graph
from segreg.export.parity import measure_parity

CARD, PARITY, LICENCE = "docs/README.md", "docs/parity.json", "LICENSE"
FILES = (METADATA, REGISTRATION, CARD, PARITY, LICENCE)


def export(
    network: torch.nn.Module, spec: dict[str, Any], path: Path, *, card: Path, licence: Path
) -> Package:
    """Write ``network`` as a model package into the folder ``path``.

    Everything is made and verified in a temporary folder first; files of a package that is already
    in ``path`` are replaced, other files there, such as its recipe, are left alone.

    Parameters
    ----------
    spec : what ``configs/metadata.json`` shall say; must follow the package schema.
    card, licence : model card (Markdown) and licence text.

    Raises
    ------
    ParityError : the exported network differs from ``network``.
    PackageError : the spec breaks the schema, or ``path`` holds files that would be part of the
        package and are not.
    """
    validate_metadata(spec)
    if stray := sorted(set(package_files(path)) - set(FILES)):
        raise PackageError(
            f"{path.name}: {stray[0]} lies where only files of the package may; move it away."
        )
    settings = spec["segreg"]
    canvas, channels = settings["canvas"][-1], settings["channels"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=path.parent) as temporary:
        folder = Path(temporary) / spec["name"]
        for part in (METADATA, REGISTRATION, CARD):
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
        properties = {"name": spec["name"], "version": spec["version"], "segreg": __version__}
        write_graph(network, canvas, len(channels), folder / REGISTRATION, properties)
        report = measure_parity(network, folder / REGISTRATION, canvas, channels)
        report["trained_with"] = {"torch": str(torch.__version__)}
        _write_json(folder / METADATA, spec)
        _write_json(folder / PARITY, report)
        # Read both before the move: they may be the very files that are replaced.
        (folder / CARD).write_bytes(card.read_bytes())
        (folder / LICENCE).write_bytes(licence.read_bytes())
        write_checksums(folder)
        load_package(folder)
        for name in (*FILES, CHECKSUMS):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / name, path / f"{name}.partial")
        for name in (*FILES, CHECKSUMS):
            (path / f"{name}.partial").replace(path / name)
    return load_package(path)


def load_network(reference: str, weights: Path) -> torch.nn.Module:
    """Network ``module:Class`` with its weights; a state dict is read without running any code.

    Raises
    ------
    PackageError : no such class, or a weights file that is no plain state dict of that network.
    """
    module, _, name = reference.partition(":")
    try:
        network: torch.nn.Module = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise PackageError(
            f"network: expected module:Class that needs no arguments, got {reference!r} ({error})."
        ) from error
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except pickle.UnpicklingError as error:
        raise PackageError(
            f"{weights.name}: expected a plain state dict; this file would have to run code to be "
            "read, which is refused. Save it with torch.save(network.state_dict(), path)."
        ) from error
    except Exception as error:  # torch raises whatever the damage leads to
        raise PackageError(
            f"{weights.name}: not the state dict of {reference} ({error})."
        ) from error
    return network.eval()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
