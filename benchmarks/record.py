"""One JSON record a run: machine, versions, commit and raw samples."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SCHEMA = Path(__file__).parent / "schema.json"
LIBRARIES = (
    "segreg", "numpy", "nibabel", "openvino", "onnxruntime", "torch", "SimpleITK", "scipy",
    "cupy-cuda13x", "cupy-cuda12x",
)  # fmt: skip


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
        "command": " ".join(["python", *map(_without_folder, sys.orig_argv[1:])]),
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
        "gpu": describe_gpu(),
    }


def describe_gpu() -> dict[str, Any] | None:
    """The current CUDA device, as CuPy sees it; None without CuPy or without a device."""
    if importlib.util.find_spec("cupy") is None:
        return None
    import cupy

    try:
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    except cupy.cuda.runtime.CUDARuntimeError:
        return None  # installed, but no driver or no device
    version = Path("/proc/driver/nvidia/version")
    text = version.read_text() if version.exists() else ""
    driver = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d[\d.]+)", text)
    cuda = cupy.cuda.runtime.driverGetVersion()
    return {
        "name": properties["name"].decode(),
        "memory_mib": properties["totalGlobalMem"] // 2**20,
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "l2_mib": properties["l2CacheSize"] / 2**20,
        "driver": driver.group(1) if driver else None,
        "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}",
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue  # optional here; a record lists what was there
    return found


def _without_folder(word: str) -> str:
    """Where a file lies on this machine is nobody's business."""
    return Path(word).name if Path(word).is_absolute() else word


def _git(*arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    run = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, cwd=RESULTS.parent, check=False
    )
    return run.stdout.strip() if run.returncode == 0 else None
