"""Pictures: windows, overlays, colour maps, and folds that nobody can overlook."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from segreg.engine import pictures
from segreg.engine.pictures import FOLD, LEVELS, RIM


def decode_png(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_window_leaves_out_the_extremes():
    image = np.full((20, 20, 20), 100.0)
    image[:10] = 50
    image[0, 0, 0], image[1, 1, 1] = -1e6, 1e6
    assert pictures.choose_window(image) == (50, 100)


def test_a_constant_image_is_black_and_no_division_by_zero():
    image = np.full((6, 7), 3.5)
    window = pictures.choose_window(np.full((4, 4, 4), 3.5))
    assert not pictures.make_grey(image, window, (12, 14)).any()


def test_grey_values_are_clipped_to_the_window_and_sized():
    image = np.array([[-50.0, 0.0], [100.0, 900.0]])
    grey = pictures.make_grey(image, (0.0, 100.0), (2, 2))
    assert grey.tolist() == [[0, 0], [255, 255]]
    assert pictures.make_grey(image, (0.0, 100.0), (31, 17)).shape == (31, 17)


def test_agreement_is_grey_and_each_side_has_its_hue():
    fixed, moving = np.array([[200, 200, 0]], np.uint8), np.array([[200, 0, 200]], np.uint8)
    agree, only_fixed, only_moving = pictures.mix(fixed, moving)[0].tolist()
    assert agree == [200, 200, 200]
    assert only_fixed == [0, 200, 0]
    assert only_moving == [200, 0, 200]


def test_checkerboard_alternates():
    fixed, warped = np.zeros((8, 12), np.uint8), np.full((8, 12), 9, np.uint8)
    board = pictures.make_checkerboard(fixed, warped, 4)
    assert board[::4, ::4].tolist() == [[0, 9, 0], [9, 0, 9]]
    assert board[3, 3] == 0


@pytest.mark.parametrize("size", [(40, 50), (100, 125), (400, 500)])
@pytest.mark.parametrize("value", [0.0, -0.3, np.nan])
def test_a_single_folded_voxel_is_seen_at_any_size(size, value):
    jacobian = np.ones((200, 250), np.float32)
    jacobian[101, 57] = value
    picture = pictures.make_jacobian_map(jacobian, 2.0, size)
    marked = np.argwhere(picture == FOLD)
    assert len(marked) >= 9
    assert (picture == RIM).sum() >= 16
    place = (101.5 * size[0] / 200, 57.5 * size[1] / 250)
    assert np.abs(marked.mean(axis=0) + 0.5 - place).max() < 1


def test_no_fold_no_mark():
    picture = pictures.make_jacobian_map(np.full((9, 9), 1e-6, np.float32), 2.0, (30, 30))
    assert not np.isin(picture, (FOLD, RIM)).any()


def test_the_jacobian_scale_is_logarithmic_about_one():
    jacobian = np.array([[0.25, 0.5, 1.0, 2.0, 4.0, 100.0]])
    levels = pictures.make_jacobian_map(jacobian, 4.0, (1, 6))[0].astype(int)
    top = LEVELS - 1
    assert levels == pytest.approx([0, top / 4, top / 2, 3 * top / 4, top, top], abs=1)


def test_distances_run_from_nothing_to_the_limit():
    levels = pictures.make_distance_map(np.array([[0.0, 5.0, 10.0, 99.0]]), 10.0, (1, 4))[0]
    assert levels.tolist() == pytest.approx([0, (LEVELS - 1) / 2, LEVELS - 1, LEVELS - 1], abs=1)


def test_the_fold_colour_is_far_from_every_colour_of_the_maps():
    fold = np.array(pictures.parse_colour(pictures.FOLD_COLOUR))
    for stops in (pictures.JACOBIAN_COLOURS, pictures.DISTANCE_COLOURS):
        palette = pictures.make_palette(stops).astype(int)
        assert palette.shape == (256, 3)
        assert palette[FOLD].tolist() == fold.tolist()
        assert np.linalg.norm(palette[:LEVELS] - fold, axis=1).min() > 100


def test_distance_colours_grow_lighter_all_the_way():
    palette = pictures.make_palette(pictures.DISTANCE_COLOURS)[:LEVELS]
    luminance = palette @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -0.5).all()
    assert luminance[-1] - luminance[0] > 200


def test_pngs_hold_the_pixels_and_are_the_same_each_time():
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    colours = np.stack([grey, grey[::-1], grey], axis=-1)
    for picture in (grey, colours):
        uri = pictures.encode_png(picture)
        assert np.array_equal(np.asarray(decode_png(uri)), picture)
        assert uri == pictures.encode_png(picture.copy())
    mapped = decode_png(pictures.encode_png(grey, pictures.JACOBIAN_COLOURS))
    palette = pictures.make_palette(pictures.JACOBIAN_COLOURS)
    assert np.array_equal(np.asarray(mapped.convert("RGB")), palette[grey])
