"""What a latency record says, from made-up times and from a real run on tiny pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.latency import describe_case, fit_growth, judge_bars, stage_rows, summarise_case
from benchmarks.request import Order, ask
from segreg.engine.timing import STAGES
from tests.benchmarks.records import answer, latency_record


def test_case() -> None:
    case = summarise_case("latency/brain", 1, answer(43, 160, 1000))
    assert case["median"] == pytest.approx(1040)
    assert case["stages"]["compute"]["median"] == pytest.approx(1010)
    assert len(case["samples"]) == len(case["stages"]["infer"]["samples"]) == 3
    assert case["cold"]["network"] == 160
    assert case["requests_per_s"] == pytest.approx(1000 / 1030)
    assert [name for name, _ in stage_rows(case)] == list(STAGES)
    assert "cold 2330 ms" in describe_case(case)


def test_bars() -> None:
    cases = [
        summarise_case(f"latency/regions/{k}", 1, answer(k, 96, ms))
        for k, ms in ((1, 100), (2, 396), (4, 400))
    ]
    cases.append(summarise_case("latency/lone/2", 1, answer(1, 96, 140)))
    cases.append(summarise_case("latency/brain", 1, answer(43, 160, 1000, infer=0.7)))
    power, regions, outside = judge_bars(cases)
    assert power["found"] == pytest.approx(1.0, abs=0.01)  # 100, 396, 400 ms of 1, 2, 4 regions
    assert regions["found"] == pytest.approx(1.1)  # two and the background 3.3 times a lone one
    assert outside["found"] == pytest.approx(0.3)
    assert not regions["met"]
    assert not outside["met"]
    assert [bar["met"] for bar in judge_bars(cases[:1])] == [None] * 3
    assert judge_bars(cases[:1] + cases[2:])[1]["met"]
    assert judge_bars(cases[1:])[1]["met"] is None  # no region alone


def test_growth() -> None:
    fits = fit_growth(latency_record()["cases"])
    assert fits["regions"]["exponent"] == pytest.approx(1)
    assert fits["voxels"]["exponent"] == pytest.approx(0.5)
    assert fits["regions"]["base"] == pytest.approx(0, abs=1e-6)


def test_command(tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--package", str(tiny_package), "--data", str(tmp_path / "none"), "--repeats", "2"]
    assert main(["latency", "--quick", *words, "--results", str(tmp_path)]) == 0
    (path,) = tmp_path.rglob("*-latency.json")
    record = json.loads(path.read_text())
    ids = [case["id"].removeprefix("latency/") for case in record["cases"]]
    assert ids == [
        "regions/1", "regions/2", "lone/2", "voxels/20", "voxels/24", "clients/1", "clients/2",
    ]  # fmt: skip
    assert [case["regions"] for case in record["cases"]] == [1, 2, 1, 2, 2, 2, 2]
    for case in record["cases"]:
        assert len(case["samples"]) == 2 * case["clients"]
        stages = {name: summary["median"] for name, summary in case["stages"].items()}
        assert {"read", "plan", "infer", "fuse", "warp", "judge", "write"} < set(stages)
        assert 0 < stages["infer"] < stages["compute"] < case["median"]
        assert case["peak_mib"] > 20
        assert min(case["cold"][name] for name in ("import", "package", "network", "total")) > 0
    assert set(record["growth"]) == {"regions", "voxels"}
    assert "brain" in record["left_out"][0]
    assert record["package"]["name"] == "tiny"
    assert "requests/s" in capsys.readouterr().out


def test_failure_of_a_fresh_process_is_told(tiny_package: Path, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{name}.nii.gz") for name in "abcd"]
    with pytest.raises(RuntimeError, match=r"a\.nii\.gz"):
        ask(Order(paths, str(tiny_package), repeats=1))
