"""Bill of materials of a package: what is inside and what it was made with (CycloneDX 1.6)."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from typing import Any

from segreg.engine.errors import PackageError
from segreg.engine.package import CHECKSUMS, Package, read_checksums
from segreg.engine.version import __version__

PARITY = "docs/parity.json"
NAMESPACE = uuid.UUID("5d2f5d4e-7a57-4f0a-9a3d-0f6f2c9a7d11")  # of serial numbers made from digests


def make_bill(package: Package) -> dict[str, Any]:
    """The bill of ``package`` as CycloneDX JSON.

    The same package gives the same serial number; only the time of writing differs.
    """
    metadata = package.metadata
    subject = {
        "type": "machine-learning-model",
        "bom-ref": "package",
        "name": package.name,
        "version": package.version,
        "description": metadata["description"],
        "authors": [{"name": metadata["authors"]}],
        "licenses": [{"license": {"name": package.licence}}],
        "hashes": [{"alg": "SHA-256", "content": package.digest}],
        "modelCard": _card(package),
    }
    files = _files(package)
    tools = [
        {"type": "application", "bom-ref": f"tool:{name}", "name": name, "version": version}
        for name, version in _made_with(package).items()
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(NAMESPACE, package.digest).urn,
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "tools": {
                "components": [{"type": "application", "name": "segreg", "version": __version__}]
            },
            "component": subject,
        },
        "components": files,
        "formulation": [{"bom-ref": "made-with", "components": tools}],
        "dependencies": [{"ref": "package", "dependsOn": [file["bom-ref"] for file in files]}],
        "properties": [
            {"name": "segreg:digest", "value": f"SHA-256 of {CHECKSUMS}"},
            {"name": "segreg:parity", "value": str(package.settings.get("parity", "not stated"))},
        ],
    }


def _files(package: Package) -> list[dict[str, Any]]:
    return [
        {
            "type": "file",
            "bom-ref": f"file:{name}",
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
        for name, digest in sorted(read_checksums(package.folder).items())
    ]


def _card(package: Package) -> dict[str, Any]:
    settings = package.settings
    inputs, outputs = [], []
    if package.registers:
        inputs += settings["channels"]
        outputs.append(f"{settings['output']['kind']} field")
    if package.segments:
        inputs.append("image")
        outputs.append("label map")
    card: dict[str, Any] = {
        "modelParameters": {
            "task": str(package.metadata.get("task", "registration")),
            "inputs": [{"format": name} for name in inputs],
            "outputs": [{"format": name} for name in outputs],
        }
    }
    if package.intended_use:
        card["considerations"] = {"useCases": [package.intended_use]}
    return card


def _made_with(package: Package) -> dict[str, str]:
    """Versions that the exporter noted; older packages noted torch alone."""
    path = package.folder / PARITY
    if not path.is_file():
        return {}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PackageError(
            f"{package.name}: expected JSON in {PARITY}, could not parse it ({error})."
        ) from error
    if not isinstance(report, dict):
        raise PackageError(
            f"{package.name}: expected a JSON object in {PARITY}, got {type(report).__name__}."
        )
    made_with: dict[str, str] = report.get("made_with") or report.get("trained_with") or {}
    return made_with
