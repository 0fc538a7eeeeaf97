"""The body around the labels: one more region, whose map carries what lies far from them.

Near the labels the background follows them (``engine.background``). Farther away it has nothing to
do with them: a heart that contracts does not pull the spine along. There the body is the guide,
found in the images alone (``engine.body``) and registered as a region of its own. The two maps of
the background meet over a distance that grows with how far apart they are, and never where the
body's map would show a labelled organ a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import Array, array_module, fetch
from segreg.engine.body import BODY, BodyFinder
from segreg.engine.errors import InputError
from segreg.engine.geometry import grid_map, spacing_of
from segreg.engine.regions import RegionPlan, Side, plan_regions
from segreg.engine.timing import Stopwatch
from segreg.engine.volume import Volume
from segreg.kernels import distance_to_mask, warp, warp_labels

FloatArray = NDArray[np.float32]

REGIONS = "regions"
BACKGROUNDS = (BODY, REGIONS)
FULL = 0.5  # share of the body that labels fill, from which on little is left to carry
CELLS = 64  # per axis, on which the distance to the labels is found
# Millimetres of the way from the one map to the other, per millimetre between them (root of the
# mean square): the blend's steepest slope is 1.5 over the way, so it hardly halves any length.
WAY, SHORTEST, LONGEST = 4.0, 10.0, 80.0
NEAR = 2.0  # cells beside the labels in which the maps' distance is measured


def check_background(background: object) -> str:
    """``background`` as given, if it is one of ``BACKGROUNDS``.

    Raises
    ------
    InputError : anything else.
    """
    if background in BACKGROUNDS:
        return str(background)
    raise InputError(
        f"background: expected one of {', '.join(BACKGROUNDS)}, got {background!r}."
    )


def find_bodies(
    volumes: Mapping[str, Volume], sources: Iterable[str], watch: Stopwatch, *, some: bool = False
) -> tuple[dict[str, NDArray[np.uint8]], list[str]]:
    """Bodies of ``volumes``' "moving" and "fixed" image as "moving body" and "fixed body".

    None where labels of ``sources`` are bodies themselves or fill what is there to see, and none,
    with a sentence why, where no body stands out. ``some`` if only some of the labels count.
    """
    if BodyFinder.source in sources:
        return {}, []
    try:
        with watch.stage("body"):
            if not some and _is_full(volumes["fixed"].array, volumes["fixed labels"].array):
                return {}, []
            found = BodyFinder().segment([volumes["moving"], volumes["fixed"]])
    except InputError as error:
        return {}, [f"the background follows the labels alone; {error}"]
    return {"moving body": found[0].array, "fixed body": found[1].array}, []


def _is_full(image: Array, labels: Array) -> bool:
    """Whether labels fill what is brighter than the darkest voxel: no body is larger than that,
    but for holes."""
    bright = int(np.count_nonzero(image > image.min()))
    return 0 < FULL * bright < int(np.count_nonzero(labels))


def plan_body(plan: RegionPlan, moving: Array, fixed: Array) -> RegionPlan | None:
    """The plan of the bodies (D, H, W) on the images of ``plan``, as one region by moments.

    None where labels fill the fixed body.
    """
    there, here = (
        Side.measure(side.image, body.astype(np.int32), 1, side.affine).union()
        for side, body in ((plan.moving, moving), (plan.fixed, fixed))
    )
    if plan.fixed.stats.voxels[1:].sum() > FULL * here.stats.voxels[1:].sum():
        return None
    return replace(plan_regions(there, here), names=(BODY,))


def follow_body(near: FloatArray, far: FloatArray, plan: RegionPlan) -> None:
    """Turn ``near`` (1, 3, D, H, W) into ``far`` away from the labels, in place.

    Both are in voxels of the fixed grid and alike inside the labels. Where ``far`` looks into a
    label of the moving side, ``near`` stays.
    """
    xp, spacing = array_module(near), spacing_of(plan.fixed.affine)
    to_moving = grid_map(plan.fixed.affine, plan.moving.affine)
    labelled = warp_labels(plan.moving.region_map, far, affine=to_moving, mode="nearest") > 0
    labelled |= plan.fixed.region_map > 0
    factors = [-(-length // CELLS) for length in labelled.shape]
    cell = spacing * factors
    covered = _any(labelled, factors)
    picked = (slice(None), *(slice(factor // 2, None, factor) for factor in factors))
    distances = distance_to_mask(covered[None], cell[None], farthest=LONGEST)[0]
    apart = near[0][picked] - far[0][picked]
    apart *= xp.asarray(spacing.reshape(3, 1, 1, 1).astype(np.float32))
    away = distances[tuple(slice(length) for length in apart.shape[1:])]
    beside = (away > 0) & (away <= NEAR * float(cell.max()))
    squares = ((apart * apart).sum(axis=0) * beside).sum(), beside.sum()
    total, count = fetch(xp.stack([square.astype(np.float32) for square in squares]))
    way = np.clip(WAY * np.sqrt(total / max(count, 1)), SHORTEST, LONGEST)
    share = (distances / np.float32(way)).clip(0, 1)
    weight = (1 - share * share * (3 - 2 * share)).astype(np.float32)
    to_cell = np.column_stack(
        [np.diag(1 / np.array(factors)), 0.5 / np.array(factors) - 0.5]
    )
    still = xp.zeros((1, 3, *labelled.shape), np.float32)
    near -= far
    near *= warp(weight[None, None], still, affine=to_cell)
    near += far


def _any(labelled: Array, factors: list[int]) -> Array:
    """Whether any voxel of each block of ``factors`` is set, (d, h, w) bool."""
    for axis, factor in enumerate(factors):
        whole = (slice(None),) * axis
        first = (*whole, slice(None, None, factor))
        joined = labelled[first].copy()
        for offset in range(1, factor):
            other = (*whole, slice(offset, None, factor))
            part = labelled[other]
            there = (*whole, slice(part.shape[axis]))
            joined[there] |= part
        labelled = joined
    return array_module(labelled).ascontiguousarray(labelled)
