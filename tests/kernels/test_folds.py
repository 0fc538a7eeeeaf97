"""repair_folds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.kernels import jacobian_determinant, reference, repair_folds

SIZES = [(1, 12, 13), (9, 1, 14), (11, 12, 13), (16, 15, 22)]

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


def repaired(machine, field, freedom=None, **options):
    held = None if freedom is None else machine.put(freedom)
    result, folds = repair_folds(machine.put(field), freedom=held, **options)
    return machine.get(result), folds


def folded(field):
    return reference.jacobian_determinant(field) <= 0


def planted(smooth_field, shape, depth=2.5):
    """A slow wave, and in its middle a jump of ``depth`` voxels against every thick axis."""
    field = smooth_field(shape, 0.3)
    middle = tuple(n // 2 for n in shape)
    for axis, (at, length) in enumerate(zip(middle, shape, strict=True)):
        if length > 1:
            block = tuple(slice(max(m - 2, 0), m + 2) for m in middle)
            field[(0, axis, *block)] -= depth * (np.indices(shape)[axis][block] > at - 1)
    return field


@sizes
def test_planted_folds_vanish(machine, smooth_field, shape):
    field = planted(smooth_field, shape)
    result, folds = repaired(machine, field)
    assert folds[0] == folded(field).sum() > 0
    assert folds[-1] == 0
    assert not folded(result).any()


@sizes
def test_far_from_folds_nothing_changes(machine, smooth_field, shape):
    field = planted(smooth_field, shape)
    result, folds = repaired(machine, field, iterations=1)
    assert len(folds) == 2
    cross = ndimage.generate_binary_structure(3, 1)
    near = ndimage.binary_dilation(folded(field)[0], cross)
    changed = (result != field).any(axis=(0, 1))
    assert changed.any()
    assert not (changed & ~near).any()


@sizes
def test_sound_field_comes_back_as_it_is(machine, smooth_field, shape):
    field = smooth_field(shape, 0.4)
    assert not folded(field).any()
    result, folds = repaired(machine, field)
    assert folds == (0,)
    np.testing.assert_array_equal(result, field)


@pytest.mark.parametrize("options", [{}, {"spacing": (4.0, 1.5, 1.0)}, {"least": 0.2}], ids=str)
@sizes
def test_agrees_with_reference(machine, smooth_field, rng, shape, options):
    field = np.concatenate([planted(smooth_field, shape, depth) for depth in (1.7, 2.4)])
    freedom = rng.uniform(0.1, 1, (2, *shape)).astype(np.float32)
    result, folds = repaired(machine, field, freedom, iterations=2, **options)
    expected, counts = reference.repair_folds(field, freedom=freedom, iterations=2, **options)
    assert folds == counts
    np.testing.assert_allclose(result, expected, atol=2e-4)


def test_a_shear_is_no_fold(machine):
    """Two halves that slide along each other, far."""
    field = np.zeros((1, 3, 10, 12, 14), np.float32)
    field[0, 2, 5:] = 9
    result, folds = repaired(machine, field)
    assert folds == (0,)
    np.testing.assert_array_equal(result, field)


def test_slip_survives_where_the_sides_overlap(machine):
    """Two halves that slide and run into each other: only the overlap is mended."""
    field = np.zeros((1, 3, 20, 12, 14), np.float32)
    field[0, 2, 10:] = 6
    field[0, 0, 10:] = -4
    result, folds = repaired(machine, field)
    assert folds[0] > 0 == folds[-1]
    slip = result[0, 2, 10] - result[0, 2, 9]
    assert slip.min() > 4
    # What one side gives way, the other does.
    totals = [f.astype(np.float64).sum(axis=(0, 2, 3, 4)) for f in (result, field)]
    np.testing.assert_allclose(*totals, atol=1e-2)


def test_change_takes_the_cheap_axis(machine, rng):
    """A thick slice is a long way: the other components mend what they can."""
    field = (0.8 * rng.standard_normal((1, 3, 8, 20, 20))).astype(np.float32)
    flat, folds = repaired(machine, field, spacing=(10, 1, 1))
    even, _ = repaired(machine, field)
    assert folds[-1] == 0
    moved_flat, moved_even = (np.abs(result - field)[0, 0].sum() for result in (flat, even))
    assert moved_flat < 0.2 * moved_even


def test_held_voxels_stay(machine, smooth_field):
    shape = (12, 13, 14)
    field = planted(smooth_field, shape)
    freedom = np.ones((1, *shape), np.float32)
    freedom[:, :6] = 0
    result, folds = repaired(machine, field, freedom)
    assert folds[-1] < folds[0]
    np.testing.assert_array_equal(result[:, :, :6], field[:, :, :6])
    everything, folds = repaired(machine, field, 0 * freedom, iterations=2)
    assert folds[-1] == folds[0]
    np.testing.assert_array_equal(everything, field)


def test_noise_ends_and_counts(machine, rng):
    field = (3 * rng.standard_normal((2, 3, 9, 10, 11))).astype(np.float32)
    result, folds = repaired(machine, field, iterations=3)
    assert len(folds) == 4
    counts = machine.get(jacobian_determinant(machine.put(result))) <= 0
    assert folds[-1] == counts.sum()
    assert np.isfinite(result).all()


def test_writes_where_it_is_told(machine, smooth_field):
    field = planted(smooth_field, (10, 11, 12))
    expected, _ = repaired(machine, field)
    array, out = machine.put(field.copy()), machine.put(np.empty_like(field))
    result, _ = repair_folds(array, out=out)
    assert result is out
    np.testing.assert_array_equal(machine.get(out), expected)
    np.testing.assert_array_equal(machine.get(array), field)
    result, _ = repair_folds(array, out=array)
    assert result is array
    np.testing.assert_array_equal(machine.get(array), expected)


def test_view_is_repaired_as_its_copy(machine, smooth_field):
    field = planted(smooth_field, (10, 11, 12))
    view = machine.put(np.ascontiguousarray(field[:, :, :, :, ::-1]))[:, :, :, :, ::-1]
    result, _ = repair_folds(view)
    np.testing.assert_array_equal(machine.get(result), repaired(machine, field)[0])


def test_not_a_number_is_left_alone(machine, smooth_field):
    field = planted(smooth_field, (10, 11, 12))
    field[0, 1, 1, 1, 1] = np.nan
    result, folds = repaired(machine, field)
    assert folds[-1] == 0
    assert np.isnan(result).sum() == 1


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"spacing": (1, 0, 1)}, ValueError, "spacing: expected positive"),
        ({"spacing": (1, 1)}, ValueError, r"spacing: expected \(3,\)"),
        ({"least": float("nan")}, ValueError, "least: expected a finite"),
        ({"iterations": -1}, ValueError, "iterations: expected at least 0"),
        ({"freedom": np.full((1, 4, 5, 6), -1, np.float32)}, ValueError, "freedom: expected 0"),
        ({"freedom": np.full((1, 4, 5, 6), np.nan, np.float32)}, ValueError, "freedom: expec"),
        ({"freedom": np.ones((1, 4, 5, 7), np.float32)}, ValueError, "freedom: expected"),
        ({"freedom": np.ones((1, 4, 5, 6))}, TypeError, "freedom: expected float32"),
        ({"out": np.empty((1, 3, 4, 5, 7), np.float32)}, ValueError, "out: expected"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_arguments(options, error, match):
    with pytest.raises(error, match=match):
        repair_folds(np.zeros((1, 3, 4, 5, 6), np.float32), **options)
