"""``apply``: carry one more image, label map or set of landmarks through a field."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, cast, get_args, overload

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from segreg.engine.errors import InputError
from segreg.engine.field import (
    CarriedPoints,
    Field,
    Space,
    apply_to_image,
    apply_to_labels,
    apply_to_points,
)
from segreg.engine.landmarks import Convention, read_points
from segreg.engine.volume import Volume, VolumeLike, as_volume

Kind = Literal["image", "labels", "points"]
Interpolation = Literal["linear", "nearest", "cubic", "vote"]

INTERPOLATIONS = {
    "image": ("linear", "nearest", "cubic"),
    "labels": ("vote", "nearest"),
    "points": (),
}


@overload
def apply(
    field: Field | str | os.PathLike[str],
    thing: VolumeLike,
    *,
    kind: Literal["image", "labels"] | None = None,
    interpolation: Interpolation | None = None,
    geometry: str | None = None,
) -> Volume: ...


@overload
def apply(
    field: Field | str | os.PathLike[str],
    thing: NDArray[Any],
    *,
    kind: Literal["points"] | None = None,
    to: Space | None = None,
    convention: Convention | None = None,
) -> CarriedPoints: ...


@overload
def apply(
    field: Field | str | os.PathLike[str],
    thing: str | os.PathLike[str],
    *,
    kind: Literal["points"],
    to: Space | None = None,
    convention: Convention | None = None,
) -> CarriedPoints: ...


@overload
def apply(
    field: Field | str | os.PathLike[str],
    thing: VolumeLike | NDArray[Any],
    *,
    kind: Kind | None = None,
    interpolation: Interpolation | None = None,
    geometry: str | None = None,
    to: Space | None = None,
    convention: Convention | None = None,
) -> Volume | CarriedPoints: ...


def apply(
    field: Field | str | os.PathLike[str],
    thing: VolumeLike | NDArray[Any],
    *,
    kind: Kind | None = None,
    interpolation: Interpolation | None = None,
    geometry: str | None = None,
    to: Space | None = None,
    convention: Convention | None = None,
) -> Volume | CarriedPoints:
    """Carry something that belongs to the moving image onto the fixed image.

    Parameters
    ----------
    field : Field, or path of one.
    thing : an image or label map (path, nibabel image, Volume), or landmarks: (N, 3) RAS mm, or
        the path of a CSV file.
    kind : {None, "image", "labels", "points"}
        None takes an array for points and everything else for an image. A label map must be
        announced, for interpolating one as an image invents labels; so must a CSV file.
    interpolation : {"linear", "nearest", "cubic"} for images, {"vote", "nearest"} for label
        maps; the first of them where None.
    geometry : {None, "sform", "qform"}
        How to read the header of ``thing``, as for ``Engine.register``.
    to : {"fixed", "moving"}
        For points: "fixed" (where None) carries landmarks of the moving image along with it;
        "moving" carries landmarks of the fixed image to the moving one.
    convention : {None, "ras", "lps"}
        For a CSV file: its axes; None where its column names say so.

    Returns
    -------
    Volume on the field's grid, or CarriedPoints (RAS mm) for points.

    Raises
    ------
    InputError : something that cannot be used, or options that do not go with ``kind``.
    """
    what = _kind_of(thing, kind)
    if what == "points":
        _refuse(what, interpolation=interpolation, geometry=geometry)
    else:
        _refuse(what, to=to, convention=convention)
    if interpolation is not None and interpolation not in INTERPOLATIONS[what]:
        raise InputError(
            f"interpolation: expected {' or '.join(INTERPOLATIONS[what])} for {what}, "
            f"got {interpolation!r}."
        )
    carrier = field if isinstance(field, Field) else Field.read(field_path(field))
    if what == "points":
        if isinstance(thing, (str, os.PathLike)):
            thing = read_points(Path(thing), convention)
        elif convention not in (None, "ras"):
            raise InputError(
                "convention: expected no convention for an array of points, which is in RAS mm, "
                f"got {convention!r}. Turn x and y around first: points * (-1, -1, 1)."
            )
        return apply_to_points(carrier, cast(NDArray[Any], thing), to=to or "fixed")
    volume = as_volume(cast(VolumeLike, thing), geometry=geometry)
    if what == "labels":
        return apply_to_labels(carrier, volume, mode=interpolation or "vote")
    return apply_to_image(carrier, volume, mode=interpolation or "linear")


def field_path(field: object) -> Path:
    """``field`` as a path.

    Raises
    ------
    TypeError : it is no path.
    """
    if isinstance(field, (str, os.PathLike)):
        return Path(field)
    raise TypeError(
        f"field: expected a segreg Field or the path of one, got {type(field).__name__}. "
        "For an array of voxel displacements: Field(displacement, affine)."
    )


def _kind_of(thing: object, kind: str | None) -> str:
    is_path = isinstance(thing, (str, os.PathLike))
    is_volume = isinstance(thing, (Volume, SpatialImage))
    if kind is not None and kind not in get_args(Kind):
        raise InputError(f"kind: expected one of {', '.join(get_args(Kind))}, got {kind!r}.")
    if is_path:
        table = Path(cast(str, thing)).suffix.lower() == ".csv"
        if table and kind != "points":
            raise InputError(
                f"{Path(cast(str, thing)).name}: expected a volume, got a table. "
                'For landmarks say so: kind="points" (--kind points).'
            )
        return kind or "image"
    if is_volume:
        if kind == "points":
            raise InputError('kind "points": expected (N, 3) RAS mm or a CSV file, got a volume.')
        return kind or "image"
    if kind in ("image", "labels") or np.ndim(cast(Any, thing)) != 2:
        raise InputError(
            "thing: expected a volume as path, nibabel image or Volume, or points (N, 3) in RAS "
            f"mm; got {type(thing).__name__} of shape {np.shape(cast(Any, thing))}. For an array "
            "of voxels: Volume.from_array(array, spacing=(z, y, x))."
        )
    return "points"


def _refuse(what: str, **options: object) -> None:
    """Options that mean nothing for ``what`` are a misunderstanding, not to be ignored."""
    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"{name}: expected nothing for {what}, got {value!r}. Leave it out, or say which "
                f"kind of thing this is: {', '.join(get_args(Kind))}."
            )
