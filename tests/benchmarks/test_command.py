"""One command line: a command's module is imported when it is chosen, and not before."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import COMMANDS, WITHOUT_RECORD, main

ROOT = Path(__file__).resolve().parents[2]


def test_a_bare_machine_can_ask_for_help() -> None:
    """Neither NumPy nor anything else is loaded before a command is chosen."""
    code = (
        "import sys, benchmarks.__main__\n"
        "assert not {'numpy', 'rich', 'scipy', 'segreg'} & set(sys.modules)\n"
        "benchmarks.__main__.main(['--help'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert all(f"\n  {name} " in run.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    "command", [name for name in COMMANDS if importlib.util.find_spec(f"benchmarks.{name}")]
)
def test_help_of_each_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    out = capsys.readouterr().out
    assert "--results" in out
    assert ("--no-record" in out) == (command not in WITHOUT_RECORD)
    assert callable(importlib.import_module(f"benchmarks.{command}").run)


@pytest.mark.parametrize("words", [[], ["speed"]])
def test_no_such_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
