"""What the CUDA kernels take of a multiprocessor: registers and spills, read from the compiler.

Needs nvcc and no GPU: ``python -m benchmarks resources``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.checkout import ROOT
from benchmarks.record import write_record

KERNELS = ROOT / "kernels"
TARGETS = (75, 80, 86, 90, 100, 120)
"""Compute capabilities, times ten: Turing to Blackwell."""

MOST_REGISTERS = 128  # of a thread: four blocks of 128 then share a multiprocessor

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)'")
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")


@dataclass(frozen=True)
class Usage:
    """One kernel, compiled for one target."""

    kernel: str
    target: int
    registers: int
    stack: int
    """Bytes a thread keeps in local memory."""
    spill_stores: int
    """Bytes written there for want of registers."""
    spill_loads: int

    @property
    def fits(self) -> bool:
        """Whether nothing is spilled and enough threads fit on a multiprocessor."""
        return not self.spill_stores + self.spill_loads and self.registers <= MOST_REGISTERS


def parse_usage(text: str) -> list[Usage]:
    """The kernels of what ``nvcc -Xptxas -v`` prints.

    Raises
    ------
    ValueError
        If a kernel's lines are not complete.
    """
    found = []
    for part in text.split("ptxas info    : Compiling")[1:]:
        part = "Compiling" + part
        entry, memory, registers = (p.search(part) for p in (_ENTRY, _MEMORY, _REGISTERS))
        if not (entry and memory and registers):
            raise ValueError(f"expected the report of one kernel from ptxas -v, got {part!r}.")
        stack, stores, loads = map(int, memory.groups())
        usage = Usage(entry[1], int(entry[2]), int(registers[1]), stack, stores, loads)
        found.append(usage)
    return sorted(found, key=lambda usage: (usage.kernel, usage.target))


def read_usage(
    sources: Sequence[Path],
    bodies: Path,
    *,
    targets: Sequence[int] = TARGETS,
    wide: bool = False,
) -> list[Usage]:
    """Compile ``sources`` for all targets with one call of nvcc; warnings are errors.

    Raises
    ------
    FileNotFoundError
        Without nvcc.
    RuntimeError
        If they do not compile; the message is the compiler's.
    """
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise FileNotFoundError("expected nvcc on the PATH, found none. Install the CUDA toolkit.")
    options = ["-std=c++17", "-fatbin", "-Werror=all-warnings", "--threads=0", "-Xptxas=-v"]
    options += [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in targets]
    options += [f"-I{bodies}", *([] if wide else ["-DSEGREG_NARROW"])]
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, *options, *map(str, sources)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"nvcc ended with {done.returncode}:\n{done.stderr}")
    return parse_usage(done.stdout + done.stderr)


def resource_cases(usages: Sequence[Usage]) -> list[dict[str, Any]]:
    """The table of a record, one case a kernel and target."""
    return [
        {"id": f"resources/{usage.kernel}/sm_{usage.target}", **asdict(usage)} for usage in usages
    ]


def read_resources() -> tuple[list[Usage], str | None]:
    """Registers and spills of every kernel and target, or why they could not be read."""
    sources = sorted((KERNELS / "cuda").glob("*.cu"))
    try:
        return read_usage(sources, KERNELS / "bodies"), None
    except (FileNotFoundError, RuntimeError) as error:
        return [], str(error)


def print_resources(usages: list[Usage], missing: str | None) -> None:
    """Registers of each kernel, one column a target; "!" marks spills or too many."""
    if missing is not None:
        print(f"registers: {missing}", flush=True)
        return
    print(f"{'registers':28}" + "".join(f"{f'sm_{target}':>8}" for target in TARGETS))
    for kernel in dict.fromkeys(usage.kernel for usage in usages):
        own = [usage for usage in usages if usage.kernel == kernel]
        cells = [f"{usage.registers}{'' if usage.fits else '!'}" for usage in own]
        print(f"{kernel:28}" + "".join(f"{cell:>8}" for cell in cells), flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none of its own."""


def run(options: argparse.Namespace) -> int:
    """Compile, print and record; 1 if a kernel spills or takes too many, 2 without a compiler."""
    usages, missing = read_resources()
    if missing is not None:
        print(missing, file=sys.stderr)
        return 2
    print_resources(usages, missing)
    if not options.no_record:
        print(f"record: {write_record('resources', resource_cases(usages), options.results)}")
    return int(not all(usage.fits for usage in usages))
