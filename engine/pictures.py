"""Slices as pictures: grey values, overlays and colour maps, as PNG data URIs.

Every function takes slices (rows, columns) as :meth:`segreg.engine.planes.Plane.cut` gives them.
The same slices give the same bytes.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Grey = NDArray[np.uint8]  # (height, width)
Colours = NDArray[np.uint8]  # (height, width, 3)
Size = tuple[int, int]  # height, width in pixels

# Blue where the moving tissue is stretched (J < 1), orange where it is shrunk (J > 1).
JACOBIAN_COLOURS = ("#0b2a63", "#2f74c0", "#a9cbe8", "#f4f3ef", "#f3c48b", "#cf7420", "#6b2e05")
# Luminance rises from end to end, so the map survives a grey printer.
DISTANCE_COLOURS = ("#10122b", "#3b2a6d", "#7f3b83", "#c3526f", "#ee8559", "#fbc673", "#fdf6c9")
# Magenta is in neither map; the rim keeps it apart from any neighbour.
FOLD_COLOUR, RIM_COLOUR = "#ff00c8", "#000000"
FOLD, RIM = 255, 254
LEVELS = 254
PERCENTILES = (1.0, 99.0)
SAMPLES = 1 << 18


def choose_window(image: NDArray[Any]) -> tuple[float, float]:
    """Grey values shown as black and white: percentiles 1 and 99 of a regular sample."""
    step = max(1, round((image.size / SAMPLES) ** (1 / 3)))
    low, high = np.percentile(image[::step, ::step, ::step], PERCENTILES)
    return float(low), float(high)


def make_grey(image: NDArray[Any], window: tuple[float, float], size: Size) -> Grey:
    """``image`` between the ends of ``window``, smoothly enlarged to ``size``."""
    low, high = window
    width = high - low if high > low else 1.0  # a constant image is black
    levels = np.clip((image - low) * (255 / width), 0, 255)
    return _resize(np.rint(levels).astype(np.uint8), size, Image.Resampling.BICUBIC)


def mix(fixed: Grey, moving: Grey) -> Colours:
    """Fixed in green, moving in magenta: grey where they agree."""
    return np.stack([moving, fixed, moving], axis=-1)


def make_checkerboard(fixed: Grey, warped: Grey, tile: int) -> Grey:
    """Squares of ``tile`` pixels in turn from both; the upper left one is of the fixed image."""
    row, column = np.indices(fixed.shape)
    return np.where((row // tile + column // tile) % 2 == 0, fixed, warped)


def make_jacobian_map(jacobian: NDArray[np.floating], limit: float, size: Size) -> Grey:
    """Palette indices of the determinant, on a log scale from 1 / ``limit`` to ``limit``.

    A voxel that folds (determinant <= 0) is marked by ``FOLD`` with a rim, and never by less than
    a few pixels.
    """
    folded = ~(jacobian > 0)  # NaN counts as folded: it must not look healthy
    safe = np.where(folded, 1 / limit, jacobian)
    levels = _levels(0.5 + 0.5 * np.log(safe) / np.log(limit))
    picture = _resize(levels, size, Image.Resampling.BILINEAR).clip(max=LEVELS - 1)
    if folded.any():
        marks = Image.fromarray(_resize(np.uint8(255) * folded, size, Image.Resampling.NEAREST))
        # Downsizing by nearest neighbour may lose a voxel: put each at its own place, too.
        canvas = np.array(marks)
        row, column = np.nonzero(folded)
        canvas[
            (2 * row + 1) * size[0] // (2 * folded.shape[0]),
            (2 * column + 1) * size[1] // (2 * folded.shape[1]),
        ] = 255
        marks = Image.fromarray(canvas).filter(ImageFilter.MaxFilter(3))
        rims = marks.filter(ImageFilter.MaxFilter(5))
        picture[np.array(rims) > 0] = RIM
        picture[np.array(marks) > 0] = FOLD
    return picture


def make_distance_map(distance: NDArray[np.floating], limit: float, size: Size) -> Grey:
    """Palette indices of distances from 0 to ``limit`` and beyond."""
    return _resize(_levels(distance / limit), size, Image.Resampling.BILINEAR)


def make_palette(stops: tuple[str, ...]) -> NDArray[np.uint8]:
    """(256, 3) colours: ``LEVELS`` along the stops, then rim and fold."""
    ends = np.array([parse_colour(stop) for stop in stops], float)
    at = np.linspace(0, len(stops) - 1, LEVELS)
    ramp = [np.interp(at, np.arange(len(stops)), ends[:, channel]) for channel in range(3)]
    marks = [parse_colour(RIM_COLOUR), parse_colour(FOLD_COLOUR)]
    return np.concatenate([np.rint(np.stack(ramp, axis=1)), marks]).astype(np.uint8)


def parse_colour(colour: str) -> tuple[int, int, int]:
    """``#rrggbb`` as three numbers."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def encode_png(picture: NDArray[np.uint8], stops: tuple[str, ...] | None = None) -> str:
    """Data URI of a grey picture, a picture (height, width, 3), or indices into ``stops``."""
    image = Image.fromarray(picture)
    if stops is not None:
        image.putpalette(make_palette(stops).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _levels(share: NDArray[np.floating]) -> Grey:
    return np.asarray(np.rint(np.clip(share, 0, 1) * (LEVELS - 1)), np.uint8)


def _resize(levels: Grey, size: Size, resampling: Image.Resampling) -> Grey:
    height, width = size
    return np.array(Image.fromarray(levels).resize((width, height), resampling), np.uint8)
