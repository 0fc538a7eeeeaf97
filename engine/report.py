"""The registration report: one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from segreg.engine.figures import draw_figures, is_number
from segreg.engine.pictures import parse_colour
from segreg.engine.planes import obliquity
from segreg.engine.timing import STAGES

if TYPE_CHECKING:
    from segreg.engine.field import Field
    from segreg.engine.result import Result
    from segreg.engine.volume import Volume

# Seven colours that stay apart for colour-blind eyes on grey pictures; more regions start over.
REGION_COLOURS = (
    "#56b4e9", "#f5a300", "#ec7fbb", "#35d39b", "#f2e640", "#ff6a45", "#b0a2ff",
)
STAGE_WORDS = {
    "read": "reading files",
    "segment": "segmenting",
    "body": "finding the body",
    "plan": "planning regions",
    "gather": "gathering regions",
    "infer": "network",
    "integrate": "integrating velocities",
    "refine": "refining on the images",
    "fuse": "fusing fields",
    "warp": "warping image and labels",
    "judge": "measuring quality",
    "write": "writing files",
}
OBLIQUE = 1.0  # degrees from which a grid is called oblique


@dataclass(frozen=True, eq=False)
class ReportData:
    """What a report shows; arrays are (D, H, W) on the fixed grid.

    Attributes
    ----------
    before : moving image placed by the headers alone.
    displacement : its vectors are voxels of the fixed grid.
    jacobian : determinant of its Jacobian.
    quality : as ``Quality.as_dict()``; a measure that is not defined is None or NaN.
    provenance : as ``Provenance.as_dict()``.
    timings : milliseconds per stage.
    grids : of "fixed" and "moving": ``shape_zyx`` and ``spacing_zyx_mm``.
    """

    fixed: Volume
    before: Volume
    warped: Volume
    fixed_labels: NDArray[np.integer]
    warped_labels: NDArray[np.integer]
    displacement: Field
    jacobian: NDArray[np.floating]
    quality: Mapping[str, Any]
    provenance: Mapping[str, Any]
    timings: Mapping[str, float]
    notes: Sequence[str]
    grids: Mapping[str, Mapping[str, Sequence[float]]]

    @classmethod
    def from_result(cls, result: Result) -> ReportData:
        return cls.from_summary(
            result.summary(),
            fixed=result.fixed,
            before=result.before,
            warped=result.warped,
            fixed_labels=result.fixed_labels.array,
            warped_labels=result.warped_labels.array,
            displacement=result.displacement,
            jacobian=result.jacobian,
        )

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any], **volumes: Any) -> ReportData:
        """From the content of a ``result.json``; ``volumes`` are the other attributes."""
        return cls(
            **volumes,
            quality=summary["quality"],
            provenance=summary["provenance"],
            timings=summary["timings_ms"],
            notes=summary["notes"],
            grids={side: summary[side] for side in ("fixed", "moving")},
        )


def render_report(source: Result | ReportData) -> str:
    """The report as one HTML document; the same data gives the same text."""
    data = source if isinstance(source, ReportData) else ReportData.from_result(source)
    regions = data.quality["regions"]
    spacing = data.grids["fixed"]["spacing_zyx_mm"]
    angle = obliquity(data.fixed.affine)
    limit = data.quality["thresholds"]["surface_distance_voxels"] * max(spacing)
    beyond = [_beyond(region, data.quality["thresholds"], limit) for region in regions]
    return _environment().get_template("report.html.j2").render(
        title=f"{_file_name(data.before.name)} to {_file_name(data.fixed.name)}",
        quality=data.quality,
        regions=regions,
        worst=_worst_regions(regions),
        beyond=beyond,
        fault_count=_count_faults(data.quality, beyond, limit),
        surface_limit=limit,
        figures=draw_figures(data),
        colours=[(colour, _pale(colour)) for colour in REGION_COLOURS],
        stages=_stages(data.timings),
        compute=sum(ms for name, ms in data.timings.items() if name not in ("read", "write")),
        notes=list(data.notes),
        provenance=data.provenance,
        grids=data.grids,
        oblique=angle if angle >= OBLIQUE else None,
    )


@dataclass(frozen=True)
class Stage:
    """One bar of the timings: ``share`` of all, ``length`` against the longest, in percent."""

    name: str
    words: str
    milliseconds: float
    share: float
    length: float


def _stages(timings: Mapping[str, float]) -> list[Stage]:
    """Stages in the order they run; those the engine does not name come last."""
    names = sorted(timings, key=lambda n: (STAGES.index(n) if n in STAGES else len(STAGES), n))
    total, longest = sum(timings.values()), max(timings.values(), default=0.0)
    return [
        Stage(
            name=name,
            words=STAGE_WORDS.get(name, ""),
            milliseconds=timings[name],
            share=100 * timings[name] / total if total else 0.0,
            length=100 * timings[name] / longest if longest else 0.0,
        )
        for name in names
    ]


def _worst_regions(regions: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The region with the lowest Dice and the one with the largest HD95, where defined."""
    worst = {}
    for key, choose in (("dice", min), ("hd95_mm", max)):
        defined = [region for region in regions if is_number(region[key])]
        if defined:
            worst[key] = choose(defined, key=lambda region: float(region[key]))
    return worst


def _beyond(
    region: Mapping[str, Any], thresholds: Mapping[str, float], surface_limit: float
) -> set[str]:
    """Measures of a region that break a limit, by the rules of the verdict."""
    dice, distance = region["dice"], region["surface_distance_mm"]
    folding = region["folding_percent"]
    broken = {
        "dice": is_number(dice) and dice < thresholds["dice"],
        "surface_distance_mm": not is_number(distance) or distance > surface_limit,
        "folding_percent": is_number(folding) and folding > thresholds["folding_percent"],
    }
    return {measure for measure, broke in broken.items() if broke}


def _count_faults(quality: Mapping[str, Any], beyond: list[set[str]], surface_limit: float) -> str:
    """``3 faults in 2 of 43 regions: Dice below 0.80 in 2, folding inside in 1.``"""
    words = {
        "dice": f"Dice below {quality['thresholds']['dice']:.2f}",
        "surface_distance_mm": f"mean surface distance not within {surface_limit:.2f} mm",
        "folding_percent": "folding inside",
    }
    counts = {measure: sum(measure in over for over in beyond) for measure in words}
    parts = [f"{words[measure]} in {count}" for measure, count in counts.items() if count]
    faults, regions = len(quality["faults"]), sum(bool(over) for over in beyond)
    count = f"{faults} {'fault' if faults == 1 else 'faults'}"
    if not parts:  # of a kind this page does not know
        return f"{count}."
    others = faults - sum(counts.values())
    more = f" {others} more about the label maps themselves." if others > 0 else ""
    return f"{count} in {regions} of {len(beyond)} regions: {', '.join(parts)}.{more}"


def _pale(colour: str) -> str:
    """``colour`` halfway to white, for lines that lie on it."""
    return "#" + "".join(f"{(part + 255) // 2:02x}" for part in parse_colour(colour))


def _file_name(name: str) -> str:
    """``name`` without the folders it may carry: a report says nothing about the machine."""
    return PurePosixPath(name.replace("\\", "/")).name or name


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_read_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=format_number, percent=format_percent, volume=format_volume, time=format_time,
        grid=format_grid,
    )
    environment.tests["defined_number"] = is_number
    return environment


def _read_template(name: str) -> str:
    folder = resources.files("segreg.engine").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")


UNDEFINED = Markup('<span class="none" title="{}">\u2013</span>')
WHY_UNDEFINED = "Not defined: the region has no voxels to measure this on."


def format_number(value: float | None, digits: int, why: str = WHY_UNDEFINED) -> str:
    """``value`` with ``digits`` decimals; an en dash that says why where it is not defined."""
    if value is None or not is_number(value):
        return UNDEFINED.format(why)
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not float(text) else text.replace("-", "\u2212")


def format_percent(value: float | None, why: str = WHY_UNDEFINED) -> str:
    """Percent without the sign: a share that is not zero never reads as zero."""
    if value is None or not is_number(value):
        return UNDEFINED.format(why)
    if value == 0:
        return "0"
    if abs(value) < 0.001:
        return "<0.001"  # autoescape takes care of the sign
    return format_number(value, 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1)


def format_volume(value: float | None) -> str:
    """Millilitres with about three digits."""
    if value is None or not is_number(value):
        return UNDEFINED.format(WHY_UNDEFINED)
    return format_number(value, 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0)


def format_time(milliseconds: float) -> str:
    """``0.4 ms``, ``412 ms``, ``3.21 s``."""
    if milliseconds < 1000:
        return f"{milliseconds:.{1 if milliseconds < 10 else 0}f} ms"
    return f"{milliseconds / 1000:.{2 if milliseconds < 10000 else 1}f} s"


def format_grid(values: Sequence[float]) -> str:
    """Numbers of a grid, (z, y, x) turned to the x, y, z that headers show."""
    return " \u00d7 ".join(f"{value:.4g}" for value in reversed(values))
