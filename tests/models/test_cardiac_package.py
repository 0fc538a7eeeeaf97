"""The package ``cardiac`` on patients it was validated with, from two image files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accuracy import measure_pair
from benchmarks.datasets import cardiac
from models.cardiac.patients import NAMES
from segreg.engine.package import load_package, shipped_packages
from segreg.engine.runtime import Engine

SMALL = 20 * 2**20  # bytes of both networks together


@pytest.fixture(scope="module")
def package() -> Path:
    return shipped_packages()["cardiac"]


def test_says_what_must_be_known(package: Path) -> None:
    found = load_package(package)
    assert found.licence == "CC BY-NC-SA 4.0"
    assert "Non-commercial" in found.intended_use
    assert not found.notes  # parity of both networks was proved
    card = (package / "docs/README.md").read_text()
    for words in ("10.1109/TMI.2018.2837502", "CC BY-NC-SA 4.0", "non-commercial"):
        assert words in card
        assert words in (package / "LICENSE").read_text() or words == "CC BY-NC-SA 4.0"
    assert sum(path.stat().st_size for path in (package / "models").iterdir()) < SMALL
    classes = found.settings["segmentation"]["classes"]
    assert {entry["label"]: entry["name"] for entry in classes} == NAMES


@pytest.mark.data
def test_two_images_are_enough(research_data: Path) -> None:
    pair = next(cardiac(research_data))
    with Engine("cardiac") as engine:
        automatic = measure_pair(engine, pair, automatic=True)
        given = measure_pair(engine, pair)
    assert automatic["dice"] > automatic["dice_before"] + 0.1
    assert automatic["dice"] > 0.8
    assert given["dice"] > 0.97
    assert automatic["seconds"]["segment"] > 0
