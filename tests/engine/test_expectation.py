"""A line through measured points, read off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segreg.engine.errors import InputError, PackageError
from segreg.engine.expectation import (
    CURVE,
    Curve,
    check_labels_dice,
    expect_accuracy,
    read_curve,
)
from segreg.engine.package import load_package, write_checksums
from segreg.engine.runtime import Engine
from tests.conftest import write_segmenting_package
from tests.engine.pairs import BOXES, SHIFTED, cubes, pair_of

CONTENT = {
    "slope": 0.8, "intercept": 0.18, "spread": 0.03, "lowest": 0.6, "highest": 1.0,
    "segmentation": {"dice": 0.9, "sd": 0.05}, "points": 40,
}  # fmt: skip


def write(folder: Path, content: Any) -> Path:
    path = folder / CURVE
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_the_line_and_both_spreads(tmp_path: Path) -> None:
    curve = read_curve(write(tmp_path, CONTENT))
    assert curve is not None
    given = curve.expect(0.7)
    assert given.dice == pytest.approx(0.8 * 0.7 + 0.18)
    assert given.spread == pytest.approx(0.03)
    own = curve.of_own_segmentation()
    assert own is not None
    assert own.dice == pytest.approx(0.9)
    assert own.spread == pytest.approx(0.05)  # 0.03 and 0.8 * 0.05
    assert str(own) == (
        "labels of Dice 0.90 let expect a registration of Dice 0.90, give or take 0.05"
    )


def test_own_labels_are_worth_what_was_measured(tmp_path: Path) -> None:
    own = {**CONTENT["segmentation"], "registration": {"dice": 0.86, "sd": 0.04}}
    curve = read_curve(write(tmp_path, {**CONTENT, "segmentation": own}))
    assert curve is not None
    found = curve.of_own_segmentation()
    assert found is not None
    assert (found.segmentation_dice, found.dice, found.spread) == (0.9, 0.86, 0.04)
    mixed = curve.of_own_segmentation(given_dice=1.0)  # one side only: the line says it
    assert mixed is not None
    assert mixed.dice == pytest.approx(0.8 * 0.95 + 0.18)


def test_a_package_need_not_carry_one(tmp_path: Path) -> None:
    assert read_curve(tmp_path) is None


def test_a_curve_without_segmentation_says_nothing_of_it(tmp_path: Path) -> None:
    content = {name: value for name, value in CONTENT.items() if name != "segmentation"}
    curve = read_curve(write(tmp_path, content))
    assert curve is not None
    assert curve.of_own_segmentation() is None


@pytest.mark.parametrize("dice", [0.59, 1.01, float("nan")])
def test_no_word_beyond_what_was_measured(dice: float) -> None:
    with pytest.raises(ValueError, match=r"between 0\.600 and 1\.000, where the curve was"):
        Curve(0.8, 0.18, 0.03, 0.6, 1.0).expect(dice)


@pytest.mark.parametrize(
    "content",
    [
        "{", "[1]", {**CONTENT, "slope": "0.8"}, {**CONTENT, "spread": True},
        {**CONTENT, "lowest": float("nan")}, {"slope": 1.0},
        {**CONTENT, "segmentation": {"dice": "good", "sd": 0.1}}, {**CONTENT, "segmentation": 3},
        {**CONTENT, "segmentation": {"registration": {"dice": "good", "sd": 0.1}}},
    ],
    ids=str,
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(PackageError, match=r"docs/curve\.json: expected an object"):
        read_curve(write(tmp_path, content))


LINE = Curve(0.8, 0.18, 0.03, 0.6, 1.0, 0.9, 0.05)
OURS, THEIRS = "given", "automatic by other 1.0"


@pytest.mark.parametrize(
    ("sources", "labels_dice", "package", "segmenter", "expected"),
    [
        ((OURS, OURS), None, LINE, None, None),
        ((OURS, OURS), 0.7, LINE, None, (0.7, 0.74, 0.03)),
        ((THEIRS, THEIRS), None, None, LINE, (0.9, 0.9, 0.05)),
        # One side given: of unknown worth, no better than the other; else the mean of both sides.
        ((OURS, THEIRS), None, None, LINE, (0.9, 0.9, 0.05)),
        ((OURS, THEIRS), 0.8, None, LINE, (0.85, 0.86, (0.03**2 + (0.8 * 0.025) ** 2) ** 0.5)),
        ((THEIRS, THEIRS), None, LINE, None, None),
    ],
)
def test_by_where_labels_are_from(
    sources: Any, labels_dice: Any, package: Any, segmenter: Any, expected: Any
) -> None:
    found, notes = expect_accuracy(sources, labels_dice, package, segmenter)
    if expected is None:
        assert (found, notes) == (None, ())
        return
    assert found is not None
    assert tuple(found.as_dict().values()) == pytest.approx(expected)
    assert notes == (f"accuracy to expect, judged by true labels: {found}",)


def test_what_is_not_known_is_said() -> None:
    found, (note,) = expect_accuracy((OURS, OURS), 0.5, LINE, None)
    assert found is None
    assert note.startswith("accuracy to expect: unknown; segmentation Dice: expected one between")
    found, (note,) = expect_accuracy((OURS, OURS), 0.5, None, LINE)
    assert found is None
    assert "carries no docs/curve.json" in note
    with pytest.raises(InputError, match="both sides are segmented"):
        expect_accuracy((THEIRS, THEIRS), 0.9, LINE, LINE)


@pytest.mark.parametrize("dice", [0, -0.1, 1.01, float("nan"), True, "0.9"])
def test_a_dice_is_asked_for(dice: Any) -> None:
    with pytest.raises(InputError, match="labels_dice: expected a Dice above 0"):
        check_labels_dice(dice)


def carrying(folder: Path, content: Any) -> Path:
    write(write_segmenting_package(folder), content)
    write_checksums(folder)
    return folder


def test_in_a_result(tmp_path: Path) -> None:
    pair = pair_of(cubes(*SHIFTED), cubes(*BOXES))
    with Engine(carrying(tmp_path / "package", CONTENT)) as engine:
        found = engine.register(*pair, labels_dice=0.7)
        beyond = engine.register(*pair, labels_dice=0.5)
        silent = engine.register(*pair)
        automatic = engine.register(pair[0], pair[1], repair=False)
    text = "accuracy to expect, judged by true labels: labels of Dice 0.70 let expect"
    assert any(note.startswith(text) for note in found.notes)
    paths = found.save(tmp_path / "out")
    written = json.loads(paths["result"].read_text())
    assert written["expectation"] == pytest.approx(
        {"segmentation_dice": 0.7, "dice": 0.74, "spread": 0.03}
    )
    assert text in paths["report"].read_text()
    assert beyond.expectation is None
    assert beyond.summary()["expectation"] is None
    assert any("accuracy to expect: unknown" in note for note in beyond.notes)
    assert silent.expectation is None
    assert not any("accuracy" in note for note in silent.notes)
    assert automatic.expectation == Curve(0.8, 0.18, 0.03, 0.6, 1.0, 0.9, 0.05).expect(0.9, 0.05)


def test_a_package_with_another_file_is_not_opened(tmp_path: Path) -> None:
    folder = carrying(tmp_path / "package", {**CONTENT, "slope": "steep"})
    with pytest.raises(PackageError, match=r"docs/curve\.json: expected an object"):
        load_package(folder)
    (folder / CURVE).write_text(json.dumps(CONTENT))
    with pytest.raises(PackageError, match=r"checksum of docs/curve\.json does not hold"):
        load_package(folder)
    write_checksums(folder)
    curve = load_package(folder).curve
    assert curve is not None
    assert curve.slope == 0.8
