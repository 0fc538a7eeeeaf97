"""Steps of a refinement, as their definitions read."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels.reference.points import Array, lies_inside, positions


def find_borders(
    regions: Array, spacing: ArrayLike = (1.0, 1.0, 1.0), *, farthest: float
) -> tuple[Array, Array]:
    """See ``segreg.kernels.find_borders``: every voxel against every other within reach."""
    steps = np.asarray(spacing, float)
    own = np.asarray(regions, np.int64)
    best, other = np.full(own.shape, farthest**2), own.copy()
    lengths = zip(steps, own.shape, strict=True)
    reach = [min(int(farthest / step + 0.5), n - 1) for step, n in lengths]
    # x slowest: of equals the one that the kernel meets first, axis after axis.
    for x, y, z in product(*(range(-r, r + 1) for r in reach[::-1])):
        away = np.maximum(np.abs((z, y, x)) - 0.5, 0) * steps
        there, here = _overlap(own.shape, (z, y, x))
        nearer = (own[there] != own[here]) & ((away**2).sum() < best[here] - 1e-9)
        best[here] = np.where(nearer, (away**2).sum(), best[here])
        other[here] = np.where(nearer, own[there], other[here])
    return own | other << 16, np.sqrt(best)


def _overlap(shape: tuple[int, ...], offset: tuple[int, ...]) -> tuple[Any, Any]:
    """Slices of the voxels that have a neighbour ``offset`` away: there, here."""
    there = tuple(slice(max(o, 0), n + min(o, 0)) for o, n in zip(offset, shape, strict=True))
    here = tuple(slice(max(-o, 0), n + min(-o, 0)) for o, n in zip(offset, shape, strict=True))
    return there, here


def _all(place: tuple[Any, ...]) -> tuple[Any, ...]:
    """Index of all components at a place."""
    return (slice(None), *place)


def couple(
    regions: Array, displacement: Array, spacing: ArrayLike = (1.0, 1.0, 1.0), *, slip: float
) -> Array:
    """See ``segreg.kernels.couple``."""
    own = regions & 0xFFFF
    field = displacement.astype(np.float64) * np.reshape(np.asarray(spacing, float), (3, 1, 1, 1))
    edges = np.zeros((3, *own.shape))
    for axis in range(3):
        offset = tuple(int(a == axis) for a in range(3))
        there, here = _overlap(own.shape, offset)
        jumps = ((field[_all(there)] - field[_all(here)]) ** 2).sum(axis=0)
        held = 1 / (1 + (jumps / slip**2) ** 2)
        edges[axis][here] = np.where(own[there] == own[here], 1, held)
    return edges


def smooth_within(
    volume: Array,
    edges: Array | None,
    sigma: ArrayLike,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    *,
    paired: bool = False,
    truncate: float = 2.0,
) -> Array:
    """See ``segreg.kernels.smooth_within``: row by row, voxel by voxel."""
    result = volume.astype(np.float64)
    edges = np.ones((3, *volume.shape[1:])) if edges is None else edges
    deviations = np.broadcast_to(np.asarray(sigma) / np.asarray(spacing), (3,))
    for axis, deviation in enumerate(deviations):
        if deviation == 0:
            continue
        radius = int(truncate * deviation + 0.5)
        weights = np.exp(-((np.arange(radius + 1) / deviation) ** 2) / 2)
        rows = np.moveaxis(result, axis + 1, -1)
        held = np.broadcast_to(np.moveaxis(edges[axis], axis, -1), rows.shape)
        means = np.empty_like(rows)
        for index in np.ndindex(rows.shape[:-1]):
            means[index] = _mean_row(rows[index], held[index], weights, paired)
        result = np.moveaxis(means, -1, axis + 1)
    return result


def _mean_row(row: Array, edges: Array, weights: Array, paired: bool) -> Array:
    means = np.empty_like(row)
    for x in range(len(row)):
        sum_, total = weights[0] * row[x], weights[0]
        for k in range(1, len(weights)):
            before = float(np.prod(edges[x - k : x])) if x >= k else 0.0
            after = float(np.prod(edges[x : x + k])) if x + k < len(row) else 0.0
            for held, opposite, place in ((before, after, x - k), (after, before, x + k)):
                weight = weights[k] * held * (opposite if paired else 1.0)
                if weight:
                    sum_ += weight * row[place]
                    total += weight
        means[x] = sum_ / total
    return means


def _with_slope(values: Array, fractions: Array) -> tuple[Array, Array]:
    """Trilinear value and slope (3, ...) of corners (2, 2, 2, ...)."""
    value, slope = np.zeros(fractions.shape[1:]), np.zeros(fractions.shape)
    for corner in product((0, 1), repeat=3):
        sides = [f if side else 1 - f for f, side in zip(fractions, corner, strict=True)]
        value += values[corner] * np.prod(sides, axis=0)
        for axis, side in enumerate(corner):
            others = np.prod([s for a, s in enumerate(sides) if a != axis], axis=0)
            slope[axis] += values[corner] * others * (1 if side else -1)
    return value, slope


def match_sides(
    moving: Any,
    fixed: Any,
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    unit: ArrayLike = (1.0, 1.0, 1.0),
    margin: float = 0.1,
    slack: float = 0.5,
    rest: float = 0.3,
    beyond: float = 0.0,
) -> Array:
    """See ``segreg.kernels.match_sides``."""
    image, words, distances = moving
    fixed_image, fixed_words, fixed_distances = fixed
    points = positions(displacement, affine)
    shape = image.shape
    linear = np.eye(3) if affine is None else np.asarray(affine, float)[:3, :3]
    last = np.reshape(np.array(shape) - 1, (3, 1, 1, 1))
    inside = lies_inside(shape, points)
    clamped = np.clip(points, 0, last)
    low = np.floor(clamped).astype(np.int64)
    high = np.minimum(low + 1, last)
    corners = np.empty((2, 2, 2), object)
    for corner in product((0, 1), repeat=3):
        corners[corner] = tuple(
            (high if side else low)[axis] for axis, side in enumerate(corner)
        )
    region = fixed_words & 0xFFFF
    values, signed, own_share = (np.empty((2, 2, 2, *region.shape)) for _ in range(3))
    known = inside.copy()
    for corner in product((0, 1), repeat=3):
        at = corners[corner]
        own, other = words[at] & 0xFFFF, words[at] >> 16 & 0xFFFF
        values[corner] = image[at]
        signed[corner] = np.where(own == region, -1, 1) * distances[at]
        own_share[corner] = own == region
        known &= (own == region) | (other == region)

    units = np.reshape(np.asarray(unit, float), (3, 1, 1, 1))

    def pulled_back(slope: Array) -> Array:
        back: Array = np.einsum("ij,i...->j...", linear, slope) * units
        return back

    value, slope = _with_slope(values, clamped - low)
    distance, steepness = _with_slope(signed, clamped - low)
    share, direction = _with_slope(own_share, clamped - low)
    out = np.minimum(points + 0.5, 0) + np.where(
        points >= last + 0.5, points - last - 0.5 + 1e-3, 0
    )
    away = np.sqrt((out**2).sum(axis=0))
    share = np.where(inside, share, 0.5 - away)
    direction = np.where(inside, direction, -out / np.where(inside, 1, away))
    slope, steepness, direction = map(pulled_back, (slope * inside, steepness, direction))
    steep = np.sqrt((direction**2).sum(axis=0))
    voted = (inside | ((region > 0) & (away < beyond))) & (steep > 0.03)
    scale = np.where(voted, -1 / np.where(voted, steep, 1), 0)
    by_vote = voted & ((share < 0.5) | ~known)
    reached = np.where(by_vote, scale * (share - 0.5), distance)
    difference = np.where(known, -fixed_distances.astype(np.float64) - reached, 0)
    error = np.sign(difference) * np.maximum(np.abs(difference) - slack, 0)
    error = np.where(reached > -margin, -margin - reached, error)
    counts = (known | by_vote) * np.where(error == 0, rest, 1)
    steepness = np.where(by_vote, scale * direction, steepness)
    return np.concatenate([
        [value, value**2, value * fixed_image], slope, [counts * error], counts * steepness
    ])  # fmt: skip


def form_normals(
    fixed: Array,
    fixed_means: Array,
    matches: Array,
    means: Array,
    *,
    image: float = 1.0,
    outline: float = 1.0,
    floor: float = 0.01,
) -> Array:
    """Normal equations (9, D, H, W) of every voxel, from what ``match_sides`` gives, means of its
    first three channels, and of the fixed image and its square, over each voxel's window."""
    fixed, fixed_means, matches, means = (
        array.astype(np.float64) for array in (fixed, fixed_means, matches, means)
    )
    fixed_variance = np.maximum(fixed_means[1] - fixed_means[0] ** 2, 0)
    moving_variance = np.maximum(means[1] - means[0] ** 2, 0)
    covariance = means[2] - means[0] * fixed_means[0]
    scale = 1 / (np.sqrt(fixed_variance + floor) * (moving_variance + floor))
    residual = scale * (
        moving_variance * (fixed - fixed_means[0]) - covariance * (matches[0] - means[0])
    )
    normals = np.zeros((9, *fixed.shape))
    for slope, right, weight in (
        (scale * covariance * matches[3:6], residual, image),
        (matches[7:10], matches[6], outline),
    ):
        for place, (i, j) in enumerate(((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))):
            normals[place] += weight * slope[i] * slope[j]
        normals[6:] += weight * slope * right
    return normals


def outline_pulls(moving: Any, fixed: Any, displacement: Array, **options: Any) -> Array:
    """See ``segreg.kernels.outline_pulls``; of all blocks."""
    matches = match_sides(moving, fixed, displacement, **options)
    pulls: Array = np.stack([*matches[7:10], matches[6]]) * np.where(matches[6] < 0, -1, 1)
    return pulls


def follow_pulls(
    pulls: Array,
    edges: Array,
    displacement: Array,
    sigma: ArrayLike,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    *,
    truncate: float = 2.0,
    **options: Any,
) -> Array:
    """See ``segreg.kernels.follow_pulls``; the displacement itself stays as it is."""
    slope, away = pulls[:3].astype(np.float64), pulls[3].astype(np.float64)
    normals = np.stack(
        [slope[i] * slope[j] for i in range(3) for j in range(i, 3)] + [s * away for s in slope]
    )
    means = smooth_within(normals, edges, sigma, spacing, truncate=truncate)
    return take_step(means, displacement, **options)


def _cell_sums(values: Array, words: Array, regions: Array, factors: Any) -> Array:
    """Sums (C, d, h, w) of values (C, D, H, W) over each cell's voxels of its own region."""
    cells = [
        np.minimum(np.arange(length) // factor, count - 1)
        for length, factor, count in zip(words.shape, factors, regions.shape, strict=True)
    ]
    at = np.ix_(*cells)
    own = (words & 0xFFFF) == regions[at]
    sums = np.zeros((len(values), *regions.shape))
    index = tuple(np.broadcast_to(a, words.shape) for a in at)
    for total, value in zip(sums, values, strict=True):
        np.add.at(total, index, own * value)
    means: Array = sums / np.prod(factors)
    return means


def cell_windows(
    moving: Any,
    fixed: Any,
    displacement: Array,
    regions: Array,
    factors: Any,
    *,
    affine: ArrayLike | None = None,
) -> Array:
    """See ``segreg.kernels.cell_windows``."""
    seen = match_sides(moving, fixed, displacement, affine=affine)[0]
    image = fixed[0].astype(np.float64)
    values = np.stack([np.ones_like(image), image, image**2, seen, seen**2, image * seen])
    return _cell_sums(values, fixed[1], regions, factors)


def cell_normals(
    moving: Any,
    fixed: Any,
    displacement: Array,
    windows: Array,
    regions: Array,
    factors: Any,
    *,
    image: float = 1.0,
    outline: float = 1.0,
    floor: float = 0.01,
    **options: Any,
) -> Array:
    """See ``segreg.kernels.cell_normals``."""
    matches = match_sides(moving, fixed, displacement, **options)
    at = np.ix_(*(
        np.minimum(np.arange(length) // factor, count - 1)
        for length, factor, count in zip(fixed[1].shape, factors, regions.shape, strict=True)
    ))  # fmt: skip
    index = (slice(None), *at)
    sums = windows.astype(np.float64)[index]
    means = np.where(sums[0] > 1e-6, sums[1:] / np.maximum(sums[0], 1e-6), 0)
    normals = form_normals(
        fixed[0], means[:2], matches, means[2:], image=image, outline=outline, floor=floor
    )
    return _cell_sums(normals, fixed[1], regions, factors)


def mark_blocks(errors: Array, *, rim: int, bound: float) -> Array:
    """See ``segreg.kernels.mark_blocks``."""
    size = (4, 8, 32)
    counts = [-(-length // step) for length, step in zip(errors.shape, size, strict=True)]
    marks = np.zeros(counts, np.uint8)
    for place in np.ndindex(*counts):
        box = tuple(
            slice(max(p * step - rim, 0), (p + 1) * step + rim)
            for p, step in zip(place, size, strict=True)
        )
        marks[place] = (errors[box] > bound).any()
    return marks


def take_step(
    normals: Array,
    displacement: Array,
    *,
    damping: float,
    longest: float,
    unit: ArrayLike = (1.0, 1.0, 1.0),
) -> Array:
    """See ``segreg.kernels.take_step``; the displacement itself stays as it is."""
    zz, zy, zx, yy, yx, xx, *right = normals.astype(np.float64)
    matrix = np.moveaxis(np.array([[zz, zy, zx], [zy, yy, yx], [zx, yx, xx]]), (0, 1), (-2, -1))
    matrix = matrix + damping * np.eye(3)
    step = np.linalg.solve(matrix, np.moveaxis(np.array(right), 0, -1)[..., None])[..., 0]
    length = np.linalg.norm(step, axis=-1, keepdims=True)
    step *= np.minimum(1, longest / np.maximum(length, 1e-12))
    moved: Array = displacement + np.moveaxis(step * np.asarray(unit, float), -1, 0)
    return moved


def add_change(
    change: Array,
    coarse: Array,
    regions: Array,
    displacement: Array,
    *,
    step: ArrayLike,
    first: ArrayLike,
) -> Array:
    """See ``segreg.kernels.add_change``; the displacement itself stays as it is."""
    result = displacement.astype(np.float64)
    steps, begin = np.asarray(step, float), np.asarray(first, float)
    last = np.array(coarse.shape) - 1
    for voxel in np.ndindex(regions.shape):
        place = np.clip((voxel - begin) / steps, 0, last)
        low = np.floor(place).astype(int)
        weights, vectors, same = [], [], []
        for corner in product((0, 1), repeat=3):
            at = tuple(np.minimum(low + corner, last))
            sides = np.where(corner, place - low, 1 - place + low)
            weights.append(float(np.prod(sides)))
            vectors.append(change[_all(at)])
            same.append(coarse[at] == regions[voxel])
        counted = np.array(weights) * np.array(same)
        if counted.sum() <= 1e-3:
            counted = np.array(weights)
        mean = (counted[:, None] * np.array(vectors)).sum(axis=0) / counted.sum()
        result[_all(voxel)] += mean * steps
    return result
