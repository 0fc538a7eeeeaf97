"""integrate, compose, jacobian_determinant, invert."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from segreg.kernels import compose, integrate, invert, jacobian_determinant, reference, warp

SIZES = [(1, 5, 7), (19, 3, 11), (33, 20, 17), (4, 1, 1)]

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


@sizes
@pytest.mark.parametrize("batch", [1, 2])
def test_compose_agrees_with_reference(machine, random_field, shape, batch):
    first, second = random_field(shape, batch), random_field(shape, batch)
    result = machine.get(compose(machine.put(first), machine.put(second)))
    np.testing.assert_allclose(result, reference.compose(first, second), atol=2e-4)


@sizes
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_integrate_agrees_with_reference(machine, random_field, shape, steps):
    velocity = random_field(shape, 2)
    before = velocity.copy()
    result = machine.get(integrate(machine.put(velocity), steps))
    np.testing.assert_allclose(result, reference.integrate(velocity, steps), atol=5e-4)
    np.testing.assert_array_equal(velocity, before)


@sizes
def test_jacobian_agrees_with_reference(machine, random_field, shape):
    field = random_field(shape, 2)
    result = machine.get(jacobian_determinant(machine.put(field)))
    assert result.shape == (2, *shape)
    np.testing.assert_allclose(result, reference.jacobian_determinant(field), rtol=1e-3, atol=1e-3)


def test_jacobian_of_a_scaling_is_its_volume(machine):
    z, y, x = np.meshgrid(*map(np.arange, (5, 6, 7)), indexing="ij")
    field = np.stack([0.5 * z, -0.25 * y, 1.0 * x])[None].astype(np.float32)
    result = machine.get(jacobian_determinant(machine.put(field)))
    np.testing.assert_allclose(result, 1.5 * 0.75 * 2.0, rtol=1e-6)


def test_compose_agrees_with_scipy(machine, random_field):
    first, second = random_field((9, 8, 7)), random_field((9, 8, 7))
    points = np.indices((9, 8, 7)) + second[0].astype(np.float64)
    expected = second[0] + np.stack(
        [map_coordinates(u.astype(np.float64), points, order=1, mode="nearest") for u in first[0]]
    )
    result = machine.get(compose(machine.put(first), machine.put(second)))[0]
    np.testing.assert_allclose(result, expected, atol=2e-4)


def test_composing_with_zero_changes_nothing(machine, random_field):
    field = random_field((6, 7, 8))
    zero = np.zeros_like(field)
    for first, second in ((field, zero), (zero, field)):
        result = machine.get(compose(machine.put(first), machine.put(second)))
        np.testing.assert_array_equal(result, field)


def test_integrating_back_undoes_integrating(machine, smooth_field):
    velocity = smooth_field((20, 21, 22), 1.5)
    there = integrate(machine.put(velocity), 7)
    back = integrate(machine.put(-velocity), 7)
    both = machine.get(compose(there, back))[..., 4:-4, 4:-4, 4:-4]
    assert np.abs(both).max() < 0.02
    assert np.abs(machine.get(there)).max() > 1


def test_integrating_a_constant_is_the_constant(machine):
    velocity = np.full((1, 3, 5, 6, 7), 0.75, np.float32)
    result = machine.get(integrate(machine.put(velocity), 6))
    np.testing.assert_allclose(result, velocity, rtol=1e-6)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_out_is_written_and_returned(machine, random_field, steps):
    velocity = machine.put(random_field((3, 4, 5)))
    out = machine.put(np.full((1, 3, 3, 4, 5), np.nan, np.float32))
    assert integrate(velocity, steps, out=out) is out
    expected = machine.get(integrate(velocity, steps))
    np.testing.assert_array_equal(machine.get(out), expected)


def test_views_are_read_in_their_own_order(machine, random_field):
    wide = random_field((6, 5, 14))
    view = machine.put(wide)[..., ::2]
    result = machine.get(jacobian_determinant(view))
    expected = reference.jacobian_determinant(wide[..., ::2])
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 15, 17), (19, 13, 11), (16, 20, 17)], ids=str)
def test_invert_agrees_with_reference(machine, smooth_field, shape):
    field = smooth_field(shape)
    inverse, residual = map(machine.get, invert(machine.put(field), steps=20))
    expected, _ = reference.invert(field, steps=20)
    assert residual.max() < 1e-4
    np.testing.assert_allclose(inverse, expected, atol=1e-3)


def test_inverse_undoes_the_field(machine, smooth_field):
    field = machine.put(smooth_field((18, 19, 20), 1.5))
    inverse, _ = invert(field)
    # u(y + v(y)) + v(y) = 0: the field is looked up where the inverse ends.
    both = machine.get(compose(field, inverse))
    assert np.abs(both).max() < 1e-3


def test_invert_on_another_grid_with_a_guess(machine, smooth_field):
    # T(x) = 1.2 x + 2 + a wave; its inverse is asked for on a coarser, shifted grid.
    shape = (16, 18, 20)
    voxels = np.indices(shape)
    field = smooth_field(shape, 0.5) + (0.2 * voxels + 2)[None].astype(np.float32)
    affine = np.array([[2, 0, 0, 4], [0, 2, 0, 5], [0, 0, 2, 6]])
    guess = np.hstack([np.eye(3) / 1.2, np.full((3, 1), -2 / 1.2)])
    options = {"affine": affine, "shape": (5, 6, 7), "guess": guess}
    inverse, residual = map(machine.get, invert(machine.put(field), **options))
    assert inverse.shape == (1, 3, 5, 6, 7)
    assert residual.shape == (5, 6, 7)
    expected, missed = reference.invert(field, **options)
    np.testing.assert_allclose(residual, missed, atol=1e-3)
    np.testing.assert_allclose(inverse, expected, atol=2e-3)


def test_residual_is_what_is_still_missing(machine, smooth_field):
    field = smooth_field((8, 9, 10))
    inverse, residual = map(machine.get, invert(machine.put(field), steps=0))
    # Nothing was done: x = t, so all of u is missing.
    np.testing.assert_array_equal(inverse, 0)
    np.testing.assert_allclose(residual, np.linalg.norm(field[0], axis=0), rtol=1e-5)
    _, later = invert(machine.put(field), steps=3)
    assert machine.get(later).max() < residual.max() / 2


def test_inverse_carries_an_image_back(machine, smooth_field):
    field = machine.put(smooth_field((24, 24, 24), 1.0))
    z, y, x = np.indices((24, 24, 24)) / 24
    image = np.sin(2 * z + y - 2 * x)[None, None].astype(np.float32)
    inverse, _ = invert(field)
    back = machine.get(warp(warp(machine.put(image), field), inverse))
    inner = (0, 0, *[slice(4, -4)] * 3)
    np.testing.assert_allclose(back[inner], image[inner], atol=5e-3)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_integrate_scales_the_velocity(machine, random_field, steps):
    velocity = random_field((5, 6, 7))
    scaled = machine.get(integrate(machine.put(velocity), steps, scale=0.25))
    np.testing.assert_allclose(
        scaled, reference.integrate(velocity, steps, scale=0.25), atol=1e-4
    )
    plain = machine.get(integrate(machine.put(0.25 * velocity), steps))
    np.testing.assert_allclose(scaled, plain, atol=1e-6)
