from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from segreg.engine.errors import InputError
from segreg.engine.volume import (
    Volume,
    as_volume,
    check_image,
    check_labels,
    check_same_grid,
)

RawNifti = Callable[..., Path]


def image(array: Any = None, **changes: Any) -> Volume:
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5) if array is None else np.asarray(array)
    return Volume(**{"array": array, "affine": np.diag([1.0, 2, 3, 1]), "name": "scan", **changes})


# -- making one -------------------------------------------------------------------------------


def test_knows_its_grid() -> None:
    volume = image()
    assert volume.shape == (3, 4, 5)
    assert volume.spacing == (3, 2, 1)
    assert volume.ndim_spatial == 3
    assert image(np.zeros((1, 4, 5))).ndim_spatial == 2
    assert image(np.zeros((3, 1, 5))).ndim_spatial == 2


def test_array_is_taken_as_it_is_where_it_can_be() -> None:
    array = np.zeros((3, 4, 5), np.int16)
    assert image(array).array is array
    assert image(array.T).array.flags.c_contiguous
    assert image(array.astype(">i2")).array.dtype.isnative


def test_affine_is_a_copy() -> None:
    affine = np.eye(4)
    volume = image(affine=affine)
    affine[0, 3] = 5
    assert volume.affine[0, 3] == 0


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((3, 4, 5), object), "integers or floats, got object"),
        (np.zeros((3, 4, 5), complex), "got complex128"),
        (np.zeros((3, 4, 5), "U1"), "got <U1"),
        (np.zeros((3, 4, 5), np.longdouble), "got (float128|float96|longdouble)"),
        (np.zeros((3, 4, 5, 3)), r"3-D array \(z, y, x\) .* got shape \(3, 4, 5, 3\)"),
        (np.zeros((3, 0, 5)), r"voxels in it, got shape \(3, 0, 5\)"),
    ],
)
def test_arrays_that_are_no_volume_are_refused(array: np.ndarray, sentence: str) -> None:
    with pytest.raises(InputError, match=f"scan: .*{sentence}"):
        image(array)


def test_sheared_affine_is_refused() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.2
    with pytest.raises(InputError, match=r"scan: .*sheared"):
        image(affine=affine)


def test_from_array_by_spacing_or_affine(affine: np.ndarray) -> None:
    array = np.zeros((3, 4, 5))
    volume = Volume.from_array(array, spacing=(3, 2, 1), name="mine")
    assert (volume.spacing, volume.name) == ((3, 2, 1), "mine")
    np.testing.assert_array_equal(Volume.from_array(array, affine=affine).affine, affine)
    flat = Volume.from_array(np.zeros((4, 5)), spacing=(2, 1))
    assert (flat.shape, flat.spacing) == ((1, 4, 5), (1, 2, 1))


def test_from_array_needs_one_way_to_place_it() -> None:
    array = np.zeros((3, 4, 5))
    with pytest.raises(InputError, match="either affine or spacing"):
        Volume.from_array(array)
    with pytest.raises(InputError, match="either affine or spacing"):
        Volume.from_array(array, affine=np.eye(4), spacing=(1, 1, 1))
    with pytest.raises(InputError, match=r"one spacing per array axis \(3\), got 2"):
        Volume.from_array(array, spacing=(1, 1))


# -- reading and writing ----------------------------------------------------------------------


def test_read_is_the_transpose_of_nibabel(raw_nifti: RawNifti) -> None:
    data = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    path = raw_nifti("scan.nii.gz", data, qform_code=1, pixdim=[1, 1.5, 2, 3, 1, 1, 1, 1])
    volume = Volume.read(path)
    np.testing.assert_array_equal(volume.array.T, data)
    assert volume.name == "scan.nii.gz"
    assert volume.spacing == (3, 2, 1.5)
    assert volume.notes == ()
    np.testing.assert_array_equal(Volume.read(str(path)).array, volume.array)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 4), (1, 4, 5)),
        ((5, 4, 1), (1, 4, 5)),
        ((5, 4, 3, 1), (3, 4, 5)),
        ((5, 4, 3, 1, 1), (3, 4, 5)),
    ],
)
def test_flat_and_trailing_axes(
    raw_nifti: RawNifti, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    path = raw_nifti("a.nii", data, qform_code=1)
    for volume in (Volume.read(path), Volume.from_nibabel(nib.load(path))):
        assert volume.shape == expected
        np.testing.assert_array_equal(volume.array.ravel(), data.ravel(order="F"))


@pytest.mark.parametrize(
    ("shape", "words"),
    [((5, 4, 3, 7), "4-D (5 x 4 x 3 x 7)"), ((5, 4, 3, 1, 2), "5-D (5 x 4 x 3 x 1 x 2)")],
)
def test_several_frames_are_refused(
    raw_nifti: RawNifti, shape: tuple[int, ...], words: str
) -> None:
    path = raw_nifti("cine.nii.gz", np.zeros(shape, np.int16))
    for read in (Volume.read, lambda p: Volume.from_nibabel(nib.load(p), name=p.name)):
        with pytest.raises(InputError, match=r"cine\.nii\.gz: expected a 3-D image") as caught:
            read(path)
        assert f"got {words}. Choose a frame first" in str(caught.value)


def test_vector_field_is_not_an_image(raw_nifti: RawNifti) -> None:
    path = raw_nifti(array=np.zeros((5, 4, 3, 1, 3), np.float32), intent_code=1007)
    with pytest.raises(InputError, match=r"got a vector field. Read it with Field\.read"):
        Volume.read(path)


def test_geometry_and_notes_come_through(raw_nifti: RawNifti) -> None:
    sform = np.diag([1.0, 1, 1, 1])
    path = raw_nifti(sform=sform, sform_code=2, pixdim=[1, 1.65, 1.65, 5, 1, 1, 1, 1])
    for volume in (Volume.read(path), Volume.from_nibabel(nib.load(path), name="image.nii")):
        np.testing.assert_allclose(volume.spacing, (5, 1.65, 1.65), rtol=1e-6)
        assert volume.notes == (
            "image.nii: header contradicts itself: the sform says 1 x 1 x 1 mm, "
            "pixdim 1.65 x 1.65 x 5 mm; read as ITK does (pixdim)",
        )
    assert as_volume(path, geometry="sform").spacing == (1, 1, 1)
    assert as_volume(nib.load(path), geometry="sform").spacing == (1, 1, 1)


@pytest.mark.parametrize("order", ["C", "F"])
def test_from_nibabel_in_memory(affine: np.ndarray, order: Any) -> None:
    data = np.asarray(np.arange(60).reshape(5, 4, 3), np.float32, order=order)
    for kind in (nib.Nifti1Image, nib.Nifti2Image, nib.MGHImage, nib.Nifti1Pair):
        volume = Volume.from_nibabel(kind(data, affine), name="scan")
        np.testing.assert_array_equal(volume.array.T, data)
        np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
        assert np.shares_memory(volume.array, data) == (order == "F")
        assert (volume.name, volume.notes) == ("scan", ())


def test_from_nibabel_of_other_formats_has_no_choice_of_geometry() -> None:
    other = nib.MGHImage(np.zeros((5, 4, 3), np.float32), np.eye(4))
    with pytest.raises(InputError, match=r"expected a NIfTI image, got MGHImage.*'sform'"):
        Volume.from_nibabel(other, geometry="sform")


def test_from_nibabel_of_a_truncated_file(raw_nifti: RawNifti) -> None:
    path = raw_nifti("a.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)))
    loaded = nib.load(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="scan: its voxels cannot be read"):
        Volume.from_nibabel(loaded, name="scan")


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("uint8", "uint8"), ("int8", "int8"), ("int16", "int16"), ("uint16", "uint16"),
        ("int32", "int32"), ("uint32", "uint32"), ("int64", "int32"), ("uint64", "int32"),
        ("bool", "uint8"), ("float16", "float32"), ("float32", "float32"), ("float64", "float32"),
    ],
)  # fmt: skip
def test_write_keeps_labels_and_makes_images_float32(
    tmp_path: Path, affine: np.ndarray, dtype: str, stored: str
) -> None:
    array = (np.arange(60).reshape(3, 4, 5) % 7).astype(dtype)
    Volume(array, affine).write(tmp_path / "a.nii.gz")
    again = Volume.read(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.array, array)
    assert again.array.dtype == stored
    np.testing.assert_allclose(again.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii.gz"))), array
    )


def test_write_refuses_what_it_cannot_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"integers within int32, got 0 to 1e.10"):
        image(np.array([[[0, 10**10]]])).write(tmp_path / "a.nii")
    with pytest.raises(InputError, match="scan: expected voxels within float32"):
        image(np.array([[[0, 1e300]]])).write(tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"ends in \.nii"):
        image().write(tmp_path / "a.mha")
    assert list(tmp_path.iterdir()) == []


def test_as_volume_takes_paths_images_and_volumes(raw_nifti: RawNifti) -> None:
    path = raw_nifti(qform_code=1)
    volume = as_volume(path)
    assert as_volume(volume) is volume
    for thing in (str(path), path, nib.load(path)):
        np.testing.assert_array_equal(as_volume(thing).array, volume.array)


@pytest.mark.parametrize("thing", [np.zeros((3, 3, 3)), None, 3, [1, 2]])
def test_as_volume_refuses_the_rest(thing: Any) -> None:
    with pytest.raises(TypeError, match=rf"got {type(thing).__name__}\. For an array: Volume\."):
        as_volume(thing)


# -- checks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32", "float64", "bool"])
def test_check_image_gives_float32(dtype: str) -> None:
    volume = image(np.ones((3, 4, 5), dtype))
    checked = check_image(volume)
    assert checked.array.dtype == np.float32
    np.testing.assert_array_equal(checked.array, 1)
    assert (checked is volume) == (dtype == "float32")
    assert checked.name == "scan"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_check_image_counts_what_is_not_finite(value: float) -> None:
    array = np.ones((3, 4, 5))
    array[1, 2, :2] = value
    with pytest.raises(InputError, match="scan: expected finite voxels, got 2 of 60 that are NaN"):
        check_image(image(array))
    array[0, 0, 0] = -value
    with pytest.raises(InputError, match="got 3 of 60"):
        check_image(image(array))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", "uint8"), ("int16", "int16"), ("int32", "int32"), ("bool", "uint8"),
        ("int8", "int16"), ("uint16", "int16"), ("uint32", "int16"), ("int64", "int16"),
        ("uint64", "int16"), ("float32", "int32"), ("float64", "int32"),
    ],
)  # fmt: skip
def test_check_labels_gives_small_integers(dtype: str, expected: str) -> None:
    array = np.zeros((3, 4, 5), dtype)
    array[1] = 1
    volume = image(array)
    checked = check_labels(volume)
    np.testing.assert_array_equal(checked.array, array)
    assert checked.array.dtype == expected
    assert (checked is volume) == (dtype == expected)


def test_check_labels_keeps_large_numbers() -> None:
    for array in (np.full((2, 2, 2), 40000, np.uint16), np.full((2, 2, 2), 2**31 - 1.0)):
        np.testing.assert_array_equal(check_labels(image(array)).array, array)


def test_check_labels_takes_floats_that_scaling_rounded() -> None:
    array = np.array([[[0, 2.9999998, 7.0000005]]], np.float32)
    np.testing.assert_array_equal(check_labels(image(array)).array, [[[0, 3, 7]]])


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        ([[[0, 1.5, 2.25]]], r"whole label numbers, got 1\.5 \(2 such voxels\).*nearest neighbour"),
        ([[[0, np.nan, 1]]], r"got nan \(1 such"),
        ([[[0, np.inf, 1]]], r"got inf \(1 such"),
        ([[[0, -1, 3]]], "labels of 0 .background. and above, got -1"),
        ([[[0, -1.0, 3]]], "and above, got -1"),
        ([[[0, 0, 0]]], "empty label map, every voxel is 0"),
        ([[[False, False]]], "empty label map"),
        ([[[0, 2**31]]], r"within int32, got 0 to 2\.14748e.09. Renumber"),
        ([[[0, 1e12]]], "within int32, got 0 to 1e.12"),
    ],
)
def test_check_labels_refuses(array: list[Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"scan: .*{sentence}"):
        check_labels(image(array))


def test_same_grid_passes_within_a_micrometre(affine: np.ndarray) -> None:
    shifted = affine.copy()
    shifted[0, 3] += 5e-4
    check_same_grid(image(affine=affine), image(affine=shifted))


@pytest.mark.parametrize("change", ["shape", "origin", "direction"])
def test_same_grid_says_both_and_how_to_mend(change: str) -> None:
    affine = np.diag([1.0, 2, 3, 1])
    array = np.zeros((3, 4, 5))
    if change == "shape":
        array = np.zeros((3, 4, 6))
    elif change == "origin":
        affine[2, 3] = 2e-3
    else:
        affine[0] *= -1
    with pytest.raises(InputError) as caught:
        check_same_grid(image(array, affine=affine, name="labels"), image())
    text = str(caught.value)
    assert "scan (5 x 4 x 3 voxels of 1 x 2 x 3 mm, first voxel at 0, 0, 0)" in text
    assert "labels (" in text
    assert "Resample labels onto the grid of scan with nearest neighbour" in text
    assert ("mm apart" in text) == (change != "shape")


@pytest.mark.data
def test_real_images_and_label_maps_share_their_grid(research_data: Path) -> None:
    folder = research_data / "acdc" / "patient001"
    scan = check_image(Volume.read(folder / "patient001_frame01.nii.gz"))
    labels = check_labels(Volume.read(folder / "patient001_frame01_gt.nii.gz"))
    check_same_grid(labels, scan)
    assert np.unique(labels.array).tolist() == [0, 1, 2, 3]
    assert labels.spacing == (10, 1.5625, 1.5625)
