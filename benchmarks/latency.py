"""Where the milliseconds of a registration go, cold and warm, and how they grow.

Every case runs in a fresh process: its first request is the cold one, its memory is its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.datasets import Pair, brain
from benchmarks.record import write_record
from benchmarks.request import Order, ask
from benchmarks.samples import describe_bar, growth, judge_bar, summarise
from benchmarks.synthetic import write_pair
from segreg.engine.timing import STAGES

MOST_OUTSIDE = 0.25  # of compute on the CPU, in anything but the network, for the brain pair
SHORT = ("total", "compute", "infer", "write")  # columns for the terminal
PARTS = ("brain", "regions", "voxels", "clients")
BRAIN = "latency/brain"  # not refined; "/refined" and "/float32" differ from it in one thing


@dataclass(frozen=True)
class Sizes:
    """What the synthetic cases vary. Regions: a fixed size in a fixed volume; so many of them
    alone, too, as some are done sooner than others. Voxels: the same regions on finer grids."""

    regions: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    lone: int = 4
    regions_shape: tuple[int, int, int] = (160, 192, 192)
    regions_lattice: int = 4
    sides: tuple[int, ...] = (64, 96, 128, 192, 256, 320)
    fixed_regions: int = 8
    clients: tuple[int, ...] = (1, 2, 3, 4)
    clients_side: int = 96


QUICK = Sizes((1, 2), 2, (24, 24, 24), 2, (20, 24), 2, (1, 2), 20)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--package", default="shapes")
    parser.add_argument("--backend")
    parser.add_argument(
        "--repeats",
        type=int,
        default=10,
        help="warm requests of the brain pair; synthetic cases take half, at least three",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")


def run(options: argparse.Namespace) -> int:
    fewer = min(options.repeats, max(3, options.repeats // 2))
    order = Order((), options.package, options.backend, fewer)
    cases: list[dict[str, Any]] = []
    context: dict[str, Any] = {}
    left_out: list[str] = []
    with TemporaryDirectory() as folder:
        for case, answer in _measure(options, order, Path(folder), left_out):
            cases.append(case)
            context = {name: answer[name] for name in ("package", "backend")} | context
            print(describe_case(case), flush=True)
    bars = judge_bars(cases)
    fits = fit_growth(cases)
    for name, fit in fits.items():
        print(f"{name}: compute grows with the power {fit['exponent']:.2f}")
    for line in [*map(describe_bar, bars), *left_out]:
        print(line)
    if cases and not options.no_record:
        path = write_record(
            "latency", cases, options.results, **context, bars=bars, growth=fits, left_out=left_out
        )
        print(f"record: {path}")
    return 0


def _measure(
    options: argparse.Namespace, order: Order, folder: Path, left_out: list[str]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Cases with the answers they were made of."""
    sizes = QUICK if options.quick else Sizes()
    if "brain" in options.only:
        if (options.data / "brain").is_dir():
            pair = next(brain(options.data))
            full = replace(order, repeats=options.repeats, report=True)
            yield _measure_case(BRAIN, pair, full)
            yield _measure_case(f"{BRAIN}/refined", pair, replace(order, refine=None))
            yield _measure_case(f"{BRAIN}/float32", pair, replace(order, precision="float32"))
        else:
            left_out.append(f"brain: no data in {options.data.name}/brain; give --data")
    if "regions" in options.only:
        for count in sizes.regions:
            pair = write_pair(folder, sizes.regions_shape, count, sizes.regions_lattice)
            yield _measure_case(f"latency/regions/{count}", pair, order)
        for first in range(1, sizes.lone):
            pair = write_pair(folder, sizes.regions_shape, 1, sizes.regions_lattice, first)
            yield _measure_case(f"latency/lone/{first + 1}", pair, order)
    if "voxels" in options.only:
        for side in sizes.sides:
            pair = write_pair(folder, (side, side, side), sizes.fixed_regions, 2)
            yield _measure_case(f"latency/voxels/{side}", pair, order)
    if "clients" in options.only:
        side = sizes.clients_side
        pair = write_pair(folder, (side, side, side), sizes.fixed_regions, 2)
        for clients in sizes.clients:
            several = replace(order, clients=clients)
            yield _measure_case(f"latency/clients/{clients}", pair, several)


def _measure_case(id: str, pair: Pair, order: Order) -> tuple[dict[str, Any], dict[str, Any]]:
    paths = tuple(
        str(path.resolve())
        for path in (pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels)
    )
    answer = ask(replace(order, paths=paths))
    return summarise_case(id, order.clients, answer), answer


def summarise_case(id: str, clients: int, answer: dict[str, Any]) -> dict[str, Any]:
    """The case of a record, from the answer of a fresh process."""
    warm = answer["warm"]
    times = {name: [row[name] for row in warm] for name in warm[0]}
    total = times.pop("total")
    return {
        "id": id,
        "unit": "ms",
        "warmup": 1,
        **summarise(total),
        "regions": answer["regions"],
        "shape": answer["shape"],
        "clients": clients,
        "requests_per_s": 1000 * len(warm) / answer["wall"],
        "peak_mib": answer["peak_mib"],
        "cold": answer["cold"],
        "stages": {name: summarise(samples) for name, samples in times.items()},
    }


def stage_median(case: dict[str, Any], stage: str) -> float:
    """Median ms of a stage; 0 for one that this case did not have."""
    return float(case["stages"][stage]["median"]) if stage in case["stages"] else 0.0


def describe_case(case: dict[str, Any]) -> str:
    """One line for the terminal."""
    cold = sum(case["cold"][name] for name in ("import", "package", "network", "total"))
    medians = {"total": case["median"]} | {
        name: stage_median(case, name) for name in SHORT if name != "total"
    }
    times = "  ".join(f"{name} {medians[name]:.0f}" for name in SHORT)
    return (
        f"{case['id']:22} {times} ms  cold {cold:.0f} ms  "
        f"{case['requests_per_s']:.2f} requests/s  {case['peak_mib']:.0f} MiB"
    )


def judge_bars(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The promises about time, kept or not."""
    series = find_series(cases, "regions")
    worst = outside = None
    if len(series) > 1 and series[0]["regions"] == 1:
        alone = [series[0], *find_series(cases, "lone")]
        one = mean(stage_median(case, "compute") for case in alone)
        # From two regions on, the background between them is registered, too.
        worst = max(
            stage_median(case, "compute") / (one * (case["regions"] + 1)) for case in series[1:]
        )
    for case in cases:
        if case["id"] == BRAIN:
            outside = share_outside(case)
    power = fit_growth(cases).get("regions", {}).get("exponent")
    return [
        judge_bar(
            "power of the number of regions with which compute grows",
            1.0, power, least=False,
        ),
        judge_bar(
            "compute of K regions and the background over K + 1 times that of one alone",
            1.0, worst, least=False,
        ),
        judge_bar(
            "share of compute outside the network, brain pair", MOST_OUTSIDE, outside, least=False
        ),
    ]


def share_outside(case: dict[str, Any]) -> float:
    """Share of compute in anything but the network."""
    return 1 - stage_median(case, "infer") / stage_median(case, "compute")


def fit_growth(cases: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How compute, in ms, grows with regions and with voxels."""
    fits = {}
    for name in ("regions", "voxels"):
        series = find_series(cases, name)
        if len(series) > 1:
            sizes = [series_size(case, name) for case in series]
            fits[name] = growth(sizes, [stage_median(case, "compute") for case in series])
    return fits


def find_series(cases: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The cases that vary regions, voxels or clients, or the region alone, in order."""
    return [case for case in cases if case["id"].startswith(f"latency/{name}/")]


def series_size(case: dict[str, Any], name: str) -> int:
    """What varies along a series: the number of regions or of voxels."""
    if name == "regions":
        return int(case["regions"])
    depth, height, width = case["shape"]
    return int(depth * height * width)


def stage_rows(case: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The stages a case has, in the order they run, with their summaries."""
    return [(name, case["stages"][name]) for name in STAGES if name in case["stages"]]
