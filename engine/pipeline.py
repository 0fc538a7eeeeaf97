"""From planned regions to one displacement: gather, infer, integrate, compose, fuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.background import flow_background, union_plan
from segreg.engine.backends import Backend
from segreg.engine.canvases import Canvases, place_canvases
from segreg.engine.geometry import spacing_of
from segreg.engine.regions import RegionPlan, Side
from segreg.engine.timing import Stopwatch
from segreg.kernels import (
    compose,
    distance_to_mask,
    fuse_fields,
    gather_regions,
    integrate,
    resample_field,
)

FloatArray = NDArray[np.float32]
Progress = Callable[[int, int], None]

CHUNK = 8  # regions on their canvases at a time: bounds memory, keeps a chunk near the caches
MOST_CELLS = 12_000_000  # of all regions' canvases together, in one pass
SIZE_STEP = 16  # canvases are multiples of the network's coarsest cell
FALLOFF = 0.006  # reach of the regions' maps into the background, share of the labelled box's diagonal
ENOUGH = 0.993  # soft Dice on the canvas from which further passes gain nothing worth their time
COVERED = 0.05  # a field cell counts as part of the region from this share of mask on


def canvas_sizes(sizes: Sequence[int], regions: int, passes: int) -> list[int]:
    """Cells per axis of each pass, for a package's ``sizes``.

    With many regions the canvases shrink so that all together stay below ``MOST_CELLS``: the time
    of a pair is bounded however finely it is labelled. At least one size, for no passes at all.
    """
    fitting = int((MOST_CELLS / regions) ** (1 / 3)) // SIZE_STEP * SIZE_STEP
    largest = max(fitting, min(sizes))
    return [min(sizes[min(step, len(sizes) - 1)], largest) for step in range(max(passes, 1))]


@dataclass(frozen=True)
class Pipeline:
    """A package's settings bound to a loaded network."""

    backend: Backend
    settings: dict[str, Any]

    def displacement(
        self, plan: RegionPlan, passes: int, watch: Stopwatch, progress: Progress | None = None
    ) -> FloatArray:
        """Fused displacement (1, 3, D, H, W), in voxels of the fixed grid, for a planned pair."""
        with watch.stage("plan"):
            levels = self._levels(plan, passes)
        finest = levels[-1]
        count, cells = len(plan.maps), finest.field
        fields = np.zeros((count, 3, cells, cells, cells), np.float32)
        distances = np.empty((count, cells, cells, cells), np.float32)
        for start in range(0, count, CHUNK):
            chunk = slice(start, min(start + CHUNK, count))
            with watch.stage("gather"):
                distances[chunk] = self._distances(plan.fixed, finest, chunk)
            if passes:
                fields[chunk] = self._register_chunk(plan, levels, chunk, watch, None)
            if progress is not None:
                progress(chunk.stop, count)
        background = self._background(plan, finest, fields, distances, passes, watch)
        with watch.stage("fuse"):
            return fuse_fields(
                plan.fixed.region_map,
                fields,
                distances,
                finest.to_field,
                finest.to_voxel,
                finest.spacing,
                background,
                _falloff(plan.fixed),
            )

    def _background(
        self,
        plan: RegionPlan,
        canvases: Canvases,
        fields: FloatArray,
        distances: FloatArray,
        passes: int,
        watch: Stopwatch,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The background's map as ``fuse_fields`` takes it: field, to_field, to_voxel."""
        with watch.stage("background"):
            plan_of_union = union_plan(plan)
            levels = self._levels(plan_of_union, passes)
            spacing = spacing_of(plan.fixed.affine)
            field = flow_background(fields, distances, canvases, levels[0], spacing)
        if passes:
            field = self._register_chunk(plan_of_union, levels, slice(0, 1), watch, field)
        return field[0], levels[-1].to_field[0], levels[-1].to_voxel[0]

    def _levels(self, plan: RegionPlan, passes: int) -> list[Canvases]:
        """Canvases of every pass, coarse to fine; the last size serves all further passes."""
        sizes = canvas_sizes(self.settings["canvas"], len(plan.maps), passes)
        stride, margin = self.settings["output"]["stride"], self.settings["margin"]
        placed = {size: place_canvases(plan, size, stride, margin) for size in set(sizes)}
        return [placed[size] for size in sizes]

    def _register_chunk(
        self,
        plan: RegionPlan,
        levels: list[Canvases],
        chunk: slice,
        watch: Stopwatch,
        field: FloatArray | None,
    ) -> FloatArray:
        """Displacement (k, 3, s, s, s) of the regions of ``chunk``, in cells of the last level.

        ``field`` is where to start from, on any grid; None starts from the regions' maps alone.
        A region whose outlines already match is done before the last pass.
        """
        active = np.arange(chunk.start, chunk.stop)
        cells = levels[-1].field
        reached = np.zeros((len(active), 3, cells, cells, cells), np.float32)
        size, regions = 0, np.empty(0, np.float32)
        for step, canvases in enumerate(levels):
            with watch.stage("gather"):
                if canvases.canvas != size:
                    size = canvases.canvas
                    shape = (len(active), len(self.settings["channels"]), size, size, size)
                    regions = np.empty(shape, np.float32)
                    self._gather("fixed", plan.fixed, canvases, active, regions)
                # The moving image is always sampled on its own grid, through all maps so far.
                self._gather("moving", plan.moving, canvases, active, regions, field)
                if step and field is not None:
                    open_still = self._overlap(regions) < ENOUGH
                    if not open_still.all():
                        reached[active - chunk.start] = _on_grid(field, cells)
                        active, field = active[open_still], field[open_still]
                        regions = regions[open_still]
                    if not len(active):
                        return reached
            with watch.stage("infer"):
                vectors = self.backend.infer(regions)
            with watch.stage("integrate"):
                update = self._to_displacement(vectors, plan.fixed.image.shape)
                if field is None:
                    field = update
                else:
                    field = compose(_on_grid(field, canvases.field), update)
        if field is not None:
            reached[active - chunk.start] = _on_grid(field, cells)
        return reached

    def _overlap(self, regions: FloatArray) -> NDArray[np.float64]:
        """Soft Dice (k,) of the masks in a batch; 0 where the network is not shown both."""
        names = self.settings["channels"]
        if not {"moving_mask", "fixed_mask"} <= set(names):
            return np.zeros(len(regions))
        moving, fixed = (
            regions[:, names.index(f"{side}_mask")].reshape(len(regions), -1)
            for side in ("moving", "fixed")
        )
        both = np.einsum("kn,kn->k", moving, fixed)
        squares = np.einsum("kn,kn->k", moving, moving) + np.einsum("kn,kn->k", fixed, fixed)
        return np.asarray(2 * both / np.maximum(squares, 1e-6), np.float64)

    def _gather(
        self,
        side_name: str,
        side: Side,
        canvases: Canvases,
        active: NDArray[np.intp],
        regions: FloatArray,
        field: FloatArray | None = None,
    ) -> None:
        fixed = side_name == "fixed"
        to_side = canvases.to_fixed if fixed else canvases.to_moving
        supersample = canvases.supersample_fixed if fixed else canvases.supersample_moving
        for channel, names in self._channel_runs(side_name):
            gather_regions(
                side.image,
                side.region_map,
                (active + 1).astype(np.int32),
                to_side[active],
                self._intensity(side)[active],
                canvases.canvas,
                channels=names,
                displacement=None if field is None else _in_canvas_cells(field, canvases),
                supersample=supersample[active],
                out=regions,
                channel=channel,
            )

    def _channel_runs(self, side_name: str) -> list[tuple[int, tuple[str, ...]]]:
        """Neighbouring channels of one side, as (first channel, names), one gather each."""
        runs = []
        start = 0
        for side, group in groupby(self.settings["channels"], lambda name: name.split("_", 1)[0]):
            names = tuple(name.split("_", 1)[1] for name in group)
            if side == side_name:
                runs.append((start, names))
            start += len(names)
        return runs

    def _intensity(self, side: Side) -> FloatArray:
        """(K, 2): mean and scale that bring a region's intensities to z / clip."""
        mean, std = side.stats.intensity_mean[1:], side.stats.intensity_std[1:]
        clip = float(self.settings["intensity"]["clip"])
        scale = np.where(std > 0, 1 / (clip * np.where(std > 0, std, 1)), 0)
        return np.stack([mean, scale], 1).astype(np.float32)

    def _distances(self, fixed: Side, canvases: Canvases, chunk: slice) -> FloatArray:
        """Distance (k, s, s, s) in mm from the fixed regions, on the grids of their fields."""
        inverse = np.linalg.inv(_homogeneous(canvases.to_field[chunk]))
        covered = gather_regions(
            fixed.image,
            fixed.region_map,
            np.arange(chunk.start + 1, chunk.stop + 1, dtype=np.int32),
            np.ascontiguousarray(inverse[:, :3]),
            self._intensity(fixed)[chunk],
            canvases.field,
            channels=("mask",),
            supersample=np.maximum(canvases.supersample_fixed[chunk], 2),
        )
        return distance_to_mask(covered[:, 0] > COVERED, canvases.spacing[chunk])

    def _to_displacement(self, vectors: FloatArray, fixed_shape: tuple[int, ...]) -> FloatArray:
        """The network's output as displacement in field cells, components (z, y, x)."""
        output = self.settings["output"]
        if output["order"] == "xyz":
            vectors = vectors[:, ::-1]
        if output["unit"] == "canvas_voxel":
            vectors = vectors / np.float32(output["stride"])
        vectors = np.ascontiguousarray(vectors)
        for axis, size in enumerate(fixed_shape):
            if size == 1:  # a single slice has nowhere to go
                vectors[:, axis] = 0
        if output["kind"] == "displacement":
            return vectors
        return integrate(vectors, int(self.settings["integration_steps"]))


def _on_grid(field: FloatArray, cells: int) -> FloatArray:
    return field if field.shape[-1] == cells else resample_field(field, (cells, cells, cells))


def _in_canvas_cells(field: FloatArray, canvases: Canvases) -> FloatArray:
    """Displacement in field cells as ``gather_regions`` takes it: in cells of the canvas."""
    return _on_grid(field, canvases.field) * np.float32(canvases.canvas / canvases.field)


def _homogeneous(maps: FloatArray) -> FloatArray:
    last = np.broadcast_to(np.array([[[0, 0, 0, 1]]], np.float32), (len(maps), 1, 4))
    return np.concatenate([maps, last], axis=1)


def _falloff(fixed: Side) -> float:
    """Millimetres over which the background turns from the regions' maps to its own."""
    low = fixed.stats.low[1:].min(axis=0)
    high = fixed.stats.high[1:].max(axis=0)
    return float(FALLOFF * np.linalg.norm((high - low) * spacing_of(fixed.affine)))
