"""Everything that a GPU must prove: tests, memory checks, registers, bandwidth and latency.

Needs Python, NumPy, CuPy, pytest and, for two of its parts, the CUDA toolkit; segreg itself need
not be installed, nor its extension built. Whole registrations need what the engine does (nibabel,
isal, jsonschema, onnxruntime; onnx) and take any library that runs networks on the GPU; the
comparison with the CPU needs the extension. A part whose tool is missing says so in the record.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu_checks import (
    CHECKED,
    CHECKERS,
    Trial,
    check_memory,
    run_engine_tests,
    run_tests,
)
from benchmarks.operations import OPERATIONS
from benchmarks.record import write_record
from benchmarks.resources import Usage, print_resources, read_resources, resource_cases
from benchmarks.roofline import Stopwatch, measure_copy, measure_launches, measure_operation
from benchmarks.samples import describe_bar

NO_GPU = 3  # exit code
SHARE = 0.7  # of the copy's bandwidth
BARS = ("warp/linear", "fuse_fields", "integrate/7", "jacobian_determinant")
LAUNCHED = ("warp/linear", "jacobian_determinant")  # whose launch overhead is measured
LAUNCH_SHAPE = (64, 64, 64)  # small enough that launching is most of the time
PARTS = ("tests", "memory", "resources", "engine")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ids = [operation.id for operation in OPERATIONS]
    parser.add_argument("--side", type=int, default=256, help="voxels per axis of the volumes")
    parser.add_argument("--repeats", type=int, default=30, help="samples of each time")
    parser.add_argument("--only", nargs="+", choices=ids, default=ids, metavar="OPERATION")
    parser.add_argument("--checked", default=CHECKED, help="tests to check memory in, as pytest -k")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one run of tests")
    parser.add_argument("--skip", nargs="+", choices=PARTS, default=[], metavar="PART")
    parser.add_argument(
        "--engine-side", type=int, default=192, help="voxels per axis of whole registrations"
    )
    parser.add_argument("--package", default="shapes")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))


def run(options: argparse.Namespace) -> int:
    problem = find_problem()
    if problem is not None:
        print(problem, file=sys.stderr)
        return NO_GPU
    trials = []
    if "tests" not in options.skip:
        trials.append(run_tests(options.timeout))
        if "engine" not in options.skip:
            trials.append(run_engine_tests(options.timeout))
    if "memory" not in options.skip:
        trials += [check_memory(tool, options.checked, options.timeout) for tool in CHECKERS]
    for trial in trials:
        print(trial.describe(), flush=True)
    usages, missing = ([], "skipped") if "resources" in options.skip else read_resources()
    print_resources(usages, missing)
    cases = measure(options)
    bars = judge_bars(cases)
    left_out: list[str] = []
    if "engine" not in options.skip:
        more, promises, left_out = measure_registrations(cases[0], options)
        cases, bars = cases + more, bars + promises
    record = {
        "trials": [vars(trial) | {"proven": trial.proven} for trial in trials],
        "resources": resource_cases(usages),
        "resources_missing": missing,
        "bars": bars,
        "left_out": left_out,
    }
    if not options.no_record:
        print(f"record: {write_record('gpu', cases, options.results, **record)}")
    return int(not succeeded(trials, usages, cases))


def find_problem() -> str | None:
    """Why nothing can be measured here, in a sentence; None if it can."""
    if importlib.util.find_spec("cupy") is None:
        return "expected CuPy, found none: install cupy-cuda13x on a machine with a GPU."
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"expected a CUDA device, CuPy finds none: {error}."
    return None if count else "expected a CUDA device, CuPy finds none."


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The copy, every operation beside it, and what launching costs."""
    import cupy

    watch = Stopwatch(cupy)
    copy = measure_copy(cupy, watch, options.repeats)
    cases = [copy]
    print(describe_case(copy), flush=True)
    shape = (options.side, options.side, options.side)
    for operation in OPERATIONS:
        if operation.id not in options.only:
            continue
        case = measure_operation(cupy, operation, shape, watch, options.repeats)
        if case["correct"] and copy["correct"]:
            case["share_of_copy"] = case["gb_per_s"] / copy["gb_per_s"]
        print(describe_case(case), flush=True)
        cases.append(case)
        cupy.get_default_memory_pool().free_all_blocks()
    launched = [operation for operation in OPERATIONS if operation.id in LAUNCHED]
    for case in measure_launches(cupy, launched, LAUNCH_SHAPE, options.repeats):
        print(describe_case(case), flush=True)
        cases.append(case)
    return cases


def measure_registrations(
    copy: dict[str, Any], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Whole registrations; what cannot be measured is said."""
    import cupy

    try:
        from benchmarks import gpu_engine
    except ImportError as error:
        return [], [], [f"engine: {error}; pip install it beside CuPy"]
    found = gpu_engine.measure_engine(cupy, Stopwatch(cupy), copy, options)
    for case in found[0]:
        print(describe_case(case), flush=True)
    for line in [*map(describe_bar, found[1]), *found[2]]:
        print(line, flush=True)
    return found


def judge_bars(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The promises about bandwidth, kept or not."""
    by_id = {case["id"]: case for case in cases}
    bars = []
    for operation in BARS:
        found = by_id.get(f"gpu/{operation}", {}).get("share_of_copy")
        met = None if found is None else bool(found >= SHARE)
        what = f"{operation}: share of the copy's bandwidth"
        bars.append({"what": what, "limit": SHARE, "found": found, "met": met})
    return bars


def succeeded(
    trials: list[Trial], usages: list[Usage], cases: list[dict[str, Any]]
) -> bool:
    """Whether nothing that was tried is wrong; what could not be tried is no fault."""
    wrong = [trial for trial in trials if trial.failed or trial.faults]
    wrong += [trial for trial in trials if trial.name == "tests" and not trial.proven]
    return not wrong and all(u.fits for u in usages) and all(c.get("correct", True) for c in cases)


def describe_case(case: dict[str, Any]) -> str:
    """One line for the terminal."""
    name = f"{case['id'].removeprefix('gpu/'):44}"
    if not case.get("correct", True):
        return f"{name} WRONG: differs by {case.get('max_abs_err', float('nan')):.3g}"
    if "median" not in case:
        error = case.get("max_abs_err")
        return f"{name} {case['problem'] if error is None else f'differs by {error:.3g}'}"
    words = f"{name} {case['median']:9.4f} ms"
    if "floor_ms" in case:
        words += f" {case['floor_ms']:9.4f} ms at least"
    if "gb_per_s" in case:
        words += f" {case['gb_per_s']:7.0f} GB/s"
    if "share_of_copy" in case:
        words += f" {100 * case['share_of_copy']:4.0f} % of copy"
    return words


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--no-record", action="store_true")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
