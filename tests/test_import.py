"""What importing segreg does, and what no file of it may import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import segreg

ROOT = Path(__file__).resolve().parent.parent
INFERENCE = {"torch", "onnxruntime", "openvino", "cupy", "tensorrt", "tensorrt_rtx"}
HEAVY = INFERENCE | {"scipy", "SimpleITK", "nibabel", "typer"}
FOLDERS = ("src", "engine", "kernels", "export", "models", "benchmarks", "tests")
GENERIC = {"engine", "kernels", "export"}  # top folders, mapped into segreg


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after ``code``."""
    program = f"import sys\n{code}\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(answer.stdout.splitlines()[-1])}


def test_import_loads_nothing_heavy() -> None:
    assert not loaded_after("import segreg") & (HEAVY | {"numpy"})


def test_every_module_of_the_runtime_imports_without_inference_libraries() -> None:
    modules = [
        f"segreg.engine.{path.stem}"
        for path in sorted((ROOT / "engine").glob("*.py"))
        if path.stem != "__init__"
    ]
    modules.append("segreg.engine.backends.tensorrt")  # and all that builds and keeps engines
    assert len(modules) > 10
    loaded = loaded_after(f"import segreg.cli, segreg.kernels, {', '.join(modules)}")
    # nibabel loads scipy where it is installed, so scipy cannot be asked for here.
    assert not loaded & (INFERENCE | {"SimpleITK"})


def test_public_names() -> None:
    assert len(segreg.__all__) <= 8
    for name in segreg.__all__:
        assert getattr(segreg, name) is not None
    assert set(segreg.__all__) <= set(dir(segreg))


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = segreg.nonsense


def imported(path: Path) -> list[str]:
    """First parts of the absolute names that the file at ``path`` imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.append(node.module)
    return [name.partition(".")[0] for name in names]


def test_no_file_imports_a_top_folder_by_its_generic_name() -> None:
    """``import engine`` would load a second copy of every module."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    files += ROOT.glob("*.py")
    assert len(files) > 30
    wrong = [str(path.relative_to(ROOT)) for path in files if GENERIC & set(imported(path))]
    assert wrong == []
