"""One fresh process that registers one pair again and again, and prints what that took.

``python -m benchmarks.request ORDER`` with an order in JSON; the answer is JSON, too. A process of
its own shows what the first request costs, and how much memory a case takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.memory import peak_mib

if TYPE_CHECKING:
    from segreg.engine.runtime import Engine

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Order:
    """``repeats`` warm requests of each of ``clients`` threads that share one engine."""

    paths: Sequence[str]  # moving, fixed, moving labels, fixed labels
    package: str
    backend: str | None = None
    repeats: int = 10
    clients: int = 1
    report: bool = False  # also time the report for people
    precision: str = "auto"
    refine: str | None = "off"  # None: as the package asks


def ask(order: Order) -> dict[str, Any]:
    """Carry out ``order`` in a fresh process.

    Raises
    ------
    RuntimeError : the process failed; the message is what it said.
    """
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.request", json.dumps(order.__dict__)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"a request in a fresh process failed:\n{run.stderr.strip()}")
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def carry_out(order: Order) -> dict[str, Any]:
    """All times in milliseconds.

    Returns
    -------
    cold : dict
        ``import`` of segreg, ``package`` (check and parse it), ``network`` (an engine for it,
        compiled), and the stages of the first request.
    warm : list of dict
        Stages of every later request, their ``total`` (read to write), ``compute`` (without these
        two) and, where ordered, ``report``, which is no part of the total.
    wall : float
        From the first warm request's start to the last one's end.
    peak_mib : float
    backend, regions, shape : what ran on what.
    """
    begin = time.perf_counter()
    from segreg.engine.package import open_package
    from segreg.engine.runtime import Engine

    imported = time.perf_counter()
    with open_package(order.package):
        opened = time.perf_counter()
    with Engine(order.package, backend=order.backend, precision=order.precision) as engine:
        ready = time.perf_counter()
        first, facts = _request(engine, order)
        start = time.perf_counter()
        with ThreadPoolExecutor(order.clients) as pool:
            waiting = [
                pool.submit(_request, engine, order)
                for _ in range(order.repeats * order.clients)
            ]
            warm = [request.result()[0] for request in waiting]
        wall = time.perf_counter() - start
        facts["backend"] = {"name": engine.backend.name, "precision": engine.backend.precision}
        facts["package"] = {"name": engine.package.name, "digest": engine.package.digest}
    steps = {
        "import": imported - begin,
        "package": opened - imported,
        "network": ready - opened,
    }
    cold = {name: 1000 * seconds for name, seconds in steps.items()} | first
    return {"cold": cold, "warm": warm, "wall": 1000 * wall, "peak_mib": peak_mib(), **facts}


def _request(engine: Engine, order: Order) -> tuple[dict[str, float], dict[str, Any]]:
    """Times of one request in ms, and what was registered."""
    start = time.perf_counter()
    result = engine.register(*order.paths, refine=order.refine)
    with TemporaryDirectory() as folder:
        result.save(Path(folder) / "result", report=False)
        total = time.perf_counter() - start
    times = {**result.timings, "compute": 1000 * result.watch.compute, "total": 1000 * total}
    if order.report:
        from segreg.engine.report import render_report

        start = time.perf_counter()
        render_report(result)
        times["report"] = 1000 * (time.perf_counter() - start)
    regions = len(result.quality.regions)
    return times, {"regions": regions, "shape": list(result.fixed.shape)}


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    print(json.dumps(carry_out(Order(**{f.name: order[f.name] for f in fields(Order)}))))
