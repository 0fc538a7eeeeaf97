"""Speed of every kernel on the CPU, beside outside implementations and a plain copy.

Each operation is first checked: one whose result is wrong gets no time. Then ours, the others and a
copy run in turn, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.memory import growth_mib
from benchmarks.operation import Arguments, Operation, Shape
from benchmarks.operations import OPERATIONS
from benchmarks.outside import OUTSIDE
from benchmarks.outside.base import Array, Outside, Run, values
from benchmarks.record import write_record
from benchmarks.samples import describe_bar, judge_bar, summarise
from segreg.kernels import set_threads

SHAPE = (160, 192, 224)
SMALL = (17, 20, 23)  # for the reference, which is slow
PAUSE = 0.005  # seconds between two runs: idle threads of the one before stop spinning
BUDGET = 10.0  # seconds that one outside implementation may take, after the first run
# Operation, other implementation, how many times faster ours must be.
BARS = (
    ("warp/linear", "torch grid_sample", 5.0),
    ("warp/linear", "onnxruntime GridSample", 8.0),
    ("integrate/7", "torch grid_sample", 4.0),
    ("jacobian_determinant", "numpy gradient", 5.0),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ids = [operation.id for operation in OPERATIONS]
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, metavar=("Z", "Y", "X"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=ids, default=ids, metavar="OPERATION")


def run(options: argparse.Namespace) -> int:
    shape = (options.shape[0], options.shape[1], options.shape[2])
    cases = []
    for operation in OPERATIONS:
        if operation.id in options.only:
            found = measure(operation, shape, options.threads, options.repeats)
            print(describe_case(found[0]), flush=True)
            cases += found
    bars = judge_bars(cases)
    for bar in bars:
        print(describe_bar(bar))
    if not options.no_record:
        path = write_record(
            "kernels", cases, options.results, shape=shape, threads=options.threads, bars=bars
        )
        print(f"record: {path}")
    return int(not all(case["correct"] for case in cases))


def measure(operation: Operation, shape: Shape, threads: int, repeats: int) -> list[dict[str, Any]]:
    """The case of an operation, and one per number of threads."""
    set_threads(threads)
    arguments = operation.arguments(np, shape)
    plain = {**operation.inputs(shape), **operation.options}
    others, left_out = _prepare(operation, plain, threads)
    case: dict[str, Any] = {
        "id": f"kernels/{operation.id}",
        "unit": "ms",
        "warmup": 1,
        "shape": list(shape),
        "threads": threads,
        "peak_mib": growth_mib(lambda: operation.call(arguments)),
        "left_out": left_out,
        **_check(operation, operation.call(arguments), plain, others),
    }
    if not case["correct"]:
        return [case]
    with ThreadPoolExecutor(threads) as pool:
        runs = {"ours": lambda: operation.call(arguments), "copy": _copy(shape, threads, pool)}
        runs |= {other.name: run for other, run in others}
        times = time_in_turn(runs, repeats)
    moved = operation.moved_bytes(arguments)
    case |= summarise(times["ours"])
    case |= {"bytes": moved, "gb_per_s": moved / case["median"] / 1e6}
    copied = float(np.median(times["copy"]))
    case["copy"] = summarise(times["copy"]) | {"gb_per_s": 2 * _copy_bytes(shape) / copied / 1e6}
    case["share_of_copy"] = case["gb_per_s"] / case["copy"]["gb_per_s"]
    for row in case["outside"]:
        row |= summarise(times[row["name"]])
        row["times_faster"] = row["median"] / case["median"]
    return [case, *_thread_cases(operation, arguments, threads, repeats)]


def _prepare(
    operation: Operation, arguments: Arguments, threads: int
) -> tuple[list[tuple[Outside, Run]], list[dict[str, str]]]:
    """The outside implementations that are here, and why others are not."""
    found, left_out = [], []
    for other in OUTSIDE.get(operation.id, ()):
        try:
            found.append((other, other.prepare(arguments, threads)))
        except ImportError as error:
            left_out.append({"name": other.name, "reason": str(error)})
    return found, left_out


def _check(
    operation: Operation, result: Any, plain: Arguments, others: list[tuple[Outside, Run]]
) -> dict[str, Any]:
    """Whether our result is right: by all outside implementations, else by the reference.

    ``plain`` are the arguments before anything was made of them.
    """
    if not others:
        ours = values(operation.call(operation.arguments(np, SMALL)))
        expected = operation.expected({**operation.inputs(SMALL), **operation.options})
        error, right = compare(ours, values(expected), operation)
        shape = "x".join(map(str, SMALL))
        return {
            "correct": right,
            "max_abs_err": error,
            "checked_against": f"reference, {shape}",
            "outside": [],
        }
    ours = values(result)
    rows: list[dict[str, Any]] = []
    verdicts = []
    for other, run in others:
        mask = None if other.where is None else other.where(plain)
        error, right = compare(ours, run(), operation, other.tolerance, mask)
        rows.append({"name": other.name, "single_thread": other.single, "max_abs_err": error})
        verdicts.append(right)
    return {
        "correct": all(verdicts),
        "max_abs_err": max(row["max_abs_err"] for row in rows),
        "checked_against": ", ".join(row["name"] for row in rows),
        "outside": rows,
    }


def compare(
    ours: Array,
    theirs: Array,
    operation: Operation,
    tolerance: float | None = None,
    where: Array | None = None,
) -> tuple[float, bool]:
    """Largest difference where it counts, ties aside, and whether it is small enough."""
    if ours.shape != theirs.shape:
        raise ValueError(f"{operation.id}: expected {ours.shape} from outside, got {theirs.shape}.")
    if where is not None:
        where = np.broadcast_to(where, ours.shape)
        ours, theirs = ours[where], theirs[where]
    limit = operation.tolerance if tolerance is None else tolerance
    return replace(operation, tolerance=limit).compare(ours, theirs)


def time_in_turn(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every run, one after the other in each round.

    All but "ours" and "copy" sit out once they have used up their budget of seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            if name not in ("ours", "copy") and sum(times[name]) > 1000 * BUDGET:
                continue
            time.sleep(PAUSE)
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    return times


def _copy_bytes(shape: Shape) -> int:
    return int(3 * 4 * np.prod(shape))


def _copy(shape: Shape, threads: int, pool: ThreadPoolExecutor) -> Callable[[], Any]:
    """Copy as much as a displacement of ``shape`` holds, in one piece per thread."""
    source = np.ones(_copy_bytes(shape), np.uint8)
    target = np.full_like(source, 0)  # written, so that its pages are there
    pieces = np.array_split(target, threads), np.array_split(source, threads)
    return lambda: list(pool.map(np.copyto, *pieces))


def _thread_cases(
    operation: Operation, arguments: Arguments, threads: int, repeats: int
) -> list[dict[str, Any]]:
    """One case per number of threads: time, and whether the result is bitwise the same."""
    cases: list[dict[str, Any]] = []
    for count in sorted({1, 2, threads}):
        set_threads(count)
        result = np.ascontiguousarray(values(operation.call(arguments)))
        digest = hashlib.blake2b(result.data, digest_size=16).hexdigest()
        case: dict[str, Any] = {
            "id": f"kernels/{operation.id}/threads/{count}",
            "threads": count,
            "unit": "ms",
            "warmup": 1,
            "digest": digest,
            "correct": not cases or digest == cases[0]["digest"],
        }
        if case["correct"]:
            run = {"ours": lambda: operation.call(arguments)}
            case |= summarise(time_in_turn(run, max(1, repeats // 3))["ours"])
        cases.append(case)
    set_threads(threads)
    return cases


def find_outside(case: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((row for row in case["outside"] if row["name"] == name), None)


def judge_bars(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The promises about speed, kept or not."""
    by_id = {case["id"]: case for case in cases}
    bars = []
    for operation, name, limit in BARS:
        case = by_id.get(f"kernels/{operation}")
        row = find_outside(case, name) if case else None
        found = row["times_faster"] if row and "times_faster" in row else None
        bars.append(judge_bar(f"{operation}: times faster than {name}", limit, found, least=True))
    return bars


def describe_case(case: dict[str, Any]) -> str:
    """One line for the terminal."""
    name = f"{case['id'].removeprefix('kernels/'):22}"
    if not case["correct"]:
        return f"{name} WRONG: differs by {case['max_abs_err']:.3g} ({case['checked_against']})"
    others = [f"{row['times_faster']:.1f}x {row['name']}" for row in case["outside"]]
    others += [f"no {row['name']} ({row['reason']})" for row in case["left_out"]]
    return (
        f"{name} {case['median']:8.1f} ms {case['gb_per_s']:6.1f} GB/s "
        f"{100 * case['share_of_copy']:4.0f} % of copy  {case['peak_mib']:5.0f} MiB  "
        f"{', '.join(others)}"
    )
