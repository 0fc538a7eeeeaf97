"""A record says on what machine, with which versions, from which commit."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

from benchmarks import record
from benchmarks.record import RESULTS, SCHEMA, describe_machine, newest_record, write_record
from tests.benchmarks.records import (
    gpu_record,
    head,
    kernels_record,
    latency_record,
    peers_record,
)

CASES = [{"id": "warp/cpu", "unit": "ms", "samples": [1.0, 2.0], "median": 1.5}]


VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
RECORDS = sorted(RESULTS.rglob("*.json"))


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "RESULTS", tmp_path / "benchmarks/results")
    (tmp_path / "benchmarks").mkdir()
    return write_record("latency", CASES, package={"name": "tiny"})


def test_has_the_keys_of_the_schema(written: Path) -> None:
    found = json.loads(written.read_text())
    assert set(found) == {
        "schema", "kind", "time", "commit", "dirty", "command", "machine", "versions",
        "package", "cases",
    }  # fmt: skip
    assert (found["schema"], found["kind"], found["cases"]) == (1, "latency", CASES)
    assert datetime.fromisoformat(found["time"]).tzinfo is not None
    assert found["command"].startswith("python ")
    assert found["versions"]["numpy"] == np.__version__
    assert {"segreg", "python"} <= set(found["versions"])
    assert found["package"] == {"name": "tiny"}


def test_command_says_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["/somewhere/python", "-m", "benchmarks", "--data", "../data", "--resume", "/a/b.jsonl"]
    monkeypatch.setattr(record.sys, "orig_argv", words)
    found = json.loads(write_record("latency", CASES, tmp_path).read_text())
    assert found["command"] == "python -m benchmarks --data ../data --resume b.jsonl"


def test_lies_in_the_machine_s_folder_under_its_time(written: Path) -> None:
    assert written.name.endswith("-latency.json")
    machine = written.parent.name
    assert str(describe_machine()["cores"]) in machine
    assert set(machine) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_machine() -> None:
    machine = describe_machine()
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert set(machine) == {"cpu", "features", "cores", "gpu"}


def test_commit_and_dirt_are_git_s(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No repository: both unknown, and no failure."""
    found = json.loads(written.read_text())
    assert found["commit"] is None
    answers: dict[tuple[str, ...], Any] = {}

    def git(*arguments: str) -> Any:
        return answers.get(arguments, "")

    monkeypatch.setattr(record, "_git", git)
    answers["rev-parse", "HEAD"] = "abc"
    results = tmp_path / "elsewhere"
    clean = json.loads(write_record("latency", CASES, results).read_text())
    assert (clean["commit"], clean["dirty"]) == ("abc", False)
    answers["status", "--porcelain", "--untracked-files=no"] = " M engine/field.py"
    assert json.loads(write_record("accuracy", CASES, results).read_text())["dirty"] is True
    assert len(list(results.rglob("*.json"))) == 2


def test_newest_of_a_kind(tmp_path: Path) -> None:
    for machine, time in (("b", "20300101T000000"), ("a", "20300102T000000")):
        (tmp_path / machine).mkdir()
        path = tmp_path / machine / f"{time}-latency.json"
        path.write_text(json.dumps({"kind": "latency", "time": time}))
    assert newest_record("latency", tmp_path) == {"kind": "latency", "time": "20300102T000000"}
    assert newest_record("kernels", tmp_path) is None


class TestSchema:
    @pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.name}")
    def test_kept_records(self, path: Path) -> None:
        VALIDATOR.validate(json.loads(path.read_text(encoding="utf-8")))

    def test_records_as_they_are_written(self, written: Path) -> None:
        assert RECORDS
        made = latency_record(), kernels_record(), gpu_record(), peers_record()
        for found in (json.loads(written.read_text()), *made):
            VALIDATOR.validate(found)

    @pytest.mark.parametrize(
        "case",
        [
            {},
            {"id": "warp"},
            {"id": "kernels/warp", "correct": False, "samples": [1.0], "median": 1.0, "unit": "ms"},
            {"id": "kernels/warp", "correct": False, "gb_per_s": 3.0},
            {"id": "kernels/warp", "samples": [1.0], "median": 1.0},
            {"id": "kernels/warp", "samples": [], "median": 1.0, "unit": "ms"},
            {"id": "kernels/warp", "median": 1.0, "unit": "ms"},
            {"id": "kernels/warp", "samples": [-1.0], "median": 1.0, "unit": "ms"},
        ],
    )
    def test_cases_that_cannot_be(self, case: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            VALIDATOR.validate({**head("kernels"), "cases": [case]})

    @pytest.mark.parametrize("key", ["commit", "machine", "cases", "versions"])
    def test_nothing_may_be_missing(self, key: str) -> None:
        found = {**head("kernels"), "cases": CASES}
        VALIDATOR.validate(found)
        del found[key]
        with pytest.raises(ValidationError, match=key):
            VALIDATOR.validate(found)
