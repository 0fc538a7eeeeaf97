"""One JSON record a run: machine, versions, commit and raw samples."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SCHEMA = Path(__file__).parent / "schema.json"
LIBRARIES = ("segreg", "numpy", "nibabel", "openvino", "onnxruntime", "torch", "SimpleITK", "scipy")


def write_record(
    kind: str, cases: list[dict[str, Any]], results: Path | None = None, **context: Any
) -> Path:
    """Write ``cases`` as a record of ``kind`` and return its path.

    ``results`` is the folder that holds a folder per machine; None is the repository's own.
    """
    now = datetime.now(timezone.utc)
    machine = describe_machine()
    name = re.sub(r"[^a-z0-9]+", "-", f"{machine['cpu']} {machine['cores']}".lower())
    folder = (RESULTS if results is None else results) / name
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "schema": 1,
        "kind": kind,
        "time": now.isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "machine": machine,
        "versions": _versions(),
        **context,
        "cases": cases,
    }
    path = folder / f"{now:%Y%m%dT%H%M%S}-{kind}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def newest_record(kind: str, results: Path | None = None) -> dict[str, Any] | None:
    """The record of ``kind`` that was written last, on any machine; None where there is none."""
    folder = RESULTS if results is None else results
    paths = sorted(folder.glob(f"*/*-{kind}.json"), key=lambda path: path.name)
    return read_record(paths[-1]) if paths else None


def read_record(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def describe_machine() -> dict[str, Any]:
    """Processor, its vector extensions, cores."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    name = re.search(r"model name\s*:\s*(.+)", text)
    flags = re.search(r"flags\s*:\s*(.+)", text)
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
    return {
        "cpu": name.group(1).strip() if name else platform.processor() or platform.machine(),
        "features": [f for f in wanted if flags and f in flags.group(1).split()],
        "cores": os.cpu_count(),
        "gpu": None,
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue  # optional here; a record lists what was there
    return found


def _git(*arguments: str) -> str | None:
    run = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, cwd=RESULTS.parent, check=False
    )
    return run.stdout.strip() if run.returncode == 0 else None
