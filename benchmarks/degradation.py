"""Worse segmentation, worse registration: the paper's near-linear claim, measured.

Both label maps are degraded step by step; a pair is registered by the degraded maps and judged by
the true ones. ``python -m benchmarks accuracy --degrade``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.ndimage import distance_transform_edt, gaussian_filter

from benchmarks.curves import draw_degradation
from benchmarks.datasets import DATASETS, Pair
from benchmarks.record import write_record
from segreg.engine.assessment import assess
from segreg.engine.labels import LabelScheme, make_scheme, present_labels
from segreg.engine.quality import dice_of_table
from segreg.engine.result import without_nan
from segreg.engine.runtime import Engine
from segreg.engine.volume import Volume, as_volume, check_labels
from segreg.kernels import overlap

Labels = NDArray[Any]
Degrade = Callable[[Volume, float, np.random.Generator], Labels]

STRONGEST = 0.5
ROUGHNESS = 2.0  # voxels over which the noise at a boundary turns
LONGEST = 2.0  # of its root mean square, the most that noise moves a boundary


def erode(labels: Volume, strength: float, random: np.random.Generator | None = None) -> Labels:
    """Every label without the outermost ``strength`` of its voxels."""
    eroded: Labels = labels.array.copy()
    for label in present_labels(labels.array):
        mask = labels.array == label
        outer = _order(mask, labels)[: round(strength * np.count_nonzero(mask))]
        eroded.reshape(-1)[outer] = 0
    return eroded


def dilate(labels: Volume, strength: float, random: np.random.Generator | None = None) -> Labels:
    """Every label with ``strength`` of its voxels more, the nearest of the background; one that
    two labels want goes to the nearer."""
    dilated: Labels = labels.array.copy()
    nearest = np.full(labels.array.size, np.inf)
    for label in present_labels(labels.array):
        mask = labels.array == label
        order = _order(~mask, labels)
        order = order[labels.array.reshape(-1)[order] == 0]
        close = order[: round(strength * np.count_nonzero(mask))]
        away = _distance(~mask, labels).reshape(-1)[close]
        won = close[away < nearest[close]]
        nearest[close] = np.minimum(nearest[close], away)
        dilated.reshape(-1)[won] = label
    return dilated


def _order(mask: NDArray[np.bool_], labels: Volume) -> NDArray[np.intp]:
    """Flat indices of the voxels in ``mask``, those at its border first.

    Voxels equally far from the border go by how much of their surroundings is outside: distances
    on a grid are too few for small steps.
    """
    inside = np.flatnonzero(mask)
    depth = _distance(mask, labels).reshape(-1)[inside]
    surroundings = gaussian_filter(mask.astype(np.float32), ROUGHNESS).reshape(-1)[inside]
    return np.asarray(inside[np.lexsort((surroundings, depth))])


def roughen(labels: Volume, strength: float, random: np.random.Generator) -> Labels:
    """Boundaries moved by smooth noise; farther inside than ``reach_of_noise`` nothing changes.

    Every voxel takes the label at a place that smooth random noise chooses, at a distance of
    ``strength`` of the labels' mean inradius (root mean square).
    """
    noise = np.stack(
        [gaussian_filter(random.normal(size=labels.shape), ROUGHNESS) for _ in range(3)]
    )
    length = np.sqrt((noise**2).sum(0))
    noise /= max(float(np.sqrt((length**2).mean())), 1e-12)
    noise /= np.maximum(np.sqrt((noise**2).sum(0)) / LONGEST, 1)
    steps = noise * (reach_of_noise(labels, strength) / LONGEST)
    steps /= np.array(labels.spacing).reshape(3, 1, 1, 1)
    places = np.rint(np.indices(labels.shape) + steps).astype(np.intp)
    last = np.array(labels.shape).reshape(3, 1, 1, 1) - 1
    z, y, x = np.clip(places, 0, last)
    return np.asarray(labels.array[z, y, x])


def reach_of_noise(labels: Volume, strength: float) -> float:
    """Millimetres from a boundary beyond which ``roughen`` leaves a voxel alone, but for rounding
    to a voxel."""
    depths = [
        float(_distance(labels.array == label, labels).max())
        for label in present_labels(labels.array)
    ]
    return LONGEST * strength * float(np.mean(depths))


def drop_slices(labels: Volume, strength: float, random: np.random.Generator) -> Labels:
    """``strength`` of the labelled slices emptied at random, across the coarsest axis; one stays
    at least."""
    axis = int(np.argmax(labels.spacing))
    others = tuple(a for a in range(3) if a != axis)
    labelled = np.flatnonzero((labels.array > 0).any(axis=others))
    count = min(round(strength * len(labelled)), len(labelled) - 1)
    kept: Labels = labels.array.copy()
    np.moveaxis(kept, axis, 0)[random.choice(labelled, count, replace=False)] = 0
    return kept


def _distance(mask: NDArray[np.bool_], labels: Volume) -> NDArray[np.float64]:
    """Distance in mm of the voxels in ``mask`` to the nearest one outside; the volume's border is
    no outside."""
    return np.asarray(distance_transform_edt(mask, sampling=labels.spacing))


KINDS: dict[str, Degrade] = {
    "eroded": erode,
    "dilated": dilate,
    "noise": roughen,
    "slices dropped": drop_slices,
}


@dataclass(frozen=True)
class Fit:
    """``y = slope x + intercept`` by least squares; Pearson's correlation and its square."""

    slope: float
    intercept: float
    correlation: float
    r_squared: float


def fit_line(x: ArrayLike, y: ArrayLike) -> Fit:
    """Line through points.

    Raises
    ------
    ValueError : fewer than two points, or all at one ``x`` or one ``y``.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.size < 2 or not np.ptp(x) or not np.ptp(y):
        raise ValueError(
            f"fit: expected points that differ in x and y, got {x.size} of x {x[:4]}, y {y[:4]}."
        )
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    correlation = float(dx @ dy / np.sqrt((dx @ dx) * (dy @ dy)))
    return Fit(slope, float(y.mean() - slope * x.mean()), correlation, correlation**2)


def segmentation_dice(scheme: LabelScheme, degraded: Labels, true: Labels) -> float:
    """Mean Dice over the regions of ``scheme``; a label that is gone counts 0."""
    table = overlap(scheme.region_map(degraded), scheme.region_map(true), None, len(scheme))
    return float(dice_of_table(table).mean())


def degraded_sides(
    moving: Volume, fixed: Volume, steps: int, seed: int
) -> Iterator[tuple[str, float, Volume, Volume]]:
    """Kind, strength and both label maps: the true ones first, then ``steps`` of each kind."""
    yield "true", 0.0, moving, fixed
    for number, (kind, degrade) in enumerate(KINDS.items()):
        for step in range(1, steps + 1):
            strength = STRONGEST * step / steps
            sides = [
                labels.with_array(
                    degrade(labels, strength, np.random.default_rng([seed, number, step, side]))
                )
                for side, labels in enumerate((moving, fixed))
            ]
            yield kind, strength, sides[0], sides[1]


def degrade_pair(engine: Engine, pair: Pair, steps: int, seed: int) -> list[dict[str, Any]]:
    """A point per degradation: Dice of the segmentation, and of the registration it led to."""
    images = as_volume(pair.moving), as_volume(pair.fixed)
    moving, fixed = (check_labels(as_volume(p)) for p in (pair.moving_labels, pair.fixed_labels))
    scheme = make_scheme(moving.array, fixed.array)
    points = []
    for kind, strength, worse_moving, worse_fixed in degraded_sides(moving, fixed, steps, seed):
        result = engine.register(*images, worse_moving, worse_fixed)
        segmentation = [
            segmentation_dice(scheme, worse.array, true.array)
            for worse, true in ((worse_moving, moving), (worse_fixed, fixed))
        ]
        quality = assess(result.displacement, moving, fixed).quality
        points.append(
            {
                "pair": pair.id,
                "kind": kind,
                "strength": strength,
                "segmentation_dice": float(np.mean(segmentation)),
                "registration_dice": quality.dice,
                "folding_inside_percent": quality.folding_inside_percent,
            }
        )
    return points


def summarise(dataset: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """The case of one data set: its points, a line through all and one per kind."""

    def fit(chosen: list[dict[str, Any]]) -> dict[str, float]:
        columns = [[p[name] for p in chosen] for name in ("segmentation_dice", "registration_dice")]
        return asdict(fit_line(*columns))

    kinds = {kind: [p for p in points if p["kind"] in (kind, "true")] for kind in KINDS}
    return {
        "id": f"degradation/{dataset}",
        "dataset": dataset,
        "pairs": len({point["pair"] for point in points}),
        "fit": fit(points),
        "fit_by_kind": {kind: fit(chosen) for kind, chosen in kinds.items()},
        "points": points,
    }


def print_table(cases: list[dict[str, Any]], console: Console) -> None:
    table = Table()
    for column in ("data", "pairs", "points", "slope", "correlation", "R^2", *KINDS):
        table.add_column(column, justify="left" if column == "data" else "right")
    for case in cases:
        fit = case["fit"]
        table.add_row(
            case["dataset"],
            str(case["pairs"]),
            str(len(case["points"])),
            *(f"{fit[name]:.3f}" for name in ("slope", "correlation", "r_squared")),
            *(f"{case['fit_by_kind'][kind]['correlation']:.3f}" for kind in KINDS),
        )
    console.print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("degradation")
    group.add_argument(
        "--degrade", action="store_true", help="register by ever worse label maps instead"
    )
    group.add_argument("--steps", type=int, default=5, help="of every kind of degradation")
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--picture", type=Path, help="draw points and lines into this SVG file")


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the record and the picture."""
    console = Console(width=140)
    cases = []
    with Engine(options.package, backend=options.backend) as engine:
        for name in options.datasets:
            pairs = list(DATASETS[name](options.data))[: options.pairs]
            points = []
            for number, pair in enumerate(track(pairs, name, console=console, transient=True)):
                points += degrade_pair(engine, pair, options.steps, options.seed + number)
            cases.append(summarise(name, points))
        print_table(cases, console)
        if options.picture is not None:
            options.picture.write_text(draw_degradation(cases), encoding="utf-8")
        if not options.no_record:
            path = write_record(
                "degradation",
                without_nan(cases),
                options.results,
                package={"name": engine.package.name, "digest": engine.package.digest},
                backend={"name": engine.backend.name, "precision": engine.backend.precision},
                seed=options.seed,
                steps=options.steps,
            )
            console.print(f"record: {path}")
    return 0
