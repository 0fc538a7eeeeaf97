"""The background is a region too: everything that is labelled, seen as one.

Organs lie differently against each other on the two sides. One affine map would then carry
background voxels into organs that lie elsewhere, and the organs would appear twice. So the
background starts from a flow: surface points of all regions are taken from where the global affine
puts them to where their regions' maps put them, along straight lines, and a spline through their
velocities carries the rest of space along, in small steps so that it stays invertible (after Joshi
and Miller 2000). From there the network registers the union of all regions like any region.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import array_module, fetch, index_for
from segreg.engine.canvases import Canvases
from segreg.engine.regions import RegionPlan
from segreg.kernels import outline, sum_distances

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]

POINTS = 300  # surface points in all, shared between the regions by their surface
LEAST_POINTS = 8  # of any region
SMOOTHING = 2.0  # mm; regions may slide, so touching surfaces can ask for different things
STEP = 0.02  # of the labelled box's diagonal that a surface point may move in one step
MOST_STEPS = 8


def union_plan(plan: RegionPlan) -> RegionPlan:
    """The plan of one region that holds all of ``plan``, starting from the global affine."""
    maps = plan.background[None]
    names = ("all regions together",)
    return RegionPlan(plan.moving.union(), plan.fixed.union(), maps, plan.background, names)


def flow_background(
    fields: FloatArray,
    distances: FloatArray,
    regions: Canvases,
    union: Canvases,
    spacing: NDArray[np.float64],
) -> FloatArray:
    """Displacement (1, 3, d, h, w) of the union, in cells of its field, that the flow leads to.

    Parameters
    ----------
    fields, distances : (K, 3, d, h, w) displacement in field cells, (K, d, h, w) mm to the region.
    regions, union : canvases of the regions and of their union.
    spacing : (3,) mm of the fixed grid.
    """
    xp = array_module(fields)
    source, target = _surface_points(fields, distances, regions)
    if not len(source):  # all regions slip through their canvases' cells
        still: FloatArray = xp.zeros((1, 3, *union.field), np.float32)
        return still
    cells = np.indices(union.field).reshape(3, -1).T
    to_field = union.to_field[0].astype(np.float64)
    voxels = (cells - to_field[:, 3]) / np.diagonal(to_field)
    affine = union.background.astype(np.float64)
    moved = _flow(
        (voxels @ affine[:, :3].T + affine[:, 3]) * spacing,
        (source @ affine[:, :3].T + affine[:, 3]) * spacing,
        target * spacing,
        xp,
    )
    # The union's map is to_voxel (q + u): undo to_voxel to get q + u.
    to_voxel = union.to_voxel[0].astype(np.float64)
    arrived = (moved / spacing - to_voxel[:, 3]) @ np.linalg.inv(to_voxel[:, :3]).T
    displacement = (arrived - cells).T.reshape(1, 3, *union.field)
    field: FloatArray = xp.asarray(np.ascontiguousarray(displacement, np.float32))
    return field


def _flow(where: Array, start: Array, target: Array, xp: Any = np) -> Array:
    """Carry ``where`` (N, 3) along with points from ``start`` to ``target`` (n, 3), mm.

    The sums over all points are computed with the arrays of ``xp``.
    """
    way = target - start
    diagonal = np.linalg.norm(np.ptp(start, axis=0))
    longest = np.percentile(np.linalg.norm(way, axis=1), 95)
    steps = int(np.clip(np.ceil(longest / max(STEP * diagonal, 1e-6)), 1, MOST_STEPS))
    for step in range(steps):
        points = start + way * (step / steps)
        weights, affine = fit_spline(points, way / steps)
        where = where + evaluate_spline(where, points, weights, affine, xp)
    return where


def fit_spline(points: Array, values: Array) -> tuple[Array, Array]:
    """Weights (n, 3) and affine part (4, 3) of ``f(x) = sum w_i |x - x_i| + affine(x)``.

    The kernel ``|r|`` is the one of least bending energy in three dimensions (Duchon 1977).
    """
    count = len(points)
    centre = points.mean(0)
    points = points - centre
    polynomial = np.column_stack([points, np.ones(count)])
    system = np.zeros((count + 4, count + 4))
    kernel = system[:count, :count]
    for axis in points.T:
        kernel += np.square(np.subtract.outer(axis, axis))
    np.sqrt(kernel, out=kernel)
    # |r| is conditionally negative definite, so smoothing enters with a minus.
    kernel[np.diag_indices(count)] = -SMOOTHING
    system[:count, count:] = polynomial
    system[count:, :count] = polynomial.T
    # Points in one plane, as in a 2-D image, leave the slope across it free: hold it down. The
    # constant is never free, and to hold it down would bend what lies beyond the points.
    system[count:, count:] = np.diag([-1e-3, -1e-3, -1e-3, 0])
    solution = np.linalg.solve(system, np.concatenate([values, np.zeros((4, 3))]))
    weights, affine = solution[:count], solution[count:]
    affine[3] -= centre @ affine[:3]
    return weights, affine


def evaluate_spline(
    where: Array, points: Array, weights: Array, affine: Array, xp: Any = np
) -> Array:
    """Values (N, 3) of a fitted spline at ``where`` (N, 3); single precision inside."""
    centre = points.mean(0)
    near = np.ascontiguousarray((where - centre).T, np.float32)
    bent = fetch(sum_distances(xp.asarray(near), points - centre, weights)).T
    return np.asarray(bent + where @ affine[:3] + affine[3])


def _surface_points(
    fields: FloatArray, distances: FloatArray, canvases: Canvases
) -> tuple[Array, Array]:
    """Points on the regions' surfaces and where their maps take them, (n, 3) fixed voxels."""
    surfaces = _surfaces(distances == 0)
    total = sum(len(surface) for surface in surfaces)
    spare = max(POINTS - LEAST_POINTS * len(surfaces), 0)
    picked = []
    for surface in surfaces:
        wanted = LEAST_POINTS + spare * len(surface) // max(total, 1)
        # A fixed shuffle spreads the points without the grid's own pattern.
        picked.append(surface[np.random.default_rng(0).permutation(len(surface))[:wanted]])
    owner = np.repeat(np.arange(len(picked)), [len(cells) for cells in picked])
    cells = np.concatenate(picked)
    k, z, y, x = (index_for(fields, places) for places in (owner, *cells.T))
    moved = cells + fetch(fields[k, :, z, y, x])
    to_field = canvases.to_field[owner].astype(np.float64)
    to_voxel = canvases.to_voxel[owner].astype(np.float64)
    source = (cells - to_field[:, :, 3]) / np.diagonal(to_field, axis1=1, axis2=2)
    target = np.einsum("nij,nj->ni", to_voxel[:, :, :3], moved) + to_voxel[:, :, 3]
    return source, target


def _surfaces(inside: Any) -> list[NDArray[np.intp]]:
    """Cells (n, 3) of each of the K regions ``inside`` (K, d, h, w) with a face neighbour outside
    it; the grid's border counts as outside."""
    count, *grid = inside.shape
    xp, numbers = array_module(inside), np.arange(1, count + 1, dtype=np.int32)
    # One below the other: where two regions touch, their numbers differ, which is an outline too.
    stack = inside * xp.asarray(numbers).reshape(-1, 1, 1, 1)
    found = fetch(xp.argwhere(outline(stack.reshape(-1, *grid[1:])).reshape(inside.shape)))
    ends = np.searchsorted(found[:, 0], numbers)
    return [cells[:, 1:] for cells in np.split(found, ends[:-1])]
