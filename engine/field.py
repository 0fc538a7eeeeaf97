"""A displacement field on its grid: written as ITK reads it, applied to images, labels, points.

The field pulls back: it carries a place x of the fixed image to ``T(x) = M (x + u(x))``, the place
in the common RAS world where the moving image is sampled (u in fixed voxels, M the fixed affine).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segreg.engine.errors import InputError
from segreg.engine.geometry import (
    Affine,
    Points,
    apply_map,
    check_affine,
    flip_affine,
    grid_map,
    index_to_world,
    world_to_index,
)
from segreg.engine.landmarks import find_sources, fit_inverse, sample_field
from segreg.engine.nifti import VECTOR_INTENT, NiftiFile, write_nifti
from segreg.engine.volume import Volume, check_image, check_labels
from segreg.kernels import invert, warp, warp_labels

Space = Literal["moving", "fixed"]

EXACT = 0.5  # voxels: an inverse further off is not one
OTHER_INTENTS = {
    1006: "a displacement (1006): ITK, ANTs and greedy would flip its x and y",
    2006: "an FSL field (2006), which counts scaled voxels",
    2007: "FSL spline coefficients (2007)",
}


@dataclass(frozen=True, eq=False)
class Field:
    """Displacement on the grid of the fixed image.

    Attributes
    ----------
    displacement : (3, D, H, W) float32, voxels of this grid, components (z, y, x).
    affine : (4, 4) of this grid, voxel (x, y, z) -> RAS mm.
    name : what sentences call it.
    notes : sentences about a header or an inverse that is not exact.
    """

    displacement: NDArray[np.float32]
    affine: Affine
    name: str = "field"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        array = np.asarray(self.displacement)
        if array.ndim != 4 or array.shape[0] != 3 or array.size == 0:
            mend = " Give one field: displacement[0]." if array.ndim == 5 else ""
            raise InputError(
                f"{self.name}: expected a displacement (3, D, H, W), got {array.shape}.{mend}"
            )
        if array.dtype.kind != "f":
            raise InputError(f"{self.name}: expected float32 voxels, got {array.dtype}.")
        object.__setattr__(self, "displacement", np.ascontiguousarray(array, np.float32))
        object.__setattr__(self, "affine", check_affine(self.affine, self.name))

    @classmethod
    def read(cls, path: str | Path, *, geometry: str | None = None) -> Field:
        """Read a field as ITK, ANTs and :meth:`write` store it: 5-D NIfTI, intent 1007, LPS mm.

        Raises
        ------
        InputError : not such a field, not finite, or any fault of :meth:`NiftiFile.open`.
        """
        file = NiftiFile.open(path, geometry=geometry)
        if len(file.shape) != 5 or file.shape[:2] != (3, 1):
            raise InputError(
                f"{file.name}: expected a displacement field of nx x ny x nz x 1 x 3, got "
                f"{' x '.join(map(str, reversed(file.shape)))}. Write it with ITK, ANTs or segreg."
            )
        if file.intent != VECTOR_INTENT:
            kind = OTHER_INTENTS.get(file.intent, f"intent {file.intent}")
            raise InputError(
                f"{file.name}: expected a vector field in LPS mm (intent 1007), got {kind}. "
                "Convert it first, for example by reading and writing it with SimpleITK."
            )
        vectors = file.read_array()[:, 0]
        bad = int(vectors.size - np.count_nonzero(np.isfinite(vectors)))
        if bad:
            raise InputError(
                f"{file.name}: expected finite displacements, got {bad:,} that are NaN or infinite."
            )
        to_voxels = np.linalg.inv(_lps_linear(file.affine))
        return cls(_turn(to_voxels, vectors), file.affine, file.name, file.notes)

    @property
    def shape(self) -> tuple[int, int, int]:
        _, depth, height, width = self.displacement.shape
        return depth, height, width

    def lps_mm(self) -> NDArray[np.float32]:
        """Displacement (3, D, H, W) in LPS mm, components (x, y, z): ITK's, as it lies on disk."""
        return _turn(_lps_linear(self.affine), self.displacement)

    def write(self, path: str | Path) -> None:
        """Write to ``path`` (.nii, .nii.gz) for ITK, ANTs, greedy, elastix: 5-D, intent 1007.

        Raises
        ------
        InputError : another suffix, or the place refuses the file.
        """
        write_nifti(path, self.lps_mm()[:, np.newaxis], self.affine, intent=VECTOR_INTENT)

    def inverse(self, shape: Sequence[int], affine: ArrayLike) -> Field:
        """The inverse on the moving image's grid: it carries moving places to fixed ones.

        Parameters
        ----------
        shape : (z, y, x) of the moving image.
        affine : (4, 4) of the moving image.

        Where the field folds there is no inverse; ``notes`` says how much of the grid is not
        exact to half a voxel.
        """
        moving = check_affine(affine, self.name)
        depth, height, width = shape
        vectors, residual = invert(
            self.displacement[np.newaxis],
            affine=grid_map(moving, self.affine),
            shape=(depth, height, width),
            guess=fit_inverse(self.displacement),
        )
        inexact = float(np.mean(np.asarray(residual) > EXACT))
        notes = self.notes
        if inexact:
            notes += (
                f"inverse of {self.name}: {100 * inexact:.2g} % of its voxels are off by more than "
                "half a voxel (the field folds there, or reaches beyond the fixed image)",
            )
        to_moving = grid_map(self.affine, moving)[:, :3]
        return Field(_turn(to_moving, vectors[0]), moving, f"inverse of {self.name}", notes)


@dataclass(frozen=True, eq=False)
class CarriedPoints:
    """Landmarks after their way through a field.

    Attributes
    ----------
    points : (N, 3) RAS mm.
    residual : (N,) voxels of the field by which the inverse misses a point; 0 on the way to the
        moving image, which needs no inverse.
    inside : (N,) bool, whether the fixed end of the way lies on the field's grid. Beyond it the
        border's displacement was used.
    notes : a sentence for each kind of point that is not to be trusted.
    """

    points: Points
    residual: NDArray[np.float64]
    inside: NDArray[np.bool_]
    notes: tuple[str, ...]

    @property
    def converged(self) -> NDArray[np.bool_]:
        """(N,) bool: exact to half a voxel."""
        return self.residual <= EXACT


def apply_to_image(
    field: Field, volume: Volume, mode: str = "linear", outside: float = 0.0
) -> Volume:
    """``volume`` (on its own grid) carried onto the field's grid, float32.

    Parameters
    ----------
    mode : {"linear", "nearest", "cubic"}
        "cubic" is sharper than "linear", and overshoots beside edges.
    outside : value where the field looks beyond ``volume``.

    Raises
    ------
    InputError : NaN or infinite voxels.
    ValueError : an unknown mode.
    """
    image = check_image(volume)
    warped = warp(
        image.array[np.newaxis, np.newaxis],
        field.displacement[np.newaxis],
        affine=grid_map(field.affine, volume.affine),
        mode=mode,
        outside=outside,
    )
    return Volume(warped[0, 0], field.affine, volume.name, volume.notes)


def place_image(volume: Volume, grid: Volume) -> Volume:
    """``volume`` on the grid of ``grid``, carried there by the headers alone; linear, 0 outside."""
    still = Field(np.zeros((3, *grid.shape), np.float32), grid.affine)
    return apply_to_image(still, volume)


def apply_to_labels(field: Field, volume: Volume, mode: str = "vote") -> Volume:
    """A label map carried onto the field's grid; no label number that was not there before.

    Parameters
    ----------
    mode : {"vote", "nearest"}
        "vote" takes the label with the largest linear weight: smoother outlines than "nearest".

    Raises
    ------
    InputError : not a label map, or an empty one.
    ValueError : an unknown mode.
    """
    labels = check_labels(volume)
    warped = warp_labels(
        labels.array,
        field.displacement[np.newaxis],
        affine=grid_map(field.affine, volume.affine),
        mode=mode,
    )
    return Volume(warped, field.affine, volume.name, volume.notes)


def apply_to_points(field: Field, points: ArrayLike, to: str = "moving") -> CarriedPoints:
    """Landmarks through the field; they move against the image.

    Parameters
    ----------
    points : (N, 3) RAS mm, components (x, y, z).
    to : {"moving", "fixed"}
        "moving" carries points of the fixed image to where the field looks in the moving one:
        ``T(x)``. "fixed" carries landmarks of the moving image along with the warped image, by
        the inverse of T at each point.

    Raises
    ------
    InputError : points that are not (N, 3) finite numbers.
    ValueError : an unknown ``to``.
    """
    if to not in get_args(Space):
        raise ValueError(f'to: expected "moving" or "fixed", got {to!r}.')
    given = np.asarray(points, np.float64)
    if given.ndim != 2 or given.shape[1] != 3 or not np.isfinite(given).all():
        raise InputError(
            f"points: expected (N, 3) finite RAS mm, got shape {given.shape}"
            f"{'' if np.isfinite(given).all() else ' with NaN or infinity'}."
        )
    index = apply_map(world_to_index(field.affine), given)
    world = index_to_world(field.affine)
    if to == "moving":
        at_fixed, residual = index, np.zeros(len(index))
        carried = apply_map(world, index + sample_field(field.displacement, index))
    else:
        guess = fit_inverse(field.displacement)
        at_fixed, residual = find_sources(field.displacement, index, guess)
        carried = apply_map(world, at_fixed)
    last = np.array(field.shape) - 1
    inside = np.asarray(((at_fixed >= -0.5) & (at_fixed <= last + 0.5)).all(axis=1))
    notes = []
    if not inside.all():
        notes.append(
            f"{np.count_nonzero(~inside)} of {len(given)} points lie beyond the fixed image; "
            "there the field of its border was used"
        )
    if (residual > EXACT).any():
        notes.append(
            f"{np.count_nonzero(residual > EXACT)} of {len(given)} points have no inverse to "
            f"within half a voxel (up to {residual.max():.2g}): the field folds there"
        )
    return CarriedPoints(carried, residual, inside, tuple(notes))


def _lps_linear(affine: Affine) -> Affine:
    """(3, 3) from voxels (z, y, x) to LPS mm (x, y, z)."""
    return index_to_world(flip_affine(affine))[:3, :3]


def _turn(linear: NDArray[Any], vectors: NDArray[Any]) -> NDArray[np.float32]:
    """``linear`` (3, 3) times every vector of (3, D, H, W), as float32."""
    flat = vectors.astype(np.float32, copy=False).reshape(3, -1)
    return np.asarray(linear.astype(np.float32) @ flat).reshape(vectors.shape)
