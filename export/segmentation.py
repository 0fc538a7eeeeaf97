"""A segmentation network into a model package: beside a registration network, or alone.

The spec is the package's metadata with a ``segmentation`` block, and may say how the network is to
be taken and what may differ::

    {"name": "heart", "version": "1.0.0", ...,
     "segreg": {"schema": 1, "segmentation": {"spacing": [null, 1.5, 1.5], ...}},
     "network": {"take": "logits", "tolerance": {"labels": 0.001}}}
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segreg.engine.backends import open_backend
from segreg.engine.errors import PackageError
from segreg.engine.package import (
    METADATA,
    SEGMENTATION,
    Package,
    load_package,
    metadata_faults,
    package_files,
    schema_faults,
    write_checksums,
)
from segreg.engine.scores import PARITY, ScoreTolerance, image_shapes
from segreg.engine.verification import REFERENCE
from segreg.engine.version import __version__
from segreg.engine.volume import VolumeLike, as_volume, check_image
from segreg.export.adapter import first_line
from segreg.export.exporter import CARD, LICENCE, check_files, made_with, move_package, write_json
from segreg.export.graph import EXTERNAL_FROM, write_graph
from segreg.export.parity import ParityError
from segreg.export.segmentation_parity import measure_scores

NETWORK: dict[str, Any] = {
    "type": "object",
    "properties": {
        "take": {"type": ["integer", "string"]},
        "tolerance": {
            "type": "object",
            "properties": {
                key: {"type": "number", "exclusiveMinimum": 0}
                for key in ("float32", "reduced", "labels")
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}

FloatArray = NDArray[np.float32]
Network = torch.nn.Module | Path
Progress = Callable[[str], None]


class SegmentationAdapter(torch.nn.Module):
    """A network that gives scores (B, C, D, H, W) in float32, whatever else it gives."""

    def __init__(self, network: torch.nn.Module, take: int | str | None, outputs: int) -> None:
        super().__init__()
        self.network, self.take, self.outputs = network.eval(), take, outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer = self.network(images)
        try:
            scores = answer if self.take is None else answer[self.take]
        except (KeyError, IndexError) as error:
            raise PackageError(
                f"network: expected output {self.take!r} (network/take), got {error!r}."
            ) from error
        if not isinstance(scores, torch.Tensor) or scores.shape[1] != self.outputs:
            shaped = isinstance(scores, torch.Tensor)
            came = tuple(scores.shape) if shaped else type(scores).__name__
            raise PackageError(
                f"network: expected scores (B, {self.outputs}, D, H, W), one for the background "
                f"and one for each of the classes, got {came}. Mend segmentation/classes, or say "
                "in network/take which output is meant."
            )
        return scores.float()


def add_segmentation(
    network: Network,
    spec: dict[str, Any] | Path,
    path: Path,
    *,
    image: VolumeLike | None = None,
    card: Path | None = None,
    licence: Path | None = None,
    allow_failed_parity: bool = False,
    progress: Progress = lambda said: None,
) -> Package:
    """Add ``network`` to the package in ``path``, or make one of it alone where there is none.

    Parameters
    ----------
    network : takes images (B, 1, D, H, W) and gives scores of the classes, background first; or
        an ONNX file of such a network.
    image : a real image to prove parity on, beside generated ones.
    card, licence : as for ``export``.

    Raises
    ------
    PackageError : a spec that breaks the schema, a network that fails or cannot be exported.
    InputError : a card, licence or image that is not there.
    ParityError : the exported network differs from ``network``.
    """
    content = json.loads(spec.read_text(encoding="utf-8")) if isinstance(spec, Path) else spec
    metadata, known = _merge(content, path)
    settings = metadata["segreg"]["segmentation"]
    check_files({"card": card, "licence": licence}, None)
    real = None if image is None else check_image(as_volume(image))
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=path.parent) as temporary:
        folder = Path(temporary) / metadata["name"]
        for name in (*(package_files(path) if path.is_dir() else ()), SEGMENTATION, METADATA, CARD):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (path / name).is_file():
                shutil.copyfile(path / name, folder / name)
        progress("writing the graph")
        asked = _write(network, known, settings, folder / SEGMENTATION, metadata)
        text = card.read_text(encoding="utf-8") if card else None
        if text is not None or not (folder / CARD).is_file():
            (folder / CARD).write_text(text or _card(metadata), encoding="utf-8")
        if licence is not None:
            shutil.copyfile(licence, folder / LICENCE)
        tolerance = ScoreTolerance(**known.get("tolerance", {}))
        _finish(folder, metadata)
        report = measure_scores(asked, load_package(folder), real, tolerance, progress)
        if report["faults"] and not allow_failed_parity:
            raise ParityError(report["faults"])
        settings["parity"] = report["verdict"]
        settings.pop("variants", None)
        if report["refused_by"]:
            settings["refused_by"] = report["refused_by"]
        if report["variants"]:
            settings["variants"] = report["variants"]
        write_json(folder / PARITY, {**report, "made_with": made_with()})
        _finish(folder, metadata)
        load_package(folder)
        move_package(folder, path)
    return load_package(path)


def is_segmentation(spec: Path) -> bool:
    """Whether the spec is of a segmentation network, and not of one that registers."""
    try:
        settings = json.loads(spec.read_text(encoding="utf-8"))["segreg"]
        return "segmentation" in settings and "placement" not in settings
    except (OSError, ValueError, KeyError, TypeError):
        return False  # whoever reads it next says what is wrong


def _merge(content: Any, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata with the segmentation block, and the spec's ``network`` block."""
    block = content.get("segreg", {}).get("segmentation") if isinstance(content, dict) else None
    if not isinstance(block, dict):
        raise PackageError(
            "spec: expected a JSON object with segreg/segmentation: spacing, patch, stride, "
            "overlap, intensity and classes of the network."
        )
    known = content.get("network", {})
    if faults := schema_faults(known, NETWORK, "network"):
        raise PackageError(f"spec: {'; '.join(faults)}.")
    metadata = {key: value for key, value in content.items() if key != "network"}
    if (path / METADATA).is_file():  # a registration network is there already
        metadata = json.loads((path / METADATA).read_text(encoding="utf-8"))
    own = metadata["segreg"]
    metadata = {**metadata, "segreg": {**own, "segmentation": dict(block)}}
    if faults := metadata_faults(metadata):
        raise PackageError(f"spec: {'; '.join(faults)}.")
    return metadata, known


def _finish(folder: Path, metadata: dict[str, Any]) -> None:
    write_json(folder / METADATA, metadata)
    write_checksums(folder)


def _write(
    network: Network,
    known: dict[str, Any],
    settings: dict[str, Any],
    path: Path,
    metadata: dict[str, Any],
) -> Callable[[FloatArray], FloatArray]:
    """Write the graph; gives the trained network as a function, to compare with."""
    outputs = 1 + len(settings["classes"])
    if isinstance(network, Path):
        shutil.copyfile(network, path)
        backend = open_backend(REFERENCE, path, channels=1, outputs=outputs)
        return backend.infer
    adapter = SegmentationAdapter(network, known.get("take"), outputs)

    def ask(images: FloatArray) -> FloatArray:
        return _ask(adapter, images)

    shape = image_shapes(settings)[0]
    scores = ask(np.zeros((1, 1, *shape), np.float32))
    if scores.shape[2:] != shape:
        raise PackageError(
            f"network: expected scores on the grid of the image, {shape}, got {scores.shape[2:]}. "
            "Interpolate them in forward."
        )
    properties = {key: metadata[key] for key in ("name", "version")} | {"segreg": __version__}
    write_graph(
        adapter, shape, 1, path, properties,
        free_space=None in settings["patch"], external_from=EXTERNAL_FROM,
    )
    return ask


def _ask(adapter: SegmentationAdapter, images: FloatArray) -> FloatArray:
    """Scores of the trained network; refuses one that fails, or gives what is no number."""
    try:
        with torch.inference_mode():
            scores = np.asarray(adapter(torch.from_numpy(images)).numpy(), np.float32)
    except PackageError:
        raise
    except Exception as error:  # whatever the network's own code raises
        raise PackageError(
            f"network: failed on images {images.shape} ({type(error).__name__}: "
            f"{first_line(error)}). Check segmentation/patch and segmentation/stride in the spec."
        ) from error
    if not np.isfinite(scores).all():
        raise PackageError(
            "network: gives NaN or infinite scores for an ordinary image; look for a division by "
            "zero or a logarithm in forward."
        )
    return scores


def _card(metadata: dict[str, Any]) -> str:
    names = ", ".join(entry["name"] for entry in metadata["segreg"]["segmentation"]["classes"])
    return (
        f"# {metadata['name']} {metadata['version']}\n\n{metadata['description']}\n\n"
        f"Segments: {names}.\n\nAuthors: {metadata['authors']}. Licence: {metadata['license']}.\n"
        f"\n{metadata.get('intended_use', '')}\n"
    )
