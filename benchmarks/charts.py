"""Pictures of records, as SVG: how time grows, where it goes, and bandwidth beside a copy's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.latency import BRAIN, find_series, series_size, stage_median, stage_rows
from benchmarks.record import newest_record
from benchmarks.tables import bandwidths, gpu_name

INK, FAINT, GRID = "#24292f", "#6e7781", "#e5e8eb"
NETWORK, REST, MARK = "#0a6cbd", "#e8833a", "#c62f3b"
# In the order they run: cool for what feeds the network, warm for what follows it.
STAGE_COLOURS = {
    "read": "#c9ced4",
    "segment": "#5fa8d3",
    "body": "#b7d9a8",
    "plan": "#8fd0c3",
    "gather": "#3fa58f",
    "infer": NETWORK,
    "integrate": "#8e7cc3",
    "background": "#5b4a9c",
    "fuse": "#f2c14e",
    "refine": "#7a5ca8",
    "repair": "#7d8f3c",
    "warp": REST,
    "judge": "#b5523b",
    "write": "#9aa1a9",
}
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "segreg",  # the same record gives the same file
}


def draw_pictures(folder: Path, results: Path | None = None) -> list[Path]:
    """Draw what there are records for; the files."""
    figures: dict[str, Figure] = {}
    with matplotlib.rc_context(STYLE):
        latency = newest_record("latency", results)
        if latency is not None and latency["growth"]:
            figures["growth"] = draw_growth(latency)
            figures["stages"] = draw_stages(latency)
        machines = [newest_record(kind, results) for kind in ("kernels", "gpu")]
        found = [record for record in machines if record is not None]
        if found:
            figures["bandwidth"] = draw_bandwidth(found)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in figures.items():
            paths.append(folder / f"{name}.svg")
            figure.savefig(paths[-1], format="svg", bbox_inches="tight", metadata={"Date": None})
    return paths


def draw_growth(record: dict[str, Any]) -> Figure:
    """Compute over the number of regions and of voxels, beside growth in proportion."""
    titles = {
        "regions": ("More regions, same image", "regions"),
        "voxels": ("Same regions, finer image", "voxels"),
    }
    names = [name for name in titles if name in record["growth"]]
    figure = Figure(figsize=(4.8 * len(names), 3.7))
    panels = figure.subplots(1, len(names), squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        series = find_series(record["cases"], name)
        title, unit = titles[name]
        sizes = np.array([series_size(case, name) for case in series], float)
        _draw_series(axes, sizes, series)
        exponent = record["growth"][name]["exponent"]
        axes.set_title(f"{title}: power {exponent:.2f}")
        axes.set_xlabel(unit)
        axes.set_ylabel("seconds")
        axes.set_xticks(sizes, [_size_name(case, name) for case in series])
        axes.minorticks_off()
    panels[0][0].legend(loc="upper left", fontsize=9)
    figure.tight_layout()
    return figure


def _size_name(case: dict[str, Any], name: str) -> str:
    if name == "regions":
        return str(case["regions"])
    sides = case["shape"]
    return f"{sides[0]}\N{SUPERSCRIPT THREE}" if len(set(sides)) == 1 else "x".join(map(str, sides))


def _draw_series(axes: Axes, sizes: Any, series: Sequence[dict[str, Any]]) -> None:
    compute, network = (
        np.array([stage_median(case, stage) for case in series]) / 1000
        for stage in ("compute", "infer")
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.grid(which="major")
    axes.plot(sizes, compute[0] * sizes / sizes[0], ":", color=FAINT, label="in proportion")
    axes.plot(sizes, compute, "o-", color=INK, linewidth=2, label="compute")
    axes.plot(sizes, network, "s-", color=NETWORK, markersize=5, label="network")
    axes.plot(sizes, compute - network, "^-", color=REST, markersize=5, label="all the rest")
    axes.set_ylim(top=compute.max() * 4)  # the line in proportion soon leaves the picture
    axes.yaxis.set_major_formatter("{x:g}")


def draw_stages(record: dict[str, Any]) -> Figure:
    """Share of each stage, one bar a case."""
    cases = [case for case in record["cases"] if case["id"].startswith(BRAIN)]
    for name in ("regions", "voxels"):
        series = find_series(record["cases"], name)
        chosen = sorted({0, len(series) // 2, len(series) - 1}) if series else []
        cases += [series[place] for place in chosen]
    figure = Figure(figsize=(9.6, 0.9 + 0.42 * len(cases)))
    axes = figure.subplots()
    for row, case in enumerate(cases):
        left = 0.0
        stages = [(name, summary["median"]) for name, summary in stage_rows(case)]
        total = sum(median for _, median in stages)
        for name, median in stages:
            share = 100 * median / total
            axes.barh(row, share, left=left, height=0.72, color=STAGE_COLOURS[name])
            if share >= 4:
                colour = "white" if _is_dark(STAGE_COLOURS[name]) else INK
                axes.text(
                    left + share / 2, row, f"{median:.0f}",
                    ha="center", va="center", color=colour, fontsize=8,
                )  # fmt: skip
            left += share
        axes.text(101, row, f"{case['median']:.0f} ms", va="center", fontsize=9)
    axes.set_yticks(range(len(cases)), [_case_name(case) for case in cases])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of a warm request; numbers are milliseconds")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    shown = {name for case in cases for name, _ in stage_rows(case)}
    handles = [Patch(color=c, label=name) for name, c in STAGE_COLOURS.items() if name in shown]
    axes.legend(
        handles=handles, ncols=len(handles), loc="lower center", bbox_to_anchor=(0.5, 1.0),
        fontsize=9, handlelength=0.9, columnspacing=0.9, handletextpad=0.4,
    )  # fmt: skip
    return figure


def _case_name(case: dict[str, Any]) -> str:
    regions = f"{case['regions']} region{'' if case['regions'] == 1 else 's'}"
    shape = "x".join(map(str, case["shape"]))
    if case["id"].startswith(BRAIN):
        return ", ".join(["brain", regions, *case["id"].split("/")[2:]])
    return f"{regions}, {shape}"


def _is_dark(colour: str) -> bool:
    red, green, blue = to_rgb(colour)
    return 0.3 * red + 0.59 * green + 0.11 * blue < 0.55


def draw_bandwidth(records: Sequence[dict[str, Any]]) -> Figure:
    """GB/s of each operation beside the copy of the same run, one panel a machine."""
    rows = [bandwidths(record) for record in records]
    height = 1.0 + 0.3 * max(len(operations) for operations, _ in rows)
    figure = Figure(figsize=(2.2 + 4.2 * len(rows), height))
    panels = figure.subplots(1, len(rows), squeeze=False)
    for axes, record, (operations, copy) in zip(panels[0], records, rows, strict=True):
        names, speeds = list(operations), list(operations.values())
        axes.barh(names, speeds, height=0.66, color=NETWORK)
        for row, speed in enumerate(speeds):
            axes.text(speed + 0.012 * copy, row, _short(speed), va="center", fontsize=8)
        axes.axvline(copy, color=MARK, linewidth=1.5)
        axes.text(
            copy, -0.75, f"copy {_short(copy)} ", color=MARK, ha="right", va="bottom", fontsize=9
        )
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("GB/s")
        gpu = record["kind"] == "gpu"
        axes.set_title(gpu_name(record) if gpu else f"CPU, {record['threads']} threads", pad=16)
    figure.tight_layout()
    return figure


def _short(speed: float) -> str:
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.2g}"
