"""The report: complete, self-contained, safe with any label name, honest about what is missing."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from segreg.engine.field import Field
from segreg.engine.pictures import FOLD_COLOUR, parse_colour
from segreg.engine.quality import Quality, RegionQuality, Thresholds
from segreg.engine.report import (
    ReportData,
    format_grid,
    format_number,
    format_percent,
    format_time,
    format_volume,
    render_report,
)
from segreg.engine.result import Provenance, Result
from segreg.engine.timing import Stopwatch
from segreg.engine.volume import Volume

from .test_pictures import decode_png

NAMES = ("left lung", "right lung", "heart")
VOID = {"meta", "input", "br", "image", "use", "path", "rect", "circle", "stop"}


def make_quality(names: tuple[str, ...] = NAMES, **changes: Any) -> dict[str, Any]:
    regions = [
        {
            "name": name,
            "labels": [10 * (k + 1)],
            "dice_before": 0.5,
            "dice": 0.95 - 0.01 * k,
            "hd95_mm": 1.5 + k,
            "surface_distance_mm": 0.4,
            "moving_volume_ml": 1.2,
            "fixed_volume_ml": 1.1,
            "mean_jacobian": 1.02,
            "folding_percent": 0.0,
            "log_jacobian_sd": 0.1,
        }
        for k, name in enumerate(names)
    ]
    return {
        "verdict": "pass",
        "regions": regions,
        "dice_before": 0.5,
        "dice": 0.94,
        "hd95_mm": 2.5,
        "folding_inside_percent": 0.0,
        "folding_seams_percent": 0.25,
        "folding_background_percent": 0.0004,
        "log_jacobian_sd": 0.1,
        "thresholds": {"dice": 0.8, "surface_distance_voxels": 1.0, "folding_percent": 0.0},
        "faults": [],
        **changes,
    }


def make_data(
    shape: tuple[int, int, int] = (12, 30, 24),
    spacing: tuple[float, float, float] = (3.0, 1.0, 1.0),
    **changes: Any,
) -> ReportData:
    """A box of three labels side by side, shifted by a wave."""
    random = np.random.default_rng(7)
    z, y, x = np.indices(shape)
    inner = (y > 4) & (y < shape[1] - 4) & (x > 3) & (x < shape[2] - 3)
    labels = np.where(inner, 10 * (1 + 3 * x // shape[2]), 0).astype(np.int16)
    wave = np.stack([0 * z, np.sin(x / 4), np.cos(y / 5)]).astype(np.float32)
    affine = np.diag([*spacing[::-1], 1.0])
    volume = Volume(random.normal(size=shape).astype(np.float32), affine, "volume")
    grid = {"shape_zyx": list(shape), "spacing_zyx_mm": list(spacing)}
    values: dict[str, Any] = {
        "fixed": dataclasses.replace(volume, name="fixed.nii.gz"),
        "before": dataclasses.replace(volume, name="moving.nii.gz"),
        "warped": volume,
        "fixed_labels": labels,
        "warped_labels": np.roll(labels, 1, axis=1),
        "displacement": Field(wave, affine),
        "jacobian": np.exp(0.1 * random.normal(size=shape)).astype(np.float32),
        "quality": make_quality(),
        "provenance": {
            "segreg": "0.1.0", "package": "shapes", "package_version": "1.0.0",
            "package_digest": "sha256:0123abcd", "backend": "openvino",
            "backend_version": "2025.3", "precision": "f32", "threads": 4, "passes": 2,
            "interpolation": "linear", "blend": (("liver", "spleen"),), "blend_mm": 2.5,
            "refine": "auto", "repair": True, "python": "3.11.7", "numpy": "2.2.0",
        },
        "timings": {"infer": 80.0, "read": 20.0, "fuse": 1500.0},
        "notes": ("spleen is only in the moving label map and is not registered",),
        "grids": {"fixed": grid, "moving": {**grid, "shape_zyx": [9, 8, 7]}},
        **changes,
    }
    return ReportData(**values)


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID or tag == "path":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def images(self, figure: str) -> list[Any]:
        """Pictures of a figure, decoded, in order."""
        found, inside = [], False
        for tag, attributes in self.tags:
            if tag == "figure":
                inside = attributes["id"] == f"figure-{figure}"
            if tag == "image" and inside:
                found.append(decode_png(attributes["href"]))
        return found


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(make_data())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_nothing_is_loaded_from_elsewhere(html: str, page: Page):
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:image/png;base64,", "#"))
    assert not page.all("link")
    bare = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    assert "http:" not in bare
    assert "https:" not in bare
    assert "@import" not in bare
    assert re.findall(r"url\((?!#)", bare) == []


def test_the_page_is_well_formed(page: Page):
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {use["href"].removeprefix("#") for use in page.all("use")}
    assert targets
    assert targets <= set(ids)
    for _, attributes in page.tags:
        assert attributes.get("aria-labelledby", ids[0]) in ids


def test_the_page_is_accessible(page: Page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    pictures = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert pictures
    assert all(svg.get("aria-label") for svg in pictures)
    assert all(svg.get("role") == "img" or svg.get("aria-hidden") for svg in page.all("svg"))


def test_the_same_data_gives_the_same_page(html: str):
    assert render_report(make_data()) == html


def test_it_says_what_was_asked_for(page: Page):
    for words in (
        *NAMES, "moving.nii.gz to fixed.nii.gz", "Pass", "0.500 →", "0.940", "0.250", "<0.001",
        "1.58 s", "80 ms", "spleen is only in the moving label map", "shapes 1.0.0",
        "sha256:0123abcd", "openvino 2025.3", "24 \u00d7 30 \u00d7 12",
        "7 \u00d7 8 \u00d7 9", "1 \u00d7 1 \u00d7 3", "TG-132", "not a medical device",
    ):
        assert words in " ".join(page.text.split()), words


def test_every_figure_shows_three_planes(page: Page):
    figures = [figure["id"] for figure in page.all("figure")]
    assert figures == [
        f"figure-{key}"
        for key in (
            "before", "after", "contours", "close", "checkerboard", "jacobian", "displacement",
        )
    ]
    for key in ("before", "after", "checkerboard", "jacobian", "displacement"):
        assert len(page.images(key)) == 3
    assert len(page.images("contours")) == 6  # fixed, with warped to fade in


def test_pictures_are_in_true_proportion(page: Page):
    axial, coronal, sagittal = page.images("after")
    labelled_mm = np.array([36, 30, 24])  # the margin reaches the borders of the volume
    assert axial.height / axial.width == pytest.approx(labelled_mm[1] / labelled_mm[2], rel=0.01)
    assert coronal.height / coronal.width == pytest.approx(36 / 24, rel=0.01)
    assert sagittal.height / sagittal.width == pytest.approx(36 / 30, rel=0.01)
    boxes = [tuple(map(int, svg["viewbox"].split()))[2:] for svg in page.all("svg")
             if svg.get("role") == "img" and "viewbox" in svg and "slice" in svg["aria-label"]]
    assert boxes[:3] == [axial.size, coronal.size, sagittal.size]


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_a_mark_on_the_patients_right_appears_on_the_left(signs):
    """A bright block at the right, anterior, superior corner: upper left in every plane."""
    shape = (24, 24, 24)
    image = np.zeros(shape, np.float32)
    low, high = slice(2, 12), slice(12, 22)
    image[tuple(high if sign > 0 else low for sign in reversed(signs))] = 1
    affine = np.diag([*signs, 1]).astype(float)
    volume = Volume(image, affine, "image")
    data = make_data(
        shape, (1.0, 1.0, 1.0), fixed=volume, before=volume, warped=volume,
        fixed_labels=np.full(shape, 10, np.int16), warped_labels=np.full(shape, 10, np.int16),
        quality=make_quality(("all",)), displacement=Field(np.zeros((3, *shape), "f4"), affine),
    )
    for picture in Page(render_report(data)).images("checkerboard"):
        grey = np.asarray(picture).astype(float)
        half = grey.shape[0] // 2, grey.shape[1] // 2
        quadrants = {
            (top, left): grey[top * half[0] :, left * half[1] :][: half[0], : half[1]].mean()
            for top in (0, 1) for left in (0, 1)
        }
        assert max(quadrants, key=quadrants.__getitem__) == (0, 0)


def test_a_2d_pair_shows_one_plane():
    page = Page(render_report(make_data((1, 30, 24), (1.0, 1.0, 1.0))))
    assert len(page.images("after")) == 1
    assert "Axial" in page.text
    assert "Coronal" not in page.text


def test_folds_are_marked_counted_and_looked_up():
    data = make_data()
    data.jacobian[2, 7, 6] = -0.2
    page = Page(render_report(data))
    assert "1 folded voxel." in page.text
    assert "Where the field folds" in page.text
    fold = parse_colour(FOLD_COLOUR)
    for picture in page.images("folds"):
        pixels = np.asarray(picture.convert("RGB"))
        assert (pixels == fold).all(axis=-1).sum() >= 9


def test_label_names_cannot_run_code():
    name = "<script>alert(1)</script>\"' onload=x"
    quality = make_quality((name, "b", "c"), verdict="fail", faults=[f"{name}: Dice 0.1"])
    data = make_data(quality=quality, notes=(f"{name} is odd",))
    evil = dataclasses.replace(data.fixed, name="<img src=x>")
    page = Page(render_report(dataclasses.replace(data, fixed=evil, before=evil)))
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert page.text.count(name) >= 4  # table, fault, note, tile


def test_faults_are_counted_listed_and_marked():
    quality = make_quality(
        verdict="fail", faults=[f"heart: Dice 0.{k}00, below 0.80" for k in range(9)]
    )
    quality["regions"][2].update(dice=0.4, folding_percent=0.5)
    quality["regions"][0].update(surface_distance_mm=3.5)
    html = render_report(make_data(quality=quality))
    text = " ".join(Page(html).text.split())
    assert "Fail" in text
    assert (
        "9 faults in 2 of 3 regions: Dice below 0.80 in 1, mean surface distance not within "
        "3.00 mm in 1, folding inside in 1." in text
    )
    assert "and 3 more" in text
    for fault in quality["faults"]:
        assert f"{fault}." in text
    assert html.count('class="n beyond"') == 3


@pytest.mark.parametrize("undefined", [math.nan, None])
def test_undefined_measures_are_a_dash_that_says_why(undefined):
    quality = make_quality(hd95_mm=undefined, log_jacobian_sd=undefined)
    for region in quality["regions"]:
        for key in region.keys() - {"name", "labels"}:
            region[key] = undefined
    html = render_report(make_data(quality=quality))
    assert not re.search(r"\bnan\b|\bNone\b", Page(html).text, flags=re.IGNORECASE)
    assert html.count('<span class="none" title="Not defined') >= 3 * 9
    assert "figure-close" not in html  # no region is the worst


def test_a_sharp_wave_without_labels_or_motion_still_renders():
    shape = (6, 8, 10)
    data = make_data(
        shape, fixed_labels=np.zeros(shape, np.int16), warped_labels=np.zeros(shape, np.int16),
        displacement=Field(np.zeros((3, *shape), np.float32), np.eye(4)),
        jacobian=np.zeros(shape, np.float32), timings={},
        before=Volume(np.zeros(shape, np.float32), np.eye(4)),
    )
    assert "480 folded voxels" in Page(render_report(data)).text


def test_summary_of_a_result_gives_the_same_page(html: str):
    data = make_data()
    summary = {
        "quality": data.quality, "provenance": data.provenance, "timings_ms": data.timings,
        "notes": list(data.notes), **data.grids,
    }
    volumes = {
        key: getattr(data, key)
        for key in (
            "fixed", "before", "warped", "fixed_labels", "warped_labels", "displacement",
            "jacobian",
        )
    }
    read_back = json.loads(json.dumps(summary))
    assert render_report(ReportData.from_summary(read_back, **volumes)) == html


def test_a_result_is_rendered_as_its_summary(html: str):
    data = make_data()
    quality = dict(data.quality)
    regions = tuple(RegionQuality(**region) for region in quality.pop("regions"))
    thresholds = Thresholds(**quality.pop("thresholds"))
    faults = tuple(quality.pop("faults"))
    assert quality.pop("verdict") == "pass"
    watch = Stopwatch()
    watch.seconds.update({name: ms / 1000 for name, ms in data.timings.items()})
    known = {field.name for field in dataclasses.fields(Provenance)}
    affine = data.fixed.affine
    result = Result(
        moving=Volume(np.zeros((9, 8, 7), np.float32), affine, data.before.name),
        fixed=data.fixed,
        fixed_labels=Volume(data.fixed_labels, affine),
        warped=data.warped,
        warped_labels=Volume(data.warped_labels, affine),
        displacement=data.displacement,
        jacobian=data.jacobian,
        quality=Quality(regions=regions, thresholds=thresholds, faults=faults, **quality),
        provenance=Provenance(**{k: v for k, v in data.provenance.items() if k in known}),
        notes=tuple(data.notes),
        watch=watch,
    )
    page = render_report(result)
    for version in ("3.11.7", "2.2.0"):  # of the machine the result was made up for
        assert version in html
    assert Page(page).text.split()[:400] == Page(html).text.split()[:400]
    assert page.count("<image") == html.count("<image")


def test_folders_are_left_out_of_names():
    data = make_data()
    long = dataclasses.replace(data.fixed, name="/home/someone/secret/scan.nii.gz")
    html = render_report(dataclasses.replace(data, fixed=long))
    assert "secret" not in html
    assert "scan.nii.gz" in html


def test_an_oblique_grid_is_announced(html: str):
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    data = make_data()
    oblique = dataclasses.replace(data.fixed, affine=turned)
    assert "up to 17° off" in render_report(dataclasses.replace(data, fixed=oblique))
    assert "oblique" not in html


def test_a_large_noisy_pair_with_many_labels_stays_small():
    """Noise is the worst case: it does not compress."""
    shape = (224, 192, 160)
    random = np.random.default_rng(3)
    image = random.integers(0, 255, shape, np.uint8)
    z, y, x = np.indices(shape, sparse=True)
    blocks = (z * 4 // 224 + 4 * (y * 4 // 192) + 16 * (x * 3 // 160)) % 43
    labels = (10 * (1 + blocks)).astype(np.int16)
    volume = Volume(image, np.eye(4), "noise")
    data = make_data(
        shape=(2, 2, 2),
        fixed=volume, before=volume, warped=volume,
        fixed_labels=labels, warped_labels=np.roll(labels, 2, axis=2),
        displacement=Field(random.random((3, *shape), np.float32), np.eye(4)),
        jacobian=random.random(shape, np.float32),
        quality=make_quality(tuple(f"region {k}" for k in range(43))),
    )
    html = render_report(data)
    assert len(html) < 6_000_000
    counts = Counter(re.findall(r"region \d+", html))
    assert len(counts) == 43


def test_formats():
    assert format_number(-0.0001, 2) == "0.00"
    assert format_number(-1.26, 1) == "\u22121.3"
    assert format_number(0.5, 3) == "0.500"
    assert [format_percent(v) for v in (0.0, 1e-9, 0.0123, 1.234, 45.67)] == [
        "0", "<0.001", "0.012", "1.23", "45.7"
    ]
    assert [format_volume(v) for v in (0.0123, 5.678, 56.78, 1234.5)] == [
        "0.012", "5.68", "56.8", "1234"
    ]
    assert [format_time(v) for v in (0.42, 42.4, 999.0, 1234.0, 61234.0)] == [
        "0.4 ms", "42 ms", "999 ms", "1.23 s", "61.2 s"
    ]
    assert format_grid([5.0, 0.78125, 0.78125]) == "0.7812 \u00d7 0.7812 \u00d7 5"
