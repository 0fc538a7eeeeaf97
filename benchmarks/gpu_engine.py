"""A whole registration on a GPU: on the device, host to host, and each stage against its floor.

Floors: the bytes of all arrays that a stage's kernels are given, each once a launch, over the
measured bandwidth of a copy; for the network its multiplications over the measured rate of a
matrix product.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.roofline import WARMUP, summary
from benchmarks.samples import judge_bar
from segreg.engine.timing import Stopwatch

DEVICE_LIMIT, HOST_LIMIT = 10.0, 30.0  # ms
WORST = 1e-2  # voxels between the fields of a GPU and of a CPU
REGIONS = 8
PRODUCT = 4096  # rows and columns of the matrices whose product is timed
CARRIED = ("read", "upload", "download", "write")  # stages beside the compute stream


class EventStopwatch(Stopwatch):
    """Marks the stages on the GPU's stream, too; ``milliseconds`` once all of it is done."""

    def __init__(self, cupy: Any) -> None:
        super().__init__()
        self._cupy = cupy
        self.marks: list[tuple[str, Any, Any]] = []
        self.current = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if name in CARRIED:
            with super().stage(name):
                yield
            return
        begin, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        self.current = name
        begin.record()
        with super().stage(name):
            yield
        end.record()
        self.marks.append((name, begin, end))

    def milliseconds(self) -> dict[str, float]:
        """Of each stage on the device, and from the first one's begin to the last one's end."""
        found: dict[str, float] = {}
        for name, begin, end in self.marks:
            end.synchronize()
            elapsed = float(self._cupy.cuda.get_elapsed_time(begin, end))
            found[name] = found.get(name, 0.0) + elapsed
        whole = self._cupy.cuda.get_elapsed_time(self.marks[0][1], self.marks[-1][2])
        return {**found, "device": float(whole)}


def measure_engine(
    cupy: Any, watch: Any, copy: dict[str, Any], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Cases, bars, and sentences about what could not be measured."""
    cases: list[dict[str, Any]] = []
    left_out: list[str] = []
    try:
        from benchmarks.synthetic import write_pair
        from segreg.engine.volume import Volume
    except ImportError as error:
        return [], judge([]), [f"engine: {error}; pip install it beside CuPy"]
    rate = measure_products(cupy, watch, options.repeats, left_out)
    with TemporaryDirectory() as folder:
        pair = write_pair(Path(folder), (options.engine_side,) * 3, REGIONS, 2)
        sides = (pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels)
        volumes = [Volume.read(path) for path in sides]
    for name in backends(left_out):
        try:
            cases += measure_backend(cupy, name, volumes, copy, rate, options)
        except Exception as error:  # the next backend is another library: it gets its turn
            last = traceback.extract_tb(error.__traceback__)[-1]
            left_out.append(f"engine on {name}: {error} ({Path(last.filename).name}:{last.lineno})")
    return cases, judge(cases), left_out


def backends(left_out: list[str]) -> list[str]:
    """What runs networks here: libraries of the GPU, and the processor in any case."""
    from benchmarks.borrowed import BorrowedNetwork
    from segreg.engine.backends import REGISTRY, availability

    found = [entry for entry in availability() if REGISTRY[entry.name].device == "cuda"]
    left_out += [f"engine on {entry.name}: {entry.reason}" for entry in found if not entry.usable]
    return [*(entry.name for entry in found if entry.usable), BorrowedNetwork.name]


def open_engine(name: str, package: str, *, record: bool = True) -> Any:
    """An engine on the named backend, ``borrowed`` included."""
    from benchmarks.borrowed import BorrowedNetwork
    from segreg.engine.backends import CudaOptions
    from segreg.engine.package import open_package
    from segreg.engine.runtime import Engine

    if name != BorrowedNetwork.name:
        return Engine(package, backend=name, options=CudaOptions(record=record))
    with open_package(package) as opened:
        channels = len(opened.settings["channels"])
        network = BorrowedNetwork(opened.network, channels=channels)
    return Engine(package, backend=network)


def measure_backend(
    cupy: Any,
    name: str,
    volumes: list[Any],
    copy: dict[str, Any],
    rate: float | None,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Parity with the CPU first: what is wrong has no time."""
    with open_engine(name, options.package) as engine:
        parity = measure_parity(name, engine, volumes, options)
        if not all(case.get("correct", True) for case in parity):
            return parity
        floors = find_floors(cupy, engine, volumes, copy, rate)
        watches: list[EventStopwatch] = []

        def stopwatch() -> EventStopwatch:
            watches.append(EventStopwatch(cupy))
            return watches[-1]

        engine.stopwatch = stopwatch
        host = []
        for _ in range(WARMUP + options.repeats):
            start = time.perf_counter()
            engine.register(*volumes, refine="off")
            # Reading is checking here, for the volumes are in memory: it is left out.
            host.append(1000 * (time.perf_counter() - start - watches[-1].seconds["read"]))
    rows, host = [watch.milliseconds() for watch in watches[WARMUP:]], host[WARMUP:]
    base = f"gpu/engine/{name}"
    shape = list(volumes[1].shape)
    cases = [
        {"id": f"{base}/device", "shape": shape, "regions": REGIONS,
         **summary([row["device"] for row in rows])},
        {"id": f"{base}/host", "shape": shape, "regions": REGIONS, **summary(host)},
    ]  # fmt: skip
    for stage in (stage for stage in rows[0] if stage != "device"):
        case = {"id": f"{base}/stage/{stage}", **summary([row[stage] for row in rows])}
        cases.append({**case, **floors.get(stage, {})})
    for stage in ("upload", "download"):
        samples = [1000 * watch.seconds[stage] for watch in watches[WARMUP:]]
        cases.append({"id": f"{base}/stage/{stage}", **summary(samples)})
    return [*parity, *cases]


def find_floors(
    cupy: Any, engine: Any, volumes: list[Any], copy: dict[str, Any], rate: float | None
) -> dict[str, dict[str, Any]]:
    """Launches, bytes and the least milliseconds of each stage, from one registration."""
    from benchmarks.flops import count_flops
    from segreg.kernels import _machines

    machine, watch = _machines._cuda_machine(), EventStopwatch(cupy)
    found: dict[str, dict[str, Any]] = {}
    shapes: list[tuple[int, ...]] = []
    launch, infer = machine.launch, engine.backend.infer

    def counted(kernel: str, size: Any, *arguments: Any) -> None:
        entry = found.setdefault(watch.current, {"launches": 0, "bytes": 0})
        entry["launches"] += 1
        entry["bytes"] += sum(int(a.nbytes) for a in arguments if hasattr(a, "nbytes"))
        launch(kernel, size, *arguments)

    def shown(regions: Any) -> Any:
        shapes.append(tuple(regions.shape))
        return infer(regions)

    engine.stopwatch = lambda: watch
    machine.launch = counted  # type: ignore[method-assign]
    engine.backend.infer = shown
    try:
        engine.register(*volumes, refine="off")
    finally:
        del machine.launch, engine.backend.infer
    if "gb_per_s" in copy:
        for entry in found.values():
            entry["floor_ms"] = entry["bytes"] / copy["gb_per_s"] / 1e6
    flops = sum(count_flops(engine.package.network, shape) for shape in shapes)
    found["infer"] = {"launches": len(shapes), "flops": flops}
    if rate is not None:
        found["infer"]["floor_ms"] = 1000 * flops / rate
    return found


def measure_products(
    cupy: Any, watch: Any, repeats: int, left_out: list[str]
) -> float | None:
    """Floating-point operations a second of a float32 matrix product; None without cuBLAS."""
    try:
        one = cupy.ones((PRODUCT, PRODUCT), "float32")
        samples = watch.time(lambda: cupy.matmul(one, one), repeats)
    except (ImportError, AttributeError, RuntimeError) as error:
        left_out.append(f"floor of the network: no matrix product to measure ({error})")
        return None
    return float(2 * PRODUCT**3 / (median(samples) / 1000))


def measure_parity(
    name: str, engine: Any, volumes: list[Any], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Worst distance between the fields of the GPU and of the CPU, on each pair."""
    import numpy as np

    from segreg.engine.runtime import Engine

    try:
        from segreg.kernels import _cpu  # noqa: F401
    except ImportError:
        case = {"id": f"gpu/engine/{name}/parity", "problem": "the CPU's extension is not built"}
        return [case]
    cases = []
    with Engine(options.package, backend="onnxruntime") as host:
        for pair, sides in parity_pairs(volumes, options):
            found, expected = (one.register(*sides, refine="off") for one in (engine, host))
            difference = found.displacement.displacement - expected.displacement.displacement
            distance = np.sqrt((difference.astype(np.float64) ** 2).sum(axis=0))
            worst = float(distance.max())
            found_case: dict[str, Any] = {
                "id": f"gpu/engine/{name}/parity/{pair}",
                "max_abs_err": worst,
                "p99_9": float(np.percentile(distance, 99.9)),
                "dice_difference": abs(found.quality.dice - expected.quality.dice),
                "correct": worst <= WORST,
            }
            cases.append(found_case)
    return cases


def parity_pairs(
    volumes: list[Any], options: argparse.Namespace
) -> Iterator[tuple[str, list[Any]]]:
    """The generated pair, and the first of each set of research data that is there."""
    from benchmarks.datasets import DATASETS

    yield "generated", volumes
    for name, pairs in DATASETS.items():
        try:
            pair = next(pairs(options.data))
        except (OSError, LookupError):
            continue  # not on this machine
        sides = [pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels]
        if all(path.is_file() for path in sides):
            yield name, sides


def judge(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The promises about latency and parity, by the fastest backend that runs on the GPU."""
    own = [case for case in cases if not case["id"].startswith("gpu/engine/borrowed/")]
    bars = []
    for what, limit in (("device", DEVICE_LIMIT), ("host", HOST_LIMIT)):
        medians = [c["median"] for c in own if c["id"].endswith(f"/{what}") and "median" in c]
        words = {"device": "device-resident", "host": "host to host"}[what]
        best = min(medians) if medians else None
        bars.append(judge_bar(f"registration, {words}, ms", limit, best, least=False))
    errors = [case["max_abs_err"] for case in cases if "/parity/" in case["id"]]
    worst = max(errors) if errors else None
    bars.append(judge_bar("worst difference to the CPU, voxels", WORST, worst, least=False))
    return bars
