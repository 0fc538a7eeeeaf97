"""Lines over a picture: outlines of label maps and the deformed grid, as SVG path data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.planes import Plane

STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up: (rows, columns)
TENTH = 10  # grid lines are drawn in tenths of a pixel, so that they are short whole numbers


def outline_regions(regions: NDArray[np.integer]) -> dict[int, str]:
    """Path of every region of a slice (rows, columns), by region number; 0 is no region.

    Paths are in half voxels from the slice's upper left corner. They run through the middles of
    the edges between voxels, which is the 0.5 level line of the region's indicator function.
    Where a region runs off the slice it closes beyond the border, out of sight.
    """
    numbers = np.unique(regions)
    wide = np.pad(regions, 1, mode="edge")
    return {int(number): outline(wide == number, (-1, -1)) for number in numbers[numbers > 0]}


def outline(inside: NDArray[np.bool_], origin: tuple[int, int] = (0, 0)) -> str:
    """Closed paths around the true voxels of a slice, in half voxels; "" for none.

    ``origin`` is the row and column of its first voxel.
    """
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return ""
    top, left = int(rows[0]), int(columns[0])
    part = inside[top : rows[-1] + 1, left : columns[-1] + 1]
    stride = part.shape[1] + 1
    edges = _edges(part)
    paths = []
    for start in sorted(edges):  # a set has no order to rely on
        if start in edges:
            paths.append(_loop(edges, start, stride, (top + origin[0], left + origin[1])))
    return "".join(paths)


def _edges(inside: NDArray[np.bool_]) -> set[int]:
    """Edges around the true voxels, as 4 * corner + direction, the voxel on their right side."""
    height, width = inside.shape
    padded = np.pad(inside, 1)
    corner = np.arange((height + 1) * (width + 1)).reshape(height + 1, width + 1)
    sides = (  # neighbour beyond the edge, corner the edge starts from
        (padded[:-2, 1:-1], corner[:-1, :-1]),
        (padded[1:-1, 2:], corner[:-1, 1:]),
        (padded[2:, 1:-1], corner[1:, 1:]),
        (padded[1:-1, :-2], corner[1:, :-1]),
    )
    edges: set[int] = set()
    for direction, (beyond, start) in enumerate(sides):
        edges.update((4 * start[inside & ~beyond] + direction).tolist())
    return edges


def _loop(edges: set[int], start: int, stride: int, origin: tuple[int, int]) -> str:
    """Walk one loop, taking its edges out of ``edges``; voxels that touch at a corner part."""
    steps = [down * stride + across for down, across in STEPS]
    points = []
    edge = start
    while True:
        edges.discard(edge)
        corner, direction = divmod(edge, 4)
        row, column = divmod(corner, stride)
        down, across = STEPS[direction]
        points.append((2 * (row + origin[0]) + down, 2 * (column + origin[1]) + across))
        corner += steps[direction]
        # The right turn first: it stays on the same voxel.
        ways = (4 * corner + (direction + turn) % 4 for turn in (1, 0, 3))
        following = next((way for way in ways if way in edges), None)
        if following is None:
            return _path(np.array(points))
        edge = following


def _path(points: NDArray[np.int64]) -> str:
    """Closed path through ``points`` (N, 2), rows and columns; straight runs become one line."""
    moves = np.roll(points, -1, axis=0) - points
    turns = np.flatnonzero((moves != np.roll(moves, 1, axis=0)).any(axis=1))
    corners = points[turns]
    moves = np.diff(corners, axis=0)
    return f"M{corners[0, 1]} {corners[0, 0]}l{_numbers(moves)}z"


def _numbers(moves: NDArray[np.integer]) -> str:
    """Moves (N, 2), rows and columns, as SVG writes them: x first, as few characters as can be."""
    text = " ".join(f"{across} {down}" for down, across in moves.tolist())
    return text.replace(" -", "-")


def draw_grid(plane: Plane, displacement: NDArray[Any], every: float) -> str:
    """Grid lines ``every`` so many pixels, bent by the field, as path data in tenths of a pixel.

    A node x is drawn at x + u(x), the place in the moving image that is shown at x. Of ``u``
    (3, D, H, W), in voxels, only the part within the plane is seen.
    """
    height, width = plane.pixels
    rows, columns = plane.shape
    pitch = height / rows, width / columns
    field = plane.cut(displacement)
    down = field[plane.row_axis] * (-1 if plane.flip_rows else 1)
    across = field[plane.column_axis] * (-1 if plane.flip_columns else 1)
    row, column = np.mgrid[:rows, :columns]
    points = TENTH * np.stack([(row + 0.5 + down) * pitch[0], (column + 0.5 + across) * pitch[1]])
    steps = [max(1, round(every / size)) for size in pitch]
    fine = [max(1, step // 3) for step in steps]
    lines = [points[:, r, _nodes(columns, fine[1])] for r in _nodes(rows, steps[0])]
    lines += [points[:, _nodes(rows, fine[0]), c] for c in _nodes(columns, steps[1])]
    return "".join(_open_path(np.rint(line).astype(int).T) for line in lines)


def _nodes(count: int, step: int) -> NDArray[np.int64]:
    """Every ``step``-th of ``count`` voxels, centred."""
    return np.arange((count - 1) % step // 2, count, step)


def _open_path(points: NDArray[np.int64]) -> str:
    if len(points) < 2:
        return ""
    return f"M{points[0, 1]} {points[0, 0]}l{_numbers(np.diff(points, axis=0))}"
