"""Outside the labels: ``python -m benchmarks background``.

How well the images agree in what is body and no label, with four fields: the background as the
global affine alone takes it (and its falloff from the regions), as the labels alone do, as the
engine does, and refined. And how much of the whole image folds away from where regions may slide.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.datasets import DATASETS, Pair
from benchmarks.record import write_record
from segreg.engine.background import union_plan
from segreg.engine.batches import RegionBatches
from segreg.engine.body import BODY, find_body
from segreg.engine.canvases import Canvases
from segreg.engine.geometry import apply_map, grid_map
from segreg.engine.labels import make_scheme
from segreg.engine.pipeline import Pipeline
from segreg.engine.refinement import AUTO, OFF, Refine
from segreg.engine.regions import RegionPlan
from segreg.engine.result import Result, without_nan
from segreg.engine.runtime import Engine
from segreg.engine.surroundings import REGIONS
from segreg.engine.timing import Stopwatch
from segreg.kernels import find_borders, smooth

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]
Flags = NDArray[np.bool_]

AFFINE, LABELS, OWN, REFINED = "affine alone", "labels alone", "as it comes", "refined"
KINDS: dict[str, tuple[Refine, str]] = {
    AFFINE: (OFF, REGIONS), LABELS: (OFF, REGIONS), OWN: (OFF, BODY), REFINED: (AUTO, BODY)
}  # fmt: skip
WINDOW = 2.0  # voxels: standard deviation of the window that correlation is local to
FLOOR = 1e-3  # of the image's variance; what varies less shows nothing
SEAM = 2.5  # voxels on each side of a border where regions may slide
MEASURES = {
    "correlation": "local correlation",
    "squared": "squared",
    "dice": "Dice",
    "folded_percent": "folded %",
    "folded_away_percent": "away from seams %",
}


class AffineBackground(Pipeline):
    """The background's map is the global affine: no flow from the regions, no network."""

    def _background(
        self,
        plan: RegionPlan,
        canvases: Canvases,
        fields: FloatArray,
        distances: FloatArray,
        passes: int,
        batches: RegionBatches,
        watch: Stopwatch,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        union = union_plan(plan)
        layout = self.placement.lay_out(union)
        still = np.zeros((1, 3, *layout.fused_cells(self.placement.stride)), np.float32)
        return self.as_background(still, union, layout)


def local_correlation(one: NDArray[Any], other: NDArray[Any]) -> Array:
    """Correlation (D, H, W) of two images in a Gaussian window around each voxel."""
    images = [np.asarray((i - i.mean()) / i.std(), np.float32) for i in (one, other)]

    def windowed(values: FloatArray) -> Array:
        sigma = [WINDOW if length > 1 else 0.0 for length in values.shape]
        means = smooth(values[None, None], sigma, truncate=3.0)[0, 0]
        return np.asarray(means, np.float64)

    a, b = (windowed(image) for image in images)
    variances = [
        (windowed(image**2) - m**2).clip(0) + FLOOR
        for image, m in zip(images, (a, b), strict=True)
    ]
    covariance = windowed(images[0] * images[1]) - a * b
    return np.asarray(covariance / np.sqrt(variances[0] * variances[1]))


def _looks_inside(result: Result) -> Flags:
    """Voxels (D, H, W) of the fixed grid that the field carries to voxels of the moving image."""
    field, moving = result.displacement, result.moving
    places = np.indices(field.shape) + field.displacement
    index = apply_map(grid_map(field.affine, moving.affine), places.reshape(3, -1).T)
    inside = ((index >= 0) & (index <= np.array(moving.shape) - 1)).all(axis=1)
    return np.asarray(inside.reshape(field.shape))


def measure_pair(engines: dict[str, Engine], pair: Pair) -> dict[str, dict[str, float]]:
    """The measures of each of ``KINDS``, over the same voxels: where the affine looks inside."""
    found: dict[str, dict[str, float]] = {}
    outside: Flags | None = None
    for kind, (refine, background) in KINDS.items():
        result = engines[kind].register(
            pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels,
            refine=refine, background=background,
        )  # fmt: skip
        assert result.moving_labels is not None
        fixed = result.fixed
        scheme = make_scheme(result.moving_labels.array, result.fixed_labels.array)
        regions = scheme.region_map(result.fixed_labels.array)
        if outside is None:
            body = find_body(fixed.array, fixed.spacing) > 0
            outside = body & (regions == 0) & _looks_inside(result)
        correlation = local_correlation(result.warped.array, fixed.array)[outside]
        away = find_borders(regions, farthest=SEAM)[1] >= SEAM
        folded = result.jacobian <= 0
        found[kind] = {
            "correlation": float(correlation.mean()),
            "squared": float((correlation**2).mean()),
            "dice": result.quality.dice,
            "folded_percent": 100 * float(folded.mean()),
            "folded_away_percent": 100 * float(folded[away].mean()) if away.any() else 0.0,
            "compute_s": result.watch.compute,
        }
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--package", default="shapes")
    parser.add_argument("--datasets", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    parser.add_argument("--pairs", type=int, default=2, help="the first so many of each data set")


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the record; 1 if the affine alone is better anywhere."""
    console = Console(width=120)
    cases = []
    with ExitStack() as opened:
        engines = {kind: opened.enter_context(Engine(options.package)) for kind in KINDS}
        plain = engines[AFFINE]
        plain._pipeline = AffineBackground(plain.backend, plain.package.settings, plain.device)
        for name in options.datasets:
            pairs = list(DATASETS[name](options.data))[: options.pairs]
            shown = track(pairs, name, console=console, transient=True)
            cases += summarise(name, [measure_pair(engines, pair) for pair in shown])
    print_table(cases, console)
    if not options.no_record:
        path = write_record("background", without_nan(cases), options.results)
        console.print(f"record: {path}")
    return int(any(_is_worse(name, cases) for name in options.datasets))


def summarise(name: str, rows: list[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """A case for each of ``KINDS`` on a data set, from ``measure_pair`` of its pairs."""
    cases = []
    for kind in KINDS:
        of_kind = [row[kind] for row in rows]
        seconds = [row["compute_s"] for row in of_kind]
        cases.append(
            {
                "id": f"background/{name}/{kind}",
                "dataset": name,
                "background": kind,
                "pairs": len(rows),
                **{m: mean(row[m] for row in of_kind) for m in MEASURES},
                "unit": "s",
                "samples": seconds,
                "median": median(seconds),
                "rows": of_kind,
            }
        )
    return cases


def print_table(cases: list[dict[str, Any]], console: Console) -> None:
    table = Table()
    for column in ("data", "background", *MEASURES.values(), "compute s"):
        table.add_column(column, justify="left" if column in ("data", "background") else "right")
    for case in cases:
        figures = [f"{case[m]:.4f}" for m in MEASURES]
        table.add_row(case["dataset"], case["background"], *figures, f"{case['median']:.2f}")
    console.print(table)


def _is_worse(name: str, cases: list[dict[str, Any]]) -> bool:
    """Whether the engine's background agrees less than the affine's on a data set."""
    found = {case["background"]: case["correlation"] for case in cases if case["dataset"] == name}
    return bool(min(found[OWN], found[REFINED]) <= found[AFFINE])
