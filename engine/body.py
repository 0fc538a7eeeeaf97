"""The body, found in the image alone: the one region of a pair that comes without labels.

Air is dark and even, the body is not. The image is averaged over cells of a few millimetres, Otsu's
threshold (IEEE Transactions on Systems, Man, and Cybernetics 9, 1979) parts the square roots of the
averages, for which dark tissue lies nearer to bright tissue than to air, and the largest part
with what it encloses is the body. Its outline is where the averages, taken linearly between the
cells' centres, cross the threshold, so it is finer than a cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segreg.engine.components import fill_holes, largest_component
from segreg.engine.errors import InputError
from segreg.engine.expectation import Curve
from segreg.engine.volume import Volume

FloatArray = NDArray[np.float32]

BODY = "body"
CELL_MM = 4.0  # at least; and the width of a smoothing of the cells
LEAST_CELLS = 16  # along an axis, so that a small image still shows shapes
LOWEST = -1024.0  # Hounsfield units of air; below it are only marks of where a scanner saw nothing
EXTREMES = (0.5, 99.5)  # per cent of the cells that bound the scale
BINS = 256
# What surrounds a body is air if its square roots are, in the median, below this share of the
# body's mean. Air reaches 0.35 where lungs lie open to the border; fluid and fat begin at 0.45.
DARK = 0.42
LEAST_BODY = 0.02  # of the image


class BodyFinder:
    """Stands where a segmenter does, and finds one label, the body."""

    source = "the automatic body region, found in the image alone"
    curve: Curve | None = None

    @property
    def names(self) -> dict[str, int]:
        return {BODY: 1}

    def segment(self, images: Sequence[Volume]) -> list[Volume]:
        """A label map, 1 in the body, on the grid of each of ``images``, both of a pair.

        A body that fills one image fills the other: what is outline there must not be matched with
        a border of the field of view here.

        Raises
        ------
        InputError : an image in which no body stands out, or one image alone: the other's labels
            are not of bodies.
        """
        if len(images) == 1:
            raise InputError(
                f"labels: expected none where the body is the region, got those of one side and "
                f"none for {images[0].name}. Give both label maps, or neither."
            )
        bodies = []
        for image in images:
            try:
                bodies.append(find_body(image.array, image.spacing))
            except ValueError as error:
                raise InputError(f"{image.name}: {error}") from error
        if any(body.all() for body in bodies):
            bodies = [np.ones_like(body) for body in bodies]
        return [
            Volume(body, image.affine, f"body of {image.name}")
            for body, image in zip(bodies, images, strict=True)
        ]


def body_notes(sources: Sequence[str], refine: str | int) -> tuple[str, ...]:
    """What to do where the body is the region and only its outline was matched."""
    if BodyFinder.source not in sources or refine != "off":
        return ()
    return (
        "the body is one region, and without refinement only its outline is matched; "
        "--refine auto registers what is inside",
    )


def find_body(image: NDArray[np.number], spacing: Sequence[float]) -> NDArray[np.uint8]:
    """1 in the body and 0 around it, (D, H, W); 1 everywhere if the image shows no air around it.

    Parameters
    ----------
    image : (D, H, W), CT or MR, on the host.
    spacing : (3,) mm.

    Raises
    ------
    ValueError : values that are not finite, an image that is the same everywhere, or one in which
        nothing of a body's size stands out.
    """
    factors = [
        max(1, min(math.ceil(CELL_MM / step), length // LEAST_CELLS))
        for step, length in zip(spacing, image.shape, strict=True)
    ]
    cells = _average(image, factors)
    if not np.isfinite(cells).all():
        raise ValueError(
            "expected finite values, got NaN or infinity. Replace them, or give a label map."
        )
    cells = np.maximum(cells, np.float32(LOWEST))
    low, high = np.percentile(cells, EXTREMES)
    if not high > low:
        low, high = float(cells.min()), float(cells.max())
    if not high > low:
        raise ValueError(
            f"expected an image with a body in it, got {low:g} everywhere. Check the file, or give "
            "a label map."
        )
    widths = [factor * step for factor, step in zip(factors, spacing, strict=True)]
    level = (_smooth(cells, widths) - low) / (high - low)
    level = np.sqrt(np.clip(level, 0, 1)).astype(np.float32)
    threshold = find_threshold(level)
    above = level > threshold
    body = largest_component(above)
    for axis in range(3):
        body = fill_holes(body, axis)
    share = float(body.mean())
    if share < LEAST_BODY:
        raise ValueError(
            f"expected a body in it, but what stands out most is {100 * share:.1f} % of the image. "
            "Give a label map."
        )
    if body.all() or np.median(level[~body]) > DARK * level[body].mean():
        return np.ones(image.shape, np.uint8)
    height = np.where(body == above, level - threshold, np.where(body, 1, -1)).astype(np.float32)
    return _draw(height, factors, image.shape)


def find_threshold(values: FloatArray) -> float:
    """Otsu's threshold of ``values`` from 0 to 1: it parts them into two classes whose means lie
    farthest apart, in units of their spread."""
    counts, ends = np.histogram(values, BINS, (0, 1))
    centres = (ends[1:] + ends[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    sums = np.cumsum(counts * centres)
    above = counts.sum() - below
    parted = np.zeros(BINS - 1)
    both = (below > 0) & (above > 0)
    apart = sums[-1] / counts.sum() * below - sums[:-1]
    parted[both] = apart[both] ** 2 / (below * above)[both]
    best = np.flatnonzero(parted >= parted.max() * (1 - 1e-12))
    return float(ends[1:-1][best].mean())  # between the classes, where nothing lies there


def _average(image: NDArray[np.number], factors: Sequence[int]) -> FloatArray:
    """Means of blocks of ``factors`` voxels; the last ones may be smaller."""
    means: FloatArray = image.astype(np.float32, copy=False)
    for axis, factor in enumerate(factors):
        if factor == 1:
            continue
        before, length, after = means.shape[:axis], means.shape[axis], means.shape[axis + 1 :]
        whole = length // factor
        main, rest = np.split(means, [whole * factor], axis)
        blocks = main.reshape(*before, whole, factor, *after)
        means = blocks.sum(axis + 1) / np.float32(factor)
        if rest.size:
            means = np.concatenate([means, rest.mean(axis, keepdims=True)], axis)
    return np.ascontiguousarray(means)


def _smooth(cells: FloatArray, widths: Sequence[float]) -> FloatArray:
    """Gaussian means with ``CELL_MM`` over cells of ``widths`` mm, borders held.

    In NumPy: what a GPU computes with needs no kernels of the CPU, and the cells are few.
    """
    for axis, width in enumerate(widths):
        radius = round(2 * CELL_MM / width)
        if cells.shape[axis] == 1 or not radius:
            continue
        offsets = np.arange(-radius, radius + 1)
        weights = np.exp(-0.5 * (offsets * width / CELL_MM) ** 2)
        rims = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        views = np.lib.stride_tricks.sliding_window_view(
            np.pad(cells, rims, mode="edge"), len(offsets), axis
        )
        cells = views @ (weights / weights.sum()).astype(np.float32)
    return cells


def _draw(
    height: FloatArray, factors: Sequence[int], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """1 in the voxels where ``height``, linear between the centres of its cells, is above 0.

    Along rows only voxels between two cells of different sign need more than the sign.
    """
    for axis in (0, 1):
        height = _finer(height, axis, factors[axis], shape[axis])
    above, factor, length = height > 0, factors[2], shape[2]
    drawn = np.repeat(above, factor, axis=2)[:, :, :length].astype(np.uint8)
    row, cell = np.nonzero((above[:, :, 1:] != above[:, :, :-1]).reshape(-1, above.shape[2] - 1))
    rows = height.reshape(-1, above.shape[2])
    first, second = rows[row, cell, None], rows[row, cell + 1, None]
    # The voxels from the centre of the one cell to that of the next, and how far on each is.
    voxels = np.arange(factor) + (factor + (factor % 2 == 0) - 1) // 2
    on = ((voxels + 0.5) / factor - 0.5).astype(np.float32)
    places = np.minimum(cell[:, None] * factor + voxels, length - 1)
    values = first + on * (second - first) > 0
    inside = cell[:, None] * factor + voxels < length
    flat = row[:, None] * length + places
    drawn.reshape(-1)[flat[inside]] = values[inside]
    return drawn


def _finer(height: FloatArray, axis: int, factor: int, length: int) -> FloatArray:
    """``length`` voxels along ``axis``, ``factor`` a cell, linear between the cells' centres."""
    if factor == 1:
        return height
    place = np.clip((np.arange(length) + 0.5) / factor - 0.5, 0, height.shape[axis] - 1)
    low = place.astype(np.intp)
    high = np.minimum(low + 1, height.shape[axis] - 1)
    on = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    start = np.take(height, low, axis)
    start += on * (np.take(height, high, axis) - start)
    return start
