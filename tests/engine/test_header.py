"""The header rule against the reader it follows: ITK, through SimpleITK."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.eulerangles import euler2mat

from segreg.engine.errors import InputError
from segreg.engine.nifti import NiftiFile

RawNifti = Callable[..., Path]

ROTATION = euler2mat(0.5, -0.3, 0.2)
OTHER = euler2mat(-0.1, 0.6, 0.4)


def compose(directions: Any, spacing: Any, origin: Any) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions) * spacing
    affine[:3, 3] = origin
    return affine


def itk_affine(path: Path) -> np.ndarray:
    """Affine (4, 4) in RAS of what ITK reads."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    image = sitk.ReadImage(str(path))
    affine = compose(
        np.reshape(image.GetDirection(), (3, 3)), image.GetSpacing(), image.GetOrigin()
    )
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def assert_as_itk(path: Path, atol: float = 1e-4) -> tuple[str, ...]:
    file = NiftiFile.open(path)
    np.testing.assert_allclose(file.affine, itk_affine(path), atol=atol)
    return file.notes


SFORM = compose(ROTATION, (2, 3, 4), (11, 12, 13))
QFORM = compose(OTHER, (1, 1, 1), (-7, 5, 3))


@pytest.mark.parametrize(("q", "s"), list(product(range(5), range(5))))
def test_codes_choose_as_itk_does(raw_nifti: RawNifti, q: int, s: int) -> None:
    path = raw_nifti(
        sform=SFORM, qform=QFORM, sform_code=s, qform_code=q, pixdim=[1, 1.5, 1.25, 5, 1, 1, 1, 1]
    )
    notes = assert_as_itk(path)
    chosen = "sform" if s and (s == 1 or not q) else "qform" if q else "neither"
    assert any("the sform says 2 x 3 x 4 mm, pixdim 1.5 x 1.25 x 5 mm" in n for n in notes) == (
        s > 0
    )
    assert any(f"apart; read as ITK does ({chosen})" in n for n in notes) == (s > 0 and q > 0)
    assert any("no orientation" in n for n in notes) == (s == q == 0)
    assert all(n.startswith("image.nii: ") for n in notes)


def test_forms_that_agree_leave_no_note(raw_nifti: RawNifti, affine: np.ndarray) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    qfac = 1 if np.linalg.det(directions) > 0 else -1
    path = raw_nifti(
        sform=affine,
        qform=compose(directions * (1, 1, qfac), 1, affine[:3, 3]),
        sform_code=1,
        qform_code=2,
        pixdim=[qfac, *spacing, 1, 1, 1, 1],
    )
    assert assert_as_itk(path) == ()
    for geometry in ("sform", "qform"):
        np.testing.assert_allclose(
            NiftiFile.open(path, geometry=geometry).affine, affine, atol=1e-3
        )


@pytest.mark.parametrize("qfac", [1, 0, -1, -0.3, np.nan])
def test_qfac_and_a_half_turn(raw_nifti: RawNifti, qfac: float) -> None:
    half_turn = np.diag([-1.0, -1.0, 1.0])  # quaternion (0, 0, 1): its length rounds to above 1
    for rotation in (ROTATION, half_turn):
        path = raw_nifti(qform=rotation, qform_code=1, pixdim=[qfac, 1.5, 1.25, 5, 1, 1, 1, 1])
        assert_as_itk(path)
    assert_as_itk(raw_nifti(qform_code=1, quatern_b=0.9, quatern_c=0.9))


@pytest.mark.parametrize(("unit", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (1 + 8, 1000)])
@pytest.mark.parametrize("code", ["qform_code", "sform_code"])
def test_units_become_millimetres(raw_nifti: RawNifti, unit: int, factor: float, code: str) -> None:
    pixdim = [1, 2, 3, 4, 1, 1, 1, 1]
    path = raw_nifti(sform=SFORM, qform=QFORM, pixdim=pixdim, xyzt_units=unit, **{code: 1})
    notes = assert_as_itk(path, atol=1e-4 * factor)
    spacing = np.linalg.norm(NiftiFile.open(path).affine[:3, :3], axis=0)
    np.testing.assert_allclose(spacing, np.multiply((2, 3, 4), factor), rtol=1e-5)
    assert [n.endswith("converted to millimetres") for n in notes] == [True] * (factor != 1)


@pytest.mark.parametrize("shear", [0, 1e-6, 5e-5, 1e-3, 0.1])
@pytest.mark.parametrize(("q", "s"), [(0, 1), (1, 1), (0, 2), (1, 2)])
def test_sheared_sform_as_itk(raw_nifti: RawNifti, shear: float, q: int, s: int) -> None:
    sform = compose(np.eye(3), (2, 3, 4), (11, 12, 13))
    sform[0, 1] = 3 * shear
    path = raw_nifti(
        sform=sform, qform=QFORM, sform_code=s, qform_code=q, pixdim=[1, 2, 3, 4, 1, 1, 1, 1]
    )
    if shear < 1e-4 or q:
        notes = assert_as_itk(path, atol=1e-2 if shear else 1e-4)
        assert any("sheared or singular; read as ITK does (qform)" in n for n in notes) == (
            shear > 1e-4
        )
    else:
        with pytest.raises(RuntimeError):
            itk_affine(path)
        with pytest.raises(InputError, match=r"image\.nii: .*sheared.*Resample"):
            NiftiFile.open(path)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_broken_sform_gives_way_to_the_qform_or_is_refused(
    raw_nifti: RawNifti, value: float
) -> None:
    sform = np.full((3, 4), value)
    both = raw_nifti(sform=sform, qform=QFORM, sform_code=1, qform_code=1)
    assert any("sheared or singular" in note for note in NiftiFile.open(both).notes)
    with pytest.raises(InputError, match=r'singular.*geometry="qform", --geometry qform'):
        NiftiFile.open(both, geometry="sform")
    alone = raw_nifti(sform=sform, sform_code=1)
    for geometry in (None, "sform"):
        with pytest.raises(InputError, match=r"got a sheared or singular one.*grid first\.$"):
            NiftiFile.open(alone, geometry=geometry)


@pytest.mark.parametrize("value", [0.0, -2.0, np.nan, np.inf])
def test_pixdim_must_be_positive_unless_the_sform_is_asked_for(
    raw_nifti: RawNifti, value: float
) -> None:
    pixdim = [1, value, 3, 4, 1, 1, 1, 1]
    path = raw_nifti(sform=SFORM, qform=QFORM, sform_code=1, qform_code=1, pixdim=pixdim)
    with pytest.raises(InputError, match=rf"got {value:g} x 3 x 4\..*--geometry sform"):
        NiftiFile.open(path)
    file = NiftiFile.open(path, geometry="sform")
    np.testing.assert_allclose(file.affine, SFORM, atol=1e-5)
    assert len(file.notes) == 1
    with pytest.raises(InputError, match=r"Mend the header\.$"):
        NiftiFile.open(raw_nifti(pixdim=pixdim))


def test_geometry_chooses_and_says_so(raw_nifti: RawNifti) -> None:
    path = raw_nifti(
        sform=SFORM, qform=QFORM, sform_code=2, qform_code=1, pixdim=[1, 1, 1, 1, 1, 1, 1, 1]
    )
    sform = NiftiFile.open(path, geometry="sform")
    np.testing.assert_allclose(sform.affine, nib.load(path).affine, atol=1e-6)
    assert "read as asked (sform)" in sform.notes[0]
    qform = NiftiFile.open(path, geometry="qform")
    np.testing.assert_allclose(qform.affine, QFORM, atol=1e-6)
    assert "read as asked (pixdim)" in qform.notes[0]
    with pytest.raises(ValueError, match="got 'best'"):
        NiftiFile.open(path, geometry="best")


@pytest.mark.parametrize(("geometry", "other"), [("sform", "qform"), ("qform", "sform")])
def test_geometry_that_is_not_set_is_refused(
    raw_nifti: RawNifti, geometry: str, other: str
) -> None:
    path = raw_nifti(sform=SFORM, qform=QFORM, **{f"{other}_code": 1})
    with pytest.raises(InputError, match=f'"{geometry}" was asked for.*choose "{other}"'):
        NiftiFile.open(path, geometry=geometry)


def test_qform_that_is_no_number_is_refused(raw_nifti: RawNifti) -> None:
    for field in ("quatern_b", "qoffset_x"):
        path = raw_nifti(qform_code=1, **{field: np.inf})
        with pytest.raises(InputError, match="finite numbers in the qform"):
            NiftiFile.open(path)


def test_flat_image_needs_no_third_spacing(raw_nifti: RawNifti) -> None:
    path = raw_nifti(
        array=np.zeros((4, 5), np.int16), qform_code=1, pixdim=[1, 2, 3, 0, 0, 0, 0, 0]
    )
    np.testing.assert_allclose(np.diag(NiftiFile.open(path).affine), [2, 3, 1, 1])


@pytest.mark.data
def test_heart_scans_whose_sform_says_one_millimetre(research_data: Path) -> None:
    path = research_data / "acdc" / "patient001" / "patient001_frame01.nii.gz"
    notes = assert_as_itk(path)
    assert "header contradicts itself: the sform says 1 x 1 x 1 mm" in notes[0]
    assert "pixdim 1.5625 x 1.5625 x 10 mm; read as ITK does (pixdim)" in notes[0]
