"""Two records side by side: changes beyond noise are flagged, and nothing else is."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.comparison import compare_records, describe_changes
from benchmarks.samples import summarise
from tests.benchmarks.records import head, kernels_record, latency_record


def record(samples: dict[str, list[float]]) -> dict[str, Any]:
    cases = [
        {"id": f"kernels/{name}", "unit": "ms", "correct": True, **summarise(times)}
        for name, times in samples.items()
    ]
    return {**head("kernels"), "cases": cases}


def test_verdicts() -> None:
    steady, restless = [100.0, 101.0, 99.0, 100.0, 102.0], [100.0, 80.0, 120.0, 90.0, 110.0]
    names = ("faster", "slower", "noisy", "same")
    old = record(dict(zip(names, (steady, steady, restless, steady), strict=True)))
    changed = ([t / 2 for t in steady], [1.2 * t for t in steady], [1.2 * t for t in restless])
    new = record(dict(zip(names, (*changed, steady), strict=True)))
    changes, notes = compare_records(old, new)
    assert [change.verdict for change in changes] == ["faster", "slower", "", ""]
    assert [change.ratio for change in changes] == pytest.approx([0.5, 1.2, 1.2, 1.0])
    assert notes == []
    lines = describe_changes(changes)
    assert lines[0].endswith("faster")
    assert "0.500" in lines[0]
    assert lines[3].endswith("%")


def test_too_few_samples_say_nothing() -> None:
    (change,), _ = compare_records(record({"one": [100.0]}), record({"one": [300.0]}))
    assert (change.noise, change.verdict) == (None, "")
    assert "noise unknown" in describe_changes([change])[0]


def test_stages_are_compared_too() -> None:
    old, new = latency_record(), latency_record()
    brain = new["cases"][0]["stages"]
    brain["judge"] = summarise([3 * sample for sample in brain["judge"]["samples"]])
    changes, _ = compare_records(old, new)
    assert [change.id for change in changes if change.verdict] == ["latency/brain: judge"]


def test_what_cannot_be_compared_is_said() -> None:
    old, new = kernels_record(), copy.deepcopy(kernels_record())
    new["machine"]["cores"] = 64
    new["cases"] = new["cases"][:3]
    _, notes = compare_records(old, new)
    assert "machines differ" in notes[0]
    assert "only in the old record: kernels/jacobian_determinant" in notes
    assert "wrong in the new record, so without a time: kernels/broken" in notes
    with pytest.raises(ValueError, match="one kind, got kernels and latency"):
        compare_records(old, latency_record())


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    for path in paths:
        path.write_text(json.dumps(kernels_record()))
    assert main(["report", "--compare", *map(str, paths)]) == 0
    out = capsys.readouterr().out
    assert "kernels/warp/linear " in out
    assert "1.000 +- " in out
    assert sorted(tmp_path.iterdir()) == sorted(paths)
