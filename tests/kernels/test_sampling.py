"""warp: against the reference, SciPy and ITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from segreg.kernels import reference, spline_coefficients, warp

SIZES = [
    ((1, 5, 7), (1, 5, 7)),
    ((19, 3, 11), (33, 20, 17)),
    ((33, 20, 17), (2, 3, 1)),
    ((4, 2, 3), (3, 2, 150)),
    ((2, 5, 1), (4, 3, 5)),
]
MODES = ["linear", "nearest", "cubic"]
AFFINE = np.array([[0.9, 0.1, 0.0, 1.0], [-0.1, 1.1, 0.05, -2.0], [0.0, 0.02, 0.8, 0.5]])


@pytest.mark.parametrize(("moving", "fixed"), SIZES, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("affine", [None, AFFINE], ids=["identity", "affine"])
def test_agrees_with_reference(machine, rng, random_field, moving, fixed, mode, affine):
    image = rng.standard_normal((2, 3, *moving)).astype(np.float32)
    field = random_field(fixed, 2)
    options = {"affine": affine, "mode": mode, "outside": -7.0}
    result = machine.get(warp(machine.put(image), machine.put(field), **options))
    assert result.shape == (2, 3, *fixed)
    expected = reference.warp(image, field, **options)
    np.testing.assert_allclose(result, expected, atol=1e-4)


def itk_warp(image, field, mode, outside):
    """ITK's resampler with the same displacement: unit spacing, so voxels are mm."""
    vectors = np.moveaxis(field[::-1].astype(np.float64), 0, -1)
    transform = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(vectors, isVector=True))
    kinds = {
        "linear": sitk.sitkLinear,
        "nearest": sitk.sitkNearestNeighbor,
        "cubic": sitk.sitkBSpline3,
    }
    source = sitk.GetImageFromArray(image)
    grid = sitk.Image(field.shape[:0:-1], sitk.sitkFloat32)
    return sitk.GetArrayFromImage(sitk.Resample(source, grid, transform, kinds[mode], outside))


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("shape", [(9, 10, 11), (1, 10, 11)], ids=str)
def test_agrees_with_itk_up_to_the_border(machine, rng, random_field, shape, mode):
    image = rng.standard_normal(shape).astype(np.float32)
    field = random_field(shape)
    result = warp(machine.put(image[None, None]), machine.put(field), mode=mode, outside=5.0)
    expected = itk_warp(image, field[0], mode, 5.0)
    assert (expected == 5.0).any()
    np.testing.assert_allclose(machine.get(result)[0, 0], expected, atol=1e-4)


@pytest.mark.parametrize("position", [-0.51, -0.5, -0.25, 3.25, 3.49, 3.5, 3.51])
def test_border_rule_is_that_of_itk(machine, position):
    # A row of four voxels, every fixed voxel looking at one position; quarter steps are exact.
    image = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 4)
    field = np.zeros((1, 3, 1, 1, 4), np.float32)
    field[0, 2, 0, 0] = position - np.arange(4)
    result = machine.get(warp(machine.put(image[None, None]), machine.put(field), outside=-9.0))
    expected = itk_warp(image, field[0], "linear", -9.0)
    np.testing.assert_allclose(result[0, 0], expected, atol=1e-5)


def test_agrees_with_scipy_inside(machine, rng, random_field):
    image = rng.standard_normal((12, 13, 14)).astype(np.float32)
    field = random_field((12, 13, 14))
    points = np.indices(image.shape) + field[0].astype(np.float64)
    last = np.array(image.shape).reshape(3, 1, 1, 1) - 1
    inside = ((points >= 0) & (points <= last)).all(axis=0)
    expected = map_coordinates(image.astype(np.float64), points, order=1)
    result = machine.get(warp(machine.put(image[None, None]), machine.put(field)))[0, 0]
    assert inside.sum() > 100
    np.testing.assert_allclose(result[inside], expected[inside], atol=1e-4)


def test_cubic_agrees_with_scipy_inside(machine, rng, random_field):
    image = rng.standard_normal((12, 13, 14)).astype(np.float32)
    field = random_field((12, 13, 14))
    points = np.indices(image.shape) + field[0].astype(np.float64)
    last = np.array(image.shape).reshape(3, 1, 1, 1) - 1
    inside = ((points >= 0) & (points <= last)).all(axis=0)
    expected = map_coordinates(image.astype(np.float64), points, order=3, mode="mirror")
    result = machine.get(warp(machine.put(image[None, None]), machine.put(field), mode="cubic"))
    np.testing.assert_allclose(result[0, 0][inside], expected[inside], atol=5e-5)


def test_cubic_keeps_a_polynomial_of_degree_one(machine, smooth_field):
    # Far enough inside that its mirror image, which has a kink, is out of reach.
    shape = (40, 41, 42)
    slopes, field = np.array([3.0, -2.0, 1.0]), smooth_field(shape, 2.0)
    ramp = np.tensordot(slopes, np.indices(shape), 1)[None, None].astype(np.float32)
    result = machine.get(warp(machine.put(ramp), machine.put(field), mode="cubic"))[0, 0]
    expected = np.tensordot(slopes, np.indices(shape) + field[0].astype(np.float64), 1)
    inner = (slice(17, -17),) * 3
    np.testing.assert_allclose(result[inner], expected[inner], atol=2e-4)


def test_coefficients_made_once_serve_many_warps(machine, rng, random_field):
    image = machine.put(rng.standard_normal((2, 2, 6, 7, 8)).astype(np.float32))
    coefficients = spline_coefficients(image)
    for _ in range(2):
        field = machine.put(random_field((5, 6, 7), 2))
        result = machine.get(warp(coefficients, field, mode="cubic", prefiltered=True))
        np.testing.assert_array_equal(result, machine.get(warp(image, field, mode="cubic")))


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_zero_field_is_the_identity(machine, rng, mode):
    image = rng.standard_normal((2, 2, 5, 6, 7)).astype(np.float32)
    zero = np.zeros((2, 3, 5, 6, 7), np.float32)
    result = machine.get(warp(machine.put(image), machine.put(zero), mode=mode))
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("shift", [(0, 0, 1), (0, -2, 0), (1, 2, -3)], ids=str)
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_whole_shift_is_a_roll(machine, rng, shift, mode):
    image = rng.standard_normal((1, 1, 8, 9, 10)).astype(np.float32)
    field = np.empty((1, 3, 8, 9, 10), np.float32)
    field[0] = np.reshape(shift, (3, 1, 1, 1))
    result = machine.get(warp(machine.put(image), machine.put(field), mode=mode))
    rolled = np.roll(image, [-s for s in shift], axis=(2, 3, 4))
    inner = (0, 0, *[slice(3, -3)] * 3)
    np.testing.assert_array_equal(result[inner], rolled[inner])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("mode", MODES)
def test_positions_that_are_nowhere_are_outside(machine, value, mode):
    image = np.ones((1, 1, 4, 4, 4), np.float32)
    field = np.zeros((1, 3, 4, 4, 4), np.float32)
    field[0, 1, 2] = value
    result = machine.get(warp(machine.put(image), machine.put(field), mode=mode, outside=-1.0))
    assert (result[0, 0, 2] == -1).all()
    np.testing.assert_allclose(result[0, 0, :2], 1, rtol=1e-6)


def test_views_are_read_in_their_own_order(machine, rng, random_field):
    image = rng.standard_normal((1, 1, 7, 6, 5)).astype(np.float32)
    field = random_field((5, 6, 7))
    moving = machine.put(image).transpose(0, 1, 4, 3, 2)
    result = machine.get(warp(moving, machine.put(field)[:, :, ::-1]))
    expected = reference.warp(image.transpose(0, 1, 4, 3, 2), field[:, :, ::-1])
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_out_is_written_and_returned(machine, rng, random_field, mode):
    image = machine.put(rng.standard_normal((1, 2, 4, 5, 6)).astype(np.float32))
    field = machine.put(random_field((3, 4, 5)))
    out = machine.put(np.full((1, 2, 3, 4, 5), np.nan, np.float32))
    assert warp(image, field, mode=mode, out=out) is out
    np.testing.assert_array_equal(machine.get(out), machine.get(warp(image, field, mode=mode)))
