"""Makes ``segreg`` importable from a bare checkout, where it is not installed.

Importing this module is enough, also as a pytest plugin: ``pytest -p benchmarks.checkout``. What
needs no compiled extension, as the kernels on CuPy arrays, then runs without building anything.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def make_importable() -> None:
    """Load ``src/segreg`` with the top folders as its packages, unless segreg is installed."""
    if importlib.util.find_spec("segreg") is not None:
        return
    face = ROOT / "src" / "segreg"
    spec = importlib.util.spec_from_file_location(
        "segreg", face / "__init__.py", submodule_search_locations=[str(face), str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["segreg"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["segreg"])


make_importable()
