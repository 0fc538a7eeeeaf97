"""Connected components of a label map, found by runs of voxels along rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def keep_largest(
    label_map: NDArray[np.integer], labels: Sequence[int | Sequence[int]]
) -> NDArray[np.integer]:
    """``label_map`` (D, H, W) with only the largest component of each of ``labels``.

    Several labels in one entry are taken together: of an organ of many parts the largest piece
    stays, whatever part of it is there. One entry after the other. Voxels that share a face are
    connected; of equally large components the first stays. Other labels are left as they are.
    """
    cleaned: NDArray[np.integer] = label_map.copy()
    for entry in labels:
        inside = np.isin(cleaned, entry)
        box = _bounding_box(inside)
        if box is None:
            continue
        rest = ~largest_component(inside[box]) & inside[box]
        cleaned[box][rest] = 0
    return cleaned


def largest_component(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest component of ``inside`` (D, H, W), voxels connected by faces.

    Rows are cut into runs, and runs of neighbouring rows that touch are joined, so the work grows
    with the surface and not with the volume.
    """
    depth, height = inside.shape[:2]
    rows, starts, ends, roots = _components(inside, ((1, height), (height, depth * height)))
    if not len(rows):
        return np.zeros(inside.shape, np.bool_)
    sizes = np.bincount(roots, weights=ends - starts, minlength=len(rows))
    chosen = np.flatnonzero(roots == int(sizes.argmax()))
    return _draw(inside.shape, rows[chosen], starts[chosen], ends[chosen])


def fill_holes(inside: NDArray[np.bool_], axis: int = 0) -> NDArray[np.bool_]:
    """``inside`` (D, H, W) and what it encloses in a slice across ``axis``.

    A hole is a component of the rest of a slice, voxels connected by their sides, that does not
    reach the slice's border.
    """
    slices = np.moveaxis(inside, axis, 0)
    height, width = slices.shape[1:]
    rows, starts, ends, roots = _components(~slices, ((1, height),))
    at_border = (starts == 0) | (ends == width) | np.isin(rows % height, (0, height - 1))
    closed = np.flatnonzero(~np.isin(roots, roots[at_border]))
    holes = _draw(slices.shape, rows[closed], starts[closed], ends[closed])
    return np.ascontiguousarray(np.moveaxis(slices | holes, 0, axis))


def _components(
    inside: NDArray[np.bool_], steps: Sequence[tuple[int, int]]
) -> tuple[Indices, Indices, Indices, Indices]:
    """Runs of ``inside`` (D, H, W) as (row, first column, column after the last, root).

    Runs with one root are connected. ``steps`` are (rows to the neighbour, rows in which the last
    has none) of each axis that connects.
    """
    width = inside.shape[2]
    rows, starts, ends = _runs(inside.reshape(-1, width))
    one, other = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for step, along in steps:
        # Rows lie one below the other in `along`; the last has no neighbour there.
        inner = (rows + step) // along == rows // along if step == 1 else rows + step < along
        first, second = _touching(rows, starts, ends, width, step, np.flatnonzero(inner))
        one.append(first)
        other.append(second)
    return rows, starts, ends, _join(len(rows), np.concatenate(one), np.concatenate(other))


def _bounding_box(inside: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(inside.any(others))
        if not len(found):
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def _runs(rows: NDArray[np.bool_]) -> tuple[Indices, Indices, Indices]:
    """(row, first column, column after the last) of every run, in reading order."""
    padded = np.zeros((len(rows), rows.shape[1] + 2), np.int8)
    padded[:, 1:-1] = rows
    steps = np.diff(padded, axis=1)
    numbers, starts = np.nonzero(steps == 1)
    return numbers, starts, np.nonzero(steps == -1)[1]


def _touching(
    rows: Indices, starts: Indices, ends: Indices, width: int, step: int, chosen: Indices
) -> tuple[Indices, Indices]:
    """Pairs of runs (one of ``chosen``, one ``step`` rows on) that share a column."""
    line = width + 1  # one more, so that the end of a row is not the start of the next
    target = (rows[chosen] + step) * line
    first = np.searchsorted(rows * line + ends, target + starts[chosen], side="right")
    last = np.searchsorted(rows * line + starts, target + ends[chosen], side="left")
    counts = np.maximum(last - first, 0)
    before = np.cumsum(counts) - counts
    other = np.arange(int(counts.sum())) + np.repeat(first - before, counts)
    return np.repeat(chosen, counts), other


def _join(count: int, one: Indices, other: Indices) -> Indices:
    """Root (the smallest member) of each of ``count`` nodes, joined by the pairs (one, other)."""
    parents = np.arange(count)
    while True:
        left, right = parents[one], parents[other]
        apart = left != right
        if not apart.any():
            return parents
        one, other, left, right = one[apart], other[apart], left[apart], right[apart]
        np.minimum.at(parents, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(grand := parents[parents], parents):
            parents = grand


def _draw(
    shape: tuple[int, ...], rows: Indices, starts: Indices, ends: Indices
) -> NDArray[np.bool_]:
    depth, height, width = shape
    steps = np.zeros((depth * height, width + 1), np.int8)
    steps[rows, starts] += 1
    steps[rows, ends] -= 1
    drawn: NDArray[np.bool_] = np.cumsum(steps[:, :-1], axis=1, dtype=np.int8) > 0
    return drawn.reshape(shape)
