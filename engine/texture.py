"""Texture of all the frame as one body, coarse to fine, blind to regions.

Regions as the network matched them are right at their outlines and guessed inside; where a region
is cut by the field of view, its outline itself is a guess. Two images of one body have a smooth
field between them, and their texture alone finds it: outlines would only mislead. Two bodies have
none. So the steps are tried at coarse levels, from the smoothed field of the network, and kept if
images agree far better for it and regions hardly worse.
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
    image=1.0, outline=0.0, window=2.0, agreement=2.5, smoothness=0.5, damping=0.005, floor=0.001
)
FINE = replace(COARSE, agreement=4.0, most_voxels=0)
ITERATIONS = 10  # at each level
TRIED = 3  # of those at the half level, before it is decided
# The squared local correlation must be so many times what it was, the mean Dice at most so much
# lower: steps on outlines win it back.
GAIN, LOST = 1.5, 0.12


def follow_texture(
    start: FloatArray,
    pair: Resolutions,
    similarity: float,
    dice: float,
    count: int = ITERATIONS,
) -> tuple[FloatArray, tuple[tuple[int, int], ...]] | None:
    """A displacement (3, D, H, W) by texture alone, and its steps ((coarsening, steps), ...).

    None where two bodies are not one, and ``start`` is better kept.

    Parameters
    ----------
    start : (3, D, H, W) voxels of the fixed grid; left as it is.
    similarity, dice : of ``start``, by the native ``Level.measure`` and ``Resolutions.dice``.
    count : steps at each level.
    """
    native, regions = pair.level(1), pair.fixed.regions
    lengths = np.array(start.shape[1:])
    sigma = np.where(lengths > 1, START, 0.0)
    field = smooth(start[None], sigma, native.spacing, truncate=2.0)[0]
    pair.level(4).undivided().improve(field, regions, count, COARSE)
    half, tried = pair.level(2).undivided(), min(TRIED, count)
    half.improve(field, regions, tried, COARSE)
    if native.measure(field).similarity < GAIN * similarity or pair.dice(field) < dice - LOST:
        return None
    if count > tried:
        half.improve(field, regions, count - tried, COARSE)
    native.undivided().advance(field, count, FINE)
    return field, ((4, count), (2, count), (1, count))
