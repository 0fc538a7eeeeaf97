"""Texture of all the frame as one body, coarse to fine, blind to regions.

Regions as the network matched them are right at their outlines and guessed inside; where a region
is cut by the field of view, its outline itself is a guess. Two images of one body have a smooth
field between them, and their texture alone finds it: outlines would only mislead. Two bodies have
none, unless they are as alike as two brains. So the steps are tried at coarse levels, from the
smoothed field of the network, and kept if images agree far better for it and regions not much
worse.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from segreg.engine.levels import Steps
from segreg.engine.resolutions import Resolutions
from segreg.kernels import smooth

FloatArray = NDArray[np.float32]

START = 4.0  # smallest spacings: sigma over which the network's field is smoothed
COARSE = Steps(
    image=1.0,
    outline=0.0,
    window=2.25,
    agreement=2.5,
    smoothness=0.7,
    damping=0.005,
    floor=0.002,
    most_voxels=5e5,
)
FINE = replace(COARSE, agreement=4.0, most_voxels=0.0)
# A body found in the images holds organs that nobody told apart: at the native level wider windows
# find what they show, over shorter ways; at all of them the field is smoothed more.
FOUND_COARSE = replace(COARSE, smoothness=1.0)
FOUND_FINE = replace(FINE, window=3.0, agreement=3.0, smoothness=1.0)
ITERATIONS, HALF_ITERATIONS = 25, 10  # at the coarse levels, and at the half one
# At the native one as many as so much work allows, within limits.
FINE_VOXELS, FINE_LIMITS = 1.5e7, (6, 12)
COARSEST, LEAST_CELLS = 8, 20  # the coarsest level is looked at if it has so many cells an axis
TRIED = 3  # steps at the half level, before it is decided
# The squared local correlation must have become so many times what it was, at the quarter level
# and then; the mean Dice at most so much lower: steps on outlines win it back.
HOPE, GAIN, LOST = 1.2, 1.5, 0.2


def follow_texture(
    start: FloatArray,
    pair: Resolutions,
    similarity: float,
    dice: float,
    count: int | None = None,
    *,
    found: bool = False,
) -> tuple[FloatArray, tuple[tuple[int, int], ...]] | None:
    """A displacement (3, D, H, W) by texture alone, and its steps ((coarsening, steps), ...).

    None where two bodies are not one, and ``start`` is better kept.

    Parameters
    ----------
    start : (3, D, H, W) voxels of the fixed grid; left as it is.
    similarity, dice : of ``start``, by the native ``Level.measure`` and ``Resolutions.dice``.
    count : steps at each level; None leaves it to the size of the grid.
    found : whether the only region is a body found in the images.
    """
    coarse_steps, fine_steps = (FOUND_COARSE, FOUND_FINE) if found else (COARSE, FINE)
    native, regions = pair.level(1), pair.fixed.regions
    fine = count or int(np.clip(FINE_VOXELS / start[0].size, *FINE_LIMITS))
    coarse, middle = count or ITERATIONS, count or HALF_ITERATIONS
    lengths = np.array(start.shape[1:])
    sigma = np.where(lengths > 1, START, 0.0)
    field = smooth(start[None], sigma, native.spacing, truncate=2.0)[0]
    levels = [COARSEST, 4] if lengths.min() >= COARSEST * LEAST_CELLS else [4]
    for coarsening in levels:
        pair.level(coarsening).undivided().improve(field, regions, coarse, coarse_steps)
    if native.measure(field).similarity < HOPE * similarity:
        return None
    half, tried = pair.level(2).undivided(), min(TRIED, middle)
    half.improve(field, regions, tried, coarse_steps)
    if native.measure(field).similarity < GAIN * similarity or pair.dice(field) < dice - LOST:
        return None
    if middle > tried:
        half.improve(field, regions, middle - tried, coarse_steps)
    native.undivided().advance(field, fine, fine_steps)
    return field, (*((coarsening, coarse) for coarsening in levels), (2, middle), (1, fine))
