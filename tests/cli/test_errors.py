"""What becomes of an exception on its way to the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segreg.engine import runtime
from segreg.engine.errors import BackendError, InputError, PackageError

Segreg = Callable[..., Any]


@pytest.fixture
def failing(
    monkeypatch: pytest.MonkeyPatch, register: Segreg, tmp_path: Path
) -> Callable[..., Any]:
    """``segreg register`` whose engine raises the given exception."""

    def run(error: BaseException) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(runtime.Engine, "register", fail)
        ran = register("--quiet")
        assert not (tmp_path / "out").exists()
        return ran

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("two\nlines"), 2),
        (ValueError("two\nlines"), 2),
        (TypeError("two\nlines"), 2),
        (OSError("two\nlines"), 2),
        (BackendError("two\nlines"), 3),
        (PackageError("two\nlines"), 4),
    ],
)
def test_one_sentence_and_the_exit_code(
    failing: Callable[..., Any], error: Exception, code: int
) -> None:
    ran = failing(error)
    assert (ran.exit_code, ran.stderr) == (code, "segreg: two lines\n")


def test_no_memory(failing: Callable[..., Any]) -> None:
    ran = failing(MemoryError())
    assert ran.exit_code == 3
    assert "memory" in ran.stderr


def test_a_bug_is_called_one(failing: Callable[..., Any]) -> None:
    ran = failing(KeyError("region"))
    assert ran.exit_code == 70
    assert "KeyError: 'region'. This is a bug in segreg" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_debug_shows_the_traceback(segreg: Segreg, tmp_path: Path) -> None:
    ran = segreg("--debug", "packages", "verify", tmp_path)
    assert ran.exit_code == 4
    assert "Traceback" in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("segreg: ")


def test_version(segreg: Segreg) -> None:
    from segreg import __version__

    ran = segreg("--version")
    assert (ran.exit_code, ran.stdout) == (0, f"segreg {__version__}\n")


def test_help_names_every_command(segreg: Segreg) -> None:
    ran = segreg("--help")
    assert ran.exit_code == 0
    for command in ("register", "apply", "quality", "report", "packages", "doctor", "demo"):
        assert command in ran.stdout


def test_misspelt_command(segreg: Segreg) -> None:
    ran = segreg("regster")
    assert ran.exit_code == 2
    assert "register" in ran.stderr
