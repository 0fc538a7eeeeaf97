"""Outlines enclose exactly their voxels; grid lines follow the field the way the eye sees it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segreg.engine.contours import draw_grid, outline, outline_regions
from segreg.engine.planes import make_planes


def read_path(path: str) -> list[np.ndarray]:
    """Points (N, 2), x and y, of every stroke of a path of M, l and z."""
    strokes = []
    for part in filter(None, path.split("M")):
        start, moves = part.rstrip("z").split("l")
        numbers = [int(n) for n in re.findall(r"-?\d+", moves)]
        first = [int(n) for n in start.split()]
        strokes.append(np.cumsum([first, *np.reshape(numbers, (-1, 2)).tolist()], axis=0))
    return strokes


def enclosed(path: str, shape: tuple[int, int]) -> np.ndarray:
    """Which voxel centres lie inside the path, by counting crossings of a ray to the right."""
    inside = np.zeros(shape, bool)
    rows, columns = np.indices(shape)
    # A hair off the centre, so that the ray meets no corner.
    x, y = 2 * columns + 1.0, 2 * rows + 1.0 + 1e-3
    for points in read_path(path):
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y0 != y1:
                crosses = (y0 <= y) != (y1 <= y)
                inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


@settings(max_examples=80, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.booleans()))
def test_an_outline_encloses_its_voxels_and_no_others(inside):
    assert np.array_equal(enclosed(outline(inside), inside.shape), inside)


def test_a_voxel_is_a_diamond_through_the_middles_of_its_edges():
    inside = np.zeros((5, 6), bool)
    inside[2, 3] = True
    (points,) = read_path(outline(inside))
    assert {tuple(p) for p in points} == {(7, 4), (8, 5), (7, 6), (6, 5)}


def test_straight_runs_are_one_line():
    inside = np.zeros((40, 60), bool)
    inside[5:30, 10:50] = True
    assert len(read_path(outline(inside))[0]) == 8


def test_nothing_has_no_outline():
    assert outline(np.zeros((3, 4), bool)) == ""
    assert outline_regions(np.zeros((3, 4), np.int16)) == {}


def test_regions_are_outlined_by_number():
    regions = np.zeros((6, 8), np.int16)
    regions[1:3, 1:4], regions[3:5, 2:7] = 2, 40
    paths = outline_regions(regions)
    assert list(paths) == [2, 40]
    for number, path in paths.items():
        assert np.array_equal(enclosed(path, regions.shape), regions == number)


def test_a_region_that_runs_off_the_slice_closes_out_of_sight():
    regions = np.zeros((6, 8), np.int16)
    regions[2:4, 5:] = 1
    (points,) = read_path(outline_regions(regions)[1])
    vertical = points[:, 0].max()
    assert vertical > 2 * regions.shape[1]  # nothing is drawn along the right border
    assert np.array_equal(enclosed(outline_regions(regions)[1], regions.shape), regions == 1)


@pytest.mark.parametrize("diagonal", [1, -1])
def test_the_grid_of_a_shift_is_shifted_towards_where_it_points(diagonal):
    """One voxel towards R and A is one pixel pitch to the left and up, in RAS and in LPS."""
    affine = np.diag([diagonal, diagonal, 1.0, 1.0])
    shape = (5, 30, 40)
    plane = make_planes(
        affine, shape, np.array([(0, 0, 0), shape]), np.array([2, 15, 20]), size=(300, 400)
    )[0]
    still = np.zeros((3, *shape), np.float32)
    moved = still.copy()
    moved[1:] = diagonal
    before = read_path(draw_grid(plane, still, 20.0))
    after = read_path(draw_grid(plane, moved, 20.0))
    pitch = plane.pixels[1] / plane.shape[1]
    assert len(before) > 4
    for first, second in zip(before, after, strict=True):
        assert np.abs((second - first) + 10 * pitch).max() <= 1.5  # tenths of a pixel, rounded
        assert np.isin(0, np.ptp(first, axis=0))  # at rest the lines are straight


def test_a_grid_on_few_voxels_draws_what_it_can():
    shape = (3, 1, 2)
    plane = make_planes(
        np.eye(4), shape, np.array([(0, 0, 0), shape]), np.array([1, 0, 0]), size=(300, 400)
    )[0]
    assert draw_grid(plane, np.zeros((3, *shape), np.float32), 15.0).startswith("M")
