"""``segreg.apply`` takes what a user has at hand, and refuses what is unclear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import segreg
from segreg.engine.errors import InputError
from segreg.engine.field import Field, apply_to_points
from segreg.engine.phantom import Phantom, make_phantom
from segreg.engine.volume import Volume


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom((20, 24, 22), (5.0, 5.0, 5.0))


def test_field_and_image_from_anywhere(phantom: Phantom, tmp_path: Path) -> None:
    phantom.truth.write(tmp_path / "field.nii.gz")
    phantom.moving.write(tmp_path / "moving.nii.gz")
    expected = segreg.apply(phantom.truth, phantom.moving)
    assert expected.shape == phantom.fixed.shape
    image = nib.load(tmp_path / "moving.nii.gz")
    for thing in (tmp_path / "moving.nii.gz", str(tmp_path / "moving.nii.gz"), image):
        warped = segreg.apply(tmp_path / "field.nii.gz", thing)
        np.testing.assert_allclose(warped.array, expected.array, atol=0.5)


def test_labels_must_be_announced(phantom: Phantom) -> None:
    labels = segreg.apply(phantom.truth, phantom.moving_labels, kind="labels")
    assert labels.array.dtype == np.uint8
    assert set(np.unique(labels.array)) <= set(range(7))
    smooth = segreg.apply(phantom.truth, phantom.moving_labels)
    assert smooth.array.dtype == np.float32


def test_points_go_to_the_fixed_side_unless_asked(phantom: Phantom) -> None:
    fixed = np.array([[12.0, -18.0, 25.0], [20.0, -30.0, 30.0]])
    moving = apply_to_points(phantom.truth, fixed).points
    np.testing.assert_allclose(segreg.apply(phantom.truth, moving).points, fixed, atol=1e-2)
    carried = segreg.apply(phantom.truth, fixed, to="moving")
    np.testing.assert_allclose(carried.points, moving)


def test_points_from_a_table(phantom: Phantom, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("x,y,z\n-12,18,25\n")
    carried = segreg.apply(phantom.truth, path, kind="points", convention="lps")
    expected = segreg.apply(phantom.truth, np.array([[12.0, -18.0, 25.0]]))
    np.testing.assert_allclose(carried.points, expected.points)


@pytest.mark.parametrize(
    ("thing", "options", "expected"),
    [
        (np.zeros((4, 5, 6)), {}, "Volume.from_array"),
        (np.zeros((4, 2)), {}, "expected .N, 3."),
        (np.zeros((4, 3)), {"kind": "image"}, "Volume.from_array"),
        (np.zeros((4, 3)), {"convention": "lps"}, "RAS mm"),
        (np.zeros((4, 3)), {"interpolation": "linear"}, "interpolation: expected nothing"),
        ("points.csv", {}, 'kind="points"'),
        ("image.nii.gz", {"kind": "picture"}, "kind: expected one of"),
        ("image.nii.gz", {"interpolation": "vote"}, "linear or nearest or cubic for image"),
        ("image.nii.gz", {"to": "moving"}, "to: expected nothing for image"),
        (Volume.from_array(np.ones((3, 3, 3)), spacing=(1, 1, 1)), {"kind": "points"}, "a volume"),
    ],
)
def test_unclear_things(phantom: Phantom, thing: Any, options: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        segreg.apply(phantom.truth, thing, **options)


def test_no_field(phantom: Phantom) -> None:
    untyped: Any = phantom.truth.displacement
    with pytest.raises(TypeError, match=r"Field\(displacement, affine\)"):
        segreg.apply(untyped, phantom.moving)


def test_zero_field_changes_nothing(phantom: Phantom) -> None:
    still = Field(np.zeros((3, *phantom.moving.shape), np.float32), phantom.moving.affine)
    warped = segreg.apply(still, phantom.moving)
    np.testing.assert_allclose(warped.array, phantom.moving.array, atol=1e-3)
