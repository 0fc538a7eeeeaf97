"""The GPU benchmark where there is no GPU: what it reads, checks, writes and refuses."""

from __future__ import annotations

import argparse
import importlib.machinery
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu, gpu_checks, roofline
from benchmarks.gpu_checks import Trial, count_faults, count_results
from benchmarks.operations import OPERATIONS
from benchmarks.roofline import check_block, check_small

ROOT = Path(__file__).resolve().parent.parent.parent
SHAPE = (44, 40, 36)
LOCAL = [operation for operation in OPERATIONS if operation.margin is not None]

operations = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.id)


class FakeStream:
    """Runs what is captured at once, and again at every launch of the graph."""

    def __init__(self, **options: Any) -> None:
        self.launched = 0

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin_capture(self) -> None:
        pass

    def end_capture(self) -> Any:
        return SimpleNamespace(launch=self._launch)

    def synchronize(self) -> None:
        pass

    def _launch(self) -> None:
        self.launched += 1


class FakeEvent:
    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """NumPy in the clothes of CuPy, with clocks for events."""
    module: Any = ModuleType("cupy")
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    for name in ("arange", "asarray", "copyto", "empty", "zeros_like"):
        setattr(module, name, getattr(np, name))
    module.asnumpy = np.asarray
    module.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
    properties = {
        "name": b"Fake", "totalGlobalMem": 2**34, "major": 9, "minor": 0,
        "multiProcessorCount": 132, "l2CacheSize": 2**25,
    }  # fmt: skip
    module.cuda = SimpleNamespace(
        Event=FakeEvent,
        Stream=FakeStream,
        Device=lambda: SimpleNamespace(id=0, synchronize=lambda: None),
        get_elapsed_time=lambda begin, end: 1000 * (end.at - begin.at),
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda number: properties,
            driverGetVersion=lambda: 13000,
            CUDARuntimeError=RuntimeError,
        ),
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(roofline, "COPY_BYTES", 2**16)
    return module


@operations
def test_right_results_pass_the_checks(cupy: Any, operation: Any) -> None:
    for shape in roofline.SMALL:
        error, right = check_small(cupy, operation, shape)
        assert right
        assert error <= operation.tolerance


@pytest.mark.parametrize("operation", LOCAL, ids=lambda o: o.id)
def test_a_block_of_a_large_volume_is_checked(cupy: Any, operation: Any) -> None:
    arguments = operation.arguments(np, SHAPE)
    result = operation.call(arguments)
    result = result[0] if isinstance(result, tuple) else result
    error, right = check_block(cupy, operation, arguments, result, SHAPE)
    assert right
    assert error <= operation.tolerance
    wrong = result.copy()
    wrong[...] = wrong + 1
    assert check_block(cupy, operation, arguments, wrong, SHAPE)[1] is False


def test_nan_is_never_right() -> None:
    ours = np.array([0.0, np.nan], np.float32)
    error, right = OPERATIONS[0].compare(ours, np.zeros(2))
    assert not right
    assert np.isnan(error) or error > 0


def options(tmp_path: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, default=tmp_path)
    parser.add_argument("--no-record", action="store_true")
    gpu.add_arguments(parser)
    return parser.parse_args(["--side", "24", "--repeats", "2", *words])


SKIP = ("--skip", "tests", "memory", "resources", "engine")


def test_the_record_holds_every_operation_beside_the_copy(cupy: Any, tmp_path: Path) -> None:
    assert gpu.run(options(tmp_path, *SKIP)) == 0
    (path,) = tmp_path.glob("*/*-gpu.json")
    record = json.loads(path.read_text())
    assert record["machine"]["gpu"]["name"] == "Fake"
    assert record["machine"]["gpu"]["cuda"] == "13.0"
    by_id = {case["id"]: case for case in record["cases"]}
    copy = by_id["gpu/copy"]
    for operation in OPERATIONS:
        case = by_id[f"gpu/{operation.id}"]
        assert case["correct"]
        assert len(case["samples"]) == 2
        assert case["gb_per_s"] == pytest.approx(case["bytes"] / case["median"] / 1e6)
        assert case["share_of_copy"] == pytest.approx(case["gb_per_s"] / copy["gb_per_s"])
    ways = {key.rpartition("/")[2] for key in by_id if key.startswith("gpu/launch/")}
    assert ways == {"calls", "graph"}
    assert {bar["limit"] for bar in record["bars"]} == {0.7}
    assert len(record["bars"]) == 4


def test_a_wrong_result_gets_no_time(
    cupy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "segreg.kernels.jacobian_determinant", lambda displacement, out: out.fill(7) or out
    )
    assert gpu.run(options(tmp_path, *SKIP, "--only", "jacobian_determinant")) == 1
    (path,) = tmp_path.glob("*/*-gpu.json")
    (case,) = [c for c in json.loads(path.read_text())["cases"] if c["id"].endswith("nant")]
    assert case["correct"] is False
    assert case["max_abs_err"] > 1
    assert not {"samples", "median", "gb_per_s", "share_of_copy"} & set(case)


def test_failed_tests_and_faults_are_not_success() -> None:
    fine = Trial("tests", passed=9)
    assert gpu.succeeded([fine, Trial("memcheck", problem="not on the PATH")], [], [])
    assert not gpu.succeeded([Trial("tests", passed=9, failed=1)], [], [])
    assert not gpu.succeeded([Trial("tests")], [], [])
    assert not gpu.succeeded([fine, Trial("memcheck", passed=9, faults=2)], [], [])
    assert not gpu.succeeded([fine], [], [{"correct": False}])


@pytest.mark.parametrize("there", [False, True], ids=["no CuPy", "no device"])
def test_without_a_gpu_it_says_so(
    cupy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, there: bool
) -> None:
    if there:
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert gpu.run(options(tmp_path)) == 3
    words = capsys.readouterr().err
    assert re.fullmatch(r"expected (CuPy|a CUDA device), .*none.*\.\n", words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("last", "counts"),
    [
        ("150 passed, 12 skipped, 331 deselected in 8.21s", (150, 0, 12)),
        ("2 failed, 148 passed in 75.04s (0:01:15)", (148, 2, 0)),
        ("1 failed, 3 passed, 2 errors in 1.00s", (3, 3, 0)),
        ("12 passed in 3.00s\n========= ERROR SUMMARY: 0 errors", (12, 0, 0)),
        ("Segmentation fault", (0, 0, 0)),
    ],
)
def test_results_are_counted(last: str, counts: tuple[int, int, int]) -> None:
    found = count_results(f"...F\nFAILED test_x - 5 is not 6\n{last}\n")
    assert (found["passed"], found["failed"], found["skipped"]) == counts


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("========= ERROR SUMMARY: 0 errors", 0),
        ("========= Invalid __global__ read of size 4 bytes\n========= ERROR SUMMARY: 3 errors", 3),
        ("========= RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)", 2),
        ("no device", None),
    ],
)
def test_faults_are_counted(text: str, faults: int | None) -> None:
    assert count_faults(text) == faults


def test_a_checker_that_is_not_there_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    trial = gpu_checks.check_memory("memcheck", "warp", 1.0)
    assert trial == Trial("memcheck", problem="compute-sanitizer is not on the PATH")
    assert not trial.proven


def test_tests_of_the_engine_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    find = gpu_checks.importlib.util.find_spec
    absent = {"isal", "segreg.kernels._cpu"}
    monkeypatch.setattr(
        gpu_checks.importlib.util, "find_spec", lambda name: None if name in absent else find(name)
    )
    trial = gpu_checks.run_engine_tests(1.0)
    assert trial == Trial("engine", problem="not installed: isal, segreg.kernels._cpu")
    assert gpu.succeeded([trial], [], [])


def test_tests_that_do_not_end_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks, "_pytest", lambda: [sys.executable, "-c", "while True: pass"])
    assert gpu_checks.run_tests(0.2).problem == "not finished within 0.2 s"


BARE = """
import importlib.machinery, sys
absent = {"scipy", "SimpleITK", "hypothesis", "onnx", "nibabel", "rich", "typer", "torch", "segreg"}
class Bare(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in absent or name == "segreg.kernels._cpu":
            return None
        return super().find_spec(name, path, target)
builtin = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter]
sys.meta_path[:] = [*builtin, Bare]
sys.argv = ["pytest", *sys.argv[1:]]
"""


def bare(code: str, *arguments: str) -> str:
    """Output of a program where only NumPy and pytest are, segreg not installed, not built."""
    done = subprocess.run(
        [sys.executable, "-c", BARE + code, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_a_bare_checkout_runs_the_benchmark() -> None:
    code = "sys.path.insert(0, ''); import benchmarks.gpu, segreg.kernels as k; print(k.__file__)"
    assert bare(code).strip() == str(ROOT / "kernels" / "__init__.py")


def test_a_bare_checkout_collects_all_tests_for_a_gpu() -> None:
    command = gpu_checks._pytest()[3:]
    code = "sys.path.insert(0, ''); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    output = bare(code, "--collect-only", *command)
    found = {line.partition("::")[0] for line in output.splitlines() if "[cuda" in line}
    files = (ROOT / "tests/kernels").glob("test_*.py")
    on_machines = re.compile(r"def test_\w+\([^)]*\bmachine\b")
    here = {f"tests/kernels/{p.name}" for p in files if on_machines.search(p.read_text())}
    assert found == here
    assert len(found) >= 5
