"""A network that answers as told, and sides to ask it about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segreg.engine.backends import Backend
from segreg.engine.pipeline import Pipeline
from segreg.engine.regions import RegionPlan, Side
from segreg.engine.timing import Stopwatch

SHAPE = (20, 26, 30)
SETTINGS: dict[str, Any] = {
    "placement": "region",
    "canvas": [16],
    "margin": 0.25,
    "initial_map": "affine",
    "channels": ["moving_masked_image", "moving_mask", "fixed_masked_image", "fixed_mask"],
    "intensity": {"rule": "zscore_inside", "clip": 3.0},
    "output": {"kind": "velocity", "unit": "canvas_voxel", "order": "zyx", "stride": 2},
    "integration_steps": 6,
    "passes": 1,
}


class Told(Backend):
    """A network that is told what to answer, and remembers what it was shown."""

    name = "told"

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        super().__init__(Path("told.onnx"), channels=4)
        self.answer, self.shown = answer, list[np.ndarray]()

    @classmethod
    def library_version(cls) -> str:
        return "1"

    def _load(self, network: Path, threads: int | None) -> None:
        pass

    def _run(self, regions: Any) -> Any:
        self.shown.append(regions.copy())
        return np.asarray(self.answer(regions), np.float32)

    def _close(self) -> None:
        pass


def constant(vector: Any, stride: int = 2) -> Callable[[Any], Any]:
    def answer(regions: Any) -> Any:
        shape = (len(regions), 3, *(length // stride for length in regions.shape[2:]))
        return np.broadcast_to(np.reshape(vector, (1, 3, 1, 1, 1)), shape)

    return answer


def looking(regions: Any) -> Any:
    """A field that depends on all the canvas shows."""
    k, (depth, height, width) = len(regions), (length // 2 for length in regions.shape[2:])
    blocks = regions.reshape(k, 4, depth, 2, height, 2, width, 2).mean((3, 5, 7))
    return 2 * np.stack([blocks[:, 0] - blocks[:, 2], blocks[:, 1] - blocks[:, 3], blocks[:, 2]], 1)


def side(regions: Any, affine: Any, seed: int = 0) -> Side:
    image = np.random.default_rng(seed).normal(100, 20, regions.shape).astype(np.float32)
    return Side.measure(image, np.ascontiguousarray(regions, np.int32), int(regions.max()), affine)


def boxes(*places: tuple[slice, ...]) -> np.ndarray:
    regions = np.zeros(SHAPE, np.int32)
    for number, place in enumerate(places, 1):
        regions[place] = number
    return regions


def register(
    plan: RegionPlan,
    answer: Callable[[Any], Any],
    passes: int = 1,
    *,
    progress: Any = None,
    **settings: Any,
) -> np.ndarray:
    line = Pipeline(Told(answer), {**SETTINGS, **settings})
    return np.asarray(line.displacement(plan, passes, Stopwatch(), progress)[0])
