"""Label maps that betray themselves, on figures that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from segreg.engine.plausibility import LabelledSide, count_slices, find_gaps, find_swapped
from segreg.kernels import region_stats
from tests.engine.pairs import BOXES, SHIFTED, cubes

SPACING = np.array([2.0, 1.0, 1.5])


def side_of(regions: np.ndarray, name: str = "fixed") -> LabelledSide:
    regions = regions.astype(np.int32)
    stats = region_stats(regions, np.zeros(regions.shape, np.float32), int(regions.max()))
    return LabelledSide(name, regions, stats, np.eye(4), 0.003)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_counted(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segreg.engine.plausibility.CHUNK", 1000)  # a few slices at once
    regions = cubes(*BOXES)
    first, counts = count_slices(side_of(regions), axis)
    others = tuple(a for a in range(3) if a != axis)
    expected = np.stack([(regions == k).sum(others) for k in (1, 2, 3)])
    used = np.flatnonzero(expected.any(0))
    assert first == used[0]
    np.testing.assert_array_equal(counts, expected[:, used[0] : used[-1] + 1])


@pytest.mark.parametrize(
    ("counts", "gaps"),
    [
        ([40, 50, 0, 50, 40], [(2, 2)]),
        ([40, 0, 50, 0, 0, 50, 40], [(1, 1), (3, 4)]),
        ([40, 50, 5, 0, 5, 50, 40], []),  # two parts that taper off
        ([40, 50, 0, 0, 0, 0, 50, 40], []),  # two parts far apart
        ([9, 0, 9, 9], []),  # specks
        ([0, 0, 40, 50, 0, 0], []),
        ([0, 0], []),
    ],
)
def test_gaps(counts: list[int], gaps: list[tuple[int, int]]) -> None:
    assert find_gaps(np.array(counts), 0.25) == gaps


def test_slices_lie_across_thick_voxels() -> None:
    side = side_of(cubes(*BOXES))
    assert side.slice_axes(np.array([5.0, 1.0, 1.0])) == [0]
    assert side.slice_axes(np.array([1.0, 1.1, 0.9])) == [0, 1, 2]
    assert side_of(cubes(*BOXES)[6:7]).slice_axes(np.array([9.0, 1.0, 1.0])) == [1, 2]


def test_swapped_regions_are_found_and_no_others() -> None:
    moving, fixed = cubes(*SHIFTED), cubes(*BOXES)
    assert find_swapped(side_of(moving), side_of(fixed), SPACING, 1.2) == []
    exchanged = np.array([0, 3, 2, 1], np.uint8)[moving]
    assert find_swapped(side_of(exchanged), side_of(fixed), SPACING, 1.2) == [(0, 2)]


def test_a_shell_and_its_core_differ_in_shape_alone() -> None:
    core, shell = np.s_[6:14, 8:16, 8:16], np.s_[3:17, 4:20, 4:20]
    regions = cubes(shell, core)
    exchanged = np.array([0, 2, 1], np.uint8)[regions]
    assert find_swapped(side_of(regions), side_of(regions), SPACING, 1.2) == []
    assert find_swapped(side_of(exchanged), side_of(regions), SPACING, 1.2) == [(0, 1)]


def test_one_region_has_nothing_to_be_swapped_with() -> None:
    side = side_of(cubes(BOXES[0]))
    assert find_swapped(side, side, SPACING, 1.2) == []
