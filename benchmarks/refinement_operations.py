"""Inputs of the operations of a refinement, for ``benchmarks.operations``."""

from __future__ import annotations

from typing import Any

import numpy as np

from segreg.kernels import reference

Shape = tuple[int, int, int]
Arguments = dict[str, Any]

FARTHEST = 2.5


def matching_inputs(regions: Any, image: Any, displacement: Any) -> Arguments:
    """What ``match_sides`` takes: the moving side is the fixed one, two voxels further on."""
    distances = (0.5 + FARTHEST * (np.abs(image) % 1)).astype(np.float32)
    sides = []
    for numbers in (np.roll(regions, 2, axis=2), regions):
        others = np.where(numbers, 0, 1 + np.arange(numbers.shape[2]) % 2)
        sides.append((image, (numbers | others << 16).astype(np.int32), distances))
    return {"moving": sides[0], "fixed": sides[1], "displacement": displacement[0]}


def edges_of(regions: Any, displacement: Any) -> Any:
    return reference.couple(regions, displacement[0], slip=1.0).astype(np.float32)


def normal_inputs(shape: Shape, image: Any) -> Arguments:
    """What ``form_normals`` takes: windows that vary, slopes and errors of noise."""
    random = np.random.default_rng(2)
    means = random.uniform(0, 1, (2, 3, *shape)).astype(np.float32)
    means[:, 1] += 1
    return {
        "fixed": image,
        "fixed_means": means[0, :2].copy(),
        "matches": random.standard_normal((10, *shape), np.float32),
        "means": means[1],
    }
