"""The README's walk from a foreign network to a registered pair, as it is printed there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.export.foreign.released import load

README = Path(__file__).resolve().parents[3] / "README.md"
HEADING = "## Deploy your own network\n"


@pytest.fixture
def blocks() -> dict[str, list[str]]:
    """Code blocks of the section by language."""
    section = README.read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    found: dict[str, list[str]] = {}
    for language, text in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL):
        found.setdefault(language, []).append(text)
    return found


def test_walk(blocks: dict[str, list[str]], sides: Any, tmp_path: Path) -> None:
    load("voxelmorph")
    names = ("ed", "es", "ed_labels", "es_labels")
    for volume, name in zip(sides, names, strict=True):
        volume.write(tmp_path / f"{name}.nii.gz")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ran.returncode in (0, 1), ran.stderr  # 1: an untrained network fails the verdict
        return ran

    run("-c", blocks["python"][0])
    for name, text in zip(("vxm.json", "vxm-spec.json"), blocks["json"], strict=True):
        (tmp_path / name).write_text(text)
    commands = blocks["console"][0].replace("\\\n", " ").splitlines()
    said = []
    for command in commands:
        prompt, program, *words = shlex.split(command)
        assert (prompt, program) == ("$", "segreg")
        said.append(run("-m", "segreg", *words))
    assert "conventions: not measurable" in said[0].stderr  # nobody trained it
    assert said[0].stdout.startswith("vxm 0.1.0 written, parity in ")
    table = (tmp_path / "vxm/docs/parity.md").read_text()
    assert "Verdict: **passed**" in table
    assert "| onnxruntime | float32 |" in table
    assert (tmp_path / "result/displacement.nii.gz").is_file()
