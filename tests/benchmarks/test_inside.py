"""Fields that are known, and how far registrations are from them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.datasets import Pair
from benchmarks.inside import (
    LEAST_DETERMINANT,
    LONGEST_MM,
    Known,
    make_field,
    make_known,
    measure,
    measure_tool,
    print_table,
)
from benchmarks.trial import endpoint_errors
from segreg.engine.runtime import Engine
from segreg.kernels import jacobian_determinant, warp
from tests.benchmarks.stand_in_tools import SECONDS, TOOLS

STAND_INS = {tool.id: tool for tool in TOOLS}


@pytest.fixture
def known(pair: Pair) -> Known:
    return make_known("phantom", pair.moving, pair.moving_labels, 1)


def test_field_is_as_long_as_said_and_does_not_fold() -> None:
    spacing = (5.0, 4.0, 4.0)
    field = make_field((40, 48, 44), spacing, 3)
    lengths = np.linalg.norm(field[0] * np.reshape(spacing, (3, 1, 1, 1)), axis=0)
    assert 0.5 * LONGEST_MM < lengths.max() <= LONGEST_MM * (1 + 1e-5)
    assert jacobian_determinant(field).min() >= LEAST_DETERMINANT
    np.testing.assert_array_equal(field, make_field((40, 48, 44), spacing, 3))
    assert np.abs(field - make_field((40, 48, 44), spacing, 4)).max() > 0.1


def test_fixed_side_is_the_moving_one_through_the_field(known: Known) -> None:
    """But for contrast and noise: in the order of intensities both agree."""
    seen = warp(known.moving.array.astype(np.float32)[None, None], known.truth)[0, 0]
    ranks = [np.argsort(np.argsort(a.ravel())) for a in (seen, known.fixed.array)]
    assert np.corrcoef(*ranks)[0, 1] > 0.7
    assert set(np.unique(known.fixed_labels.array)) <= set(np.unique(known.moving_labels.array))


def test_errors_by_hand() -> None:
    truth = np.zeros((3, 1, 2, 2), np.float32)
    found = truth.copy()
    found[:, 0, 0, 0] = (2, 1, 2)
    labels = np.array([[[1, 2], [0, 0]]])
    assert endpoint_errors(found, truth, labels) == {
        "mean": pytest.approx(1.5), "p95": pytest.approx(2.85)
    }  # fmt: skip


def test_cases_of_the_engine_and_of_tools(
    tiny_package: Path, known: Known, tmp_path: Path
) -> None:
    """The stand-in shifts by the millimetre (1, -0.5, 0.25) in LPS, (-1, 0.5, 0.25) in RAS."""
    with Engine(tiny_package) as engine:
        cases = [measure(engine, known, refine) for refine in ("off", "auto")]
    assert cases[1]["mean_voxels"] < cases[0]["mean_voxels"]
    still, broken = (
        measure_tool(STAND_INS[id], known, tmp_path, 120) for id in ("still", "broken")
    )
    step = np.linalg.inv(known.fixed.affine[:3, :3]) @ (-1.0, 0.5, 0.25)
    moved = np.broadcast_to(step[::-1].reshape(3, 1, 1, 1), known.truth[0].shape)
    expected = endpoint_errors(moved, known.truth[0], known.fixed_labels.array)
    assert still["mean_voxels"] == pytest.approx(expected["mean"], abs=1e-3)
    assert still["p95_voxels"] == pytest.approx(expected["p95"], abs=1e-3)
    assert still["median"] == SECONDS
    assert "diverged" in broken["failed"]
    out = StringIO()
    print_table([*cases, still, broken], Console(file=out, width=120))
    for words in ("refined", "network", "still", "diverged", f"{cases[1]['mean_voxels']:.3f}"):
        assert words in out.getvalue()
