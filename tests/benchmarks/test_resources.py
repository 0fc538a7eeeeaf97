"""Registers and spills, read from what nvcc printed once."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from benchmarks import resources
from benchmarks.__main__ import main
from benchmarks.record import SCHEMA
from benchmarks.resources import Usage, parse_usage, resource_cases
from benchmarks.tables import make_section

REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'warp' for 'sm_90'
ptxas info    : Function properties for warp
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 64 registers, used 0 barriers
ptxas info    : Compile time = 121.011 ms
ptxas info    : Compiling entry function 'invert' for 'sm_90'
ptxas info    : Function properties for invert
    48 bytes stack frame, 40 bytes spill stores, 36 bytes spill loads
ptxas info    : Used 72 registers, used 0 barriers, 48 bytes cumulative stack size
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'warp' for 'sm_75'
ptxas info    : Function properties for warp
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 130 registers, 456 bytes cmem[0]
"""


def test_kernels_are_read_with_their_targets() -> None:
    assert parse_usage(REPORT) == [
        Usage("invert", 90, 72, 48, 40, 36),
        Usage("warp", 75, 130, 0, 0, 0),
        Usage("warp", 90, 64, 0, 0, 0),
    ]


def test_spills_and_many_registers_do_not_fit() -> None:
    assert [usage.fits for usage in parse_usage(REPORT)] == [False, False, True]


def test_a_report_that_lacks_a_line_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected the report of one kernel.*entry function 'wa"):
        parse_usage(REPORT.replace("Used 130 registers", ""))


def test_nothing_compiled_is_nothing_found() -> None:
    assert parse_usage("nvcc warning : nothing to do\n") == []


def test_cases_name_kernel_and_target() -> None:
    case = resource_cases(parse_usage(REPORT))[0]
    assert case["id"] == "resources/invert/sm_90"
    assert (case["registers"], case["spill_loads"]) == (72, 36)


def test_the_command_records_what_the_compiler_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resources, "read_usage", lambda *_: parse_usage(REPORT))
    assert main(["resources", "--results", str(tmp_path)]) == 1  # one spills
    (path,) = tmp_path.rglob("*-resources.json")
    record = json.loads(path.read_text())
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    assert "| sm_90 | 2 | 68.0 | 72 (invert) | 76 |" in make_section(record)
    assert "invert" in capsys.readouterr().out


def test_without_a_compiler_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resources.shutil, "which", lambda _: None)
    assert main(["resources", "--results", str(tmp_path)]) == 2
    assert "Install the CUDA toolkit" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
