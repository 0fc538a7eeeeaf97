"""A record says on what machine, with which versions, from which commit."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import record
from benchmarks.record import describe_machine, write_record

CASES = [{"id": "warp/cpu", "unit": "ms", "samples": [1.0, 2.0], "median": 1.5}]


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


def test_commit_and_dirt_are_git_s(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository: both unknown, and no failure."""
    found = json.loads(written.read_text())
    assert found["commit"] is None
    answers: dict[tuple[str, ...], Any] = {}

    def git(*arguments: str) -> Any:
        return answers.get(arguments, "")

    monkeypatch.setattr(record, "_git", git)
    answers["rev-parse", "HEAD"] = "abc"
    clean = json.loads(write_record("latency", CASES).read_text())
    assert (clean["commit"], clean["dirty"]) == ("abc", False)
    answers["status", "--porcelain", "--untracked-files=no"] = " M engine/field.py"
    assert json.loads(write_record("accuracy", CASES).read_text())["dirty"] is True
