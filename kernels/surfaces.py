"""Distances between the outlines of two region maps."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segreg.kernels._checks import check_array, check_parameters
from segreg.kernels._machines import Array, machine_of
from segreg.kernels._streams import on_stream
from segreg.kernels.regions import RegionStats
from segreg.kernels.sampling import table_count

# Places around a voxel that are looked at one by one; what is farther is searched row by row.
_PLACES = 1000


@dataclass(frozen=True)
class SurfaceDistances:
    """How many outline voxels of each region lie how far from the other outline.

    Every outline voxel of both maps counts once, with its distance to the nearest outline voxel
    of the same region in the other map. A region without an outline on either side counts none.
    """

    distances: NDArray[np.float64]
    """(n,) mm, rising."""
    counts: NDArray[np.int64]
    """(count + 1, n) voxels of each region; row 0, the background's, is zero."""

    def mean(self, region: int) -> float:
        """Mean distance of one region; NaN if it counts none."""
        counts = self.counts[region]
        return float(counts @ self.distances / counts.sum()) if counts.any() else float("nan")

    def percentile(self, region: int, percent: float) -> float:
        """Percentile of one region, linear between neighbours; NaN if it counts none."""
        reached = self.counts[region].cumsum()
        if not reached[-1]:
            return float("nan")
        place = percent / 100 * (reached[-1] - 1)
        whole = np.array([np.floor(place), np.ceil(place)])
        low, high = self.distances[np.searchsorted(reached, whole, side="right")]
        return float(low + (high - low) * (place - whole[0]))


@on_stream
def outline(regions: Array, *, stream: Any = None) -> Array:
    """The region map with its voxels inside the regions set to 0.

    An outline voxel has a face neighbour of another region or beyond the volume; an axis of one
    voxel has no beyond.

    Parameters
    ----------
    regions : (D, H, W) int32
        Region numbers, at most 32767.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (D, H, W) int16

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype or shape.
    """
    machine = machine_of(regions=regions)
    regions = check_array(machine, "regions", regions, "D H W", ("int32",))
    edges = machine.empty(regions.shape, "int16")
    machine.launch("outline", regions.shape, regions, *regions.shape, edges)
    return edges


@on_stream
def surface_distances(
    first: Array,
    second: Array,
    stats: tuple[RegionStats, RegionStats],
    spacing: ArrayLike,
    *,
    stream: Any = None,
) -> SurfaceDistances:
    """Distances between the outlines of each region in two maps, both ways.

    Outlines are those of ``outline``. Exact: the places around a voxel are visited in rising
    distance.

    Parameters
    ----------
    first, second : (D, H, W) int32
        Region numbers.
    stats : RegionStats of both maps
        Their numbers and boxes, as ``region_stats`` finds them.
    spacing : (3,)
        mm per voxel.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    SurfaceDistances
        On the host.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, or a spacing that is not positive.
    """
    machine = machine_of(first=first, second=second)
    first = check_array(machine, "first", first, "D H W", ("int32",))
    second = check_array(machine, "second", second, "D H W", ("int32",), first.shape)
    mm = check_parameters("spacing", spacing, (3,))
    if (mm <= 0).any():
        raise ValueError(f"spacing: expected positive millimetres, got {mm.tolist()}.")
    if len(stats[0].voxels) != len(stats[1].voxels):
        raise ValueError(
            f"stats: expected the same regions on both sides, got {len(stats[0].voxels) - 1} "
            f"and {len(stats[1].voxels) - 1}."
        )
    outlines = [outline(first), outline(second)]
    ways = [
        _one_way(outlines[0], outlines[1], stats[1], mm),
        _one_way(outlines[1], outlines[0], stats[0], mm),
    ]
    return _joined(ways, (stats[0].voxels > 0) & (stats[1].voxels > 0))


# Distances and the region of each, as often as counted.
_Way = tuple[NDArray[Any], NDArray[np.int64], NDArray[Any], NDArray[Any]]


def _one_way(edges: Array, others: Array, stats: RegionStats, mm: NDArray[np.float32]) -> _Way:
    """Near distances (n,) with their counts (count + 1, n); far ones (m,) with their regions."""
    machine = machine_of(edges=edges)
    offsets, bins, distances = _surroundings(*mm.tolist())
    count, rows = len(stats.voxels) - 1, edges.shape[0] * edges.shape[1]
    entries = (count + 1) * (len(distances) + 1)
    tables = table_count(machine, rows, 8 * entries)
    counters = machine.zeros((tables, entries), "int64")
    steps = (offsets @ [edges.shape[1] * edges.shape[2], edges.shape[2], 1]).astype(np.int32)
    far = machine.zeros(edges.shape, "uint8")
    machine.launch(
        "near_surfaces", edges.shape, edges, others, *edges.shape, machine.move(offsets),
        machine.move(steps), machine.move(bins), len(offsets), machine.move(offsets.max(axis=0)),
        count, tables, counters, far,
    )  # fmt: skip
    counts = machine.fetch(counters.sum(axis=0)).reshape(count + 1, -1)
    if not counts[stats.voxels > 0, -1].any():
        return distances, counts[:, :-1], np.empty(0), np.empty(0, np.int64)
    voxels = far.ravel().view("bool").nonzero()[0].astype("int32")
    regions = edges.ravel()[voxels]
    there = machine.move(stats.voxels > 0)[regions]
    voxels, regions = voxels[there], regions[there]
    squares = machine.empty(voxels.shape, "float32")
    boxes = machine.move(np.concatenate([stats.low, stats.high], axis=1).astype(np.int32))
    machine.launch(
        "far_surfaces", len(voxels), voxels, edges, others, *edges.shape, boxes,
        machine.move(mm), squares,
    )  # fmt: skip
    far_distances = np.sqrt(machine.fetch(squares), dtype=np.float64)
    return distances, counts[:, :-1], far_distances, machine.fetch(regions)


def _joined(ways: list[_Way], there: NDArray[np.bool_]) -> SurfaceDistances:
    """One table of the distances both ways, of the regions that are there on both sides."""
    far = np.concatenate([way[2] for way in ways])
    regions = np.concatenate([way[3] for way in ways]).astype(np.int64)
    distances, place = np.unique(far, return_inverse=True)
    counts = np.zeros((len(there), len(distances)), np.int64)
    np.add.at(counts, (regions, place.ravel()), 1)
    near = ways[0][1] + ways[1][1]
    near[~there] = 0
    return SurfaceDistances(
        np.concatenate([ways[0][0], distances]), np.concatenate([near, counts], axis=1)
    )


@functools.lru_cache(maxsize=16)
def _surroundings(
    depth: float, height: float, width: float
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Offsets (n, 3) around a voxel in rising distance, the bin of each (n + 1,), the distances.

    All offsets up to some distance are among them, about ``_PLACES``.
    """
    spacing = np.array([depth, height, width])
    radius = np.cbrt(_PLACES * spacing.prod() * 3 / (4 * np.pi))
    reach = np.floor(radius / spacing).astype(int)
    axes = [np.arange(-n, n + 1, dtype=np.int32) for n in reach]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    squares = np.square(offsets * spacing).sum(axis=1)
    offsets, squares = offsets[squares <= radius**2], squares[squares <= radius**2]
    # Equal distances may differ in their last digits.
    distances, bins = np.unique(np.sqrt(squares).round(6), return_inverse=True)
    order = np.argsort(bins, kind="stable")
    return (
        np.ascontiguousarray(offsets[order]),
        np.append(bins.ravel()[order], len(distances)).astype(np.int32),
        distances,
    )
