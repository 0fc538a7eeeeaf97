"""A small pair as files, and ``segreg`` as a function."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segreg.cli.commands import app
from segreg.engine.phantom import Phantom, make_phantom

Segreg = Callable[..., Any]


@pytest.fixture
def own_package(tiny_package: Path, tmp_path: Path) -> Path:
    """A copy of the tiny package that a test may damage."""
    return Path(shutil.copytree(tiny_package, tmp_path / "own"))


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return make_phantom((24, 30, 27), (5.0, 4.0, 4.0))


@pytest.fixture(scope="session")
def pair(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The phantom's volumes as files, by option, and its true field as ``truth``."""
    folder = tmp_path_factory.mktemp("pair")
    paths = {}
    for side in ("fixed", "moving", "fixed_labels", "moving_labels", "truth"):
        path = folder / f"{side}.nii.gz"
        getattr(phantom, side).write(path)
        paths[side] = path
    return paths


@pytest.fixture
def segreg() -> Segreg:
    """Runs ``segreg`` with the words given: ``exit_code``, ``stdout``, ``stderr``."""
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture
def register(segreg: Segreg, pair: dict[str, Path], tiny_package: Path, tmp_path: Path) -> Segreg:
    """``segreg register`` on the pair into ``tmp_path / "out"``; options given replace its own."""

    def run(*words: object, **replaced: object) -> Any:
        options: dict[str, object] = {name: pair[name] for name in pair if name != "truth"}
        options |= {"package": tiny_package, "output": tmp_path / "out", **replaced}
        named = [(f"--{name.replace('_', '-')}", value) for name, value in options.items()]
        return segreg("register", *(part for option in named for part in option), *words)

    return run
