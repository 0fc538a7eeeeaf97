"""Accuracy inside the outlines: ``python -m benchmarks inside``.

Real images are warped by known smooth fields, their contrast changed, noise added; what a
registration finds is compared with the field, voxel by voxel, inside the labels. So is what other
tools find that look at the images alone, where they are installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.datasets import DATASETS, Pair
from benchmarks.record import write_record
from benchmarks.tools.base import Tool
from benchmarks.tools.registry import BY_IMAGES, TOOLS, installed_tools
from benchmarks.trial import endpoint_errors, try_tool
from segreg.engine.requests import SIDES
from segreg.engine.result import without_nan
from segreg.engine.runtime import Engine
from segreg.engine.volume import Volume, as_volume
from segreg.kernels import jacobian_determinant, smooth, warp, warp_labels

PEERS = ("greedy", "convexadam")
WORDS = {"off": "network", "auto": "refined"}
THREADS = 2
NOISE = 0.03  # of the intensities' range
SMOOTHNESS_MM, LONGEST_MM = 22.0, 20.0
LEAST_DETERMINANT = 0.2


@dataclass(frozen=True)
class Known:
    """A pair whose field (1, 3, D, H, W), voxels of the fixed grid, is known."""

    id: str
    moving: Volume
    fixed: Volume
    moving_labels: Volume
    fixed_labels: Volume
    truth: NDArray[np.float32]


def make_field(
    shape: tuple[int, ...], spacing: tuple[float, ...], seed: int
) -> NDArray[np.float32]:
    """A smooth random field, up to ``LONGEST_MM`` or what the volume's size bears, no fold."""
    extent = min(n * s for n, s in zip(shape, spacing, strict=True))
    share = min(1.0, extent / 150)  # a small image is not moved out of itself
    sigma = SMOOTHNESS_MM * share
    # Made larger: at its border, smoothed noise is wilder than inside.
    rims = [int(np.ceil(2 * sigma / step)) for step in spacing]
    wide = [n + 2 * rim for n, rim in zip(shape, rims, strict=True)]
    noise = np.random.default_rng(seed).standard_normal((1, 3, *wide), np.float32)
    inner = tuple(slice(rim, rim + n) for n, rim in zip(shape, rims, strict=True))
    whole = smooth(noise, sigma, spacing, truncate=2.0)
    field = whole[:, :, inner[0], inner[1], inner[2]]
    length = np.sqrt((field**2).sum(axis=1)).max()
    steps = np.reshape(np.asarray(spacing), (1, 3, 1, 1, 1))
    field = (field * (LONGEST_MM * share / length) / steps).astype(np.float32)
    while jacobian_determinant(field).min() < LEAST_DETERMINANT:
        field *= np.float32(0.9)
    return np.ascontiguousarray(field)


def make_known(name: str, image: Path, labels: Path, seed: int) -> Known:
    """The image as moving side, and warped, with other contrast and noise, as the fixed one."""
    moving, label_map = as_volume(image), as_volume(labels)
    numbers = np.rint(label_map.array).astype(np.int32)
    array = moving.array.astype(np.float32)
    truth = make_field(array.shape, moving.spacing, seed)
    seen = warp(array[None, None], truth)[0, 0]
    low, high = np.percentile(seen, (0.5, 99.5))
    bright = np.sqrt(np.clip((seen - low) / (high - low), 0, 1))
    noise = np.random.default_rng(seed + 1).standard_normal(seen.shape)
    fixed = (20 + 800 * (bright + NOISE * noise)).astype(np.float32)
    affine = moving.affine
    return Known(
        f"{name}/{seed}",
        moving,
        Volume(fixed, affine, "fixed"),
        Volume(numbers, affine, "moving labels"),
        Volume(warp_labels(numbers, truth), affine, "fixed labels"),
        truth,
    )


def known_pairs(root: Path, seeds: int) -> Iterator[Known]:
    """The CT with all its organs, both brains and two hippocampi, ``seeds`` fields each."""
    ct = root / "ct_totalseg"
    sources = [("ct", ct / "example_ct.nii.gz", ct / "example_seg_fast_force_split.nii.gz")]
    for name in ("brain", "hippocampus"):
        pairs = list(DATASETS[name](root))[:2]
        sources += [(f"{name} {n}", pair.moving, pair.moving_labels) for n, pair in
                    enumerate(pairs, 1)]  # fmt: skip
    for name, image, labels in sources:
        for seed in range(1, seeds + 1):
            yield make_known(name, image, labels, seed)


def measure(engine: Engine, pair: Known, refine: str | int) -> dict[str, Any]:
    """Endpoint error inside the labels, voxels, and what the engine says itself."""
    result = engine.register(
        pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels, refine=refine
    )
    return {
        "id": f"inside/{pair.id}/{refine}",
        **_errors(result.displacement.displacement, pair),
        "dice": result.quality.dice,
        "log_jacobian_sd": result.quality.log_jacobian_sd,
        "refinement": result.refinement.as_dict(),
        "unit": "s",
        "samples": [result.watch.compute],
        "median": result.watch.compute,
        "refine_s": result.watch.seconds.get("refine", 0.0),
    }


def _errors(displacement: NDArray[np.float32], pair: Known) -> dict[str, float]:
    labels = pair.fixed_labels.array
    found = endpoint_errors(displacement, pair.truth[0], labels)
    before = endpoint_errors(np.zeros_like(pair.truth[0]), pair.truth[0], labels)
    return {
        "before_voxels": before["mean"], "mean_voxels": found["mean"], "p95_voxels": found["p95"],
    }  # fmt: skip


def measure_tool(tool: Tool, pair: Known, folder: Path, limit: float) -> dict[str, Any]:
    """The case of another tool on the same pair, or ``failed`` with the reason."""
    paths = {side: folder / f"{side}.nii.gz" for side in SIDES}
    for side, path in paths.items():
        getattr(pair, side).write(path)
    truth = folder / "truth.npy"
    np.save(truth, pair.truth[0])
    row = try_tool(tool, Pair(pair.id, **paths), THREADS, limit, truth=truth)
    case: dict[str, Any] = {"id": f"inside/{pair.id}/{tool.id}", "settings": tool.settings}
    if "failed" in row:
        return {**case, "failed": row["failed"]}
    return {
        **case,
        "mean_voxels": row["endpoint_voxels"]["mean"],
        "p95_voxels": row["endpoint_voxels"]["p95"],
        "dice": row["dice"],
        "log_jacobian_sd": row["log_jacobian_sd"],
        "unit": "s",
        "samples": [row["seconds"]],
        "median": row["seconds"],
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--package", default="shapes")
    parser.add_argument("--seeds", type=int, default=2, help="fields for each image")
    parser.add_argument("--only", help="images whose name begins so")
    parser.add_argument(
        "--tools", nargs="*", choices=BY_IMAGES, default=list(PEERS), help="on the same pairs"
    )
    parser.add_argument("--limit", type=float, default=300, help="seconds a tool may take a pair")


def run(options: argparse.Namespace) -> int:
    """Measure with and without refinement, and other tools; print the table, write the record."""
    console = Console(width=120)
    tools, absent = installed_tools((TOOLS[id] for id in options.tools), console)
    cases: list[dict[str, Any]] = []
    with Engine(options.package) as engine, TemporaryDirectory(prefix="inside") as name:
        for pair in known_pairs(options.data, options.seeds):
            if options.only and not pair.id.startswith(options.only):
                continue
            cases += [measure(engine, pair, refine) for refine in ("off", "auto")]
            cases += [measure_tool(tool, pair, Path(name), options.limit) for tool in tools]
    print_table(cases, console)
    if not options.no_record:
        path = write_record(
            "inside", without_nan(cases), options.results, absent=absent, threads=THREADS,
            limit_s=options.limit,
        )  # fmt: skip
        console.print(f"record: {path}")
    return 0


def print_table(cases: list[dict[str, Any]], console: Console) -> None:
    table = Table()
    for column in ("pair", "by", "mean", "95 %", "Dice", "SD log J", "seconds"):
        table.add_column(column, justify="right" if column != "pair" else "left")
    for case in cases:
        image, seed, kind = case["id"].removeprefix("inside/").rsplit("/", 2)
        cells = [case.get("failed", ""), *[""] * 4]
        if "failed" not in case:
            measures = ("mean_voxels", "p95_voxels", "dice", "log_jacobian_sd", "median")
            cells = [f"{case[name]:.3f}" for name in measures]
        table.add_row(f"{image}/{seed}", WORDS.get(kind, kind), *cells)
    console.print(table)
