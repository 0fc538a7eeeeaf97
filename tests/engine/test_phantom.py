"""The phantom: its truth is true, its two sides are worlds of their own."""

from __future__ import annotations

import numpy as np
import pytest

from segreg.engine.errors import InputError
from segreg.engine.field import Field, apply_to_image, apply_to_labels
from segreg.engine.geometry import spacing_of
from segreg.engine.phantom import NOISE, Phantom, endpoint_error, make_phantom
from segreg.kernels import jacobian_determinant

SHAPE, SPACING = (32, 41, 37), (3.0, 2.5, 2.5)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(SHAPE, SPACING)


def test_grids_differ(phantom: Phantom) -> None:
    assert phantom.fixed.shape == SHAPE
    assert phantom.fixed.spacing == pytest.approx(SPACING)
    assert phantom.moving.shape != SHAPE
    assert np.ptp(spacing_of(phantom.moving.affine)) < 1e-9
    directions = phantom.fixed.affine[:3, :3] / spacing_of(phantom.fixed.affine)[::-1]
    assert np.abs(directions).max() < 0.995  # oblique in every axis
    for image, labels in (
        (phantom.fixed, phantom.fixed_labels),
        (phantom.moving, phantom.moving_labels),
    ):
        assert image.shape == labels.shape
        np.testing.assert_array_equal(image.affine, labels.affine)


def test_same_seed_same_pair(phantom: Phantom) -> None:
    again, other = make_phantom(SHAPE, SPACING), make_phantom(SHAPE, SPACING, seed=1)
    np.testing.assert_array_equal(again.moving.array, phantom.moving.array)
    np.testing.assert_array_equal(again.fixed.array, phantom.fixed.array)
    np.testing.assert_array_equal(again.truth.displacement, phantom.truth.displacement)
    assert not np.array_equal(other.fixed_labels.array, phantom.fixed_labels.array)
    assert not np.array_equal(other.truth.displacement, phantom.truth.displacement)


@pytest.mark.parametrize("seed", range(4))
def test_every_organ_is_on_both_sides_and_off_the_border(seed: int) -> None:
    pair = make_phantom(SHAPE, SPACING, seed=seed)
    for labels in (pair.moving_labels.array, pair.fixed_labels.array):
        assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5, 6}
        inner = labels[1:-1, 1:-1, 1:-1]
        assert np.count_nonzero(inner) == np.count_nonzero(labels)


@pytest.mark.parametrize("seed", range(4))
def test_truth_does_not_fold(seed: int) -> None:
    truth = make_phantom(SHAPE, SPACING, seed=seed).truth
    jacobian = jacobian_determinant(truth.displacement[np.newaxis])
    assert 0.3 < jacobian.min() <= jacobian.max() < 3


def test_truth_carries_moving_onto_fixed(phantom: Phantom) -> None:
    inside = phantom.fixed_labels.array > 0
    labels = apply_to_labels(phantom.truth, phantom.moving_labels).array
    assert np.mean(labels[inside] == phantom.fixed_labels.array[inside]) > 0.93
    warped = apply_to_image(phantom.truth, phantom.moving).array
    core = inside & (labels == phantom.fixed_labels.array)
    assert np.corrcoef(warped[core], phantom.fixed.array[core])[0, 1] > 0.98


def test_shell_encloses_its_cavity(phantom: Phantom) -> None:
    labels = phantom.moving_labels.array
    cavity = labels == 4
    for axis in range(3):
        for step in (-1, 1):
            beside = np.roll(labels, step, axis)[cavity]
            assert set(np.unique(beside)) <= {3, 4}


def test_peak_is_the_displacement_beyond_the_affine() -> None:
    still, moved = (make_phantom(SHAPE, SPACING, peak=peak).truth for peak in (0.0, 6.0))
    bumps = (moved.displacement - still.displacement).reshape(3, -1).T * np.array(SPACING)
    assert np.linalg.norm(bumps, axis=1).max() == pytest.approx(6.0, rel=1e-3)


def test_noise_hides_no_organ(phantom: Phantom) -> None:
    image, labels = phantom.fixed.array, phantom.fixed_labels.array
    means = np.array([image[labels == label].mean() for label in range(1, 7)])
    assert np.diff(np.sort(means)).min() > 3 * NOISE


def test_endpoint_error_of_known_misses(phantom: Phantom) -> None:
    assert endpoint_error(phantom.truth, phantom).mean_mm == 0
    missed = phantom.truth.displacement.copy()
    missed[0] += 2  # two voxels of 3 mm along z
    error = endpoint_error(Field(missed, phantom.truth.affine), phantom)
    assert error.mean_voxels == pytest.approx(2, rel=1e-5)
    assert error.p95_voxels == pytest.approx(2, rel=1e-5)
    assert error.mean_mm == pytest.approx(6, rel=1e-5)
    assert error.p95_mm == pytest.approx(6, rel=1e-5)


def test_endpoint_error_on_another_grid(phantom: Phantom) -> None:
    field = Field(phantom.truth.displacement[:, 1:], phantom.truth.affine)
    with pytest.raises(InputError, match="fixed grid"):
        endpoint_error(field, phantom)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((8, 40, 40), SPACING), ((40, 40), SPACING), (SHAPE, (1, 0, 1)), (SHAPE, (1, 1))],
)
def test_bad_grids(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="phantom: expected"):
        make_phantom(shape, spacing)
