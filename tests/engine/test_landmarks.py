from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segreg.engine.errors import InputError
from segreg.engine.geometry import apply_map
from segreg.engine.landmarks import find_sources, fit_inverse, read_points, sample_field


def csv(folder: Path, text: str) -> Path:
    path = folder / "points.csv"
    path.write_text(text, encoding="utf-8")
    return path


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "convention", "expected"),
    [
        ("x_lps_mm,y_lps_mm,z_lps_mm\n1,2,3\n4,5.5,-6\n", None, [[-1, -2, 3], [-4, -5.5, -6]]),
        ("x_lps_mm,y_lps_mm,z_lps_mm\n1,2,3\n", "lps", [[-1, -2, 3]]),
        ("x_ras,y_ras,z_ras\n1,2,3\n", None, [[1, 2, 3]]),
        ("x,y,z\n1,2,3\n", "ras", [[1, 2, 3]]),
        ("1,2,3\n\n4,5,6\n", "lps", [[-1, -2, 3], [-4, -5, 6]]),
        ("\ufeffname, Z , y,x_mm\na,3,2,1\n", "ras", [[1, 2, 3]]),
    ],
)
def test_reads_ras_whatever_the_file_holds(
    tmp_path: Path, text: str, convention: str | None, expected: list[list[float]]
) -> None:
    np.testing.assert_array_equal(read_points(csv(tmp_path, text), convention), expected)


@pytest.mark.parametrize(
    ("text", "convention", "sentence"),
    [
        ("x,y,z\n1,2,3\n", None, r"do not say whether .* RAS or LPS\. Say it: convention="),
        ("1,2,3\n", None, "do not say whether"),
        ("x_lps,y_lps,z_lps\n1,2,3\n", "ras", "column names say LPS, but RAS was asked for"),
        ("x_lps,y_ras,z_lps\n1,2,3\n", None, "of one convention, got 'x_lps,y_ras,z_lps'"),
        ("x,y\n1,2\n", "ras", "expected columns x, y and z"),
        ("1,2,3,4\n", "ras", "expected three columns, .* got 4 columns"),
        ("1;2;3\n", "ras", "got 1 columns, the first row is '1;2;3'"),
        ("x,y,z\n1,2,three\n", "ras", "three numbers in line 2, got '1,2,three'"),
        ("x,y,z\n1,2,3\n\n1,2\n", "ras", "three numbers in line 4, got '1,2'"),
        ("x,y,z\n1,2,nan\n", "ras", "finite numbers in line 2"),
        ("x,y,z\n", "ras", "got none below the column names"),
        ("", "ras", "got an empty file"),
    ],
)
def test_refuses(tmp_path: Path, text: str, convention: str | None, sentence: str) -> None:
    with pytest.raises(InputError, match=rf"points\.csv: .*{sentence}"):
        read_points(csv(tmp_path, text), convention)


def test_refuses_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes(b"\x1f\x8b\xff\xfe\x00")
    with pytest.raises(InputError, match="expected a CSV file of landmarks, got something"):
        read_points(path, "ras")
    with pytest.raises(InputError, match=r"none\.csv: cannot be read \(No such file"):
        read_points(tmp_path / "none.csv", "ras")
    with pytest.raises(ValueError, match="got 'itk'"):
        read_points(path, "itk")


@pytest.mark.data
def test_real_landmarks_lie_in_their_image(research_data: Path) -> None:
    from segreg.engine.geometry import world_to_index
    from segreg.engine.volume import Volume

    folder = research_data / "liver_4dmri" / "dataset19"
    image = Volume.read(folder / "exhMaster.nii.gz")
    points = read_points(folder / "exhMaster_liver.csv")
    index = apply_map(world_to_index(image.affine), points)
    assert len(points) > 5
    assert (index > 0).all()
    assert (index < np.array(image.shape)).all()


# -- points in a field ------------------------------------------------------------------------


@given(st.integers(0, 1000))
def test_samples_a_linear_field_exactly_and_holds_the_border(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 7, 3))
    linear, shift = rng.normal(size=(3, 3)), rng.normal(size=3)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    field = np.moveaxis(grid @ linear.T + shift, -1, 0)
    points = rng.uniform(-3, 9, (20, 3))
    clamped = np.clip(points, 0, np.array(shape) - 1)
    np.testing.assert_allclose(sample_field(field, points), clamped @ linear.T + shift, atol=1e-9)


def affine_field(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return np.moveaxis(grid @ matrix[:, :3].T + matrix[:, 3] - grid, -1, 0)


def test_fit_inverts_an_affine_field() -> None:
    matrix = np.array([[1.2, 0.3, 0, 4], [-0.3, 0.9, 0.1, -2], [0, 0.2, 1.4, 7]])
    inverse = fit_inverse(affine_field(matrix, (20, 31, 7)))
    product = np.vstack([inverse, (0, 0, 0, 1)]) @ np.vstack([matrix, (0, 0, 0, 1)])
    np.testing.assert_allclose(product, np.eye(4), atol=1e-9)


def test_fit_leaves_a_single_slice_in_its_plane() -> None:
    field = np.zeros((3, 1, 8, 9))
    field[1] = 2
    np.testing.assert_allclose(fit_inverse(field)[:, :3], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(fit_inverse(field)[:, 3], [0, -2, 0], atol=1e-9)


def test_fit_gives_up_on_a_fold() -> None:
    mirror = np.hstack([np.diag([1.0, 1.0, -1.0]), np.zeros((3, 1))])
    np.testing.assert_array_equal(fit_inverse(affine_field(mirror, (5, 6, 7))), np.eye(3, 4))


def test_finds_sources_to_the_tolerance() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 0.8, (3, 4, 4, 4))
    field = coarse.repeat(4, 1).repeat(4, 2).repeat(4, 3)
    for axis in (1, 2, 3):  # smoothed until it no longer folds
        for _ in range(12):
            field = (np.roll(field, 1, axis) + 2 * field + np.roll(field, -1, axis)) / 4
    points = rng.uniform(2, 13, (50, 3))
    targets = points + sample_field(field, points)
    found, residual = find_sources(field, targets, fit_inverse(field))
    assert residual.max() <= 1e-3
    np.testing.assert_allclose(found + sample_field(field, found), targets, atol=2e-3)
    np.testing.assert_allclose(found, points, atol=0.01)
