"""``export``: graph, conventions, parity, metadata, checksums; a package or nothing."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from segreg.engine.errors import InputError, PackageError
from segreg.engine.package import (
    CHECKSUMS,
    METADATA,
    REGISTRATION,
    SEGMENTATION,
    SIGNATURE,
    Package,
    load_package,
    package_files,
    write_checksums,
)
from segreg.engine.precision import FILES as VARIANT_FILES
from segreg.engine.precision import PRECISIONS
from segreg.engine.probes import structured_batch
from segreg.engine.version import __version__
from segreg.export.adapter import Adapter, check_answer
from segreg.export.conventions import Conventions, measure_conventions
from segreg.export.graph import EXTERNAL_FROM, Graph, write_graph
from segreg.export.parity import Pair, Parity, ParityError, measure_parity, takes_other_sizes
from segreg.export.quantisation import require_nncf
from segreg.export.report import write_card, write_table
from segreg.export.spec import Spec, parse_spec, read_spec
from segreg.export.variants import Trial, measure_variants

CARD, LICENCE = "docs/README.md", "LICENSE"
PARITY, TABLE = "docs/parity.json", "docs/parity.md"
NETWORKS = (REGISTRATION, *VARIANT_FILES.values())
WEIGHTS = tuple(f"{network}.data" for network in NETWORKS)  # of large networks
# Of the segmentation network that may have been added: an export without it begins anew.
ADDED = (SEGMENTATION, f"{SEGMENTATION}.data", "docs/segmentation_parity.json")
FILES = (METADATA, *NETWORKS, *WEIGHTS, CARD, PARITY, TABLE, LICENCE, *ADDED)
TOOLS = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")
QUANTISING_TOOL = "nncf"

Progress = Callable[[str], None]


class ConventionError(PackageError):
    """The spec states what the network does not do; the message lists every contradiction."""


def export(
    network: torch.nn.Module,
    spec: dict[str, Any] | Spec | Path,
    path: Path,
    *,
    card: Path | None = None,
    licence: Path | None = None,
    pair: Pair | None = None,
    precisions: Sequence[str] | None = None,
    allow_failed_parity: bool = False,
    external_from: int = EXTERNAL_FROM,
    progress: Progress = lambda said: None,
) -> Package:
    """Write ``network`` as a model package into the folder ``path``.

    Everything is made and verified in a temporary folder first; files of a package that is already
    in ``path`` are replaced, other files there, such as its recipe, are left alone.

    Parameters
    ----------
    spec : what the network takes and gives; see ``segreg.export.spec``.
    card, licence : model card (Markdown) and licence text. Without a card one is written from the
        spec; a licence that is in ``path`` already is kept.
    pair : moving, fixed, moving labels, fixed labels to prove the package on; None takes a
        generated pair.
    precisions : reduced precisions to try; kept are those that pass the spec's tolerances and are
        faster on this machine. None takes those of the spec. float32 is always there.
    allow_failed_parity : write a package that differs from its network, too; it says so for ever.
    external_from : bytes of weights from which they lie in a file beside the graph.

    Raises
    ------
    ConventionError : the spec contradicts what was measured on the network.
    ParityError : the exported network differs from ``network``.
    BackendError : int8 is asked for and NNCF is not installed.
    PackageError : the spec breaks its schema, the network cannot be exported, or ``path`` holds
        files that would be part of the package and are not.
    InputError : a card, licence or pair that is not there.
    """
    checked = _checked(spec)
    check_files({"card": card, "licence": licence}, pair)
    tried = _checked_precisions(checked.precisions if precisions is None else precisions)
    if stray := sorted(set(package_files(path)) - set(FILES)):
        raise PackageError(
            f"{path.name}: {stray[0]} lies where only files of the package may; move it away."
        )
    adapter = Adapter(network, checked)
    conventions = _examine(adapter, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=path.parent) as temporary:
        folder = Path(temporary) / checked.metadata["name"]
        for part in (METADATA, REGISTRATION, CARD):
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
        progress("writing the graph")
        graph = _write_network(adapter, folder, external_from)
        parity, trials = _prove(adapter, folder, graph, pair, tried, progress)
        if parity.faults and not allow_failed_parity:
            raise ParityError(parity.faults)
        report = {
            "schema": 2,
            **parity.as_dict(),
            "variants": {trial.precision: trial.as_dict() for trial in trials},
            "conventions": conventions.as_dict(),
            "graph": {"free_axes": list(graph.free_axes), "operators": graph.operators},
            "made_with": made_with(tried),
        }
        write_json(folder / PARITY, report)
        (folder / TABLE).write_text(write_table(checked.metadata, report), encoding="utf-8")
        # Read before the move: they may be the very files that are replaced.
        text = card.read_text(encoding="utf-8") if card else write_card(checked, report)
        (folder / CARD).write_text(text, encoding="utf-8")
        if licence or (path / LICENCE).is_file():
            (folder / LICENCE).write_bytes((licence or path / LICENCE).read_bytes())
        write_checksums(folder)
        load_package(folder)
        move_package(folder, path)
    return load_package(path)


def made_with(precisions: Sequence[str] = ()) -> dict[str, str]:
    """Versions of what makes a package in ``precisions``, for the bill of materials."""
    versions = {"segreg": __version__, "python": platform.python_version()}
    tools = (*TOOLS, QUANTISING_TOOL) if "int8" in precisions else TOOLS
    return versions | {tool: importlib.metadata.version(tool) for tool in tools}


def _checked(spec: dict[str, Any] | Spec | Path) -> Spec:
    if isinstance(spec, Spec):
        return spec
    return read_spec(spec) if isinstance(spec, Path) else parse_spec(spec)


def check_files(texts: dict[str, Path | None], pair: Pair | None) -> None:
    """Refuse files that are not there before the work, not after it."""
    named = {**texts, **{f"pair {k}": side for k, side in enumerate(pair or (), start=1)}}
    for what, path in named.items():
        if isinstance(path, (str, Path)) and not Path(path).exists():
            raise InputError(f"{what}: no file {path}. Check the path.")


def _checked_precisions(precisions: Sequence[str]) -> tuple[str, ...]:
    if unknown := sorted(set(precisions) - set(PRECISIONS)):
        raise PackageError(
            f"precisions: expected some of {', '.join(PRECISIONS)}, got {unknown[0]!r}."
        )
    if "int8" in precisions:
        require_nncf()
    return tuple(precisions)


def _examine(adapter: Adapter, progress: Progress) -> Conventions:
    """Run the network and measure what its vectors mean; refuse what its spec does not fit."""
    example = structured_batch(adapter.spec.shapes[0], adapter.spec.channels)
    check_answer(adapter, torch.from_numpy(example))
    found = measure_conventions(adapter, progress)
    if found.contradictions:
        raise ConventionError(f"spec: {'; '.join(found.contradictions)}.")
    for said in (f"conventions: {found.verdict}", *found.doubts):
        progress(said)
    return found


def _write_network(adapter: Adapter, folder: Path, external_from: int) -> Graph:
    """The graph, with free spatial axes where the network allows them."""
    spec = adapter.spec

    def write(free_space: bool) -> Graph:
        return write_graph(
            adapter,
            spec.shapes[0],
            len(spec.channels),
            folder / REGISTRATION,
            {k: spec.metadata[k] for k in ("name", "version")} | {"segreg": __version__},
            free_space=free_space,
            external_from=external_from,
        )

    graph = write(spec.free_space)
    free = "space" in graph.free_axes
    if free and takes_other_sizes(adapter, folder / REGISTRATION):
        return graph
    if len(spec.shapes) > 1:
        raise PackageError(
            f"network: takes one size only, as it keeps sizes from one call to the next or "
            "computes them in a way that cannot be traced; segreg/canvas lists "
            f"{spec.settings['canvas']}. Give one canvas, or take sizes from tensor.shape in "
            "forward."
        )
    # Traced free, it may hold a grid of the traced size: fixed axes say so, and are no worse.
    return write(False) if free else graph


def _prove(
    adapter: Adapter,
    folder: Path,
    graph: Graph,
    pair: Pair | None,
    precisions: tuple[str, ...],
    progress: Progress,
) -> tuple[Parity, list[Trial]]:
    """Measure parity on the package as it will be, and write its verdict into the metadata.

    Reduced precisions are tried only where float32 passed.
    """
    metadata = dict(adapter.spec.metadata)
    settings = {**metadata["segreg"], "free_axes": list(graph.free_axes)}
    _write_metadata(folder, {**metadata, "segreg": settings})
    package = load_package(folder)
    parity = measure_parity(
        adapter,
        package,
        operators=list(graph.operators),
        pair=pair,
        progress=progress,
    )
    trials = []
    if not parity.faults:
        trials = measure_variants(adapter, package, parity, precisions, progress=progress)
    if kept := {trial.precision: trial.as_metadata() for trial in trials if trial.kept}:
        settings["variants"] = kept
    settings["parity"] = "failed" if parity.faults else "passed"
    if parity.refused:
        settings["refused_by"] = parity.refused
    _write_metadata(folder, {**metadata, "segreg": settings})
    return parity, trials


def _write_metadata(folder: Path, metadata: dict[str, Any]) -> None:
    write_json(folder / METADATA, metadata)
    write_checksums(folder)


def move_package(folder: Path, path: Path) -> None:
    """Move the finished package to ``path``; what a former one had and this has not goes."""
    names = [*package_files(folder), CHECKSUMS]
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / name, path / f"{name}.partial")
    for name in names:
        (path / f"{name}.partial").replace(path / name)
    for name in {*FILES, SIGNATURE} - set(names):
        (path / name).unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
