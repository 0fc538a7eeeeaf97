"""The comparison: cases, ratios, resuming, the record."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import peers
from benchmarks.__main__ import main
from benchmarks.accuracy import MEASURES
from benchmarks.datasets import DATASETS, Pair
from benchmarks.peers import Runs, print_table, summarise
from tests.benchmarks.stand_in_tools import TOOLS

STAND_INS = {tool.id: tool for tool in TOOLS}
STILL, WRONG = STAND_INS["still"], STAND_INS["wrong"]
CONDITIONS = {"threads": 2, "limit_s": 900.0}


def row(tool: str, pair: str, seconds: float, **more: Any) -> dict[str, Any]:
    figures = dict.fromkeys((*MEASURES, "dice_before", "cpu_s", "start_s", "peak_mib"), 0.5)
    return {
        "tool": tool, "dataset": "brain", "pair": pair, "seconds": seconds, **figures,
        "correlation": 1.0, "max_abs_err": 0.0, "correct": True, **more,
    }  # fmt: skip


def failed(tool: str, pair: str) -> dict[str, Any]:
    return {"tool": tool, "dataset": "brain", "pair": pair, "failed": "stopped after 900 s"}


class TestSummarise:
    rows = (
        row("segreg", "a", 0.5), row("segreg", "b", 2.0),
        row("still", "a", 5.0, dice=0.7, peak_mib=100), row("still", "b", 60.0, dice=0.9),
        failed("wrong", "a"), row("wrong", "b", 8.0),
    )  # fmt: skip

    def case(self, tool: Any, rows: Any = rows) -> dict[str, Any]:
        (case,) = summarise(list(rows), ["brain"], [tool])
        return case

    def test_figures(self) -> None:
        case = self.case(STILL)
        assert case["id"] == "peers/brain/still"
        assert case["dice"] == pytest.approx(0.8)
        assert case["samples"] == [5.0, 60.0]
        assert case["peak_mib"] == 100
        assert (case["pairs"], case["failed"], case["correct"]) == (2, [], True)

    def test_ratio_is_taken_pair_by_pair(self) -> None:
        assert self.case(STILL)["ratio"] == pytest.approx((10 + 30) / 2)
        assert self.case(WRONG)["ratio"] == pytest.approx(4)

    def test_what_failed_has_a_reason_and_no_time(self) -> None:
        case = self.case(WRONG, [row("segreg", "a", 1.0), failed("wrong", "a")])
        assert case["failed"] == [{"pair": "a", "reason": "stopped after 900 s"}]
        assert case["correct"] is False
        assert not {"median", "samples", "dice", "ratio"} & set(case)

    def test_no_ratio_without_segreg(self) -> None:
        assert self.case(STILL, self.rows[2:])["ratio"] is None

    def test_unknown_measures_are_left_out_of_the_mean(self) -> None:
        case = self.case(STILL, [row("still", "a", 1, hd95_mm=None), row("still", "b", 1)])
        assert case["hd95_mm"] == 0.5
        assert self.case(STILL, [row("still", "a", 1, hd95_mm=None)])["hd95_mm"] is None

    def test_table(self) -> None:
        out = StringIO()
        cases = summarise(list(self.rows), ["brain"], [STILL, WRONG])
        print_table(cases, Console(file=out, width=150))
        line = next(line for line in out.getvalue().splitlines() if "Wrong" in line)
        assert "1/2" in line
        assert "4.0" in line


class TestRuns:
    def test_kept_and_found_again(self, tmp_path: Path) -> None:
        path = tmp_path / "cache/runs.jsonl"
        Runs(path, CONDITIONS).add(row("still", "a", 1.0))
        again = Runs(path, CONDITIONS)
        again.add(failed("wrong", "a"))
        third = Runs(path, CONDITIONS)
        assert third.find("still", "brain", "a") == row("still", "a", 1.0)
        assert third.find("wrong", "brain", "a") == failed("wrong", "a")
        assert third.find("still", "brain", "b") is None
        assert third.find("still", "cardiac", "a") is None

    def test_other_conditions_are_refused(self, tmp_path: Path) -> None:
        Runs(tmp_path / "runs.jsonl", CONDITIONS)
        with pytest.raises(ValueError, match=r"expected runs under .*another file"):
            Runs(tmp_path / "runs.jsonl", CONDITIONS | {"threads": 4})

    def test_nothing_is_kept_without_a_file(self) -> None:
        runs = Runs(None, CONDITIONS)
        runs.add(row("still", "a", 1.0))
        assert runs.find("still", "brain", "a") is not None


@pytest.fixture
def harness(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins instead of tools, one pair instead of data; the folder of the records."""
    monkeypatch.setitem(DATASETS, "brain", lambda root: iter([pair, pair]))
    tools = {"segreg": STILL, **{id: STAND_INS[id] for id in ("wrong", "absent")}}
    monkeypatch.setattr(peers, "TOOLS", tools)
    monkeypatch.setattr(STILL, "id", peers.OURS)
    return tmp_path / "results"


def run(*words: str) -> int:
    return main(["peers", "--datasets", "brain", "--pairs", "1", *words])


def test_command(
    harness: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def try_tool(tool: Any, pair: Pair, threads: int, limit: float) -> dict[str, Any]:
        asked.append((tool.id, pair.id, threads, limit))
        return {"failed": "no"} if tool.id == "wrong" else row("", "", 1.0)

    monkeypatch.setattr(peers, "try_tool", try_tool)
    words = ("--tools", "wrong", "absent", "--resume", str(tmp_path / "runs.jsonl"))
    words += ("--results", str(harness))
    assert run(*words) == 1, "one tool gave nothing that can be used"
    assert asked == [("segreg", "phantom", 2, 900), ("wrong", "phantom", 2, 900)]
    (path,) = harness.rglob("*.json")
    found = json.loads(path.read_text())
    assert found["kind"] == "peers"
    assert found["absent"] == {"absent": "not installed: segreg-tool-that-nobody-wrote"}
    assert [case["tool"] for case in found["cases"]] == ["segreg", "wrong"]
    assert found["peer_versions"]["SimpleITK"]
    assert (found["threads"], found["limit_s"]) == (2, 900)
    assert "absent is left out" in capsys.readouterr().out
    run(*words, "--no-record")
    assert len(asked) == 2, "a finished run is not repeated"
    assert len(list(harness.rglob("*.json"))) == 1
