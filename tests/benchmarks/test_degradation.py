"""Degraded label maps do what their names say, and the line through the points is right."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.stats import linregress

from benchmarks.__main__ import main
from benchmarks.curves import draw_degradation
from benchmarks.datasets import DATASETS, Pair
from benchmarks.degradation import (
    KINDS,
    degrade_pair,
    degraded_sides,
    dilate,
    drop_slices,
    erode,
    fit_line,
    reach_of_noise,
    roughen,
    segmentation_dice,
    summarise,
)
from segreg.engine.labels import make_scheme
from segreg.engine.runtime import Engine
from segreg.engine.volume import Volume

STRENGTHS = (0.2, 0.35, 0.5)


@pytest.fixture
def labels() -> Volume:
    """A ball (1) in a shell (2) beside a box (5); slices three times as thick as voxels."""
    z, y, x = np.indices((11, 31, 37)) * np.array([3.0, 1.0, 1.0]).reshape(3, 1, 1, 1)
    away = np.sqrt((z - 15) ** 2 + (y - 14) ** 2 + (x - 13) ** 2)
    array = np.select([away < 6, away < 10], [1, 2], 0).astype(np.uint8)
    array[3:8, 8:20, 27:34] = 5
    return Volume(array, np.diag([1.0, 1.0, 3.0, 1.0]))


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def counts(array: np.ndarray) -> np.ndarray:
    return np.bincount(array.ravel(), minlength=6)[[1, 2, 5]]


@pytest.mark.parametrize("strength", STRENGTHS)
class TestStrength:
    def test_erosion_takes_that_share_of_every_label(self, labels: Volume, strength: float) -> None:
        eroded, before = erode(labels, strength), counts(labels.array)
        assert np.array_equal(counts(eroded), before - np.rint(strength * before))
        assert (eroded[eroded > 0] == labels.array[eroded > 0]).all()

    def test_erosion_begins_at_the_border(self, labels: Volume, strength: float) -> None:
        eroded = erode(labels, strength)
        for label in (1, 2, 5):
            depth = distance_transform_edt(labels.array == label, sampling=labels.spacing)
            gone = (labels.array == label) & (eroded != label)
            assert depth[gone].max() <= depth[eroded == label].min() + 1e-9

    def test_dilation_grows_into_the_background_alone(
        self, labels: Volume, strength: float
    ) -> None:
        dilated = dilate(labels, strength)
        inside = labels.array > 0
        assert np.array_equal(dilated[inside], labels.array[inside])
        grown, before = counts(dilated), counts(labels.array)
        assert grown[2] - before[2] == pytest.approx(strength * before[2], rel=0.1)
        assert (grown <= before + np.rint(strength * before)).all()
        assert grown.sum() > before.sum()

    def test_noise_stays_near_the_border(self, labels: Volume, strength: float) -> None:
        rough = roughen(labels, strength, random())
        reach = reach_of_noise(labels, strength) + np.linalg.norm(labels.spacing) / 2
        for label in (0, 1, 2, 5):
            mask = labels.array == label
            deep = mask & (distance_transform_edt(mask, sampling=labels.spacing) > reach)
            assert (rough[deep] == label).all()
        assert (rough != labels.array).any()

    def test_noise_is_the_seed_s(self, labels: Volume, strength: float) -> None:
        one, same, other = (roughen(labels, strength, random(seed)) for seed in (1, 1, 2))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)

    def test_slices_are_dropped_whole(self, labels: Volume, strength: float) -> None:
        dropped = drop_slices(labels, strength, random())
        before = (labels.array > 0).any((1, 2))
        kept = (dropped > 0).any((1, 2))
        assert before.sum() - kept.sum() == round(strength * before.sum())
        assert np.array_equal(dropped[kept], labels.array[kept])


@pytest.mark.parametrize("kind", list(KINDS))
def test_no_strength_changes_nothing(labels: Volume, kind: str) -> None:
    degraded = KINDS[kind](labels, 0.0, random())
    assert np.array_equal(degraded, labels.array)
    assert degraded.dtype == labels.array.dtype
    assert not np.shares_memory(degraded, labels.array)


@pytest.mark.parametrize("kind", list(KINDS))
def test_dice_falls_as_strength_grows(labels: Volume, kind: str) -> None:
    scheme = make_scheme(labels.array, labels.array)
    dice = [
        segmentation_dice(scheme, KINDS[kind](labels, strength, random()), labels.array)
        for strength in (0.0, *STRENGTHS)
    ]
    assert dice[0] == 1
    assert (np.diff(dice) < 0).all()


def test_one_slice_is_always_kept() -> None:
    array = np.zeros((6, 4, 4), np.uint8)
    array[2] = 1
    labels = Volume(array, np.diag([1.0, 1.0, 5.0, 1.0]))
    assert np.array_equal(drop_slices(labels, 0.5, random()), array)


def test_slices_lie_across_the_coarsest_axis(labels: Volume) -> None:
    turned = Volume(labels.array.transpose(1, 0, 2).copy(), np.diag([1.0, 3.0, 1.0, 1.0]))
    dropped = drop_slices(turned, 0.5, random())
    assert (dropped > 0).any((0, 2)).sum() < (turned.array > 0).any((0, 2)).sum()


def test_segmentation_dice_of_known_overlap() -> None:
    """Half of one label, none of the other: (2/3 + 0) / 2."""
    true = np.zeros((2, 4, 4), np.int32)
    true[0, :2], true[1] = 1, 2
    half = true.copy()
    half[0, 1], half[1] = 0, 0
    scheme = make_scheme(true, true)
    assert segmentation_dice(scheme, half, true) == pytest.approx(1 / 3)


def test_both_sides_are_degraded_differently(labels: Volume) -> None:
    found = list(degraded_sides(labels, labels, 2, seed=3))
    assert [(kind, strength) for kind, strength, *_ in found[:3]] == [
        ("true", 0.0), ("eroded", 0.25), ("eroded", 0.5),
    ]  # fmt: skip
    assert len(found) == 1 + 2 * len(KINDS)
    noise = [sides for kind, _, *sides in found if kind == "noise"]
    assert not np.array_equal(noise[0][0].array, noise[0][1].array)


class TestFit:
    def test_points_on_a_line(self) -> None:
        fit = fit_line([0.0, 1.0, 3.0], [2.0, 1.5, 0.5])
        assert (fit.slope, fit.intercept) == (pytest.approx(-0.5), pytest.approx(2))
        assert (fit.correlation, fit.r_squared) == (pytest.approx(-1), pytest.approx(1))

    def test_as_scipy_fits(self) -> None:
        x, y = random().normal(size=(2, 30))
        fit, wanted = fit_line(x, y), linregress(x, y)
        assert fit.slope == pytest.approx(wanted.slope)
        assert fit.intercept == pytest.approx(wanted.intercept)
        assert fit.correlation == pytest.approx(wanted.rvalue)
        assert fit.r_squared == pytest.approx(wanted.rvalue**2)

    @pytest.mark.parametrize(("x", "y"), [([1.0], [1.0]), ([1, 1], [0, 1]), ([0, 1], [1, 1])])
    def test_no_line(self, x: list[float], y: list[float]) -> None:
        with pytest.raises(ValueError, match="points that differ"):
            fit_line(x, y)


def test_points_of_a_pair(tiny_package: Path, pair: Pair) -> None:
    with Engine(tiny_package) as engine:
        points = degrade_pair(engine, pair, steps=2, seed=0)
        true = engine.register(pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels)
    assert len(points) == 1 + 2 * len(KINDS)
    assert points[0]["segmentation_dice"] == 1
    assert points[0]["registration_dice"] == pytest.approx(true.quality.dice)
    assert all(point["segmentation_dice"] < 1 for point in points[1:])
    case = summarise("phantom", points)
    assert case["fit"]["r_squared"] == pytest.approx(case["fit"]["correlation"] ** 2)
    assert set(case["fit_by_kind"]) == set(KINDS)


def test_command_writes_record_and_picture(
    tiny_package: Path, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "brain", lambda root: iter([pair, pair]))
    picture = tmp_path / "degradation.svg"
    words = ["--package", str(tiny_package), "--datasets", "brain", "--pairs", "1", "--steps", "1"]
    words += ["--picture", str(picture), "--results", str(tmp_path / "results")]
    assert main(["accuracy", "--degrade", *words]) == 0
    (path,) = (tmp_path / "results").rglob("*.json")
    found = json.loads(path.read_text())
    assert found["kind"] == "degradation"
    (case,) = found["cases"]
    assert len(case["points"]) == 1 + len(KINDS)
    text = picture.read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert text == draw_degradation(found["cases"])


@pytest.mark.data
def test_registration_follows_noisy_segmentation(research_data: Path) -> None:
    """The paper's claim on one real pair, for errors that differ from side to side."""
    first = next(DATASETS["hippocampus"](research_data))
    with Engine("shapes") as engine:
        case = summarise("hippocampus", degrade_pair(engine, first, steps=3, seed=0))
    assert case["fit_by_kind"]["noise"]["correlation"] > 0.9
    assert all(fit["slope"] > 0 for fit in case["fit_by_kind"].values())
