"""Planes: radiological convention on every kind of grid, true proportion, cropping."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from segreg.engine.geometry import apply_map, index_to_world
from segreg.engine.planes import Plane, find_box, make_planes, obliquity, widen_box

SHAPE = (9, 12, 15)
LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}  # left, right, top, bottom
WORLD_AXES = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}  # down, across


def _rotation(degrees: float) -> NDArray[np.float64]:
    """About an axis with no symmetry to the grid (Rodrigues)."""
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.array(
        [[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]]
    )
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _affine(linear: NDArray[np.float64], spacing: tuple[float, ...] = (1, 1, 1)) -> NDArray:
    affine = np.eye(4)
    affine[:3, :3] = linear @ np.diag(spacing)
    affine[:3, 3] = (-7, 11, 30)
    return affine


AFFINES = {
    "RAS": _affine(np.eye(3)),
    "LAS": _affine(np.diag([-1.0, 1, 1])),
    "LPS": _affine(np.diag([-1.0, -1, 1])),
    "PIR": _affine(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])),
    "LIA": _affine(np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])),
    "oblique": _affine(_rotation(25)),
    "oblique LPS": _affine(_rotation(-25) @ np.diag([-1.0, -1, 1])),
}


def _planes(affine: NDArray, shape: tuple[int, int, int] = SHAPE, **options) -> list[Plane]:
    whole = np.array([(0, 0, 0), shape])
    options = {"size": (400, 1000), **options}
    return make_planes(affine, shape, whole, np.array(shape) // 2, **options)


@pytest.mark.parametrize("name", AFFINES)
def test_patient_right_is_left_anterior_and_superior_are_up(name):
    affine = AFFINES[name]
    index = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 3)
    world = apply_map(index_to_world(affine), index).T.reshape(3, *SHAPE)
    planes = _planes(affine)
    assert [plane.name for plane in planes] == ["axial", "coronal", "sagittal"]
    for plane in planes:
        down, across = WORLD_AXES[plane.name]
        assert (np.diff(plane.cut(world[down]), axis=0) < 0).all()
        assert (np.diff(plane.cut(world[across]), axis=1) < 0).all()
        assert plane.left + plane.right + plane.top + plane.bottom == LETTERS[plane.name]


@pytest.mark.parametrize("name", AFFINES)
def test_a_mark_in_the_right_anterior_superior_corner_lands_upper_left(name):
    affine = AFFINES[name]
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(SHAPE) - 1)
    corner = corners[apply_map(index_to_world(affine), corners).sum(axis=1).argmax()]
    image = np.zeros(SHAPE)
    image[tuple(corner)] = 1
    whole = np.array([(0, 0, 0), SHAPE])
    for plane in make_planes(affine, SHAPE, whole, corner, size=(400, 1000)):
        assert plane.cut(image)[0, 0] == 1
        assert plane.cut(image).sum() == 1


def test_every_plane_passes_through_the_centre_and_says_where():
    affine = AFFINES["RAS"]
    axial, coronal, sagittal = _planes(affine)
    assert (axial.axis, axial.index, axial.count) == (0, 4, 9)
    assert axial.position == "S 34.0 mm"
    assert coronal.position == "A 17.0 mm"
    assert sagittal.position == "R 0.0 mm"


def test_pictures_keep_the_proportion_of_anisotropic_voxels():
    spacing = (0.7, 1.4, 8.0)  # x, y, z
    planes = _planes(_affine(np.eye(3), spacing), (10, 60, 90))
    extent = {"axial": (84, 63), "coronal": (80, 63), "sagittal": (80, 84)}
    for plane in planes:
        height, width = plane.pixels
        assert height / width == pytest.approx(np.divide(*extent[plane.name]), rel=0.01)
        assert height / extent[plane.name][0] == pytest.approx(plane.scale, rel=0.01)


def test_pictures_fit_the_size_asked_for():
    for shape in ((9, 12, 15), (300, 20, 20), (20, 300, 300)):
        columns: dict[int, list[tuple[int, int]]] = {}
        for plane in _planes(np.eye(4), shape, size=(400, 1000)):
            columns.setdefault(plane.column, []).append(plane.pixels)
        assert sum(max(w for _, w in column) for column in columns.values()) <= 1001
        assert max(sum(h for h, _ in column) for column in columns.values()) <= 401


def test_flat_stacks_put_the_lower_planes_below_each_other():
    for depth, columns in ((40, [0, 1, 1]), (300, [0, 1, 2])):
        planes = _planes(np.eye(4), (depth, 300, 300), size=(500, 1000))
        assert [plane.column for plane in planes] == columns


@pytest.mark.parametrize(
    ("shape", "name"), [((1, 20, 30), "axial"), ((20, 1, 30), "coronal"), ((20, 30, 1), "sagittal")]
)
def test_a_2d_image_has_one_plane(shape, name):
    planes = _planes(np.eye(4), shape)
    assert [plane.name for plane in planes] == [name]
    assert sorted(planes[0].shape) == [20, 30]


def test_a_plane_shows_only_its_box_and_cuts_vectors_too():
    box = np.array([(2, 3, 4), (7, 9, 14)])
    axial = make_planes(np.eye(4), SHAPE, box, np.array([4, 6, 9]), size=(300, 900))[0]
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    assert np.array_equal(axial.cut(volume), volume[4, 3:9, 4:14][::-1, ::-1])
    assert axial.cut(np.stack([volume] * 3)).shape == (3, 6, 10)


def test_ruler_is_round_and_at_most_a_quarter_of_the_width():
    for width in (5, 40, 180, 400):
        plane = _planes(np.eye(4), (width, width, width))[0]
        millimetres, pixels = plane.ruler
        assert millimetres in (1, 2, 5, 10, 20, 50, 100)
        assert millimetres <= width / 4
        assert pixels == pytest.approx(millimetres * plane.scale)


def test_obliquity():
    for name in ("RAS", "LPS", "PIR", "LIA"):
        assert obliquity(AFFINES[name]) == pytest.approx(0, abs=1e-5)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    assert obliquity(turned @ np.diag([2, 3, 4, 1])) == pytest.approx(np.degrees(0.2))


def test_boxes():
    inside = np.zeros(SHAPE, bool)
    assert find_box(inside) is None
    inside[3, 4, 5] = inside[6, 4, 9] = True
    box = find_box(inside)
    assert box is not None
    assert box.tolist() == [[3, 4, 5], [7, 5, 10]]
    wide = widen_box(box, SHAPE, np.array([4.0, 1.0, 1.0]), 0.2, 2.0)
    assert wide.tolist() == [[2, 2, 3], [8, 7, 12]]
    assert widen_box(box, SHAPE, np.ones(3), 0.0, 99.0).tolist() == [[0, 0, 0], list(SHAPE)]
