from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segreg.engine.errors import InputError
from segreg.engine.geometry import (
    apply_map,
    check_affine,
    corners_of,
    flip_affine,
    flip_ras_lps,
    grid_distance,
    grid_map,
    index_to_world,
    is_perpendicular,
    make_affine,
    spacing_of,
    world_to_index,
)


def random_affine(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 5, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


def test_index_to_world_is_nibabel_with_the_index_reversed(affine: np.ndarray) -> None:
    index = np.array([[0, 0, 0], [3, 5, 7], [-1, 2.5, 4]])
    np.testing.assert_allclose(
        apply_map(index_to_world(affine), index),
        nib.affines.apply_affine(affine, index[:, ::-1]),
    )
    there_and_back = world_to_index(affine) @ index_to_world(affine)
    np.testing.assert_allclose(there_and_back, np.eye(4), atol=1e-12)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_grid_map_names_the_same_place(first: int, second: int) -> None:
    source, target = random_affine(first), random_affine(second)
    index = np.random.default_rng(first).uniform(-5, 50, (7, 3))
    there = apply_map(grid_map(source, target), index)
    np.testing.assert_allclose(
        apply_map(index_to_world(target), there),
        apply_map(index_to_world(source), index),
        atol=1e-8,
    )
    assert grid_map(source, target).flags.c_contiguous


def test_grid_map_to_itself_is_the_identity(affine: np.ndarray) -> None:
    np.testing.assert_allclose(grid_map(affine, affine), np.eye(3, 4), atol=1e-12)


def test_lps_flips_x_and_y_and_twice_is_nothing(affine: np.ndarray) -> None:
    np.testing.assert_array_equal(flip_ras_lps([[1, 2, 3]]), [[-1, -2, 3]])
    index = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(
        apply_map(index_to_world(flip_affine(affine)), index),
        flip_ras_lps(apply_map(index_to_world(affine), index)),
    )
    np.testing.assert_array_equal(flip_affine(flip_affine(affine)), affine)


def test_spacing_follows_the_array_axes() -> None:
    affine = make_affine((5.0, 2.0, 1.0))
    np.testing.assert_array_equal(np.diag(affine), [1, 2, 5, 1])
    np.testing.assert_array_equal(spacing_of(affine), [5, 2, 1])


def test_corners_and_their_distance() -> None:
    corners = corners_of((3, 4, 5))
    assert sorted(map(tuple, corners))[::7] == [(0, 0, 0), (2, 3, 4)]
    shifted = make_affine((1, 1, 1))
    shifted[:3, 3] = (0, 3, 4)
    assert grid_distance(make_affine((1, 1, 1)), shifted, (3, 4, 5)) == pytest.approx(5)


@pytest.mark.parametrize(
    ("column", "fine"),
    [((0, 3, 0), True), ((1e-5, 3, 0), True), ((3e-3, 3, 0), False), ((0, 0, 0), False)],
)
def test_perpendicular(column: tuple[float, ...], fine: bool) -> None:
    linear = np.diag([2.0, 3.0, 4.0])
    linear[:, 1] = column
    assert is_perpendicular(linear) == fine


def test_check_affine_copies(affine: np.ndarray) -> None:
    checked = check_affine(affine.tolist(), "image")
    np.testing.assert_array_equal(checked, affine)
    assert checked.dtype == np.float64
    assert check_affine(affine, "image") is not affine


def broken(row: int, column: int, value: float) -> np.ndarray:
    affine = np.eye(4)
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    ("affine", "sentence"),
    [
        (np.eye(3), r"expected an affine \(4, 4\), got shape \(3, 3\)"),
        ("abc", "of numbers"),
        (broken(0, 3, np.nan), "NaN or infinite"),
        (broken(3, 0, 1), "last row 0 0 0 1, got 1 0 0 1"),
        (broken(1, 1, 0), "got 1 x 0 x 1 along x, y, z"),
        (broken(1, 1, 1e9), "got 1 x 1e.09 x 1"),
        (broken(2, 3, -1e9), "an origin in mm, got 0, 0, -1e.09"),
        (broken(0, 1, 0.1), "sheared or singular.*Resample"),
        (np.ones((4, 4)) - broken(3, 3, 1) + np.diag([0, 0, 0, 1]), "last row"),
    ],
)
def test_affines_that_place_nothing_are_refused(affine: object, sentence: str) -> None:
    with pytest.raises(InputError, match=f"scan: .*{sentence}"):
        check_affine(affine, "scan")
