"""A line through measured points, read off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segreg.engine.errors import PackageError
from segreg.engine.expectation import CURVE, Curve, read_curve

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
    ],
    ids=str,
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(PackageError, match=r"docs/curve\.json: expected an object"):
        read_curve(write(tmp_path, content))
