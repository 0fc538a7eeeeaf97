"""The slices a report shows: which ones, and how they hang.

Radiological convention: the reader faces the patient, so the patient's right is on the left of an
axial or coronal picture; anterior is up in axial pictures and left in sagittal ones, superior is
up in the others. Slices follow the voxel grid; on an oblique grid each is named after the patient
axis it is nearest to.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.geometry import Affine, apply_map, index_to_world, spacing_of

Box = NDArray[np.int64]  # (2, 3): first voxel and one past the last, along (z, y, x)
Label = NDArray[np.integer]

POSITIVE, NEGATIVE = "RAS", "LPI"  # the letters at both ends of the world axes x, y, z
RULERS = (1, 2, 5, 10, 20, 50, 100)  # mm
GAP, WORDS = 10, 30  # pixels between pictures, and for the line below each
STACK_GAIN = 1.25  # a row reads more easily: stack only for so much larger pictures
VIEWS = (("axial", 2, 1, 0), ("coronal", 1, 2, 0), ("sagittal", 0, 2, 1))  # normal, rows, columns


@dataclass(frozen=True)
class Plane:
    """One slice, cropped and oriented for the eye.

    Attributes
    ----------
    axis, index : the slice is ``index`` along array axis ``axis``.
    row_axis, column_axis : array axes that run down and across the picture.
    rows, columns : the part of them that is shown.
    flip_rows, flip_columns : whether the picture runs against the array.
    left, right, top, bottom : letters of the patient's sides.
    row_mm, column_mm : size of a voxel in the picture.
    scale : pixels per mm.
    position : place of the slice along its patient axis, such as "S 12.5 mm".
    count : slices along this axis.
    column : planes of one column are shown below each other.
    """

    name: str
    axis: int
    index: int
    row_axis: int
    column_axis: int
    rows: slice
    columns: slice
    flip_rows: bool
    flip_columns: bool
    left: str
    right: str
    top: str
    bottom: str
    row_mm: float
    column_mm: float
    scale: float
    position: str
    count: int
    column: int

    @property
    def shape(self) -> tuple[int, int]:
        """Voxels (rows, columns)."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width of the picture, in true proportion."""
        rows, columns = self.shape
        height, width = rows * self.row_mm, columns * self.column_mm
        return max(1, round(height * self.scale)), max(1, round(width * self.scale))

    @property
    def ruler(self) -> tuple[int, float]:
        """A round length in mm about a fifth of the picture's width, and the same in pixels."""
        width = self.shape[1] * self.column_mm
        length = max((mm for mm in RULERS if mm <= width / 4), default=RULERS[0])
        return length, length * self.scale

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """The slice (..., rows, columns) of an array (..., D, H, W), as the eye shall see it."""
        index: list[Any] = [Ellipsis, slice(None), slice(None), slice(None)]
        index[1 + self.axis] = self.index
        index[1 + self.row_axis] = self.rows
        index[1 + self.column_axis] = self.columns
        image: NDArray[Any] = array[tuple(index)]
        if self.row_axis > self.column_axis:
            image = image.swapaxes(-1, -2)
        down = -1 if self.flip_rows else 1
        across = -1 if self.flip_columns else 1
        return np.asarray(image[..., ::down, ::across])


def make_planes(
    affine: Affine,
    shape: tuple[int, int, int],
    box: Box,
    centre: NDArray[np.integer],
    *,
    size: tuple[int, int],
) -> list[Plane]:
    """Axial, coronal and sagittal plane of ``box`` through voxel ``centre`` (z, y, x).

    All share one scale, so that together they fill ``size`` (height, width in pixels), side by
    side or, where that makes them much larger, the last two below each other. An axis of one voxel
    is no side of a picture: a 2-D image has one plane.
    """
    spacing = spacing_of(affine)
    extent = (box[1] - box[0]) * spacing
    axis_of, runs_positive = orient(affine)
    views = [v for v in VIEWS if shape[axis_of[v[2]]] > 1 and shape[axis_of[v[3]]] > 1]
    if not views:  # a line or a single voxel: there is still something to show
        views = [VIEWS[0]]
    sides = [(extent[axis_of[rows]], extent[axis_of[columns]]) for _, _, rows, columns in views]
    scale, places = _arrange(sides, size)
    place = apply_map(index_to_world(affine), centre[np.newaxis])[0]

    def make(name: str, normal: int, down: int, across: int, column_number: int) -> Plane:
        row, column = axis_of[down], axis_of[across]
        return Plane(
            name=name,
            axis=axis_of[normal],
            index=int(centre[axis_of[normal]]),
            row_axis=row,
            column_axis=column,
            rows=slice(int(box[0, row]), int(box[1, row])),
            columns=slice(int(box[0, column]), int(box[1, column])),
            # The positive end (R, A, S) comes first, so an axis towards it runs backwards.
            flip_rows=runs_positive[down],
            flip_columns=runs_positive[across],
            left=POSITIVE[across],
            right=NEGATIVE[across],
            top=POSITIVE[down],
            bottom=NEGATIVE[down],
            row_mm=float(spacing[row]),
            column_mm=float(spacing[column]),
            scale=float(scale),
            position=_side(normal, float(place[normal])),
            count=shape[axis_of[normal]],
            column=column_number,
        )

    return [make(*view, number) for view, number in zip(views, places, strict=True)]


def orient(affine: Affine) -> tuple[list[int], list[bool]]:
    """Of the patient axes x, y, z: the array axis nearest to each, and whether it runs to R, A, S.

    Array axes are given to patient axes one to one, so that the cosines between them add up to
    the most.
    """
    cosines = _cosines(affine)
    axes = max(
        permutations(range(3)), key=lambda order: sum(abs(cosines[w, order[w]]) for w in range(3))
    )
    return list(axes), [bool(cosines[world, axes[world]] > 0) for world in range(3)]


def obliquity(affine: Affine) -> float:
    """Largest angle in degrees between a voxel axis and the patient axis nearest to it."""
    cosines = np.abs(_cosines(affine)[np.arange(3), orient(affine)[0]])
    return float(np.degrees(np.arccos(cosines.min().clip(0, 1))))


def _cosines(affine: Affine) -> NDArray[np.float64]:
    """(3, 3) cosines between the patient axes x, y, z and the array axes z, y, x."""
    linear = index_to_world(affine)[:3, :3]
    return np.asarray(linear / np.linalg.norm(linear, axis=0))


def find_box(inside: NDArray[np.bool_]) -> Box | None:
    """Box of the true voxels (D, H, W), None if there is none."""
    ends = []
    flat = np.any(inside, axis=0)
    for profile in (np.any(inside, axis=(1, 2)), np.any(flat, axis=1), np.any(flat, axis=0)):
        found = np.flatnonzero(profile)
        if not len(found):
            return None
        ends.append((found[0], found[-1] + 1))
    return np.asarray(np.transpose(ends), np.int64)


def widen_box(
    box: Box, shape: tuple[int, int, int], spacing: NDArray[np.float64], margin: float, least: float
) -> Box:
    """``box`` with ``margin`` of its extent added on each side, at least ``least`` mm."""
    extent = (box[1] - box[0]) * spacing
    voxels = np.ceil(np.maximum(margin * extent, least) / spacing).astype(int)
    return np.array([np.maximum(box[0] - voxels, 0), np.minimum(box[1] + voxels, shape)])


def _arrange(sides: list[tuple[float, float]], size: tuple[int, int]) -> tuple[float, list[int]]:
    """Largest scale in pixels per mm at which pictures (height, width) in mm fit, and the column
    each stands in."""
    heights, widths = zip(*sides, strict=True)
    room = size[1] - GAP * (len(sides) - 1)
    row = min(size[0] / max(heights), room / sum(widths))
    if len(sides) < 3:
        return row, list(range(len(sides)))
    stack = min(
        size[0] / heights[0],
        (size[0] - WORDS) / sum(heights[1:]),
        (size[1] - GAP) / (widths[0] + max(widths[1:])),
    )
    return (stack, [0, 1, 1]) if stack > STACK_GAIN * row else (row, [0, 1, 2])


def _side(world: int, millimetres: float) -> str:
    letter = (POSITIVE if millimetres >= 0 else NEGATIVE)[world]
    return f"{letter} {abs(millimetres):.1f} mm"
