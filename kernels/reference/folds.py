"""Repair of folds, voxel after voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels.reference.fields import jacobian_determinant
from segreg.kernels.reference.points import Array


def repair_folds(
    displacement: Array,
    *,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    freedom: Array | None = None,
    least: float = 0.0,
    iterations: int = 150,
) -> tuple[Array, tuple[int, ...]]:
    """See ``segreg.kernels.repair_folds``."""
    field = displacement.astype(np.float64)
    free = np.ones(field[:, 0].shape) if freedom is None else freedom.astype(np.float64)
    steps = np.asarray(spacing, np.float64)
    ease = (steps.min() / steps) ** 2
    marks = jacobian_determinant(field) <= least
    folds = [int(marks.sum())]
    while folds[-1] and len(folds) <= iterations:
        for phase in range(7):
            for b, z, y, x in np.argwhere(marks):
                if (x + 2 * y + 3 * z) % 7 == phase:
                    _open_fold(field[b], free[b], (z, y, x), ease, least)
        marks = jacobian_determinant(field) <= least
        folds.append(int(marks.sum()))
    return field, tuple(folds)


def _all(voxel: tuple[int, ...]) -> tuple[Any, ...]:
    """Index of a voxel's whole vector."""
    return (slice(None), *voxel)


def _open_fold(
    field: Array, free: Array, voxel: tuple[int, int, int], ease: Array, least: float
) -> None:
    tangents = np.eye(3)  # [:, axis]
    ends: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []
    for axis in range(3):
        step_back, step_on = list(voxel), list(voxel)
        step_back[axis] = max(voxel[axis] - 1, 0)
        step_on[axis] = min(voxel[axis] + 1, free.shape[axis] - 1)
        low, high = tuple(step_back), tuple(step_on)
        length = max(high[axis] - low[axis], 1)
        ends.append((low, high, length))
        tangents[:, axis] += (field[_all(high)] - field[_all(low)]) / length
    determinant = np.linalg.det(tangents)
    if determinant > least:
        return
    columns = [tangents[:, (axis + 1) % 3] for axis in range(3)]
    gradients = [np.cross(columns[axis], columns[(axis + 1) % 3]) for axis in range(3)]
    square = 1e-3
    for gradient, (low, high, length) in zip(gradients, ends, strict=True):
        if low != high:
            square += (free[low] + free[high]) * (gradient**2 * ease).sum() / length**2
    for gradient, (low, high, length) in zip(gradients, ends, strict=True):
        if low == high:
            continue
        step = 1.8 * (least + 0.1 - determinant) / square * ease * gradient / length
        step *= min(1.0, 2.0 / max(float(np.linalg.norm(step)), 1e-9))
        field[_all(high)] += free[high] * step
        field[_all(low)] -= free[low] * step
