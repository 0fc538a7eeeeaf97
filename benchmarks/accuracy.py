"""Accuracy on real data: ``python -m benchmarks accuracy``.

Per data set and number of passes: Dice, HD95, folding inside regions and at seams, SD of the log
Jacobian, seconds a stage. Zero passes is moment matching alone; ``refined`` is the package's own
number of passes before refinement, and that. Each also in both directions apart: data sets give
every pair forth and back.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import degradation
from benchmarks.datasets import DATASETS, Pair
from benchmarks.memory import peak_mib
from benchmarks.record import write_record
from benchmarks.tables import REFINED
from segreg.engine import refinement
from segreg.engine.assessment import assess
from segreg.engine.precision import AUTO, PRECISIONS
from segreg.engine.result import without_nan
from segreg.engine.runtime import Engine

# Data sets whose labels the package segments itself; the given labels judge the result.
AUTOMATIC = {"cardiac automatic": "cardiac"}

MEASURES = {
    "dice": "Dice",
    "hd95_mm": "HD95 mm",
    "folding_inside_percent": "folded inside %",
    "folding_seams_percent": "folded seams %",
    "log_jacobian_sd": "SD log J",
}
IMAGE_SD = "log_jacobian_sd_image"
COLUMNS = {**MEASURES, IMAGE_SD: "of image"}
DIRECTIONS = ("forth", "back")  # of neighbours in a data set


def measure_pair(
    engine: Engine,
    pair: Pair,
    refine: refinement.Refine = refinement.OFF,
    *,
    automatic: bool = False,
) -> dict[str, Any]:
    """Register once; measures, seconds a stage, and Dice per region.

    ``automatic`` hands over the images alone; the measures are of the given labels all the same.
    """
    if automatic:
        result = engine.register(pair.moving, pair.fixed, refine=refine)
        quality = assess(result.displacement, pair.moving_labels, pair.fixed_labels).quality
    else:
        result = engine.register(
            pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels, refine=refine
        )
        quality = result.quality
    return {
        "pair": pair.id,
        "dice_before": quality.dice_before,
        **{name: getattr(quality, name) for name in MEASURES},
        IMAGE_SD: log_deviation(result.jacobian),
        "dice_by_region": {region.name: region.dice for region in quality.regions},
        "seconds": result.watch.seconds,
        "compute_s": result.watch.compute,
    }


def log_deviation(jacobian: NDArray[np.float32]) -> float:
    """Standard deviation of a determinant's logarithm over the whole image, as Learn2Reg states it
    (Hering et al., IEEE TMI 42, 2023): without two voxels at each face, folds clipped."""
    inner = tuple(slice(2, -2) if length > 4 else slice(None) for length in jacobian.shape)
    return float(np.log(jacobian[inner].astype(np.float64).clip(1e-9, 1e9)).std())


def measure_dataset(
    name: str, pairs: list[Pair], engines: dict[int | str, Engine], console: Console
) -> list[dict[str, Any]]:
    """One case per number of passes, and ``REFINED``, with the raw figures of every pair."""
    cases = []
    automatic = name in AUTOMATIC
    for kind, engine in engines.items():
        refine = refinement.AUTO if kind == REFINED else refinement.OFF
        measure = partial(measure_pair, engine, refine=refine, automatic=automatic)
        measure(pairs[0])  # warm
        rows = [
            {**measure(pair), "direction": DIRECTIONS[number % 2]}
            for number, pair in enumerate(
                track(pairs, f"{name}, {_words(kind)}", console=console, transient=True)
            )
        ]
        cases.append(
            {
                "id": f"accuracy/{name}/{kind}",
                "dataset": name,
                "passes": engine.passes_before(refine),
                "refine": refine,
                "pairs": len(rows),
                "dice_before": mean(row["dice_before"] for row in rows),
                **{m: mean(row[m] for row in rows) for m in COLUMNS},
                "by_direction": _by_direction(rows),
                "unit": "s",
                "samples": [row["compute_s"] for row in rows],
                "median": median(row["compute_s"] for row in rows),
                "rows": rows,
            }
        )
    return cases


def _words(kind: int | str) -> str:
    return f"{kind} passes" if isinstance(kind, int) else kind


def _by_direction(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means of the measures over the pairs of each direction."""
    groups = {way: [row for row in rows if row["direction"] == way] for way in DIRECTIONS}
    return {
        way: {m: mean(row[m] for row in group) for m in ("dice_before", *COLUMNS)}
        for way, group in groups.items()
        if group
    }


def print_table(cases: list[dict[str, Any]], console: Console) -> None:
    table = Table()
    for column in ("data", "pairs", "passes", "before", *COLUMNS.values(), "compute s"):
        table.add_column(column, justify="left" if column == "data" else "right")
    for case in cases:
        table.add_row(
            case["dataset"],
            str(case["pairs"]),
            case["id"].rsplit("/", 1)[1],
            f"{case['dice_before']:.3f}",
            *[f"{case[m]:.3f}" for m in COLUMNS],
            f"{case['median']:.2f}",
        )
    console.print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--package", default="shapes")
    parser.add_argument("--backend")
    parser.add_argument("--precision", default=AUTO, choices=[AUTO, *PRECISIONS])
    parser.add_argument("--passes", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument(
        "--refined", action=argparse.BooleanOptionalAction, default=True,
        help="measure refinement, too, after the package's own passes",
    )  # fmt: skip
    parser.add_argument(
        "--datasets", nargs="+", choices=[*DATASETS, *AUTOMATIC], default=list(DATASETS)
    )
    parser.add_argument("--pairs", type=int, help="at most so many pairs of each data set")
    degradation.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the record; with ``--degrade`` that experiment instead."""
    if options.degrade:
        return degradation.run(options)
    console = Console(width=140)
    loading = {"backend": options.backend, "precision": options.precision}
    engines: dict[int | str, Engine] = {
        n: Engine(options.package, passes=n, **loading) for n in options.passes
    }
    if options.refined:
        engines[REFINED] = Engine(options.package, **loading)
    cases = []
    for name in options.datasets:
        pairs = list(DATASETS[AUTOMATIC.get(name, name)](options.data))[: options.pairs]
        cases += measure_dataset(name, pairs, engines, console)
    print_table(cases, console)
    if not options.no_record:
        first = next(iter(engines.values()))
        path = write_record(
            "accuracy",
            without_nan(cases),
            options.results,
            package={"name": first.package.name, "digest": first.package.digest},
            backend={"name": first.backend.name, "precision": first.backend.precision},
            peak_mib=peak_mib(),
        )
        console.print(f"record: {path}")
    return 0
