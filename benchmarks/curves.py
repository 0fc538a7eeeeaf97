"""Pictures of measurements as SVG, drawn by matplotlib."""

from __future__ import annotations

import io
from typing import Any

STYLES = {
    "eroded": ("v", "#4269d0"),
    "dilated": ("^", "#efb118"),
    "noise": ("o", "#ff725c"),
    "slices dropped": ("s", "#3ca951"),
}
PANELS_A_ROW = 3
ONE_PANEL = (7.2, 5.2)  # inches: as wide as the titles


def draw_degradation(cases: list[dict[str, Any]]) -> str:
    """Registration Dice over segmentation Dice, a panel per data set.

    Points and a line per kind of degradation, and one line through all points, each with its R^2.

    Parameters
    ----------
    cases : of a record of kind "degradation".

    Returns
    -------
    SVG text, the same for the same cases.
    """
    import matplotlib
    from matplotlib.figure import Figure

    columns = min(len(cases), PANELS_A_ROW)
    rows = -(-len(cases) // columns)
    with matplotlib.rc_context({"svg.hashsalt": "segreg", "svg.fonttype": "path"}):
        size = (4 * columns, 0.4 + 3.8 * rows) if len(cases) > 1 else ONE_PANEL
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
        for axes, case in zip(panels, cases, strict=False):
            _draw_case(axes, case)
        for axes in list(panels)[len(cases) :]:
            axes.set_axis_off()
        figure.suptitle("Registration by degraded label maps, judged by the true ones")
        figure.supxlabel("segmentation Dice: degraded against true, mean of both sides")
        figure.supylabel("registration Dice: true labels")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _draw_case(axes: Any, case: dict[str, Any]) -> None:
    _draw_line(axes, case["points"], case["fit"], "all", color="0.4", linestyle="--")
    for kind, (marker, colour) in STYLES.items():
        chosen = [point for point in case["points"] if point["kind"] == kind]
        axes.plot(*_columns(chosen), marker, color=colour, alpha=0.6, markersize=5)
        fit = case["fit_by_kind"][kind]
        _draw_line(axes, chosen, fit, kind, color=colour, marker=marker, markersize=0)
    axes.plot(*_columns([p for p in case["points"] if p["kind"] == "true"]), "k*", markersize=9)
    axes.set_title(case["dataset"])
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _draw_line(axes: Any, points: Any, fit: dict[str, float], name: str, **style: Any) -> None:
    ends = [min(point["segmentation_dice"] for point in points), 1.0]
    heights = [fit["slope"] * x + fit["intercept"] for x in ends]
    label = f"{name}: R\N{SUPERSCRIPT TWO} = {fit['r_squared']:.2f}"
    axes.plot(ends, heights, label=label, **style)


def _columns(points: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    return (
        [point["segmentation_dice"] for point in points],
        [point["registration_dice"] for point in points],
    )
