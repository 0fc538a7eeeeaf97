"""``export_model.py`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segreg.engine.package import load_package

ROOT = Path(__file__).resolve().parents[2]


def run(material: Any, tmp_path: Path, **replaced: object) -> subprocess.CompletedProcess[str]:
    (tmp_path / "spec.json").write_text(json.dumps(material.spec))
    options: dict[str, object] = {
        "network": "tests.export.conftest:SmallNetwork",
        "weights": material.weights,
        "spec": tmp_path / "spec.json",
        "card": material.card,
        "licence": material.licence,
        "output": tmp_path / "small",
        **replaced,
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return subprocess.run(
        [sys.executable, "export_model.py", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_writes_a_package(material: Any, tmp_path: Path) -> None:
    ran = run(material, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("small 0.1.0 written, parity in docs/parity.json\n")
    assert load_package(tmp_path / "small").metadata == material.spec


@pytest.mark.parametrize(
    ("replaced", "code", "sentence"),
    [
        ({"weights": "nowhere.pt"}, 4, "export_model: nowhere.pt: not the state dict of"),
        ({"spec": "LICENSE"}, 2, "export_model: "),
    ],
)
def test_refuses_in_one_sentence(
    material: Any, tmp_path: Path, replaced: dict[str, object], code: int, sentence: str
) -> None:
    ran = run(material, tmp_path, **replaced)
    assert ran.returncode == code
    assert ran.stderr.startswith(sentence)
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "small").exists()
