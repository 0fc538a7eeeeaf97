"""Pairs of the research data: all there, each in both directions, none twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.datasets import DATASETS, Pair
from segreg.engine.nifti import NiftiFile


def pairs_of(name: str, root: Path) -> list[Pair]:
    return list(DATASETS[name](root))


@pytest.mark.data
@pytest.mark.parametrize("name", list(DATASETS))
class TestData:
    def test_files_are_there(self, name: str, research_data: Path) -> None:
        pairs = pairs_of(name, research_data)
        assert len(pairs) >= 2
        for pair in pairs:
            for path in (pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels):
                assert path.is_file(), path.name

    def test_both_directions_once_each(self, name: str, research_data: Path) -> None:
        pairs = pairs_of(name, research_data)
        directions = Counter((pair.moving, pair.fixed) for pair in pairs)
        assert max(directions.values()) == 1
        assert all((fixed, moving) in directions for moving, fixed in directions)
        assert len({pair.id for pair in pairs}) == len(pairs)
        assert all(pair.moving != pair.fixed for pair in pairs)

    def test_label_maps_belong_to_their_images(self, name: str, research_data: Path) -> None:
        pair = pairs_of(name, research_data)[0]
        for image, labels in (
            (pair.moving, pair.moving_labels),
            (pair.fixed, pair.fixed_labels),
        ):
            assert image != labels
            assert NiftiFile.open(image).shape[-3:] == NiftiFile.open(labels).shape[-3:]

    def test_order_is_fixed(self, name: str, research_data: Path) -> None:
        assert pairs_of(name, research_data) == pairs_of(name, research_data)


def test_ring_of_subjects(tmp_path: Path) -> None:
    """Each with the next, the last with the first, both ways."""
    folder = tmp_path / "hippocampus"
    folder.mkdir()
    for number in ("001", "004", "007"):
        for part in ("", "_label"):
            (folder / f"hippocampus_{number}{part}.nii.gz").touch()
    pairs = pairs_of("hippocampus", tmp_path)
    assert [pair.id.replace("hippocampus_", "") for pair in pairs] == [
        "001-004", "004-001", "004-007", "007-004", "007-001", "001-007",
    ]  # fmt: skip
    assert pairs[0].moving_labels.name == "hippocampus_001_label.nii.gz"
    assert pairs[0].fixed_labels.name == "hippocampus_004_label.nii.gz"


def test_ends_of_the_heart_beat(tmp_path: Path) -> None:
    for number in range(81, 101):
        folder = tmp_path / f"acdc/patient{number:03d}"
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: NOR\n")
    first, second, *_ = pairs_of("cardiac", tmp_path)
    assert first.id == "patient081_frame01-patient081_frame12"
    assert second.fixed.name == "patient081_frame01.nii.gz"
    assert second.moving_labels.name == "patient081_frame12_gt.nii.gz"
