"""Networks of limited reach on volumes of any size: padding, windows, Gaussian blending."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Shape = tuple[int, int, int]
Slices = tuple[slice, slice, slice]

NARROWNESS = 8  # standard deviations of the blending weight in a window's width
LEAST_WEIGHT = 1e-3  # so that a voxel seen from a corner alone is still seen


def run_windows(
    infer: Callable[[FloatArray], FloatArray],
    images: FloatArray,
    patch: Sequence[int | None],
    stride: Sequence[int],
    overlap: float,
) -> FloatArray:
    """What a network says of whole ``images``, averaged over windows that overlap.

    Parameters
    ----------
    infer : (B, 1, *window) -> (B, C, *window).
    images : (B, D, H, W) float32, all of one shape.
    patch : cells of the window per axis; None takes the axis whole.
    stride : what the size of an axis taken whole must be a multiple of.
    overlap : share of a window that the next one covers too.

    Returns
    -------
    (B, C, D, H, W) float32
    """
    shape = _shape(images.shape[1:])
    window = _shape(
        [-(-n // step) * step if p is None else p
         for n, p, step in zip(shape, patch, stride, strict=True)]
    )
    padded = np.pad(
        images,
        [(0, 0), *((0, max(p - n, 0)) for n, p in zip(shape, window, strict=True))],
        mode="edge",
    )
    places = list(window_places(_shape(padded.shape[1:]), window, overlap))
    depth, height, width = shape
    if len(places) == 1:
        return infer(padded[:, None])[..., :depth, :height, :width]
    weight = gaussian_weight(window)
    total = np.zeros(padded.shape[1:], np.float32)
    answer: FloatArray | None = None
    for z, y, x in places:
        part = infer(np.ascontiguousarray(padded[:, z, y, x])[:, None])
        if answer is None:
            answer = np.zeros((*part.shape[:2], *padded.shape[1:]), np.float32)
        answer[..., z, y, x] += part * weight
        total[z, y, x] += weight
    assert answer is not None
    blended: FloatArray = (answer / total)[..., :depth, :height, :width]
    return blended


def window_places(shape: Shape, window: Shape, overlap: float) -> Iterator[Slices]:
    """Windows evenly spread over ``shape``, each covering ``overlap`` of its neighbour or more."""
    starts = []
    for size, extent in zip(shape, window, strict=True):
        count = 1 + math.ceil((size - extent) / max(1, round(extent * (1 - overlap))))
        starts.append([int(s) for s in np.linspace(0, size - extent, count).round()])
    for z, y, x in itertools.product(*starts):
        yield slice(z, z + window[0]), slice(y, y + window[1]), slice(x, x + window[2])


def gaussian_weight(window: Shape) -> FloatArray:
    """(D, H, W): largest in the middle, where a network sees most around a voxel."""
    weight = np.ones((1, 1, 1))
    for axis, extent in enumerate(window):
        offset = np.arange(extent) - (extent - 1) / 2
        profile = np.exp(-0.5 * (offset * NARROWNESS / extent) ** 2)
        weight = weight * np.expand_dims(profile, [a for a in range(3) if a != axis])
    floored: FloatArray = np.maximum(weight / weight.max(), LEAST_WEIGHT).astype(np.float32)
    return floored


def _shape(sizes: Sequence[int]) -> Shape:
    depth, height, width = sizes
    return depth, height, width
