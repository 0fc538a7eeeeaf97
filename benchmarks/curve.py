"""Registration Dice against segmentation Dice, for any package and any pairs.

``python -m benchmarks curve --package P --pairs FOLDER -o OUT``: label maps are degraded step by
step, pairs registered by them and judged by the true ones. OUT gets the points with the line
through them (``curve.json``, which a package may carry as docs/curve.json), the picture and a page.
Of a package that segments, how good its labels are is measured, too: give pairs that it was not
trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console
from rich.progress import track

from benchmarks.curves import draw_degradation
from benchmarks.datasets import DATASETS, Pair
from benchmarks.degradation import (
    KINDS,
    degrade_pair,
    print_table,
    segmentation_dice,
    summarise,
)
from benchmarks.pairs import TABLE, read_pairs
from segreg.engine.assessment import assess
from segreg.engine.errors import SegregError
from segreg.engine.files import replace_file
from segreg.engine.labels import make_scheme
from segreg.engine.result import without_nan
from segreg.engine.runtime import Engine
from segreg.engine.segmentation import Segmenter
from segreg.engine.volume import as_volume, check_labels


def curve_of(case: dict[str, Any]) -> dict[str, Any]:
    """What ``segreg.engine.expectation`` reads, of a case of ``summarise``."""
    x, y = (
        np.array([point[name] for point in case["points"]])
        for name in ("segmentation_dice", "registration_dice")
    )
    fit = case["fit"]
    rest = y - (fit["slope"] * x + fit["intercept"])
    return {
        "data": case["dataset"],
        "pairs": case["pairs"],
        "points": len(x),
        "slope": fit["slope"],
        "intercept": fit["intercept"],
        "r_squared": fit["r_squared"],
        "spread": float(np.sqrt((rest**2).sum() / max(len(rest) - 2, 1))),
        "lowest": float(x.min()),
        "highest": float(x.max()),
    }


def measure(
    engine: Engine, name: str, pairs: list[Pair], steps: int, seed: int, console: Console
) -> dict[str, Any]:
    """Points of all pairs, and the lines through them."""
    points = []
    for number, pair in enumerate(track(pairs, name, console=console, transient=True)):
        points += degrade_pair(engine, pair, steps, seed + number)
    return summarise(name, points)


def measure_segmentation(engine: Engine, pairs: list[Pair]) -> dict[str, Any]:
    """Mean Dice of the labels that the package makes itself and of registrations by them, and
    their deviations over pairs; empty for a package that makes none."""
    if not isinstance(engine.segmenter, Segmenter):
        return {}
    found, registered = [], []
    for pair in pairs:
        sides = []
        for image, labels in (
            (pair.moving, pair.moving_labels), (pair.fixed, pair.fixed_labels)
        ):  # fmt: skip
            (own,) = engine.segmenter.segment([as_volume(image)])
            true = check_labels(as_volume(labels))
            scheme = make_scheme(true.array, true.array)
            sides.append(segmentation_dice(scheme, own.array, true.array))
        found.append(np.mean(sides))
        result = engine.register(pair.moving, pair.fixed)
        judged = assess(result.displacement, pair.moving_labels, pair.fixed_labels)
        registered.append(judged.quality.dice)
    return {"segmentation": {**_spread(found), "registration": _spread(registered)}}


def _spread(dice: list[float]) -> dict[str, float]:
    return {"dice": float(np.mean(dice)), "sd": float(np.std(dice))}


def render_page(case: dict[str, Any], curve: dict[str, Any], package: dict[str, str]) -> str:
    """The page in the report's style; one file that asks nothing of the network."""
    templates = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=ChoiceLoader([templates, PackageLoader("segreg.engine", "templates")]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    picture = draw_degradation([case])
    return environment.get_template("curve.html.j2").render(
        case=case, curve=curve, package=package, kinds=list(KINDS),
        picture=Markup(picture[picture.index("<svg") :]),
    )  # fmt: skip


def write_folder(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with replace_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--package", default="shapes", help="name, folder or zip")
    parser.add_argument("--backend")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pairs", type=Path, metavar="FOLDER", help=f"with a table {TABLE}")
    source.add_argument(
        "--dataset", nargs="+", choices=list(DATASETS), help="of the research data"
    )  # fmt: skip
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="of --dataset")
    parser.add_argument("--most", type=int, help="at most so many pairs of each data set")
    parser.add_argument("--steps", type=int, default=5, help="of every kind of degradation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")


def run(options: argparse.Namespace) -> int:
    """Measure and write the three files; 2 if what was given cannot be used."""
    console = Console(width=140)
    try:
        if options.pairs is not None:
            name = options.pairs.resolve().name
            pairs = read_pairs(options.pairs)[: options.most]
        else:
            name = ", ".join(options.dataset)
            pairs = [
                pair
                for dataset in options.dataset
                for pair in list(DATASETS[dataset](options.data))[: options.most]
            ]
        with Engine(options.package, backend=options.backend) as engine:
            package = {
                "name": engine.package.name,
                "version": engine.package.version,
                "digest": engine.package.digest,
            }
            case = measure(engine, name, pairs, options.steps, options.seed, console)
            own = measure_segmentation(engine, pairs)
    except (SegregError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    curve = {**curve_of(case), **own, "package": package}
    print_table([case], console)
    write_folder(
        options.output,
        {
            "curve.json": json.dumps(without_nan({**curve, "measured": case}), indent=1) + "\n",
            "curve.svg": draw_degradation([case]),
            "index.html": render_page(case, curve, package),
        },
    )
    console.print(f"{options.output}: curve.json, curve.svg, index.html")
    return 0
