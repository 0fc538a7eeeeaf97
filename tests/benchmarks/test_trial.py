"""One run of a tool: measured in a process of its own, judged by us, believed only if proven."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import MEASURES
from benchmarks.datasets import Pair
from benchmarks.tools.base import Outcome
from benchmarks.tools.registry import TOOLS as PEERS
from benchmarks.trial import compare_warps, try_tool
from segreg.engine.assessment import assess
from segreg.engine.field import Field, apply_to_image
from segreg.engine.volume import Volume
from tests.benchmarks.stand_in_tools import SECONDS, TOOLS

STAND_INS = {tool.id: tool for tool in TOOLS}


@pytest.fixture
def moving() -> Volume:
    array = np.random.default_rng(0).normal(size=(9, 11, 7)).astype(np.float32)
    return Volume(array, np.diag([1.0, 2.0, 3.0, 1.0]))


@pytest.fixture
def half(moving: Volume) -> Field:
    """Half a voxel along every axis."""
    return Field(np.full((3, *moving.shape), 0.5, np.float32), moving.affine)


def test_row_of_a_tool_that_works(pair: Pair) -> None:
    row = try_tool(STAND_INS["still"], pair, 2, 120)
    assert "failed" not in row, row
    assert row["correct"]
    assert row["max_abs_err"] < 1e-3
    assert row["seconds"] == SECONDS
    assert row["start_s"] > 0
    assert 0 <= row["cpu_s"] < SECONDS
    assert row["peak_mib"] > 10
    assert set(MEASURES) < set(row)
    assert len(row["dice_by_region"]) == 6
    assert row["log_jacobian_sd"] == pytest.approx(0, abs=1e-4)


def test_judged_as_assess_judges(pair: Pair, tmp_path: Path) -> None:
    """The millimetre (1, -0.5, 0.25) in LPS is (-1, 0.5, 0.25) in RAS."""
    row = try_tool(STAND_INS["still"], pair, 1, 120)
    fixed = Volume.read(pair.fixed)
    step = np.linalg.inv(fixed.affine[:3, :3]) @ (-1.0, 0.5, 0.25)
    vectors = np.broadcast_to(step[::-1].reshape(3, 1, 1, 1), (3, *fixed.shape))
    quality = assess(
        Field(vectors.astype(np.float32), fixed.affine), pair.moving_labels, pair.fixed_labels
    ).quality
    assert row["dice"] == pytest.approx(quality.dice)
    assert row["hd95_mm"] == pytest.approx(quality.hd95_mm)
    assert row["dice_before"] == pytest.approx(quality.dice_before)


def test_a_wrong_conversion_gives_no_figures(pair: Pair) -> None:
    row = try_tool(STAND_INS["wrong"], pair, 2, 120)
    assert row["correct"] is False
    assert "its own warped image" in row["failed"]
    assert not {"dice", "seconds"} & set(row)


@pytest.mark.parametrize(
    ("tool", "limit", "reason"),
    [("slow", 0.2, "stopped after 0.2 s"), ("broken", 120, "the optimiser diverged")],
)
def test_reason_why_there_is_no_row(pair: Pair, tool: str, limit: float, reason: str) -> None:
    row = try_tool(STAND_INS[tool], pair, 2, limit)
    assert set(row) == {"failed"}
    assert reason in row["failed"]


class TestCompareWarps:
    def test_the_same_field(self, moving: Volume, half: Field) -> None:
        check = compare_warps(Outcome(half, apply_to_image(half, moving)), moving)
        assert check == {"correlation": pytest.approx(1), "max_abs_err": 0, "correct": True}

    def test_another_field(self, moving: Volume, half: Field) -> None:
        other = Field(-half.displacement, half.affine)
        check = compare_warps(Outcome(half, apply_to_image(other, moving)), moving)
        assert check["correct"] is False
        assert check["max_abs_err"] > 0.1

    def test_where_the_tool_did_not_look(self, moving: Volume, half: Field) -> None:
        """NaN, and whatever lies beyond the last voxel centre, says nothing."""
        warped = apply_to_image(half, moving)
        array = warped.array.copy()
        array[2:4] = np.nan
        array[-1], array[:, -1], array[:, :, -1] = 99, 99, 99
        assert compare_warps(Outcome(half, warped.with_array(array)), moving)["correct"]

    def test_nothing_to_compare(self, moving: Volume, half: Field) -> None:
        away = Field(half.displacement + 100, half.affine)
        check = compare_warps(Outcome(away, apply_to_image(away, moving)), moving)
        assert check == {"correlation": None, "max_abs_err": None, "correct": False}

    def test_a_constant_image_proves_nothing(self, moving: Volume, half: Field) -> None:
        flat = moving.with_array(np.ones(moving.shape, np.float32))
        assert not compare_warps(Outcome(half, apply_to_image(half, flat)), flat)["correct"]


@pytest.mark.parametrize("id", list(PEERS))
def test_every_tool_that_is_installed(id: str, pair: Pair) -> None:
    """Its field carries the image where the tool itself carries it."""
    reason = PEERS[id].available()
    if reason is not None:
        pytest.skip(reason)
    row = try_tool(PEERS[id], pair, 2, 300)
    assert "failed" not in row, row
    assert row["correlation"] > 0.99
    if PEERS[id].driven_by == "labels":
        assert row["dice"] > row["dice_before"]
