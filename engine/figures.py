"""The figures of a report: which pictures, in which order, with what drawn over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine import pictures
from segreg.engine.contours import draw_grid, outline_regions
from segreg.engine.labels import LabelScheme
from segreg.engine.planes import Box, Plane, find_box, make_planes, widen_box

if TYPE_CHECKING:
    from segreg.engine.report import ReportData

Array = NDArray[Any]

SIZE = (440, 1032)  # pixels: height and width of all planes together
CLOSE_SIZE = (300, 1032)
TILES = 9  # squares of the checkerboard along the longest side
GRID_PIXELS = 15.0
JACOBIAN_LIMITS = (1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0)


@dataclass(frozen=True)
class Outlines:
    """Outlines of one label map on one plane; paths None stands for those another panel has."""

    id: str
    kind: str  # "fixed" or "warped"
    scale: tuple[float, float]  # pixels per half voxel, across and down
    paths: tuple[tuple[int, str], ...] | None  # (region number, path data)


@dataclass(frozen=True)
class Panel:
    """One plane of a figure: pictures on top of each other and the lines over them."""

    plane: Plane
    alt: str
    layers: tuple[str, ...]  # data URIs; the second one fades in
    outlines: tuple[Outlines, ...]
    grid: str = ""


@dataclass(frozen=True)
class Bar:
    """The colour bar of a figure."""

    stops: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...]  # share of the bar, text
    unit: str
    folds: bool = False


@dataclass(frozen=True)
class Figure:
    """A title, a sentence or two, and up to three panels. ``ink``: colour of the outlines."""

    key: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    ink: str = "regions"
    bar: Bar | None = None
    fades: bool = False


@dataclass
class View:
    """A set of planes, and what several figures need of them."""

    key: str
    planes: list[Plane]
    data: ReportData
    scheme: LabelScheme
    windows: Mapping[str, tuple[float, float]]
    greys: dict[tuple[str, str], pictures.Grey] = field(default_factory=dict)

    def grey(self, side: str, plane: Plane) -> pictures.Grey:
        """``fixed``, ``before`` or ``warped`` on a plane."""
        key = side, plane.name
        if key not in self.greys:
            window = self.windows["fixed" if side == "fixed" else "moving"]
            image = plane.cut(getattr(self.data, side).array)
            self.greys[key] = pictures.make_grey(image, window, plane.pixels)
        return self.greys[key]

    def outlines(self, plane: Plane, *kinds: str, paths: bool = False) -> tuple[Outlines, ...]:
        """Outlines of the ``fixed`` or ``warped`` regions; ``paths`` defines them here."""
        made = []
        for kind in kinds:
            height, width = plane.pixels
            scale = width / (2 * plane.shape[1]), height / (2 * plane.shape[0])
            found = None
            if paths:
                label_map = getattr(self.data, f"{kind}_labels")
                regions = self.scheme.region_map(plane.cut(label_map))
                found = tuple(outline_regions(regions).items())
            name = f"{self.key}-{plane.name}-{kind}"
            made.append(Outlines(name, kind, scale, found))
        return tuple(made)


def draw_figures(data: ReportData) -> list[Figure]:
    """All figures of a report, in reading order."""
    regions = data.quality["regions"]
    scheme = LabelScheme(
        tuple(region["name"] for region in regions),
        tuple(tuple(region["labels"]) for region in regions),
    )
    fixed = scheme.region_map(data.fixed_labels)
    shape, spacing = data.fixed.shape, np.array(data.fixed.spacing)
    whole: Box = np.array([(0, 0, 0), shape])
    labelled = find_box(fixed > 0)
    box = whole if labelled is None else widen_box(labelled, shape, spacing, 0.15, 12.0)
    centre = (whole if labelled is None else labelled).sum(axis=0) // 2
    inside = tuple(slice(low, high) for low, high in box.T)
    windows = {
        "fixed": pictures.choose_window(data.fixed.array[inside]),
        "moving": pictures.choose_window(data.before.array[inside]),
    }
    planes = make_planes(data.fixed.affine, shape, box, centre, size=SIZE)
    main = View("main", planes, data, scheme, windows)
    return [
        *_overlays(main),
        _contours(main),
        *_close_look(main, fixed),
        _checkerboard(main),
        _jacobian(main, "Local volume change", *_jacobian_words(data.jacobian)),
        *_folds(main, box),
        _displacement(main),
    ]


def _overlays(view: View) -> list[Figure]:
    """Composites before and after."""
    figures = []
    for key, side, title in (
        ("before", "before", "Before registration"),
        ("after", "warped", "After registration"),
    ):
        panels = []
        for plane in view.planes:
            picture = pictures.mix(view.grey("fixed", plane), view.grey(side, plane))
            kinds = ("fixed",) if key == "before" else ("fixed", "warped")
            alt = f"{plane.name} slice {title.lower()}, fixed image green, moving image magenta"
            uri = pictures.encode_png(picture)
            panels.append(Panel(plane, alt, (uri,), view.outlines(plane, *kinds)))
        caption = "Fixed image in green, moving image in magenta: grey where they agree."
        if key == "before":
            caption += " The moving image lies where the headers place it."
        figures.append(Figure(key, title, caption, tuple(panels), ink="light"))
    return figures


def _contours(view: View) -> Figure:
    panels = []
    for plane in view.planes:
        uris = [pictures.encode_png(view.grey(side, plane)) for side in ("fixed", "warped")]
        alt = f"{plane.name} slice of the fixed image with outlines of fixed and warped regions"
        outlines = view.outlines(plane, "fixed", "warped", paths=True)
        panels.append(Panel(plane, alt, tuple(uris), outlines))
    return Figure(
        "contours",
        "Outlines",
        "Fixed regions as coloured lines, warped regions as paler dashes, on the fixed image. "
        "Where the dashes lie on the line, the outlines match.",
        tuple(panels),
        fades=True,
    )


def _close_look(main: View, fixed: NDArray[np.int32]) -> list[Figure]:
    """The region with the lowest Dice, enlarged; nothing where it is the only region."""
    regions = main.data.quality["regions"]
    scored = [(r["dice"], k) for k, r in enumerate(regions, 1) if is_number(r["dice"])]
    if len(regions) < 2 or not scored:
        return []
    dice, number = min(scored)
    inside = fixed == number
    region = find_box(inside)
    if region is None:
        return []
    volume = main.data.fixed
    box = widen_box(region, volume.shape, np.array(volume.spacing), 0.2, 15.0)
    size = _close_size(main)
    planes = make_planes(volume.affine, volume.shape, box, fullest(inside), size=size)
    figure = _contours(replace(main, key="close", planes=planes, greys={}))
    return [
        replace(
            figure,
            key="close",
            title=f"A closer look: {regions[number - 1]['name']}",
            caption=f"The region with the lowest Dice ({dice:.3f}), in its largest cross-sections.",
        )
    ]


def _checkerboard(view: View) -> Figure:
    tile = round(max(max(plane.pixels) for plane in view.planes) / TILES)
    panels = []
    for plane in view.planes:
        picture = pictures.make_checkerboard(
            view.grey("fixed", plane), view.grey("warped", plane), tile
        )
        alt = f"{plane.name} slice, squares of the fixed and the warped image in turn"
        uri = pictures.encode_png(picture)
        panels.append(Panel(plane, alt, (uri,), view.outlines(plane, "fixed", "warped")))
    return Figure(
        "checkerboard",
        "Checkerboard",
        "Squares of the fixed and the warped image in turn: edges should run on across squares.",
        tuple(panels),
        ink="faint",
    )


def _jacobian(view: View, title: str, caption: str, paths: bool = False) -> Figure:
    slices = [plane.cut(view.data.jacobian) for plane in view.planes]
    limit = _jacobian_limit(slices)
    panels = []
    for plane, values in zip(view.planes, slices, strict=True):
        picture = pictures.make_jacobian_map(values, limit, plane.pixels)
        uri = pictures.encode_png(picture, pictures.JACOBIAN_COLOURS)
        alt = f"{plane.name} slice of the Jacobian determinant, {_count_folds(values)}"
        outlines = view.outlines(plane, "fixed", paths=paths)
        panels.append(Panel(plane, alt, (uri,), outlines))
    ticks = ((0.0, f"{1 / limit:.2g}"), (0.5, "1"), (1.0, f"{limit:.3g}"))
    bar = Bar(pictures.JACOBIAN_COLOURS, ticks, "Jacobian", folds=True)
    key = "jacobian" if view.key == "main" else view.key
    return Figure(key, title, caption, tuple(panels), ink="dark", bar=bar)


def _jacobian_words(jacobian: NDArray[np.floating]) -> tuple[str]:
    return (
        "Jacobian determinant: orange where moving tissue is shrunk to fit, blue where it is "
        f"stretched. In the whole volume: {_count_folds(jacobian)}.",
    )


def _folds(main: View, box: Box) -> list[Figure]:
    """The slices with most folded voxels; nothing where nothing folds in view."""
    part = main.data.jacobian[tuple(slice(low, high) for low, high in box.T)]
    folded = ~(part > 0)
    if not folded.any():
        return []
    centre = box[0] + fullest(folded)
    affine, shape = main.data.fixed.affine, main.data.fixed.shape
    planes = make_planes(affine, shape, box, centre, size=_close_size(main))
    view = replace(main, key="folds", planes=planes, greys={})
    caption = f"The slices that cut most of the {_count_folds(part)} in view."
    return [_jacobian(view, "Where the field folds", caption, paths=True)]


def _close_size(main: View) -> tuple[int, int]:
    return CLOSE_SIZE if len(main.planes) > 1 else SIZE


def _displacement(view: View) -> Figure:
    vectors = view.data.displacement.displacement
    linear = view.data.displacement.affine[:3, :3][:, ::-1]  # (z, y, x) voxels -> mm
    slices = []
    for plane in view.planes:
        millimetres = np.tensordot(linear, plane.cut(vectors), axes=1)
        slices.append(np.linalg.norm(millimetres, axis=0))
    limit = _round_up(max(float(values.max()) for values in slices))
    panels = []
    for plane, values in zip(view.planes, slices, strict=True):
        picture = pictures.make_distance_map(values, limit, plane.pixels)
        uri = pictures.encode_png(picture, pictures.DISTANCE_COLOURS)
        alt = f"{plane.name} slice of the displacement, {values.mean():.1f} mm on average"
        grid = draw_grid(plane, vectors, GRID_PIXELS)
        panels.append(Panel(plane, alt, (uri,), view.outlines(plane, "fixed"), grid))
    ticks = tuple((share, f"{share * limit:.3g}") for share in (0.0, 0.5, 1.0))
    return Figure(
        "displacement",
        "Displacement",
        "Length of the displacement, and a regular grid carried along by its part within the "
        "plane: the place in the moving image that is shown at each node.",
        tuple(panels),
        ink="light",
        bar=Bar(pictures.DISTANCE_COLOURS, ticks, "mm"),
    )


def fullest(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Along each axis, the index of the slice with most true voxels."""
    axes = (1, 2), (0, 2), (0, 1)
    return np.array([int(np.count_nonzero(inside, axis=across).argmax()) for across in axes])


def is_number(value: Any) -> bool:
    """Whether a measure is defined: neither None (in JSON) nor NaN."""
    return value is not None and math.isfinite(value)


def _jacobian_limit(slices: list[Array]) -> float:
    """End of the colour bar: holds 99 % of what is shown."""
    values = np.concatenate([values[values > 0] for values in slices])
    reach = float(np.exp(np.percentile(np.abs(np.log(values)), 99))) if len(values) else 1.0
    return next((limit for limit in JACOBIAN_LIMITS if limit >= reach), JACOBIAN_LIMITS[-1])


def _round_up(value: float) -> float:
    """The next 1, 1.5, 2, 3, 4, 5, 6 or 8 times a power of ten; 1 for a field at rest."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((s * power for s in (1, 1.5, 2, 3, 4, 5, 6, 8) if s * power >= value), 10 * power)


def _count_folds(jacobian: NDArray[np.floating]) -> str:
    count = int(np.count_nonzero(~(jacobian > 0)))
    return f"{count:,} folded voxel{'' if count == 1 else 's'}" if count else "no folded voxels"
