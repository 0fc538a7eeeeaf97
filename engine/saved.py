"""A saved result folder, read again to render its report anew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from segreg.engine.errors import InputError
from segreg.engine.field import Field, place_image
from segreg.engine.report import ReportData
from segreg.engine.volume import (
    Volume,
    VolumeLike,
    as_volume,
    check_image,
    check_labels,
    check_same_grid,
)
from segreg.kernels import jacobian_determinant

SCHEMA = 1
SPACING_TOLERANCE = 1e-4  # mm


def read_report_data(
    folder: str | os.PathLike[str],
    *,
    fixed: VolumeLike,
    moving: VolumeLike,
    fixed_labels: VolumeLike,
    geometry: str | None = None,
) -> ReportData:
    """What the report of the result in ``folder`` shows; the inputs are not kept there.

    Raises
    ------
    InputError : not a result folder, or inputs on other grids than the result was computed for.
    """
    place = Path(folder)
    summary = _read_summary(place)
    fixed_image = check_image(as_volume(fixed, geometry=geometry))
    moving_image = check_image(as_volume(moving, geometry=geometry))
    label_map = check_labels(as_volume(fixed_labels, geometry=geometry))
    check_same_grid(label_map, fixed_image)
    for side, image in (("fixed", fixed_image), ("moving", moving_image)):
        _check_grid(side, summary[side], image)
    field = Field.read(place / "displacement.nii.gz")
    warped = Volume.read(place / "warped.nii.gz")
    warped_labels = check_labels(Volume.read(place / "warped_labels.nii.gz"))
    displacement = field.displacement[np.newaxis]
    for volume in (warped, warped_labels):
        check_same_grid(volume, fixed_image)
    return ReportData.from_summary(
        summary,
        fixed=fixed_image,
        before=place_image(moving_image, fixed_image),
        warped=warped,
        fixed_labels=label_map.array,
        warped_labels=warped_labels.array,
        displacement=field,
        jacobian=jacobian_determinant(displacement)[0],
    )


def _read_summary(folder: Path) -> dict[str, Any]:
    mend = "Give the folder that segreg register wrote."
    try:
        summary = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{folder.name}: expected a result folder, but its result.json cannot be read "
            f"({error.strerror}). {mend}"
        ) from error
    except ValueError as error:
        raise InputError(f"{folder.name}: its result.json is not JSON ({error}). {mend}") from error
    needed = {"provenance", "quality", "timings_ms", "notes", "fixed", "moving"}
    if not isinstance(summary, dict) or summary.get("schema") != SCHEMA or needed - set(summary):
        raise InputError(
            f"{folder.name}: expected a result.json of schema {SCHEMA}, got another file. {mend}"
        )
    return summary


def _check_grid(side: str, expected: dict[str, Any], image: Volume) -> None:
    spacing = expected["spacing_zyx_mm"]
    same = list(image.shape) == expected["shape_zyx"] and np.allclose(
        image.spacing, spacing, rtol=0, atol=SPACING_TOLERANCE
    )
    if not same:
        raise InputError(
            f"{image.name}: expected the {side} image of this result, {expected['shape_zyx']} "
            f"voxels of {spacing} mm (z, y, x), got {list(image.shape)} of "
            f"{[round(s, 5) for s in image.spacing]}. Give the file that was registered, and the "
            "same geometry."
        )
