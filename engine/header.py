"""Where a NIfTI header says the image lies, read as ITK reads it.

A header may hold three answers: pixdim, qform and sform. When they contradict each other nibabel
believes the sform and ITK mostly pixdim and the qform; clinical tools are built on ITK, so its
choice is the default here, and every contradiction is put into a note.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from segreg.engine.errors import InputError
from segreg.engine.geometry import (
    Affine,
    check_affine,
    flip_affine,
    format_numbers,
    grid_distance,
    is_perpendicular,
    make_affine,
)

Geometry = Literal["sform", "qform"]

AGREEMENT = 1e-3  # relative: direction cosines, spacing
SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT
UNITS = {1: ("metres", 1000.0), 3: ("microns", 0.001)}


def locate(
    header: Any, *, geometry: str | None = None, name: str
) -> tuple[Affine, tuple[str, ...]]:
    """Affine (4, 4), voxel (x, y, z) to RAS mm, and notes about what the header left open.

    Spacing is always pixdim. Directions and origin come from the qform when only it is set; from
    the sform when only it is set, or when both are and its code is 1 (scanner); from the qform in
    all other cases. With neither, the axes lie along LPS and the first voxel at 0. Observed with
    ITK 5.4 and tested against it.

    Parameters
    ----------
    header : nibabel Nifti1Header or Nifti2Header
    geometry : {None, "sform", "qform"}
        None for ITK's rule. "sform" takes that matrix whole, scale included, as nibabel does;
        "qform" takes the quaternion and pixdim.

    Raises
    ------
    InputError : the form asked for is not set; pixdim not positive; a sform that is sheared,
        singular or not finite where nothing else is set.
    """
    if geometry is not None and geometry not in get_args(Geometry):
        raise ValueError(f'geometry: expected None, "sform" or "qform", got {geometry!r}.')
    with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers are refused below
        claims = _Claims.of(header, name)
        affine, source = claims.choose(geometry)
        notes = claims.contradictions(source, asked=geometry is not None)
        unit = UNITS.get(int(header["xyzt_units"]) & 7)
        if unit is not None:
            affine[:3] *= unit[1]
            notes += (f"{name}: the header gives {unit[0]}: converted to millimetres",)
        return check_affine(affine, name), notes


@dataclass(frozen=True)
class _Claims:
    """What one header says, in its own unit: three answers that may not agree."""

    name: str
    shape: tuple[int, ...]
    pixdim: Affine
    sform: Affine
    sform_code: int
    qform_code: int
    directions: Affine
    qoffset: Affine

    @classmethod
    def of(cls, header: Any, name: str) -> _Claims:
        dim = [int(n) for n in header["dim"]]
        pixdim = np.asarray(header["pixdim"], np.float64)[1:4].copy()
        pixdim[dim[0] :] = 1.0  # a 2-D image has no third spacing to be wrong about
        rows = [np.asarray(header[f"srow_{axis}"], np.float64) for axis in "xyz"]
        quaternion = np.array([float(header[f"quatern_{c}"]) for c in "bcd"])
        return cls(
            name=name,
            shape=(*dim[1 : dim[0] + 1], 1, 1)[:3],
            pixdim=pixdim,
            sform=np.vstack([*rows, (0.0, 0.0, 0.0, 1.0)]),
            sform_code=int(header["sform_code"]),
            qform_code=int(header["qform_code"]),
            directions=_rotation(quaternion, float(header["pixdim"][0])),
            qoffset=np.array([float(header[f"qoffset_{axis}"]) for axis in "xyz"]),
        )

    @property
    def sform_usable(self) -> bool:
        return bool(np.isfinite(self.sform).all()) and is_perpendicular(self.sform[:3, :3])

    def choose(self, geometry: str | None) -> tuple[Affine, str]:
        """The affine in the header's unit, and where it came from."""
        if geometry is not None:
            return self._asked(geometry)
        prefer_sform = self.sform_code == SCANNER or self.qform_code <= 0
        if self.sform_code > 0 and self.sform_usable and prefer_sform:
            return self._sform_with_pixdim(), "sform"
        if self.qform_code > 0:
            return self._qform(), "qform"
        if self.sform_code > 0:
            raise self._bad_sform()
        return flip_affine(make_affine(self._spacing()[::-1])), "neither"

    def contradictions(self, source: str, *, asked: bool) -> tuple[str, ...]:
        notes = []
        how = "as asked" if asked else "as ITK does"
        scale = np.linalg.norm(self.sform[:3, :3], axis=0)
        agrees = np.allclose(scale, self.pixdim, rtol=AGREEMENT, atol=0)
        if self.sform_code > 0 and np.isfinite(scale).all() and not agrees:
            winner = "sform" if asked and source == "sform" else "pixdim"
            notes.append(
                f"{self.name}: header contradicts itself: the sform says "
                f"{format_numbers(scale, ' x ')} mm, pixdim {format_numbers(self.pixdim, ' x ')} "
                f"mm; read {how} ({winner})"
            )
        if self.sform_code > 0 and self.qform_code > 0:
            notes += self._disagreement(source, how)
        if source == "neither":
            notes.append(
                f"{self.name}: header gives no orientation (sform and qform codes are 0); read as "
                "ITK does: axes along LPS, first voxel at 0"
            )
        return tuple(notes)

    def _disagreement(self, source: str, how: str) -> list[str]:
        if not self.sform_usable:
            return [f"{self.name}: the sform is sheared or singular; read {how} ({source})"]
        if not (np.isfinite(self.pixdim).all() and (self.pixdim > 0).all()):
            return []  # only the sform asked for gets here: said already
        sform, qform = self._sform_with_pixdim(), self._qform()
        turned = np.abs(sform[:3, :3] / self.pixdim - self.directions).max()
        shifted = np.abs(sform[:3, 3] - self.qoffset).max()
        if turned <= AGREEMENT and shifted <= 10 * AGREEMENT * self.pixdim.min():
            return []
        apart = grid_distance(sform, qform, self.shape[::-1])
        return [
            f"{self.name}: header contradicts itself: sform and qform place the image up to "
            f"{apart:.3g} mm apart; read {how} ({source})"
        ]

    def _asked(self, geometry: str) -> tuple[Affine, str]:
        other = "qform" if geometry == "sform" else "sform"
        if getattr(self, f"{geometry}_code") <= 0:
            raise InputError(
                f'{self.name}: geometry "{geometry}" was asked for, but the header sets none '
                f'(code 0). Leave geometry out, or choose "{other}".'
            )
        if geometry == "qform":
            return self._qform(), "qform"
        if not self.sform_usable:
            raise self._bad_sform()
        return self.sform.copy(), "sform"

    def _spacing(self) -> Affine:
        if not (np.isfinite(self.pixdim).all() and (self.pixdim > 0).all()):
            other = self.sform_code > 0 and self.sform_usable
            mend = ' or read it by its sform (geometry="sform", --geometry sform)' if other else ""
            raise InputError(
                f"{self.name}: expected a positive voxel size in pixdim, got "
                f"{format_numbers(self.pixdim, ' x ')}. Mend the header{mend}."
            )
        return self.pixdim

    def _sform_with_pixdim(self) -> Affine:
        affine: Affine = self.sform.copy()
        affine[:3, :3] *= self._spacing() / np.linalg.norm(affine[:3, :3], axis=0)
        return affine

    def _qform(self) -> Affine:
        if not (np.isfinite(self.directions).all() and np.isfinite(self.qoffset).all()):
            raise InputError(
                f"{self.name}: expected finite numbers in the qform, got NaN or infinity. "
                "Mend the header."
            )
        affine = np.eye(4)
        affine[:3, :3] = self.directions * self._spacing()
        affine[:3, 3] = self.qoffset
        return affine

    def _bad_sform(self) -> InputError:
        mend = ' or read it by its qform (geometry="qform", --geometry qform)'
        return InputError(
            f"{self.name}: expected a sform with finite axes at right angles, got a sheared or "
            "singular one. Resample the image onto an unsheared grid first"
            f"{mend if self.qform_code > 0 else ''}."
        )


def _rotation(quaternion: Affine, qfac: float) -> Affine:
    """Direction cosines (3, 3) of a unit quaternion (b, c, d); qfac < 0 flips the third column.

    NIfTI-1 standard, method 2. Too long a vector is scaled back to a half turn, as the reference
    library does.
    """
    if not np.isfinite(quaternion).all():
        return np.full((3, 3), np.nan)
    b, c, d = quaternion
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < 1e-7:
        b, c, d = quaternion / np.linalg.norm(quaternion)
        rest = 0.0
    a = np.sqrt(rest)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    if qfac < 0:
        rotation[:, 2] *= -1
    return rotation
