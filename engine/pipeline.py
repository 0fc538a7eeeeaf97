"""From planned regions to one displacement: gather, infer, integrate, compose, fuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import Array, array_module, index_for, split_places
from segreg.engine.backends import Backend
from segreg.engine.background import flow_background, union_plan
from segreg.engine.batches import RegionBatches, region_bytes
from segreg.engine.canvases import Canvases, place_canvases
from segreg.engine.device import HOST, Device
from segreg.engine.geometry import spacing_of
from segreg.engine.placements import Layout, Placement, make_placement
from segreg.engine.placements.layout import on_grid, shape_of
from segreg.engine.regions import RegionPlan, Side
from segreg.engine.seams import SLIDING, Blending
from segreg.engine.surroundings import follow_body
from segreg.engine.timing import Stopwatch
from segreg.engine.vectors import displacement_of
from segreg.kernels import (
    compose,
    count_folds,
    distance_to_mask,
    fuse_fields,
    gather_regions,
    soft_dice,
)

FloatArray = NDArray[np.float32]
Progress = Callable[[int, int], None]

FLOW_CELLS = 64  # per axis of the grid that the background starts from
FALLOFF = 0.006  # reach of a region's map into the background, share of the labelled diagonal
# Soft Dice on the canvas from which further passes gain nothing worth their time.
ENOUGH = 0.993
UNION_ENOUGH = 0.985  # its outlines are the regions' outlines, which their own fields sharpen
BODY_PASSES = 2  # coarse ones: what lies far from the labels has no outline to sharpen
MOST_FOLDED = 0.001  # share of a region's cells whose Jacobian may be <= 0 after a pass
SHORTER_STEPS = (0.5, 0.25)  # of a pass whose whole step would fold its region
COVERED = 0.05  # a field cell counts as part of the region from this share of mask on


@dataclass(frozen=True)
class Pipeline:
    """A package's settings bound to a loaded network."""

    backend: Backend
    settings: dict[str, Any]
    device: Device = HOST

    def displacement(
        self,
        plan: RegionPlan,
        passes: int,
        watch: Stopwatch,
        progress: Progress | None = None,
        blending: Blending = SLIDING,
        notes: list[str] | None = None,
        body: RegionPlan | None = None,
    ) -> FloatArray:
        """Fused displacement (1, 3, D, H, W), in voxels of the fixed grid, for a planned pair.

        ``notes`` gets sentences about what was done unasked. ``body`` carries the background far
        from the regions.
        """
        batches = RegionBatches(self.device, [] if notes is None else notes)
        with watch.stage("plan"):
            plan = self._shown(plan)
            layout = self.placement.lay_out(plan)
            batches.notes.extend(layout.all_notes(self.placement.stride))
            cells = layout.fused_cells(self.placement.stride)
            finest = place_canvases(plan, layout.fused_boxes(self.placement.stride), cells)
        fields = self._register(plan, layout, passes, batches, watch, progress)
        if self.placement.whole:
            with watch.stage("fuse"):
                return _spread(plan.fixed, fields, finest)
        with watch.stage("fuse"):
            reach = blending.reach(len(plan.maps), _falloff(plan.fixed))
            distances = self._distances(plan, finest, float(np.max(reach)))
        if len(plan.maps) == 1 and layout.cuts is None:
            # The union of one region is that region, and it is registered.
            background = fields[0], finest.to_field[0], finest.to_voxel[0]
        else:
            background = self._background(plan, finest, fields, distances, passes, batches, watch)
        far = None if body is None else self._body(body, passes, batches, watch)
        with watch.stage("fuse"):
            maps = finest.to_field, finest.to_voxel, finest.spacing
            parts = plan.fixed.region_map, fields, distances, *maps
            fused: FloatArray = fuse_fields(*parts, background, reach)
            if far is not None:
                follow_body(fused, fuse_fields(*parts, far, reach), plan)
        return fused

    @cached_property
    def placement(self) -> Placement:
        return make_placement(self.settings)

    def _shown(self, plan: RegionPlan) -> RegionPlan:
        """``plan`` as the network is to see it: all regions as one if one field does for all."""
        return union_plan(plan) if self.placement.whole else plan

    def _background(
        self,
        plan: RegionPlan,
        canvases: Canvases,
        fields: FloatArray,
        distances: FloatArray,
        passes: int,
        batches: RegionBatches,
        watch: Stopwatch,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The background's map as ``fuse_fields`` takes it: field, to_field, to_voxel."""
        with watch.stage("background"):
            union, stride = union_plan(plan), self.placement.stride
            layout = self.placement.lay_out(union)
            batches.notes.extend(layout.all_notes(stride))
            first = self.placement.levels(shape_of(layout.shapes[0]), 1)[0]
            coarse = np.minimum(np.array(first) // stride, FLOW_CELLS)
            start = place_canvases(union, layout.boxes, shape_of(coarse))
            spacing = spacing_of(plan.fixed.affine)
            field = flow_background(fields, distances, canvases, start, spacing)
        field = self._register(
            union, layout, passes, batches, watch, start=field, enough=UNION_ENOUGH
        )
        return self.as_background(field, union, layout)

    def _body(
        self, body: RegionPlan, passes: int, batches: RegionBatches, watch: Stopwatch
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The body's map as ``fuse_fields`` takes a background."""
        layout, passes = self.placement.lay_out(body), min(passes, BODY_PASSES)
        field = self._register(body, layout, passes, batches, watch, enough=UNION_ENOUGH)
        return self.as_background(field, body, layout)

    def as_background(
        self, field: FloatArray, union: RegionPlan, layout: Layout
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """A union's field (1, 3, d, h, w) as ``fuse_fields`` takes a background."""
        stride = self.placement.stride
        boxes, cells = layout.fused_boxes(stride), layout.fused_cells(stride)
        finest = place_canvases(union, boxes, cells)
        return field[0], finest.to_field[0], finest.to_voxel[0]

    def _register(
        self,
        plan: RegionPlan,
        layout: Layout,
        passes: int,
        batches: RegionBatches,
        watch: Stopwatch,
        progress: Progress | None = None,
        start: FloatArray | None = None,
        enough: float = ENOUGH,
    ) -> FloatArray:
        """Displacement (K, 3, d, h, w) of all regions, in cells of ``layout``'s fused fields.

        Regions of one canvas shape go together, as many at a time as ``batches`` lets.
        ``start`` is where to start from, on any grid; None starts from the regions' maps alone.
        """
        stride, channels = self.placement.stride, len(self.settings["channels"])
        cells = layout.fused_cells(stride)
        xp = array_module(plan.fixed.image)
        fields: FloatArray = xp.zeros((len(layout.shapes), 3, *cells), np.float32)
        if start is not None:
            fields[:] = on_grid(start, cells)
        done = 0
        for shape in np.unique(layout.shapes, axis=0) if passes else ():
            numbers = np.flatnonzero((layout.shapes == shape).all(axis=1))
            with watch.stage("plan"):
                schedule = self.placement.levels(shape_of(shape), passes)
                placed = {s: place_canvases(plan, layout.boxes, s, stride) for s in set(schedule)}
                levels = [placed[s] for s in schedule]

            def work(
                chunk: NDArray[np.intp], levels: list[Canvases] = levels
            ) -> FloatArray:
                begin = None if start is None else _take(start, chunk)
                return self._register_chunk(plan, layout, levels, chunk, begin, enough, watch)

            finest = int(shape.prod())
            each = region_bytes(channels, finest, finest // stride**3, math.prod(cells))
            for chunk, registered in batches.run(numbers, finest, each, work):
                _put(fields, chunk, registered)
                done += len(chunk)
                if progress is not None:
                    progress(done, len(layout.shapes))
        return fields

    def _register_chunk(
        self,
        plan: RegionPlan,
        layout: Layout,
        levels: list[Canvases],
        active: NDArray[np.intp],
        field: FloatArray | None,
        enough: float,
        watch: Stopwatch,
    ) -> FloatArray:
        """Displacement (k, 3, d, h, w) of the regions ``active`` after one pass per level.

        A region whose outlines already match is done before the last pass.
        """
        xp = array_module(plan.fixed.image)
        place = np.arange(len(active))
        cells = layout.fused_cells(self.placement.stride)
        reached: FloatArray = xp.zeros((len(active), 3, *cells), np.float32)
        regions: FloatArray = xp.empty(0, np.float32)
        for step, canvases in enumerate(levels):
            with watch.stage("gather"):
                if canvases.canvas != regions.shape[2:]:
                    shape = (len(active), len(self.settings["channels"]), *canvases.canvas)
                    regions = xp.empty(shape, np.float32)
                    self._gather("fixed", plan.fixed, canvases, active, regions)
                here = None if field is None else on_grid(field, canvases.field)
                # The moving image is always sampled on its own grid, through all maps so far.
                self._gather("moving", plan.moving, canvases, active, regions, here)
                if step and field is not None and here is not None:
                    ready, going = split_places(self._overlap(regions) >= enough)
                    if len(ready):
                        done = layout.keep(_take(field, ready), active[ready], cells)
                        _put(reached, place[ready], done)
                        active, place = active[going], place[going]
                        field, here, regions = (
                            _take(array, going) for array in (field, here, regions)
                        )
                    if not len(active):
                        return reached
            with watch.stage("infer"):
                vectors = self.backend.infer(regions)
            with watch.stage("integrate"):
                before = xp.zeros_like(vectors) if here is None else here
                after, sound = self._advance(before, vectors, regions, plan.fixed.image.shape)
                field = after
                going, ready = split_places(sound)
                if len(ready):  # a pass that would fold its region is the last, and not taken
                    done = layout.keep(_take(before, ready), active[ready], cells)
                    _put(reached, place[ready], done)
                    active, place = active[going], place[going]
                    field, regions = _take(after, going), _take(regions, going)
                if not len(active):
                    return reached
        if field is not None:
            _put(reached, place, layout.keep(field, active, cells))
        return reached

    def _overlap(self, regions: FloatArray) -> NDArray[np.float64]:
        """Soft Dice (k,) of the masks in a batch; 0 where the network is not shown both."""
        names = self.settings["channels"]
        if not {"moving_mask", "fixed_mask"} <= set(names):
            return np.zeros(len(regions))
        return soft_dice(regions, names.index("moving_mask"), names.index("fixed_mask"))

    def _advance(
        self,
        before: FloatArray,
        vectors: FloatArray,
        regions: FloatArray,
        fixed_shape: tuple[int, ...],
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Fields after a pass, and which of them (k,) do not fold inside their region.

        Where the whole step would fold, shorter ones are tried.
        """
        after = compose(before, self._to_displacement(vectors, fixed_shape))
        sound = ~self._folds(after, regions)
        for share in SHORTER_STEPS:
            retry = np.flatnonzero(~sound)
            if not len(retry):
                break
            shorter = self._to_displacement(_take(vectors, retry), fixed_shape, share)
            again = compose(_take(before, retry), shorter)
            _put(after, retry, again)
            sound[retry] = ~self._folds(again, _take(regions, retry))
        return after, sound

    def _folds(self, field: FloatArray, regions: FloatArray) -> NDArray[np.bool_]:
        """Whether each field (k, 3, d, h, w) folds more than a few cells inside its region."""
        names = self.settings["channels"]
        if "fixed_mask" not in names:
            return np.zeros(len(field), bool)
        inside, folded = count_folds(field, regions, names.index("fixed_mask"))
        return np.asarray(folded > MOST_FOLDED * inside)

    def _gather(
        self,
        side_name: str,
        side: Side,
        canvases: Canvases,
        active: NDArray[np.intp],
        regions: FloatArray,
        field: FloatArray | None = None,
    ) -> None:
        """Write one side's channels of the regions ``active`` into the batch ``regions``.

        ``field`` is their displacement so far, in cells of ``canvases``' fields.
        """
        fixed = side_name == "fixed"
        to_side = canvases.to_fixed if fixed else canvases.to_moving
        for channel, names in self._channel_runs(side_name):
            gather_regions(
                side.image,
                side.shapes.take(active),
                to_side[active],
                self._intensity(side)[active],
                canvases.canvas,
                channels=names,
                displacement=field,
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

    def _distances(self, plan: RegionPlan, grid: Canvases, reach: float) -> FloatArray:
        """Distance (K, d, h, w) in mm from the fixed regions, on the cells of ``grid``.

        Right as far as ``reach``, in whatever cell that ends.
        """
        fixed = plan.fixed
        covered = gather_regions(
            fixed.image,
            fixed.shapes,
            grid.to_fixed,
            self._intensity(fixed),
            grid.canvas,
            channels=("mask",),
        )
        cell = float(np.linalg.norm(grid.spacing, axis=1).max())
        distances: FloatArray = distance_to_mask(
            covered[:, 0] > COVERED, grid.spacing, farthest=reach + 2 * cell
        )
        return distances

    def _to_displacement(
        self, vectors: FloatArray, fixed_shape: tuple[int, ...], share: float = 1.0
    ) -> FloatArray:
        steps = int(self.settings["integration_steps"])
        return displacement_of(vectors, self.settings["output"], steps, fixed_shape, share)


def _spread(fixed: Side, fields: FloatArray, canvases: Canvases) -> FloatArray:
    """The one field (1, 3, d, h, w) of a union, everywhere."""
    distances = array_module(fields).zeros((1, *canvases.field), np.float32)
    maps = canvases.to_field, canvases.to_voxel
    background = fields[0], maps[0][0], maps[1][0]
    spread: FloatArray = fuse_fields(
        fixed.region_map, fields, distances, *maps, canvases.spacing, background, 0.0
    )
    return spread


def _take(batch: Array, places: NDArray[np.intp]) -> Array:
    return batch[index_for(batch, places)]


def _put(batch: Array, places: NDArray[np.intp], values: Array) -> None:
    batch[index_for(batch, places)] = values


def _falloff(fixed: Side) -> float:
    """Millimetres over which the background turns from the regions' maps to its own."""
    low = fixed.stats.low[1:].min(axis=0)
    high = fixed.stats.high[1:].max(axis=0)
    return float(FALLOFF * np.linalg.norm((high - low) * spacing_of(fixed.affine)))
