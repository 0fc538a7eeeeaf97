"""The speed of kernels is measured only where their results are right."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import kernels
from benchmarks.__main__ import main
from benchmarks.kernels import compare, describe_case, judge_bars, measure, time_in_turn
from benchmarks.operation import Operation
from benchmarks.operations import OPERATIONS
from benchmarks.outside import OUTSIDE
from benchmarks.outside.base import Outside, values
from segreg.kernels import get_threads, set_threads

BY_ID = {operation.id: operation for operation in OPERATIONS}
SHAPE = (19, 22, 25)
PAIRS = [(id, other.name) for id in BY_ID for other in OUTSIDE.get(id, ())]


@pytest.fixture(autouse=True)
def _restore_threads() -> Any:
    before = get_threads()
    yield
    set_threads(before)


@pytest.mark.parametrize(("id", "name"), PAIRS)
def test_outside_implementations_agree(id: str, name: str) -> None:
    operation = BY_ID[id]
    other = next(other for other in OUTSIDE[id] if other.name == name)
    pytest.importorskip(re.split("[ ,]", name)[0])
    arguments = operation.arguments(np, SHAPE)
    mask = None if other.where is None else other.where(arguments)
    assert mask is None or mask.mean() > 0.05
    found = values(operation.call(arguments))
    theirs = other.prepare({**operation.inputs(SHAPE), **operation.options}, 1)()
    error, right = compare(found, theirs, operation, other.tolerance, mask)
    assert right, error
    wrong = compare(found + 1, theirs, operation, other.tolerance, mask)
    assert not wrong[1]


class TestCompare:
    operation = replace(BY_ID["warp/linear"], tolerance=0.1, ties=0.0)
    ours = np.arange(10.0)

    def test_within_the_tolerance(self) -> None:
        error, right = compare(self.ours, self.ours + 0.05, self.operation)
        assert (right, error) == (True, pytest.approx(0.05))

    def test_one_value_is_enough_to_be_wrong(self) -> None:
        theirs = self.ours.copy()
        theirs[3] = -1
        assert compare(self.ours, theirs, self.operation) == (4.0, False)
        assert compare(self.ours, theirs, self.operation, where=self.ours > 3) == (0.0, True)

    def test_nan_is_wrong(self) -> None:
        theirs = self.ours.copy()
        theirs[3] = np.nan
        assert not compare(self.ours, theirs, self.operation)[1]

    def test_ties(self) -> None:
        theirs = self.ours.copy()
        theirs[3] = -1
        assert compare(self.ours, theirs, replace(self.operation, ties=0.1)) == (0.0, True)
        theirs[4] = -1
        assert not compare(self.ours, theirs, replace(self.operation, ties=0.1))[1]

    def test_shapes(self) -> None:
        with pytest.raises(ValueError, match="from outside"):
            compare(self.ours, self.ours[None], self.operation)


def test_runs_take_turns_within_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    order: list[str] = []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def make(name: str, seconds: float) -> Any:
        def run() -> None:
            order.append(name)
            clock[0] += seconds

        return run

    runs = {"ours": make("ours", 0.5), "copy": make("copy", 11.0), "slow": make("slow", 6.0)}
    times = time_in_turn(runs, 4)
    assert order[:6] == ["ours", "copy", "slow"] * 2
    assert times["ours"] == pytest.approx([500.0] * 4)
    assert times["copy"] == pytest.approx([11000.0] * 4)
    assert times["slow"] == pytest.approx([6000.0] * 2)


def test_wrong_result_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "PAUSE", 0.0)

    class Wrong(Operation):
        def call(self, arguments: Any) -> Any:
            return super().call(arguments) + 1

    operation = Wrong(**{**BY_ID["jacobian_determinant"].__dict__})
    (case,) = measure(operation, SHAPE, 1, 3)
    assert case["correct"] is False
    assert case["max_abs_err"] == pytest.approx(1, abs=1e-3)
    assert not {"samples", "median", "gb_per_s"} & set(case)
    assert "WRONG" in describe_case(case)
    assert all(bar["met"] is None for bar in judge_bars([case]))


def test_result_that_depends_on_the_threads_is_wrong() -> None:
    class Restless(Operation):
        def call(self, arguments: Any) -> Any:
            return super().call(arguments) + np.float32(get_threads() * 1e-6)

    operation = Restless(**{**BY_ID["jacobian_determinant"].__dict__})
    first, one, two = measure(operation, SHAPE, 1, 3)
    assert first["correct"]
    assert one["correct"]
    assert two["correct"] is False
    assert "samples" not in two


def test_absent_library_leaves_its_comparison_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(arguments: Any, threads: int) -> Any:
        raise ImportError("no module named fast")

    monkeypatch.setitem(OUTSIDE, "jacobian_determinant", (Outside("fast", prepare),))
    case = measure(BY_ID["jacobian_determinant"], SHAPE, 1, 1)[0]
    assert case["left_out"] == [{"name": "fast", "reason": "no module named fast"}]
    assert case["correct"]
    assert case["checked_against"].startswith("reference")
    assert "no fast" in describe_case(case)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--shape", *map(str, SHAPE), "--repeats", "2", "--results", str(tmp_path)]
    only = ["jacobian_determinant", "fuse_fields"]
    assert main(["kernels", *words, "--only", *only]) == 0
    (path,) = tmp_path.rglob("*-kernels.json")
    record = json.loads(path.read_text())
    cases = {case["id"]: case for case in record["cases"]}
    assert len(cases) == 6
    case = cases["kernels/jacobian_determinant"]
    assert len(case["samples"]) == len(case["outside"][0]["samples"]) == 2
    assert case["bytes"] == 4 * 4 * np.prod(SHAPE)
    assert case["gb_per_s"] == pytest.approx(case["bytes"] / case["median"] / 1e6)
    ratio = case["gb_per_s"] / case["copy"]["gb_per_s"]
    assert case["share_of_copy"] == pytest.approx(ratio)
    one, two = (cases[f"kernels/fuse_fields/threads/{n}"] for n in (1, 2))
    assert one["digest"] == two["digest"]
    bars = {bar["what"]: bar["met"] for bar in record["bars"]}
    assert bars["jacobian_determinant: times faster than numpy gradient"] is not None
    assert bars["warp/linear: times faster than torch grid_sample"] is None
    assert "of copy" in capsys.readouterr().out


def test_wrong_kernel_fails_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = replace(BY_ID["jacobian_determinant"], tolerance=-1.0)
    monkeypatch.setattr(kernels, "OPERATIONS", (operation,))
    words = ["--shape", *map(str, SHAPE), "--repeats", "1", "--results", str(tmp_path)]
    assert main(["kernels", *words]) == 1
    (path,) = tmp_path.rglob("*-kernels.json")
    assert [case["correct"] for case in json.loads(path.read_text())["cases"]] == [False]
