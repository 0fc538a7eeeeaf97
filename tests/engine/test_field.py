"""Fields against ITK as an outside client, and against themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.eulerangles import euler2mat

from segreg.engine.errors import InputError
from segreg.engine.field import Field, apply_to_image, apply_to_labels, apply_to_points
from segreg.engine.geometry import apply_map, index_to_world
from segreg.engine.volume import Volume

RawNifti = Callable[..., Path]
SHAPE = (9, 12, 11)


def waves(shape: tuple[int, ...], amplitude: float) -> np.ndarray:
    """A smooth field (3, D, H, W), different along every axis and component."""
    z, y, x = np.meshgrid(*[np.linspace(0, np.pi, n) for n in shape], indexing="ij")
    field = [np.sin(z + y), np.cos(y - 0.7 * x), np.sin(0.5 * x + z)]
    return (amplitude * np.stack(field)).astype(np.float32)


def blob(shape: tuple[int, ...], affine: np.ndarray) -> Volume:
    """A textured image with soft edges, in world coordinates."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    x, y, z = apply_map(index_to_world(affine), index).T
    values = 100 * np.exp(-(x**2 + 1.5 * y**2 + z**2) / 150) * (1.5 + np.sin(0.5 * x + 0.3 * y))
    return Volume(values.reshape(shape).astype(np.float32), affine, "blob")


def moving_grid() -> tuple[tuple[int, int, int], np.ndarray]:
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(-0.2, 0.1, 0.5) @ np.diag([-1.7, 2.1, 2.4])
    shape = (10, 13, 14)
    centre = np.array([6.5, 6.0, 4.5])
    affine[:3, 3] = -affine[:3, :3] @ centre
    return shape, affine


def to_itk(volume: Volume) -> Any:
    image = sitk.GetImageFromArray(volume.array)
    affine = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing)
    image.SetOrigin(affine[:3, 3])
    image.SetDirection((affine[:3, :3] / spacing).ravel())
    return image


@pytest.mark.parametrize("same_grid", [True, False])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_itk_warps_as_we_do(
    tmp_path: Path, affine: np.ndarray, same_grid: bool, suffix: str
) -> None:
    moving = blob(SHAPE, affine) if same_grid else blob(*moving_grid())
    field = Field(waves(SHAPE, 1.3), affine)
    field.write(tmp_path / f"field{suffix}")

    vectors = sitk.ReadImage(str(tmp_path / f"field{suffix}"), sitk.sitkVectorFloat64)
    reference = to_itk(Volume(np.zeros(SHAPE, np.float32), affine))
    resampled = sitk.Resample(
        to_itk(moving), reference, sitk.DisplacementFieldTransform(vectors), sitk.sitkLinear, 0.0
    )
    ours = apply_to_image(field, moving)
    theirs = sitk.GetArrayFromImage(resampled)
    assert np.ptp(theirs) > 50
    assert np.abs(ours.array - theirs).mean() < 1e-3 * np.ptp(theirs)
    assert (np.abs(ours.array - theirs) > 1e-3 * np.ptp(theirs)).mean() < 0.01
    np.testing.assert_array_equal(ours.affine, affine)


def test_itk_writes_what_we_read(tmp_path: Path, affine: np.ndarray) -> None:
    field = Field(waves(SHAPE, 2.0), affine)
    image = sitk.GetImageFromArray(np.moveaxis(field.lps_mm(), 0, -1), isVector=True)
    image.CopyInformation(to_itk(Volume(np.zeros(SHAPE, np.float32), affine)))
    sitk.WriteImage(image, str(tmp_path / "itk.nii.gz"))
    again = Field.read(tmp_path / "itk.nii.gz")
    np.testing.assert_allclose(again.displacement, field.displacement, atol=1e-5)
    np.testing.assert_allclose(again.affine, affine, atol=1e-4)


@pytest.mark.parametrize("shape", [SHAPE, (1, 12, 11)])
def test_round_trip(tmp_path: Path, affine: np.ndarray, shape: tuple[int, ...]) -> None:
    field = Field(waves(shape, 2.0), affine)
    field.write(tmp_path / "field.nii.gz")
    again = Field.read(tmp_path / "field.nii.gz")
    np.testing.assert_allclose(again.displacement, field.displacement, atol=1e-5)
    np.testing.assert_allclose(again.affine, affine, atol=1e-4)
    assert (again.name, again.notes, again.shape) == ("field.nii.gz", (), shape)
    header = nib.load(tmp_path / "field.nii.gz").header
    assert header.get_data_shape() == (*shape[::-1], 1, 3)
    assert header.get_data_dtype() == np.float32
    assert header["intent_code"] == 1007


def test_lps_mm_of_one_step_along_each_axis(affine: np.ndarray) -> None:
    for axis in range(3):
        field = Field(np.eye(3, dtype=np.float32)[axis][:, None, None, None], affine)
        step = affine[:3, 2 - axis] * (-1, -1, 1)
        np.testing.assert_allclose(field.lps_mm()[:, 0, 0, 0], step, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((1, 3, 4, 4, 4), np.float32), r"got \(1, 3, 4, 4, 4\)\. Give one field: disp"),
        (np.zeros((4, 4, 4, 3), np.float32), r"expected a displacement \(3, D, H, W\)"),
        (np.zeros((3, 4, 0, 4), np.float32), r"got \(3, 4, 0, 4\)"),
        (np.zeros((3, 4, 4, 4), np.int16), "float32 voxels, got int16"),
    ],
)
def test_arrays_that_are_no_field_are_refused(array: np.ndarray, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Field(array, np.eye(4))


@pytest.mark.parametrize(
    ("shape", "intent", "sentence"),
    [
        ((4, 5, 6, 1, 3), 1006, "got a displacement .1006.: ITK, ANTs and greedy would flip"),
        ((4, 5, 6, 1, 3), 2006, "got an FSL field"),
        ((4, 5, 6, 1, 3), 0, "got intent 0. Convert it first"),
        ((4, 5, 6, 3), 1007, "nx x ny x nz x 1 x 3, got 4 x 5 x 6 x 3"),
        ((4, 5, 6, 1, 2), 1007, "got 4 x 5 x 6 x 1 x 2"),
        ((4, 5, 6, 2, 3), 1007, "got 4 x 5 x 6 x 2 x 3"),
        ((4, 5, 6), 0, "got 4 x 5 x 6"),
    ],
)
def test_files_that_are_no_field_are_refused(
    raw_nifti: RawNifti, shape: tuple[int, ...], intent: int, sentence: str
) -> None:
    path = raw_nifti("u.nii.gz", np.zeros(shape, np.float32), intent_code=intent)
    with pytest.raises(InputError, match=rf"u\.nii\.gz: .*{sentence}"):
        Field.read(path)


def test_field_that_is_not_finite_is_refused(raw_nifti: RawNifti) -> None:
    vectors = np.zeros((4, 5, 6, 1, 3), np.float32)
    vectors[1, 2, 3] = np.nan
    path = raw_nifti("u.nii", vectors, intent_code=1007)
    with pytest.raises(InputError, match="expected finite displacements, got 3 that are NaN"):
        Field.read(path)


# -- applying ---------------------------------------------------------------------------------


def test_zero_field_resamples_and_nothing_else(affine: np.ndarray) -> None:
    image = blob(SHAPE, affine)
    still = Field(np.zeros((3, *SHAPE), np.float32), affine)
    np.testing.assert_allclose(apply_to_image(still, image).array, image.array, atol=1e-3)
    assert apply_to_image(still, image).name == "blob"


def test_whole_steps_roll_the_image() -> None:
    image = blob(SHAPE, np.diag([2.0, 2, 2, 1]))
    field = np.zeros((3, *SHAPE), np.float32)
    field[0], field[2] = 2, -1  # voxel (z, y, x) looks at (z + 2, y, x - 1)
    warped = apply_to_image(Field(field, image.affine), image, outside=-5.0)
    np.testing.assert_allclose(warped.array[:-2, :, 1:], image.array[2:, :, :-1], atol=1e-4)
    assert (warped.array[-2:] == -5).all()
    assert (warped.array[:, :, 0] == -5).all()


def test_cubic_is_nearer_to_the_truth_than_linear() -> None:
    affine = np.diag([2.0, 2, 2, 1])
    half = affine.copy()
    half[:3, 3] = 1.0  # the same texture, seen from places half a voxel further on every axis
    image, truth = blob((24, 26, 28), affine), blob((24, 26, 28), half)
    field = Field(np.full((3, *image.shape), 0.5, np.float32), affine)
    errors = {}
    for mode in ("linear", "cubic"):
        warped = apply_to_image(field, image, mode).array
        errors[mode] = np.abs(warped - truth.array)[4:-4, 4:-4, 4:-4].max()
    assert errors["cubic"] < 0.1 * errors["linear"]


@pytest.mark.parametrize("mode", ["vote", "nearest"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float32"])
def test_labels_keep_their_numbers(mode: str, dtype: str) -> None:
    array = np.zeros(SHAPE, dtype)
    array[3:6, 4:8, 4:8], array[6:8, 4:8, 4:8] = 7, 200 if dtype == "uint8" else 3000
    affine = np.diag([2.0, 2, 2, 1])
    field = np.zeros((3, *SHAPE), np.float32)
    field[1] = 1
    warped = apply_to_labels(Field(field, affine), Volume(array, affine), mode)
    np.testing.assert_array_equal(warped.array[:, :-1], array[:, 1:])
    assert warped.array.dtype.kind in "iu"


def test_applying_refuses_bad_input_and_modes() -> None:
    affine = np.eye(4)
    field = Field(np.zeros((3, *SHAPE), np.float32), affine)
    image = Volume(np.full(SHAPE, np.nan), affine, "scan")
    with pytest.raises(InputError, match="scan: expected finite voxels"):
        apply_to_image(field, image)
    with pytest.raises(InputError, match="scan: empty label map"):
        apply_to_labels(field, image.with_array(np.zeros(SHAPE, int)))
    with pytest.raises(ValueError, match="mode"):
        apply_to_image(field, blob(SHAPE, affine), "cubic spline")


# -- points and the inverse -------------------------------------------------------------------


def inner_points(affine: np.ndarray, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(3)
    return apply_map(index_to_world(affine), rng.uniform(1.5, np.array(SHAPE) - 2.5, (count, 3)))


def test_points_go_where_itk_sends_them(tmp_path: Path, affine: np.ndarray) -> None:
    field = Field(waves(SHAPE, 1.3), affine)
    field.write(tmp_path / "field.nii")
    vectors = sitk.ReadImage(str(tmp_path / "field.nii"), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(vectors)
    points = inner_points(affine)
    flip = np.array([-1.0, -1, 1])
    theirs = np.array([transform.TransformPoint(tuple(p * flip)) for p in points]) * flip
    carried = apply_to_points(field, points)
    np.testing.assert_allclose(carried.points, theirs, atol=1e-3)
    assert carried.converged.all()
    assert carried.inside.all()
    assert carried.notes == ()


def strong_field(affine: np.ndarray) -> Field:
    """A quarter turn with scaling, and waves: far from a contraction."""
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1) - 5.0
    linear = np.array([[0.8, 0, 0], [0, 0, 1.3], [0, -1.3, 0]])
    turned = index @ linear.T - index
    return Field(np.moveaxis(turned, -1, 0).astype(np.float32) + waves(SHAPE, 0.8), affine)


@pytest.mark.parametrize("kind", ["waves", "turn"])
def test_points_come_back(affine: np.ndarray, kind: str) -> None:
    field = Field(waves(SHAPE, 1.3), affine) if kind == "waves" else strong_field(affine)
    points = inner_points(affine)
    there = apply_to_points(field, points, to="moving")
    back = apply_to_points(field, there.points, to="fixed")
    assert back.converged.all()
    assert back.residual.max() < 1e-3
    np.testing.assert_allclose(back.points, points, atol=0.02)


def test_landmarks_move_with_the_warped_image() -> None:
    affine = np.diag([2.0, 2, 2, 1])
    array = np.zeros(SHAPE, np.float32)
    array[4, 6, 5] = 1
    field = Field(waves(SHAPE, 1.0) * 0 + np.float32(2), affine)
    warped = apply_to_image(field, Volume(array, affine))
    landmark = apply_map(index_to_world(affine), np.array([[4.0, 6, 5]]))
    carried = apply_to_points(field, landmark, to="fixed").points
    index = np.unravel_index(warped.array.argmax(), SHAPE)
    np.testing.assert_allclose(carried, apply_map(index_to_world(affine), [index]), atol=1e-3)


def test_points_beyond_the_field_and_in_folds_are_reported() -> None:
    affine = np.eye(4)
    field = np.zeros((3, *SHAPE), np.float32)
    field[2] = np.where(np.arange(SHAPE[2]) < 5, 0, 6)  # x jumps: nothing lands between 5 and 11
    gap = [[8.0, 5.0, 4.0]]
    carried = apply_to_points(Field(np.abs(field), affine), gap, to="fixed")
    assert carried.residual[0] < 0.5  # the jump is a steep ramp between two voxels
    folded = Field(-field[:, :, :, ::-1], affine)
    missed = apply_to_points(folded, [[-20.0, 5.0, 4.0], [5.0, 5.0, 4.0]], to="fixed")
    assert not missed.inside[0]
    assert "1 of 2 points lie beyond the fixed image" in missed.notes[0]


def test_points_without_an_inverse_are_reported() -> None:
    field = np.zeros((3, *SHAPE), np.float32)
    field[2] = 4 - np.arange(SHAPE[2])  # all x land on 4
    carried = apply_to_points(Field(field, np.eye(4)), [[2.0, 5, 4], [4.0, 5, 4]], to="fixed")
    assert carried.converged.tolist() == [False, True]
    assert "1 of 2 points have no inverse to within half a voxel" in carried.notes[-1]


@pytest.mark.parametrize("points", [[1, 2, 3], np.zeros((4, 2)), [[np.nan, 0, 0]], np.zeros(())])
def test_bad_points_are_refused(points: Any) -> None:
    field = Field(np.zeros((3, *SHAPE), np.float32), np.eye(4))
    with pytest.raises(InputError, match=r"points: expected \(N, 3\) finite"):
        apply_to_points(field, points)
    with pytest.raises(ValueError, match="got 'back'"):
        apply_to_points(field, [[0, 0, 0]], to="back")


def test_no_points_are_fine() -> None:
    field = Field(np.zeros((3, *SHAPE), np.float32), np.eye(4))
    for to in ("moving", "fixed"):
        carried = apply_to_points(field, np.zeros((0, 3)), to)
        assert carried.points.shape == (0, 3)
        assert carried.notes == ()


@pytest.mark.parametrize("kind", ["waves", "turn"])
@pytest.mark.parametrize("same_grid", [True, False])
def test_inverse_undoes_the_field(affine: np.ndarray, kind: str, same_grid: bool) -> None:
    field = Field(waves(SHAPE, 1.0), affine) if kind == "waves" else strong_field(affine)
    points = inner_points(affine)
    there = apply_to_points(field, points).points
    if same_grid:
        shape, grid = SHAPE, affine
    else:  # finer, turned, and around all points
        shape, grid = (56, 56, 56), np.eye(4)
        grid[:3, :3] = euler2mat(0.3, 0.2, 0.1)
        reach = np.ptp(there, axis=0).max() * 1.9 / 55
        grid[:3, :3] *= reach
        grid[:3, 3] = there.mean(axis=0) - grid[:3, :3] @ np.full(3, 27.5)
    inverse = field.inverse(shape, grid)
    assert inverse.shape == shape
    assert inverse.name == "inverse of field"
    back = apply_to_points(inverse, there)
    error = np.linalg.norm(back.points - points, axis=1)[back.inside]
    assert len(error) > 15
    assert np.median(error) < 0.15 * np.linalg.norm(affine[:3, :3], axis=0).max()


def test_inverse_of_a_fold_says_how_much_is_not_exact() -> None:
    field = np.zeros((3, *SHAPE), np.float32)
    field[2] = 4 - np.arange(SHAPE[2])
    inverse = Field(field, np.eye(4)).inverse(SHAPE, np.eye(4))
    assert "inverse of field: " in inverse.notes[0]
    assert "% of its voxels are off by more than half a voxel" in inverse.notes[0]
    still = Field(np.zeros((3, *SHAPE), np.float32), np.eye(4))
    assert still.inverse(SHAPE, np.eye(4)).notes == ()
