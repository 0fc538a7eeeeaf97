"""Assess a field that somebody, segreg or not, computed: what does it do to this pair?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.engine.application import field_path
from segreg.engine.errors import InputError
from segreg.engine.field import Field
from segreg.engine.geometry import grid_distance, grid_map, spacing_of
from segreg.engine.label_names import LabelNames
from segreg.engine.labels import Groups, make_scheme
from segreg.engine.quality import Quality, Thresholds, judge
from segreg.engine.version import __version__
from segreg.engine.volume import (
    GRID_TOLERANCE,
    Volume,
    VolumeLike,
    as_volume,
    check_image,
    check_labels,
    check_same_grid,
    join_notes,
)
from segreg.kernels import region_stats, warp, warp_labels


@dataclass(frozen=True)
class Similarity:
    """Pearson correlation of fixed and moving intensities in the labelled voxels; NaN if constant.

    Says something where both images are of one modality.
    """

    before: float
    after: float


@dataclass(frozen=True)
class Assessment:
    """What ``assess`` found; ``similarity`` is None where no images were given."""

    quality: Quality
    similarity: Similarity | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "segreg": __version__,
            "quality": self.quality.as_dict(),
            "similarity": None if self.similarity is None else asdict(self.similarity),
            "notes": list(self.notes),
        }


def assess(
    field: Field | str | os.PathLike[str],
    moving_labels: VolumeLike,
    fixed_labels: VolumeLike,
    *,
    moving: VolumeLike | None = None,
    fixed: VolumeLike | None = None,
    groups: Groups | None = None,
    labels: Sequence[int | str] | None = None,
    label_names: LabelNames | None = None,
    geometry: str | None = None,
    thresholds: Thresholds | None = None,
) -> Assessment:
    """Judge ``field`` by the label maps of both sides, and by their images where given.

    Parameters
    ----------
    field : on the grid of ``fixed_labels``; a path reads ITK's format.
    groups, labels, label_names, geometry, thresholds : as for ``Engine.register``.

    Raises
    ------
    InputError : only one image given; grids that do not fit; anything that cannot be used.
    """
    if (moving is None) != (fixed is None):
        raise InputError("images: expected both moving and fixed, or none; got one of them.")
    carrier = field if isinstance(field, Field) else Field.read(field_path(field))
    moving_map = check_labels(as_volume(moving_labels, geometry=geometry))
    fixed_map = check_labels(as_volume(fixed_labels, geometry=geometry))
    _check_field(carrier, fixed_map)
    scheme = make_scheme(
        moving_map.array, fixed_map.array,
        groups=groups, select=labels, label_names=label_names,
    )
    regions = [scheme.region_map(side.array) for side in (moving_map, fixed_map)]
    to_moving = grid_map(fixed_map.affine, moving_map.affine)
    displacement = carrier.displacement[np.newaxis]
    quality, _ = judge(
        scheme,
        regions[0],
        regions[1],
        warp_labels(regions[0], displacement, affine=to_moving),
        displacement,
        to_moving,
        spacing_of(fixed_map.affine),
        tuple(_measure(region_map, len(scheme)) for region_map in regions),
        float(np.prod(moving_map.spacing)) / 1000,
        thresholds,
    )
    notes = (*join_notes((carrier, moving_map, fixed_map)), *scheme.notes)
    if moving is None or fixed is None:
        return Assessment(quality, None, notes)
    images = [check_image(as_volume(image, geometry=geometry)) for image in (moving, fixed)]
    for label_map, image in zip((moving_map, fixed_map), images, strict=True):
        check_same_grid(label_map, image)
    similarity = _compare(images[0], images[1], regions[1] > 0, displacement)
    return Assessment(quality, similarity, notes)


def _measure(region_map: NDArray[np.int32], count: int) -> Any:
    # Only counts and boxes are asked for, so any image of the right shape will do.
    return region_stats(region_map, np.zeros(region_map.shape, np.float32), count)


def _check_field(field: Field, fixed: Volume) -> None:
    mend = (
        f"Give the label map of the fixed image that {field.name} was computed for, and read it "
        "with the same geometry."
    )
    if field.shape != fixed.shape:
        sizes = [" x ".join(map(str, reversed(shape))) for shape in (field.shape, fixed.shape)]
        raise InputError(
            f"{field.name}: expected a field on the grid of {fixed.name} ({sizes[1]} voxels), "
            f"got one of {sizes[0]}. {mend}"
        )
    apart = grid_distance(field.affine, fixed.affine, fixed.shape)
    if apart > GRID_TOLERANCE:
        raise InputError(
            f"{field.name}: expected a field on the grid of {fixed.name}, got one up to "
            f"{apart:.3g} mm away from it. {mend}"
        )


def _compare(
    moving: Volume,
    fixed: Volume,
    inside: NDArray[np.bool_],
    displacement: NDArray[np.float32],
) -> Similarity:
    to_moving = grid_map(fixed.affine, moving.affine)
    target = fixed.array[inside].astype(np.float64)

    def correlate(vectors: NDArray[np.float32]) -> float:
        warped = warp(moving.array[np.newaxis, np.newaxis], vectors, affine=to_moving)
        source = warped[0, 0][inside].astype(np.float64)
        deviations = source - source.mean(), target - target.mean()
        norms = [float(np.linalg.norm(deviation)) for deviation in deviations]
        if not all(norms):
            return float("nan")
        return float(deviations[0] @ deviations[1]) / (norms[0] * norms[1])

    return Similarity(before=correlate(np.zeros_like(displacement)), after=correlate(displacement))
