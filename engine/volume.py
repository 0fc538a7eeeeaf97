"""An image or label map with its place in the world, and what it must fulfil to be registered."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError, SpatialImage
from numpy.typing import ArrayLike, NDArray

from segreg.engine.errors import InputError
from segreg.engine.geometry import (
    Affine,
    check_affine,
    format_numbers,
    grid_distance,
    make_affine,
    spacing_of,
)
from segreg.engine.header import locate
from segreg.engine.nifti import VECTOR_INTENT, NiftiFile, write_nifti

GRID_TOLERANCE = 1e-3  # mm, at the corners
WHOLE = 1e-3  # a float label this near to an integer is that integer: header scaling rounds
LABEL_DTYPES = (np.uint8, np.int16, np.int32)


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D array on a grid in the world; a 2-D image has one slice.

    Attributes
    ----------
    array : (z, y, x), C-contiguous, integer or float. Read-only when it came from a file.
    affine : (4, 4) float64, voxel (x, y, z) -> RAS mm, as in nibabel.
    name : what sentences call it; a file's name without its folder.
    notes : sentences about what its header left open or contradicts.
    """

    array: NDArray[Any]
    affine: Affine
    name: str = "volume"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
            raise InputError(
                f"{self.name}: expected an array of integers or floats, got {array.dtype}. "
                "Convert it first: array.astype(np.float32)."
            )
        if array.ndim != 3 or 0 in array.shape:
            raise InputError(
                f"{self.name}: expected a 3-D array (z, y, x) with voxels in it, got shape "
                f"{array.shape}."
            )
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        object.__setattr__(self, "array", np.ascontiguousarray(array))
        object.__setattr__(self, "affine", check_affine(self.affine, self.name))

    @classmethod
    def read(cls, path: str | Path, *, geometry: str | None = None) -> Volume:
        """Read a NIfTI file (.nii, .nii.gz).

        Parameters
        ----------
        geometry : {None, "sform", "qform"}
            Which transform of the header to believe; None reads it as ITK does
            (:func:`segreg.engine.header.locate`).

        Raises
        ------
        InputError : the file cannot be used; the sentence says why and how to mend it.
        """
        file = NiftiFile.open(path, geometry=geometry)
        if file.intent == VECTOR_INTENT and len(file.shape) == 5:
            raise InputError(
                f"{file.name}: expected an image, got a vector field. Read it with Field.read."
            )
        shape = _spatial_shape(file.shape, file.name)
        return cls(file.read_array().reshape(shape), file.affine, file.name, file.notes)

    @classmethod
    def from_nibabel(
        cls, image: SpatialImage, *, name: str = "image", geometry: str | None = None
    ) -> Volume:
        """Volume of a nibabel image; NIfTI headers are read by the same rule as files.

        Raises
        ------
        InputError : as :meth:`read`.
        """
        notes: tuple[str, ...] = ()
        shape = _spatial_shape(tuple(reversed(image.shape)), name)
        if isinstance(image.header, Nifti1Header):  # NIfTI-2 and .hdr/.img pairs included
            affine, notes = locate(image.header, geometry=geometry, name=name)
        elif image.affine is None or geometry is not None:
            raise InputError(
                f"{name}: expected a NIfTI image, got {type(image).__name__} and "
                f"geometry={geometry!r}. Convert it to NIfTI, or leave geometry out."
            )
        else:
            affine = image.affine
        try:
            array = np.asarray(image.dataobj)
        except (OSError, EOFError, ValueError, ImageFileError, HeaderDataError) as error:
            raise InputError(f"{name}: its voxels cannot be read ({error}).") from error
        return cls(array.T.reshape(shape), affine, name, notes)

    @classmethod
    def from_array(
        cls,
        array: ArrayLike,
        *,
        affine: ArrayLike | None = None,
        spacing: Sequence[float] | None = None,
        name: str = "array",
    ) -> Volume:
        """Volume of ``array`` (z, y, x) or (y, x), not copied where it is C-contiguous.

        Parameters
        ----------
        affine : (4, 4) voxel (x, y, z) -> RAS mm; or
        spacing : mm per array axis, for an axis-aligned grid that begins at 0.

        Raises
        ------
        InputError : neither or both of ``affine`` and ``spacing``; an array that is no image.
        """
        array = np.asarray(array)
        flat = array.ndim == 2
        if (affine is None) == (spacing is None):
            raise InputError(
                f"{name}: expected either affine or spacing. Give spacing=(z, y, x) in mm, or "
                "the (4, 4) affine from voxel (x, y, z) to RAS mm."
            )
        if spacing is not None:
            if len(spacing) != array.ndim:
                raise InputError(
                    f"{name}: expected one spacing per array axis ({array.ndim}), "
                    f"got {len(spacing)}."
                )
            affine = make_affine((1.0, *spacing) if flat else spacing)
        return cls(array[np.newaxis] if flat else array, np.asarray(affine), name)

    @property
    def shape(self) -> tuple[int, int, int]:
        depth, height, width = self.array.shape
        return depth, height, width

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres along (z, y, x)."""
        depth, height, width = spacing_of(self.affine)
        return float(depth), float(height), float(width)

    @property
    def ndim_spatial(self) -> int:
        """2 for a single slice along any axis, else 3."""
        return 2 if 1 in self.shape else 3

    def with_array(self, array: NDArray[Any]) -> Volume:
        """The same grid, name and notes with other voxels."""
        return dataclasses.replace(self, array=array)

    def write(self, path: str | Path) -> None:
        """Write to ``path`` (.nii, .nii.gz): whole, or not at all.

        Floats are stored as float32, integers in their own type (64-bit ones as int32), so label
        numbers survive.

        Raises
        ------
        InputError : another suffix, a place that refuses the file, values beyond float32 or int32.
        """
        array = self.array
        if array.dtype.kind == "f":
            array = _to_float32(array, self.name)
        elif array.dtype.kind == "b":
            array = array.view(np.uint8)
        elif array.dtype.itemsize == 8:
            array = _narrow(array, (np.int32,), self.name)
        write_nifti(path, array, self.affine)


VolumeLike = str | os.PathLike[str] | SpatialImage | Volume


class Noted(Protocol):
    """Whatever was read from a file: a volume, a field."""

    @property
    def name(self) -> str: ...

    @property
    def notes(self) -> tuple[str, ...]: ...


def join_notes(sources: Iterable[Noted]) -> tuple[str, ...]:
    """The notes of several files, each said once, with the names of all files it is about."""
    about: dict[str, list[str]] = {}
    for source in sources:
        for note in source.notes:
            names = about.setdefault(note.removeprefix(f"{source.name}: "), [])
            if source.name not in names:
                names.append(source.name)
    return tuple(f"{', '.join(names)}: {note}" for note, names in about.items())


def as_volume(thing: Any, *, geometry: str | None = None) -> Volume:
    """``thing`` as a Volume: a path, a nibabel image, or a Volume as it is.

    Raises
    ------
    TypeError : anything else, such as an array, whose place in the world is unknown.
    InputError : as :meth:`Volume.read`.
    """
    if isinstance(thing, Volume):
        return thing
    if isinstance(thing, (str, os.PathLike)):
        return Volume.read(Path(thing), geometry=geometry)
    if isinstance(thing, SpatialImage):
        return Volume.from_nibabel(thing, geometry=geometry)
    raise TypeError(
        f"expected a path, a nibabel image or a segreg Volume, got {type(thing).__name__}. "
        "For an array: Volume.from_array(array, spacing=(z, y, x))."
    )


def check_image(volume: Volume) -> Volume:
    """``volume`` as finite float32; a constant image passes.

    Raises
    ------
    InputError : NaN or infinite voxels, counted.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        array = volume.array.astype(np.float32, copy=False)
        # One sum is cheaper than a map of flags; NaN and infinity come through it.
        finite = bool(np.isfinite(array.sum(dtype=np.float64)))
    if not finite:
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        raise InputError(
            f"{volume.name}: expected finite voxels, got {bad:,} of {array.size:,} that are NaN, "
            "infinite or beyond float32. Replace them first: np.nan_to_num(array)."
        )
    return volume if array is volume.array else volume.with_array(array)


def check_labels(volume: Volume) -> Volume:
    """``volume`` as a label map of uint8, int16 or int32.

    Raises
    ------
    InputError : values that are not whole or negative or beyond int32; no label at all.
    """
    array, name = volume.array, volume.name
    if array.dtype.kind == "f":
        array = _whole(array, name)
    elif array.dtype.kind == "b":
        array = array.view(np.uint8)
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0:
        raise InputError(
            f"{name}: expected labels of 0 (background) and above, got {lowest}. "
            "Renumber the negative labels."
        )
    if highest == 0:
        raise InputError(
            f"{name}: empty label map, every voxel is 0. Segment the image first, or check that "
            "this is the right file."
        )
    if array.dtype not in LABEL_DTYPES:
        array = _narrow(array, LABEL_DTYPES[1:], name)
    return volume if array is volume.array else volume.with_array(array)


def check_same_grid(labels: Volume, image: Volume) -> None:
    """Refuse a label map that does not lie voxel on voxel on its image.

    Raises
    ------
    InputError : shapes differ, or the corners lie more than 0.001 mm apart.
    """
    both = f"expected the same grid on both, got {_describe(labels)} and {_describe(image)}"
    mend = (
        f"Resample {labels.name} onto the grid of {image.name} with nearest neighbour, "
        "or export both from the same series."
    )
    if labels.shape != image.shape:
        raise InputError(f"{both}. {mend}")
    apart = grid_distance(labels.affine, image.affine, image.shape)
    if apart > GRID_TOLERANCE:
        raise InputError(f"{both}, up to {apart:.3g} mm apart. {mend}")


def _describe(volume: Volume) -> str:
    size = " x ".join(map(str, reversed(volume.shape)))
    spacing = format_numbers(volume.spacing[::-1], " x ")
    origin = format_numbers(volume.affine[:3, 3], ", ")
    return f"{volume.name} ({size} voxels of {spacing} mm, first voxel at {origin})"


def _spatial_shape(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """(z, y, x) of a reversed NIfTI shape, whose further axes must have length 1."""
    if len(shape) < 2:
        raise InputError(f"{name}: expected a 2-D or 3-D image, got {len(shape)}-D.")
    if any(n > 1 for n in shape[:-3]):
        while shape[0] == 1:
            shape = shape[1:]
        raise InputError(
            f"{name}: expected a 3-D image, got {len(shape)}-D "
            f"({' x '.join(map(str, reversed(shape)))}). "
            "Choose a frame first, for example image.slicer[..., 0] in nibabel."
        )
    return (1, *shape) if len(shape) == 2 else shape[-3:]


def _to_float32(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    try:
        with np.errstate(over="raise"):
            return array.astype(np.float32, copy=False)
    except FloatingPointError as error:
        raise InputError(
            f"{name}: expected voxels within float32, got some beyond it. Rescale the image first."
        ) from error


def _whole(array: NDArray[Any], name: str) -> NDArray[np.int32]:
    with np.errstate(invalid="ignore"):  # NaN and infinity are not whole, and found below
        labels = array.astype(np.int32)
        if np.array_equal(labels, array):
            return labels
        rounded = np.rint(array)
        whole = np.abs(array - rounded) <= WHOLE
    if not whole.all():
        bad = np.flatnonzero(~whole)
        raise InputError(
            f"{name}: expected whole label numbers, got {array.ravel()[bad[0]]:g} "
            f"({bad.size:,} such voxels). Is this an image or a probability map? "
            "Interpolate label maps with nearest neighbour."
        )
    return _narrow(rounded, (np.int32,), name)


def _narrow(array: NDArray[Any], dtypes: Sequence[type[Any]], name: str) -> NDArray[Any]:
    """``array`` as the first of ``dtypes`` that holds its values."""
    lowest, highest = array.min(), array.max()
    for dtype in dtypes:
        if np.iinfo(dtype).min <= lowest and highest <= np.iinfo(dtype).max:
            return array.astype(dtype)
    raise InputError(
        f"{name}: expected integers within int32, got {lowest:g} to {highest:g}. "
        "Renumber the labels."
    )
