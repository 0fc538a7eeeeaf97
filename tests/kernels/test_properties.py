"""What must hold for every volume and field."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segreg.kernels import (
    compose,
    fuse_fields,
    integrate,
    jacobian_determinant,
    smooth,
    warp,
)

# The machine is the same for all examples of a test; only its arrays change.
every = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

lengths = st.integers(1, 11)
shapes = st.tuples(lengths, lengths, lengths)
intensities = st.floats(-1000, 1000, width=32)
seeds = st.integers(0, 2**31)


@st.composite
def volumes(draw, least=1):
    length = st.integers(least, least + 10)
    shape = draw(st.tuples(st.integers(1, 2), st.integers(1, 2), length, length, length))
    return draw(arrays(np.float32, shape, elements=intensities, fill=intensities))


def waves(shape, seed, size):
    """A smooth field (1, 3, D, H, W) float32 of at most ``size`` voxels."""
    rng = np.random.default_rng(seed)
    places = np.indices(shape) / 12
    waves = [
        np.sin(np.tensordot(rng.uniform(-2, 2, 3), places, 1) + rng.uniform(0, 6)) for _ in range(3)
    ]
    return (size * np.stack(waves)[None]).astype(np.float32)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@every
@given(volume=volumes())
def test_zero_field_is_the_identity(machine, mode, volume):
    zero = np.zeros((len(volume), 3, *volume.shape[2:]), np.float32)
    result = machine.get(warp(machine.put(volume), machine.put(zero), mode=mode))
    # The spline leaves what its coefficients rounded off.
    tolerance = 1e-5 * np.abs(volume).max() if mode == "cubic" else 0
    np.testing.assert_allclose(result, volume, rtol=0, atol=tolerance)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@every
@given(volume=volumes(least=7), shift=st.tuples(*[st.integers(-2, 2)] * 3))
def test_whole_shift_is_a_roll_away_from_the_border(machine, mode, volume, shift):
    field = np.empty((len(volume), 3, *volume.shape[2:]), np.float32)
    field[:] = np.reshape(shift, (3, 1, 1, 1))
    result = machine.get(warp(machine.put(volume), machine.put(field), mode=mode))
    rolled = np.roll(volume, [-s for s in shift], axis=(2, 3, 4))
    inner = (..., *[slice(2, -2)] * 3)
    tolerance = 1e-5 * np.abs(volume).max() if mode == "cubic" else 0
    np.testing.assert_allclose(result[inner], rolled[inner], rtol=0, atol=tolerance)


@every
@given(shape=shapes, seed=seeds, steps=st.integers(5, 8))
def test_integrating_back_undoes_integrating(machine, shape, seed, steps):
    shape = tuple(n + 12 for n in shape)
    velocity = waves(shape, seed, 1.0)
    there = integrate(machine.put(velocity), steps)
    back = integrate(machine.put(-velocity), steps)
    both = machine.get(compose(there, back))[..., 4:-4, 4:-4, 4:-4]
    assert np.abs(both).max() < 0.03


@every
@given(shape=shapes, seed=seeds)
def test_composing_with_zero_changes_nothing(machine, shape, seed):
    field = (3 * np.random.default_rng(seed).standard_normal((2, 3, *shape))).astype(np.float32)
    zero = np.zeros_like(field)
    for first, second in ((field, zero), (zero, field)):
        result = machine.get(compose(machine.put(first), machine.put(second)))
        np.testing.assert_array_equal(result, field)


@every
@given(shape=shapes, matrix=arrays(np.float64, (3, 3), elements=st.floats(-0.5, 0.5)))
def test_jacobian_of_a_linear_map_is_its_determinant(machine, shape, matrix):
    field = np.tensordot(matrix, np.indices(shape), 1)[None].astype(np.float32)
    result = machine.get(jacobian_determinant(machine.put(field)))
    # Along an axis of one voxel nothing is seen of the map.
    seen = matrix * (np.array(shape) > 1)
    np.testing.assert_allclose(result, np.linalg.det(np.eye(3) + seen), atol=2e-5)


@every
@given(shape=shapes, value=intensities, sigma=st.floats(0, 4), spacing=st.floats(0.3, 3))
def test_smooth_keeps_a_constant(machine, shape, value, sigma, spacing):
    volume = np.full((1, 1, *shape), value, np.float32)
    result = machine.get(smooth(machine.put(volume), sigma, spacing))
    np.testing.assert_allclose(result, volume, rtol=1e-6)


@every
@given(volume=volumes(), sigma=st.floats(0, 1.2))
def test_smooth_keeps_the_mean_of_what_is_far_from_the_border(machine, volume, sigma):
    margin = int(4 * sigma + 0.5)
    padded = np.pad(volume, [(0, 0), (0, 0), *[(margin, margin)] * 3])
    result = machine.get(smooth(machine.put(padded), sigma))
    sums = [v.sum(axis=(2, 3, 4), dtype=np.float64) for v in (result, padded)]
    np.testing.assert_allclose(*sums, rtol=0, atol=1e-6 * np.abs(padded).sum() + 1e-6)


@every
@given(shape=shapes, vector=arrays(np.float32, 3, elements=st.floats(-4, 4, width=32)), seed=seeds)
def test_weights_of_a_fusion_sum_to_one(machine, shape, vector, seed):
    # The same translation in every region and in the background: every blend of them is it.
    rng = np.random.default_rng(seed)
    fields = np.empty((2, 3, *shape), np.float32)
    fields[:] = vector.reshape(3, 1, 1, 1)
    regions = rng.integers(0, 3, shape).astype(np.int32)
    distances = rng.uniform(0, 8, (2, *shape)).astype(np.float32)
    maps, identity = np.tile(np.eye(3, 4), (2, 1, 1)), np.eye(3, 4)
    background = machine.put(fields[0].copy()), identity, identity
    arguments = machine.put(regions), machine.put(fields), machine.put(distances)
    fused = fuse_fields(*arguments, maps, maps, np.ones((2, 3)), background, 5.0)
    expected = np.broadcast_to(vector.reshape(3, 1, 1, 1), (1, 3, *shape))
    np.testing.assert_allclose(machine.get(fused), expected, atol=2e-5)
