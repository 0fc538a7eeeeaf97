"""smooth and spline_coefficients: against the reference and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, spline_filter

from segreg.kernels import _machines, filters, reference, smooth, spline_coefficients

SIZES = [(1, 5, 7), (19, 3, 11), (33, 20, 17), (4, 1, 1), (2, 2, 70), (1, 1, 1)]

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


@pytest.fixture(params=[2**20, 2**13, 0], ids=["together", "in parts", "axis by axis"])
def launches(request, machine, monkeypatch):
    """Every way to share the axes out to launches."""
    monkeypatch.setattr(_machines._cpu_machine(), "window", request.param)


@sizes
@pytest.mark.parametrize("sigma", [0.4, 1.7, (2.5, 0, 0.9), (0, 6, 0)], ids=str)
@pytest.mark.usefixtures("launches")
def test_smooth_agrees_with_reference(machine, rng, shape, sigma):
    volume = rng.standard_normal((2, 3, *shape)).astype(np.float32)
    spacing = (1.5, 0.8, 1.0)
    result = machine.get(smooth(machine.put(volume), sigma, spacing))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference.smooth(volume, sigma, spacing), atol=2e-6)


@pytest.mark.parametrize("truncate", [4.0, 2.5])
@pytest.mark.parametrize("sigma", [(1.0, 2.0, 3.0), (0.1, 0.3, 0.13), (9.0, 0.0, 4.0)], ids=str)
def test_smooth_agrees_with_scipy(machine, rng, sigma, truncate):
    volume = rng.standard_normal((21, 34, 45)).astype(np.float32)
    result = smooth(machine.put(volume[None, None]), sigma, 0.5, truncate=truncate)
    in_voxels = np.array(sigma) / 0.5
    expected = gaussian_filter(
        volume.astype(np.float64), in_voxels, mode="nearest", truncate=truncate
    )
    np.testing.assert_allclose(machine.get(result)[0, 0], expected, atol=2e-6)


def test_smooth_across_blocks_of_rows(machine, rng):
    # Rows so long that the CPU works on a few of them at a time.
    volume = rng.standard_normal((3, 40, 2500)).astype(np.float32)
    result = machine.get(smooth(machine.put(volume[None, None]), 2.0))[0, 0]
    expected = gaussian_filter(volume.astype(np.float64), 2.0, mode="nearest")
    np.testing.assert_allclose(result, expected, atol=2e-6)


def test_smooth_keeps_large_values_apart(machine):
    # Intensities of a CT scan: the error is that of float32 against the largest of them.
    volume = np.full((1, 1, 9, 10, 40), -1000, np.float32)
    volume[..., 20:] = 3000
    result = machine.get(smooth(machine.put(volume), 2.0))
    np.testing.assert_allclose(result, reference.smooth(volume, 2.0), atol=3000 * 5e-7)
    assert result.min() >= -1000.01
    assert result.max() <= 3000.01


def test_smooth_of_a_point_is_the_gaussian(machine):
    volume = np.zeros((1, 1, 17, 17, 17), np.float32)
    volume[0, 0, 8, 8, 8] = 1
    result = machine.get(smooth(machine.put(volume), 1.5, truncate=5))[0, 0]
    away = ((np.indices((17,) * 3) - 8) ** 2).sum(axis=0)
    expected = np.exp(-away / (2 * 1.5**2)) / (2 * np.pi * 1.5**2) ** 1.5
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_smooth_by_nothing_is_a_copy(machine, rng):
    volume = machine.put(rng.standard_normal((1, 2, 3, 4, 5)).astype(np.float32))
    result = smooth(volume, 0)
    assert result is not volume
    np.testing.assert_array_equal(machine.get(result), machine.get(volume))


@sizes
@pytest.mark.usefixtures("launches")
def test_coefficients_agree_with_reference(machine, rng, shape):
    volume = rng.standard_normal((2, 3, *shape)).astype(np.float32)
    result = machine.get(spline_coefficients(machine.put(volume)))
    expected = reference.spline_coefficients(volume)
    np.testing.assert_allclose(result, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(30, 31, 32), (2, 17, 5), (1, 9, 40)], ids=str)
def test_coefficients_agree_with_scipy(machine, rng, shape):
    volume = rng.standard_normal(shape).astype(np.float32)
    result = machine.get(spline_coefficients(machine.put(volume[None, None])))[0, 0]
    expected = spline_filter(volume.astype(np.float64), order=3, mode="mirror")
    np.testing.assert_allclose(result, expected, atol=2e-6 * np.abs(expected).max())


def test_coefficients_of_a_constant_are_the_constant(machine):
    volume = np.full((1, 1, 6, 7, 8), 1234.5, np.float32)
    result = machine.get(spline_coefficients(machine.put(volume)))
    np.testing.assert_allclose(result, 1234.5, rtol=1e-6)


def test_weights_left_out_are_below_rounding():
    left_out = np.sqrt(3) * abs(filters._POLE) ** len(filters._SPLINE)
    assert left_out < np.finfo(np.float32).eps


@pytest.mark.parametrize("operation", [lambda v, **o: smooth(v, 1.3, **o), spline_coefficients])
def test_views_and_out(machine, rng, operation):
    wide = rng.standard_normal((2, 1, 9, 8, 14)).astype(np.float32)
    view = machine.put(wide)[:, :, ::2, 1:, ::-1]
    own = machine.put(np.ascontiguousarray(wide[:, :, ::2, 1:, ::-1]))
    out = machine.put(np.full(view.shape, np.nan, np.float32))
    assert operation(view, out=out) is out
    np.testing.assert_array_equal(machine.get(out), machine.get(operation(own)))
    np.testing.assert_array_equal(machine.get(own), wide[:, :, ::2, 1:, ::-1])
