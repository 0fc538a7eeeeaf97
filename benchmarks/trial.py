"""One tool on one pair in a process of its own: ``python -m benchmarks.trial REQUEST ANSWER``.

Seconds and peak memory are taken before our evaluation begins, so that they are the tool's.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import MEASURES
from benchmarks.checkout import ROOT
from benchmarks.datasets import Pair
from benchmarks.memory import peak_mib
from benchmarks.tools.base import Outcome, Task, Tool
from segreg.engine.assessment import assess
from segreg.engine.field import Field, apply_to_image, apply_to_points
from segreg.engine.geometry import apply_map, grid_map
from segreg.engine.landmarks import read_points
from segreg.engine.requests import SIDES
from segreg.engine.result import without_nan
from segreg.engine.volume import Volume, as_volume

Landmarks: TypeAlias = Mapping[str, tuple[Path, Path]]  # files (moving, fixed) by part of the body

ALIKE = 0.99  # correlation of our warp and the tool's, from which both are one field
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


def try_tool(
    tool: Tool,
    pair: Pair,
    threads: int,
    limit: float,
    landmarks: Landmarks | None = None,
    truth: Path | None = None,
) -> dict[str, Any]:
    """What ``tool`` made of ``pair``: a row of figures, or ``failed`` with the reason.

    Parameters
    ----------
    limit : seconds for the whole process; one that takes longer is stopped.
    landmarks : files of the moving and of the fixed side, by where in the body they lie; the row
        then has ``landmark_errors`` of each.
    truth : file (.npy) of the pair's true displacement (3, D, H, W), voxels of the fixed grid; the
        row then has ``endpoint_voxels``.
    """
    with tempfile.TemporaryDirectory(prefix="trial") as name:
        folder = Path(name)
        (folder / "work").mkdir()
        request = {
            "module": type(tool).__module__,
            "tool": tool.id,
            "task": {
                **{s: str(getattr(pair, s).resolve()) for s in SIDES},
                "folder": str(folder / "work"),
                "threads": threads,
            },
            "started": time.time(),
            "landmarks": {
                part: [str(path.resolve()) for path in paths]
                for part, paths in (landmarks or {}).items()
            },
            "truth": None if truth is None else str(truth.resolve()),
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        try:
            run = subprocess.run(
                [sys.executable, "-m", "benchmarks.trial", "request.json", "answer.json"],
                cwd=folder,
                env={
                    **os.environ,
                    **dict.fromkeys(THREAD_VARIABLES, str(threads)),
                    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                },
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"stopped after {limit:g} s"}
        if run.returncode or not (folder / "answer.json").exists():
            lines = (run.stderr.strip() or f"exit code {run.returncode}").splitlines()
            return {"failed": lines[-1][:300]}
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        return answer


def measure(
    tool: Tool,
    task: Task,
    started: float,
    landmarks: Landmarks | None = None,
    truth: Path | None = None,
) -> dict[str, Any]:
    """Register and judge in this process; ``started`` is its start, seconds since the epoch.

    ``cpu_s`` is the work of all threads: it shows who shared the machine, or used one core.
    """
    tool.prepare(task)
    ready = time.time() - started
    start, before = time.perf_counter(), time.process_time()
    stated = tool.register()
    seconds = time.perf_counter() - start if stated is None else stated
    worked = time.process_time() - before
    peak = peak_mib()
    outcome = tool.export()
    check = compare_warps(outcome, as_volume(task.moving))
    if not check["correct"]:
        return {"failed": _explain(check), **check}
    quality = assess(outcome.field, task.moving_labels, task.fixed_labels).quality
    row = {
        **check,
        "dice_before": quality.dice_before,
        **{name: getattr(quality, name) for name in MEASURES},
        "dice_by_region": {region.name: region.dice for region in quality.regions},
        "seconds": seconds,
        "cpu_s": worked,
        "start_s": ready,
        "peak_mib": peak,
        "landmark_errors": {
            part: landmark_errors(outcome.field, *paths)
            for part, paths in (landmarks or {}).items()
        },
    }
    if truth is not None:
        labels = as_volume(task.fixed_labels).array
        known = np.load(truth, allow_pickle=False)
        row["endpoint_voxels"] = endpoint_errors(outcome.field.displacement, known, labels)
    return dict(without_nan(row))


def endpoint_errors(
    displacement: NDArray[np.float32], truth: NDArray[np.float32], labels: NDArray[Any]
) -> dict[str, float]:
    """Mean and 95th percentile of how far a displacement (3, D, H, W) is from the true one, voxels,
    inside the labels."""
    away = np.sqrt(((displacement - truth) ** 2).sum(axis=0))[labels > 0]
    return {"mean": float(away.mean()), "p95": float(np.percentile(away, 95))}


def landmark_errors(field: Field, moving: Path, fixed: Path) -> list[float]:
    """mm from where ``field`` takes each landmark of the fixed side to the moving side's."""
    carried = apply_to_points(field, read_points(fixed)).points
    return [float(e) for e in np.linalg.norm(carried - read_points(moving), axis=1)]


def compare_warps(outcome: Outcome, moving: Volume) -> dict[str, Any]:
    """Whether our warp through the field is the tool's own warped image.

    Compared where the field looks between voxel centres of ``moving``: how an image ends is each
    tool's taste. ``max_abs_err`` is a share of the image's range.
    """
    inside = _looks_inside(outcome.field, moving) & np.isfinite(outcome.warped.array)
    one = apply_to_image(outcome.field, moving).array[inside].astype(np.float64)
    two = outcome.warped.array[inside].astype(np.float64)
    correlation = error = float("nan")
    if one.size > 1 and one.std() and two.std():
        correlation = float(np.corrcoef(one, two)[0, 1])
        error = float(np.abs(one - two).max()) / float(np.ptp(moving.array))
    return dict(
        without_nan(
            {"correlation": correlation, "max_abs_err": error, "correct": correlation > ALIKE}
        )
    )


def _looks_inside(field: Field, moving: Volume) -> NDArray[np.bool_]:
    """Voxels (D, H, W) of the field that it carries to between voxel centres of ``moving``."""
    places = np.indices(field.shape) + field.displacement
    to_moving = grid_map(field.affine, moving.affine)
    index = apply_map(to_moving, places.reshape(3, -1).T)
    last = np.array(moving.shape) - 1
    inside = ((index >= 0) & (index <= last)).all(axis=1)
    return np.asarray(inside.reshape(field.shape))


def _explain(check: dict[str, Any]) -> str:
    found = check["correlation"]
    return (
        f"expected our warp through its field to be its own warped image (correlation above "
        f"{ALIKE}), got {'none' if found is None else f'{found:.4f}'}"
    )


def main() -> None:
    request_path, answer_path = map(Path, sys.argv[1:])
    request = json.loads(request_path.read_text(encoding="utf-8"))
    words = request["task"]
    paths = {name: Path(words[name]) for name in (*SIDES, "folder")}
    task = Task(**paths, threads=words["threads"])
    tools = importlib.import_module(request["module"]).TOOLS
    (tool,) = [tool for tool in tools if tool.id == request["tool"]]
    landmarks = {p: (Path(m), Path(f)) for p, (m, f) in request["landmarks"].items()}
    truth = None if request["truth"] is None else Path(request["truth"])
    answer = measure(tool, task, request["started"], landmarks, truth)
    answer_path.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
