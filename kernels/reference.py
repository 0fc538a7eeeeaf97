"""The oracle of every operation: NumPy, float64, slow, obvious.

Each function takes what the operation of the same name takes and computes it voxel by voxel or
array by array, the way the definition reads. The tests hold both machines against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segreg.kernels.jacobians import JacobianSums
from segreg.kernels.regions import RegionStats

Array = NDArray[Any]


def _indices(shape: tuple[int, ...]) -> Array:
    """(3, D, H, W) index of every voxel."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float64)


def _apply(affine: ArrayLike, points: Array) -> Array:
    """Affine map of points (3, ...)."""
    matrix = np.asarray(affine, np.float64)
    moved: Array = np.tensordot(matrix[:3, :3], points, 1)
    return moved + matrix[:3, 3].reshape(3, *[1] * (points.ndim - 1))


def _identity(affine: ArrayLike | None) -> Array:
    return np.eye(3, 4) if affine is None else np.asarray(affine, np.float64)


def _corners(points: Array) -> Iterator[tuple[Array, Array]]:
    """The eight whole-number neighbours of each point and their trilinear weights."""
    base = np.floor(points)
    fraction = points - base
    for corner in product((0, 1), repeat=3):
        step = np.reshape(corner, (3, *[1] * (points.ndim - 1)))
        weight = np.where(step == 1, fraction, 1 - fraction).prod(axis=0)
        yield (base + step).astype(np.int64), weight


def _sample(volume: Array, points: Array) -> Array:
    """Trilinear, the border held."""
    last = np.reshape(volume.shape, (3, *[1] * (points.ndim - 1))) - 1
    held = np.clip(points, 0, last)
    value = np.zeros(points.shape[1:])
    for corner, weight in _corners(held):
        z, y, x = np.minimum(corner, last)
        value += weight * volume[z, y, x].astype(np.float64)
    return value


def _sample_field(field: Array, points: Array) -> Array:
    return np.stack([_sample(component, points) for component in field])


def _sample_mask(mask: Array, points: Array) -> Array:
    """Trilinear, zero outside; an axis of one voxel has no outside."""
    thick = np.array(mask.shape) > 1
    padded = np.pad(mask.astype(np.float64), [(2, 2) if t else (0, 0) for t in thick])
    return _sample(padded, points + 2 * np.reshape(thick, (3, *[1] * (points.ndim - 1))))


def _inside(shape: tuple[int, ...], points: Array) -> Array:
    lengths = np.reshape(shape, (3, *[1] * (points.ndim - 1)))
    within: Array = np.all((points >= -0.5) & (points < lengths - 0.5), axis=0, keepdims=True)[0]
    return within


def _nearest(volume: Array, points: Array) -> Array:
    last = np.reshape(volume.shape, (3, *[1] * (points.ndim - 1))) - 1
    z, y, x = np.floor(np.clip(points, 0, last) + 0.5).astype(np.int64)
    taken: Array = volume[z, y, x]
    return taken


def _mirrored(index: Array, length: int) -> Array:
    """Indices of an axis that goes on as its mirror image about the outermost voxels."""
    period = max(1, 2 * length - 2)
    index = np.abs(index) % period
    return np.where(index < length, index, period - index)


def _b_spline(x: Array) -> Array:
    """Cubic B-spline at distance ``x``."""
    x = np.abs(x)
    inner, outer = 2 / 3 - x**2 + x**3 / 2, np.maximum(2 - x, 0) ** 3 / 6
    return np.where(x < 1, inner, outer)


def _cubic(coefficients: Array, points: Array) -> Array:
    """Cubic B-spline of these coefficients, mirrored."""
    base = np.floor(points)
    value = np.zeros(points.shape[1:])
    for step in product((-1, 0, 1, 2), repeat=3):
        corner = base + np.reshape(step, (3, *[1] * (points.ndim - 1)))
        weight = _b_spline(points - corner).prod(axis=0)
        z, y, x = map(_mirrored, corner.astype(np.int64), coefficients.shape)
        value += weight * coefficients[z, y, x]
    return value


def spline_coefficients(volume: Array) -> Array:
    """See ``segreg.kernels.spline_coefficients``: solved for, along each of the last three axes."""
    result = volume.astype(np.float64)
    for axis in (-3, -2, -1):
        length = volume.shape[axis]
        samples = np.zeros((length, length))
        for step, weight in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6)):
            rows = np.arange(length)
            np.add.at(samples, (rows, _mirrored(rows + step, length)), weight)
        inverse = np.linalg.inv(samples)
        result = np.moveaxis(np.moveaxis(result, axis, -1) @ inverse.T, -1, axis)
    return result


def smooth(
    volume: Array, sigma: ArrayLike, spacing: ArrayLike = (1, 1, 1), *, truncate: float = 4.0
) -> Array:
    """See ``segreg.kernels.smooth``."""
    result = volume.astype(np.float64)
    deviations = np.broadcast_to(np.asarray(sigma) / np.asarray(spacing), (3,))
    for axis, deviation in zip((-3, -2, -1), deviations, strict=True):
        if deviation == 0:
            continue
        radius = int(truncate * deviation + 0.5)
        offsets = np.arange(-radius, radius + 1)
        weights = np.exp(-((offsets / deviation) ** 2) / 2)
        places = np.arange(volume.shape[axis])
        last = volume.shape[axis] - 1
        result = sum(
            weight * result.take(np.clip(places + offset, 0, last), axis)
            for weight, offset in zip(weights / weights.sum(), offsets, strict=True)
        )
    return result


def region_stats(regions: Array, image: Array, count: int) -> RegionStats:
    """See ``segreg.kernels.region_stats``."""
    voxels = np.bincount(regions.ravel(), minlength=count + 1)
    low, high = np.zeros((2, count + 1, 3), np.int32)
    mean = np.zeros((count + 1, 3))
    covariance = np.zeros((count + 1, 3, 3))
    intensity_mean, intensity_std = np.zeros((2, count + 1))
    for k in range(1, count + 1):
        points = np.argwhere(regions == k)
        if len(points) == 0:
            continue
        low[k], high[k] = points.min(axis=0), points.max(axis=0) + 1
        mean[k] = points.mean(axis=0)
        covariance[k] = np.cov(points.T, ddof=0)
        intensity_mean[k] = image[regions == k].mean(dtype=np.float64)
        intensity_std[k] = image[regions == k].std(dtype=np.float64)
    return RegionStats(voxels, low, high, mean, covariance, intensity_mean, intensity_std)


def gather_regions(
    image: Array,
    regions: Array,
    indices: ArrayLike,
    affines: ArrayLike,
    intensity: ArrayLike,
    canvas: int,
    *,
    channels: tuple[str, ...] = ("masked_image", "mask"),
    displacement: Array | None = None,
    supersample: ArrayLike | None = None,
) -> Array:
    """See ``segreg.kernels.gather_regions``."""
    numbers, window = np.asarray(indices), np.asarray(intensity, np.float64)
    maps = np.asarray(affines, np.float64)
    counts = np.ones((len(numbers), 3), int) if supersample is None else np.asarray(supersample)
    batch = np.zeros((len(numbers), len(channels), canvas, canvas, canvas))
    for k, number in enumerate(numbers):
        for sub in np.ndindex(*counts[k]):
            offset = (np.array(sub) + 0.5) / counts[k] - 0.5
            points = _indices((canvas,) * 3) + offset.reshape(3, 1, 1, 1)
            if displacement is not None:
                ratio = displacement.shape[-1] / canvas
                field = _sample_field(displacement[k], (points + 0.5) * ratio - 0.5)
                points = points + field / ratio
            points = _apply(maps[k], points)
            value = np.clip((_sample(image, points) - window[k, 0]) * window[k, 1], -1, 1)
            mask = _sample_mask(regions == number if number else regions > 0, points)
            kinds = {"image": value, "mask": mask, "masked_image": value * mask}
            batch[k] += np.stack([kinds[c] for c in channels])
        batch[k] /= counts[k].prod()
    return batch


def compose(first: Array, second: Array) -> Array:
    """See ``segreg.kernels.compose``."""
    points = _indices(second.shape[2:])
    pairs = zip(first, second.astype(np.float64), strict=True)
    return np.stack([v + _sample_field(u, points + v) for u, v in pairs])


def integrate(velocity: Array, steps: int, *, scale: float = 1.0) -> Array:
    """See ``segreg.kernels.integrate``."""
    displacement: Array = scale * velocity.astype(np.float64) / 2**steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


def jacobian_determinant(displacement: Array) -> Array:
    """See ``segreg.kernels.jacobian_determinant``."""
    rows = []
    for component in range(3):
        slopes = []
        for axis in range(3):
            u = displacement[:, component].astype(np.float64)
            thin = u.shape[1 + axis] == 1
            slope = np.zeros_like(u) if thin else np.gradient(u, axis=1 + axis)
            slopes.append(slope + (component == axis))
        rows.append(np.stack(slopes, axis=-1))
    determinant: Array = np.linalg.det(np.stack(rows, axis=-2))
    return determinant


def relabel(labels: Array, table: ArrayLike) -> Array:
    """See ``segreg.kernels.relabel``."""
    entries = np.append(table, 0)
    known = (labels >= 0) & (labels < len(entries) - 1)
    regions: Array = entries[np.where(known, labels, -1)].astype(np.int32)
    return regions


def jacobian_sums(jacobian: Array, regions: Array, count: int) -> JacobianSums:
    """See ``segreg.kernels.jacobian_sums``."""
    padded = np.pad(regions, 1, mode="edge")
    shifted = [np.roll(padded, s, a)[1:-1, 1:-1, 1:-1] for s in (-1, 1) for a in range(3)]
    seam = np.any([other != regions for other in shifted], axis=0)
    row = np.where(seam | (regions < 0) | (regions > count), count + 1, regions)
    table = np.zeros((5, count + 2))
    for k in range(count + 2):
        values = jacobian[row == k].astype(np.float64)
        logs = np.log(values[values > 0])
        table[:2, k] = len(values), len(logs)
        if 1 <= k <= count:
            table[2:, k] = values.sum(), logs.sum(), (logs**2).sum()
    return JacobianSums(*table[:2].astype(np.int64), *table[2:])


def _outline(mask: Array) -> Array:
    """Indices (n, 3) of the voxels with a face neighbour outside; beyond the volume is outside."""
    thick = [(1, 1) if n > 1 else (0, 0) for n in mask.shape]
    padded = np.pad(mask, thick)
    inner = padded.copy()
    for axis, (border, _) in enumerate(thick):
        for step in (-1, 1) if border else ():
            inner &= np.roll(padded, step, axis)
    return np.argwhere(padded & ~inner) - [border for border, _ in thick]


def surface_distances(first: Array, second: Array, region: int, spacing: ArrayLike) -> Array:
    """All distances of one region, sorted; see ``segreg.kernels.surface_distances``."""
    one, other = (_outline(side == region) * np.asarray(spacing) for side in (first, second))
    if not (len(one) and len(other)):
        return np.zeros(0)
    between = np.sqrt(((one[:, None] - other[None]) ** 2).sum(axis=-1))
    return np.sort(np.concatenate([between.min(axis=1), between.min(axis=0)]))


def invert(
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    shape: tuple[int, ...] | None = None,
    guess: ArrayLike | None = None,
    steps: int = 30,
) -> tuple[Array, Array]:
    """See ``segreg.kernels.invert``."""
    start = _identity(guess)
    target = _apply(_identity(affine), _indices(shape or displacement.shape[2:]))

    def missed(point: Array) -> Array:
        return target - point - _sample_field(displacement[0], point)

    point = _apply(start, target)
    residual = missed(point)
    step = np.ones(target.shape[1:])
    for _ in range(steps):
        trial = point + step * np.tensordot(start[:, :3], residual, 1)
        left = missed(trial)
        better = (left**2).sum(axis=0) < (residual**2).sum(axis=0)
        point = np.where(better, trial, point)
        residual = np.where(better, left, residual)
        step = np.where(better, np.minimum(1, 2 * step), step / 2)
    return (point - target)[None], np.sqrt((residual**2).sum(axis=0))


def resample_field(field: Array, shape: tuple[int, ...]) -> Array:
    """See ``segreg.kernels.resample_field``."""
    ratio = np.array(field.shape[2:]) / np.array(shape)
    points = (_indices(shape) + 0.5) * ratio.reshape(3, 1, 1, 1) - 0.5
    resampled = np.stack([_sample_field(u, points) for u in field])
    resized: Array = resampled / ratio.reshape(3, 1, 1, 1)
    return resized


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


def sum_distances(points: Array, centres: ArrayLike, weights: ArrayLike) -> Array:
    """See ``segreg.kernels.sum_distances``."""
    way = points.astype(np.float64).T[:, None] - np.asarray(centres, np.float64)
    sums: Array = (np.sqrt((way**2).sum(axis=-1)) @ np.asarray(weights, np.float64)).T
    return sums


def distance_to_mask(mask: Array, spacing: ArrayLike) -> Array:
    """See ``segreg.kernels.distance_to_mask``."""
    distances = np.full(mask.shape, 1e6)
    for k, cells in enumerate(mask):
        scale = np.asarray(spacing, np.float64)[k]
        for point in np.argwhere(cells):
            way = (_indices(cells.shape) - point.reshape(3, 1, 1, 1)) * scale.reshape(3, 1, 1, 1)
            distances[k] = np.minimum(distances[k], np.sqrt((way**2).sum(axis=0)))
    return distances


def fuse_fields(
    regions: Array,
    fields: Array,
    distances: Array,
    to_field: ArrayLike,
    to_voxel: ArrayLike,
    spacing: ArrayLike,
    background: tuple[Array, ArrayLike, ArrayLike],
    reach: ArrayLike,
) -> Array:
    """See ``segreg.kernels.fuse_fields``."""
    count = len(fields)
    table = np.zeros((count + 1, count + 1))
    if np.ndim(reach) == 0:
        table[0] = table[:, 0] = reach
    else:
        table[:] = reach
    voxels = _indices(regions.shape)
    elsewhere, cell_of, voxel_of = background
    q = _apply(cell_of, voxels)
    blend = _apply(voxel_of, q + _sample_field(elsewhere, q))
    weights = np.ones(regions.shape)
    last = np.reshape(fields.shape[2:], (3, 1, 1, 1)) - 1
    maps, away = [], []
    for k, field in enumerate(fields):
        q = _apply(np.asarray(to_field)[k], voxels)
        maps.append(_apply(np.asarray(to_voxel)[k], q + _sample_field(field, q)))
        beyond = (q - np.clip(q, 0, last)) * np.asarray(spacing)[k].reshape(3, 1, 1, 1)
        away.append(_sample(distances[k], q) + np.sqrt((beyond**2).sum(axis=0)))
    inside = blend.copy()
    for k in range(count):
        feathered, total = maps[k].copy(), np.ones(regions.shape)
        for j in range(count):
            if j != k and table[j + 1, k + 1] > 0:
                t = np.minimum(away[j] / table[j + 1, k + 1], 1)
                feathered += (1 - 3 * t**2 + 2 * t**3) * maps[j]
                total += 1 - 3 * t**2 + 2 * t**3
        feathered /= total
        inside[:, regions == k + 1] = feathered[:, regions == k + 1]
        falloff = table[0, k + 1]
        near = away[k] < falloff
        held = np.maximum(away[k][near], 0.01 * falloff)
        weight = np.zeros(regions.shape)
        weight[near] = ((falloff - held) / held) ** 2
        blend += weight * feathered
        weights += weight
    chosen = (regions > 0) & (regions <= count)
    return (np.where(chosen, inside, blend / weights) - voxels)[None]


def _positions(displacement: Array, affine: ArrayLike | None) -> Array:
    """(3, D, H, W) where each fixed voxel looks in the moving grid."""
    return _apply(_identity(affine), _indices(displacement.shape[1:]) + displacement)


def warp(
    moving: Array,
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    mode: str = "linear",
    outside: float = 0.0,
    prefiltered: bool = False,
) -> Array:
    """See ``segreg.kernels.warp``."""
    if mode == "cubic" and not prefiltered:
        moving = spline_coefficients(moving)
    take = {"linear": _sample, "nearest": _nearest, "cubic": _cubic}[mode]
    batch = []
    for image, field in zip(moving, displacement, strict=True):
        points = _positions(field, affine)
        inside = _inside(image.shape[1:], points)
        batch.append([np.where(inside, take(channel, points), outside) for channel in image])
    return np.array(batch)


def label_votes(
    labels: Array, displacement: Array, *, affine: ArrayLike | None = None
) -> tuple[Array, Array]:
    """The labels there are, ascending, and their trilinear weights (L, D, H, W), inside or not."""
    points = _positions(displacement[0], affine)
    kinds = np.unique(labels)
    return kinds, np.stack([_sample(labels == kind, points) for kind in kinds])


def warp_labels(
    labels: Array,
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    mode: str = "vote",
) -> Array:
    """See ``segreg.kernels.warp_labels``."""
    points = _positions(displacement[0], affine)
    if mode == "nearest":
        warped = _nearest(labels, points)
    else:
        kinds, votes = label_votes(labels, displacement, affine=affine)
        warped = kinds[votes.argmax(axis=0)]
    return np.where(_inside(labels.shape, points), warped, 0).astype(labels.dtype)


def overlap(
    moving: Array,
    fixed: Array,
    displacement: Array | None,
    count: int,
    *,
    affine: ArrayLike | None = None,
    mode: str = "vote",
) -> Array:
    """See ``segreg.kernels.overlap``."""
    if displacement is None:
        displacement = np.zeros((1, 3, *fixed.shape))
    warped = warp_labels(moving, displacement, affine=affine, mode=mode)
    table = np.zeros((count + 1, count + 1), np.int64)
    np.add.at(table, (fixed.ravel(), warped.ravel()), 1)
    return table
