"""Everything between reading a pair and handing over its result, on the arrays where they lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from segreg.engine.arrays import Array
from segreg.engine.body import BodyFinder
from segreg.engine.expectation import GIVEN
from segreg.engine.geometry import grid_map
from segreg.engine.labels import LabelScheme
from segreg.engine.levels import FOUND, GUESSED, INSIDE
from segreg.engine.pipeline import Pipeline, Progress
from segreg.engine.quality import Quality, Thresholds, judge
from segreg.engine.refinement import OFF, Refinement, follow_outlines, refine_displacement
from segreg.engine.regions import RegionPlan, Side, plan_regions
from segreg.engine.result import Provenance
from segreg.engine.seams import Blending, repair_seams
from segreg.engine.surroundings import plan_body
from segreg.engine.timing import Stopwatch
from segreg.engine.volume import Volume
from segreg.kernels import warp, warp_labels

# By where the labels of both sides are from; those of a network are guessed.
BELIEVED = {(GIVEN, GIVEN): INSIDE, (BodyFinder.source, BodyFinder.source): FOUND}


@dataclass(frozen=True)
class Task:
    """What is asked of one pair; ``volumes`` by side, "moving labels" and "fixed labels" too."""

    volumes: dict[str, Volume]
    scheme: LabelScheme
    blending: Blending
    provenance: Provenance
    thresholds: Thresholds | None
    watch: Stopwatch
    progress: Progress | None = None


@dataclass(frozen=True)
class Computed:
    """A pair once it is computed; ``arrays`` are where they were computed."""

    arrays: dict[str, Array]
    quality: Quality
    refinement: Refinement
    folds_repaired: int
    notes: tuple[str, ...]


def compute_pair(pipeline: Pipeline, arrays: dict[str, Array], task: Task) -> Computed:
    """Plan, register, refine, repair, warp and judge.

    Parameters
    ----------
    arrays : those of ``task.volumes``, where they are to be computed with.
    """
    moving, fixed = task.volumes["moving"], task.volumes["fixed"]
    watch, notes = task.watch, list[str]()
    with watch.stage("plan"):
        plan = _plan(task, arrays, pipeline.settings["initial_map"])
        body = None
        if "moving body" in arrays:
            body = plan_body(plan, arrays["moving body"], arrays["fixed body"])
    displacement = pipeline.displacement(
        plan, task.provenance.passes, watch, task.progress, task.blending, notes, body
    )
    to_moving = grid_map(fixed.affine, moving.affine)
    spacing = np.array(fixed.spacing), np.array(moving.spacing)
    refinement = Refinement()
    if task.provenance.refine != OFF:
        with watch.stage("refine"):
            refinement = refine_displacement(
                displacement, plan, to_moving, spacing, task.provenance.refine,
                BELIEVED.get(task.provenance.label_sources, GUESSED),
            )  # fmt: skip
    folds_repaired = 0
    if task.provenance.repair:
        with watch.stage("repair"):
            folds_repaired = repair_seams(displacement, plan, to_moving, fixed.spacing)
        if folds_repaired and refinement.outline_iterations and _labels_given(task):
            with watch.stage("refine"):
                follow_outlines(displacement, plan, to_moving, spacing)
            with watch.stage("repair"):
                folds_repaired += repair_seams(displacement, plan, to_moving, fixed.spacing)
    with watch.stage("warp"):
        image, mode = arrays["moving"][None, None], task.provenance.interpolation
        warped = warp(image, displacement, affine=to_moving, mode=mode)[0, 0]
        warped_labels = warp_labels(arrays["moving labels"], displacement, affine=to_moving)
    with watch.stage("judge"):
        quality, jacobian = judge(
            task.scheme,
            plan.moving.region_map,
            plan.fixed.region_map,
            task.scheme.region_map(warped_labels),
            displacement,
            to_moving,
            np.array(fixed.spacing),
            (plan.moving.stats, plan.fixed.stats),
            float(np.prod(moving.spacing)) / 1000,
            task.thresholds,
        )
    results = {
        "displacement": displacement[0], "warped": warped, "warped labels": warped_labels,
        "jacobian": jacobian,
    }  # fmt: skip
    said = tuple(dict.fromkeys(notes))
    return Computed(results, quality, refinement, folds_repaired, said)


def _labels_given(task: Task) -> bool:
    """Whether outlines are to be believed voxel by voxel."""
    return BELIEVED.get(task.provenance.label_sources) is INSIDE


def _plan(task: Task, arrays: dict[str, Array], initial_map: str) -> RegionPlan:
    def measure(side: str) -> Side:
        region_map = task.scheme.region_map(arrays[f"{side} labels"])
        affine = task.volumes[side].affine
        return Side.measure(arrays[side], region_map, len(task.scheme), affine)

    plan = plan_regions(measure("moving"), measure("fixed"), initial_map)
    return replace(plan, names=task.scheme.names)
