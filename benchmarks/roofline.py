"""Time of every operation on a GPU, beside the time its bytes take in a plain copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.operation import Arguments, Operation, Shape, parts

WARMUP = 3
SMALL = ((13, 18, 32), (17, 20, 23))  # rows of a multiple of four voxels, and odd ones
COPY_BYTES = 2**30

Run = Callable[[], Any]


class Stopwatch:
    """Times work on CuPy's current stream with events, after the caches were overwritten."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        # Many times the cache, and longer at work than Python needs to launch what is timed.
        self._flush = cupy.empty(COPY_BYTES, "uint8")
        self._begin, self._end = cupy.cuda.Event(), cupy.cuda.Event()

    def time(self, run: Run, repeats: int) -> list[float]:
        """Milliseconds of each of ``repeats`` runs, after a few that do not count."""
        samples = []
        for _ in range(WARMUP + repeats):
            self._flush.fill(1)
            self._begin.record()
            run()
            self._end.record()
            self._end.synchronize()
            elapsed = self._cupy.cuda.get_elapsed_time(self._begin, self._end)
            samples.append(float(elapsed))
        return samples[WARMUP:]


def summary(samples: list[float]) -> dict[str, Any]:
    return {"unit": "ms", "warmup": WARMUP, "samples": samples, "median": median(samples)}


def measure_copy(cupy: Any, watch: Stopwatch, repeats: int) -> dict[str, Any]:
    """A plain copy from device memory to device memory: bytes read and bytes written."""
    source = cupy.arange(COPY_BYTES // 4, dtype="int32")
    target = cupy.zeros_like(source)
    samples = watch.time(lambda: cupy.copyto(target, source), repeats)
    case = {"id": "gpu/copy", "correct": bool((source == target).all()), "bytes": 2 * COPY_BYTES}
    if case["correct"]:
        case |= summary(samples)
        case["gb_per_s"] = 2 * COPY_BYTES / median(samples) / 1e6
    return case


def measure_operation(
    cupy: Any, operation: Operation, shape: Shape, watch: Stopwatch, repeats: int
) -> dict[str, Any]:
    """The case of one operation; it has a time only if all its results are right."""
    errors = [check_small(cupy, operation, small) for small in SMALL]
    arguments = operation.arguments(cupy, shape)
    result = operation.call(arguments)
    if operation.margin is not None:
        errors.append(check_block(cupy, operation, arguments, _first(result), shape))
    moved = operation.moved_bytes(arguments)
    case: dict[str, Any] = {
        "id": f"gpu/{operation.id}",
        "shape": list(shape),
        "bytes": moved,
        "max_abs_err": max(error for error, _ in errors),
        "correct": all(right for _, right in errors),
        "graph": not operation.waits,
    }
    if case["correct"]:
        stream = cupy.cuda.Stream(non_blocking=True)
        cupy.cuda.Device().synchronize()
        with stream:
            way = capture if case["graph"] else calls
            case |= summary(watch.time(way(stream, operation, arguments), repeats))
        case["gb_per_s"] = moved / case["median"] / 1e6
    return case


def calls(stream: Any, operation: Operation, arguments: Arguments) -> Run:
    """One call of the operation."""
    return lambda: operation.call(arguments)


def capture(stream: Any, operation: Operation, arguments: Arguments) -> Run:
    """The launches of one call as a graph. ``stream`` is the current one."""
    stream.begin_capture()
    operation.call(arguments)
    launch: Run = stream.end_capture().launch
    return launch


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def check_small(cupy: Any, operation: Operation, shape: Shape) -> tuple[float, bool]:
    """Largest error against the reference on a small volume, and whether it is small enough."""
    result = operation.call(operation.arguments(cupy, shape))
    expected = operation.expected({**operation.inputs(shape), **operation.options})
    pairs = zip(parts(result), parts(expected), strict=True)
    found = [operation.compare(cupy.asnumpy(one), other) for one, other in pairs]
    return max(error for error, _ in found), all(right for _, right in found)


def check_block(
    cupy: Any, operation: Operation, arguments: Arguments, result: Any, shape: Shape
) -> tuple[float, bool]:
    """The same for a block inside a large volume, cut out with all that it depends on."""
    assert operation.margin is not None
    margin = operation.margin(shape)
    side = min(2 * margin + 8, *shape)
    first = [(length - side) * 2 // 3 for length in shape]
    block = (..., *(slice(begin, begin + side) for begin in first))

    def cut_out(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(cut_out(part) for part in value)
        return cupy.asnumpy(value[block]) if hasattr(value, "ndim") else value

    cut = {name: cut_out(value) for name, value in arguments.items()}
    inside = (..., *[slice(margin, side - margin)] * 3)
    expected = _first(operation.expected(cut))
    return operation.compare(cupy.asnumpy(result[block])[inside], expected[inside])


def measure_launches(
    cupy: Any, operations: list[Operation], shape: Shape, repeats: int
) -> list[dict[str, Any]]:
    """Host time to run ``operations`` on a small volume: as calls, and as one graph."""
    every = [(operation, operation.arguments(cupy, shape)) for operation in operations]

    def call() -> None:
        for operation, arguments in every:
            operation.call(arguments)

    call()
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    names = "+".join(operation.function for operation in operations)
    cases = []
    with stream:
        stream.begin_capture()
        call()
        graph = stream.end_capture()
        for way, run in (("calls", call), ("graph", graph.launch)):
            samples = [_host_time(run, stream) for _ in range(WARMUP + repeats)][WARMUP:]
            case = {"id": f"gpu/launch/{names}/{way}", "shape": list(shape)}
            cases.append({**case, **summary(samples)})
    return cases


def _host_time(run: Run, stream: Any) -> float:
    """Milliseconds until the work is done, waiting included."""
    stream.synchronize()
    start = time.perf_counter()
    run()
    stream.synchronize()
    return 1000 * (time.perf_counter() - start)
