"""What this machine has for segreg: processor, memory, accelerator."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

# Kernel's flag names -> what people call them; those that matter for inference on a CPU.
FEATURES = {
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 bf16",
    "avx_vnni": "AVX VNNI",
    "amx_tile": "AMX",
    "amx_bf16": "AMX bf16",
    "amx_int8": "AMX int8",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "bf16",
    "i8mm": "int8 matrix",
}
GPU_QUERY = "name,memory.total,driver_version,compute_cap"


@dataclass(frozen=True)
class Machine:
    """Facts about the machine; None where the system does not tell.

    Attributes
    ----------
    features : instruction sets of the processor that matter here.
    threads : hardware threads this process may use.
    gpus : one line per GPU; empty where there is none.
    gpu_reason : why no GPU was found, None where one was.
    """

    system: str
    python: str
    cpu: str
    features: tuple[str, ...] | None
    threads: int
    memory_gib: float | None
    free_memory_gib: float | None
    gpus: tuple[str, ...]
    gpu_reason: str | None


def describe_machine() -> Machine:
    """Look at the machine this process runs on."""
    model, flags = _read_cpuinfo(Path("/proc/cpuinfo"))
    memory = _read_meminfo(Path("/proc/meminfo"))
    gpus, gpu_reason = _ask_gpus()
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        cpu=model or platform.processor() or platform.machine(),
        features=None
        if flags is None
        else tuple(name for flag, name in FEATURES.items() if flag in flags),
        threads=_usable_threads(),
        memory_gib=memory.get("MemTotal"),
        free_memory_gib=memory.get("MemAvailable"),
        gpus=gpus,
        gpu_reason=gpu_reason,
    )


def processor_flags() -> frozenset[str] | None:
    """Instruction sets of the processor, as Linux names them; None where the system is silent."""
    return _read_cpuinfo(Path("/proc/cpuinfo"))[1]


def describe_cupy() -> tuple[str | None, str | None]:
    """Version of CuPy, which holds the arrays of a GPU, and why it cannot be used here."""
    if find_spec("cupy") is None:
        return None, "CuPy is not installed; pip install 'segreg[gpu]' brings it"
    try:
        cupy = importlib.import_module("cupy")
        devices = int(cupy.cuda.runtime.getDeviceCount())
    except ImportError as error:
        return None, f"CuPy cannot be imported ({error})"
    except RuntimeError as error:  # CuPy's CUDA errors
        return str(cupy.__version__), f"CuPy finds no GPU ({error})"
    return str(cupy.__version__), None if devices else "CuPy finds no GPU"


def _usable_threads() -> int:
    if hasattr(os, "sched_getaffinity"):  # containers may allow fewer than the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_cpuinfo(path: Path) -> tuple[str | None, frozenset[str] | None]:
    """Model name and flags of the first processor, as Linux lists them."""
    if not path.is_file():
        return None, None
    entries: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            entries.setdefault(key.strip(), value.strip())
    flags = entries.get("flags", entries.get("Features"))
    return entries.get("model name"), None if flags is None else frozenset(flags.split())


def _read_meminfo(path: Path) -> dict[str, float]:
    """Entries in GiB; the file counts in KiB."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {key: int(value.split()[0]) / (1 << 20) for key, _, value in pairs if value.strip()}


def _ask_gpus() -> tuple[tuple[str, ...], str | None]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), "no NVIDIA driver: nvidia-smi is not on the path"
    try:
        answer = subprocess.run(
            [program, f"--query-gpu={GPU_QUERY}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return (), f"nvidia-smi does not answer ({type(error).__name__})"
    gpus = tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())
    return gpus, None if gpus else "nvidia-smi lists no GPU"
