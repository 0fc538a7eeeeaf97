"""The kernel tests on a GPU, in processes of their own: plain, and under compute-sanitizer."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.checkout import ROOT

TESTS = "tests/kernels"
ENGINE_TESTS = ("tests/engine/test_on_device.py", "tests/engine/test_gpu_backends.py")
ENGINE_NEEDS = (
    "nibabel", "isal", "jsonschema", "onnx", "onnxruntime", "segreg.kernels._cpu",
)  # fmt: skip
CHECKERS = ("memcheck", "racecheck")
CHECKED = "agrees_with_reference"  # tests to run under them: every operation, in a few minutes
FAULTS_FOUND = 9  # exit code of compute-sanitizer


@dataclass(frozen=True)
class Trial:
    """What one run of the tests said."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    faults: int | None = None
    """Wrong accesses or hazards that the checker counted; None if there was no count."""
    problem: str | None = None
    """Why there is no proof; None if there is."""

    @property
    def proven(self) -> bool:
        return self.problem is None and self.passed > 0 and not self.failed and not self.faults

    def describe(self) -> str:
        """One line for the terminal."""
        words = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        words += "" if self.faults is None else f", {self.faults} faults"
        return f"{self.name:10} {words}{'' if self.problem is None else f': {self.problem}'}"


def run_tests(timeout: float) -> Trial:
    """Every GPU test of the kernels; a skip for want of a GPU is a failure."""
    return _finish("tests", _pytest(), timeout, checked=False)


def run_engine_tests(timeout: float) -> Trial:
    """The GPU tests of whole registrations, if what they need is installed."""
    missing = [name for name in ENGINE_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        return Trial("engine", problem=f"not installed: {', '.join(missing)}")
    return _finish("engine", [*_command(), *ENGINE_TESTS], timeout, checked=False)


def check_memory(checker: str, selected: str, timeout: float) -> Trial:
    """The ``selected`` tests under one tool of compute-sanitizer."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return Trial(checker, problem="compute-sanitizer is not on the PATH")
    command = [program, "--tool", checker, "--error-exitcode", str(FAULTS_FOUND)]
    # CuPy's memory pool would hide an access behind the end of an array.
    command += [*_pytest(), "-p", "benchmarks.allocations", "-k", selected]
    return _finish(checker, command, timeout, checked=True)


def _pytest() -> list[str]:
    # The conftest of all tests asks for what the engine needs.
    return [*_command(), "--confcutdir", TESTS, TESTS]


def _command() -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "benchmarks.checkout"]
    return [*command, "-p", "no:cacheprovider"]


def _finish(name: str, command: list[str], timeout: float, *, checked: bool) -> Trial:
    environment = {**os.environ, "SEGREG_REQUIRE_GPU": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Trial(name, problem=f"not finished within {timeout:g} s")
    output = done.stdout + done.stderr
    counts = count_results(output)
    faults = count_faults(output) if checked else None
    problem = None
    if checked and faults is None:
        problem = f"no summary of faults; it ended with {done.returncode}"
    elif done.returncode != 0:
        lines = output.strip().splitlines()[-12:]
        problem = f"ended with {done.returncode}: " + "\n".join(lines)
    return Trial(name, **counts, faults=faults, problem=problem)


def count_results(output: str) -> dict[str, int]:
    """Numbers of tests that passed, failed (errors included) and were skipped."""
    lines = [line for line in output.splitlines() if re.search(r"\bin \d+(\.\d+)?s\b", line)]
    found = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", lines[-1])} if lines else {}
    failed = sum(found.get(word, 0) for word in ("failed", "error", "errors"))
    return {
        "passed": found.get("passed", 0),
        "failed": failed,
        "skipped": found.get("skipped", 0),
    }


def count_faults(output: str) -> int | None:
    """Sum of compute-sanitizer's summaries; None if there is none."""
    errors: list[Any] = re.findall(r"ERROR SUMMARY: (\d+) error", output)
    errors += re.findall(r"RACECHECK SUMMARY: (\d+) hazard", output)
    return sum(map(int, errors)) if errors else None
