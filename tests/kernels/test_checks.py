"""What the operations refuse, and how they say it."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from segreg.kernels import (
    compose,
    count_folds,
    distance_to_mask,
    find_labels,
    fuse_fields,
    gather_regions,
    integrate,
    invert,
    jacobian_determinant,
    jacobian_sums,
    overlap,
    region_shapes,
    region_stats,
    relabel,
    set_threads,
    smooth,
    soft_dice,
    spline_coefficients,
    surface_distances,
    warp,
    warp_labels,
)

FIELD = np.zeros((1, 3, 4, 5, 6), np.float32)
IMAGE = np.zeros((1, 1, 4, 5, 6), np.float32)
VOLUME = np.zeros((4, 5, 6), np.float32)
REGIONS = np.zeros((4, 5, 6), np.int32)
MAPS = np.eye(3, 4)[None]
BATCH = np.zeros((1, 2, 4, 4, 4), np.float32)


@functools.cache
def shapes():
    return region_shapes(REGIONS, [1])


@functools.cache
def stats():
    return (region_stats(REGIONS, VOLUME, 1),) * 2


ELSEWHERE = (FIELD[0], MAPS[0], MAPS[0])
FUSION = (FIELD, np.zeros((1, 4, 5, 6), np.float32), MAPS, MAPS, np.ones((1, 3)), ELSEWHERE)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: warp(IMAGE, np.moveaxis(FIELD, 1, -1)), ValueError,
         r"displacement: expected \(B, 3, D, H, W\), got \(1, 4, 5, 6, 3\)\. "
         r"Components belong on axis 1: np\.moveaxis\(displacement, -1, 1\)"),
        (lambda: warp(VOLUME, FIELD), ValueError, r"Add the missing axes in front: moving\[None\]"),
        (lambda: warp(IMAGE.astype(float), FIELD), TypeError,
         r"moving: expected float32, got float64\. Convert with moving\.astype"),
        (lambda: warp(IMAGE, np.repeat(FIELD, 2, 0)), ValueError, "one field per image, 1, got 2"),
        (lambda: warp(IMAGE, FIELD, mode="sinc"), ValueError, "or 'cubic', got 'sinc'"),
        (lambda: warp(IMAGE, FIELD, prefiltered=True), ValueError,
         r'prefiltered: expected mode="cubic" .* got .linear.\. Warp the volume itself'),
        (lambda: warp(IMAGE, FIELD, affine=np.eye(3)), ValueError, r"affine: .* got \(3, 3\)"),
        (lambda: warp(IMAGE, FIELD, affine=np.full((3, 4), np.nan)), ValueError, "affine: .* NaN"),
        (lambda: warp(IMAGE, FIELD, out=IMAGE), ValueError, "out: .* overlaps an input"),
        (lambda: warp(IMAGE, FIELD, out=IMAGE[..., 1:]), ValueError, "out: expected"),
        (lambda: warp(IMAGE.tolist(), FIELD), TypeError, "moving: expected a NumPy or a CuPy"),
        (lambda: warp(IMAGE[..., :0], FIELD), ValueError, "moving: expected at least one voxel"),
        (lambda: warp_labels(VOLUME, FIELD), TypeError, "labels: expected int32 or int16"),
        (lambda: warp_labels(REGIONS, np.repeat(FIELD, 2, 0)), ValueError, r"\(1, 3, D, H, W\)"),
        (lambda: overlap(REGIONS, REGIONS[1:], None, 3), ValueError, "Give a displacement"),
        (lambda: overlap(REGIONS, REGIONS[1:], FIELD, 3), ValueError, "to fit the other arrays"),
        (lambda: overlap(REGIONS, REGIONS, None, 40000), ValueError, "count: expected 0 to 32767"),
        (lambda: integrate(FIELD, -1), ValueError, "steps: expected 0 to 30, got -1"),
        (lambda: integrate(FIELD, 1.5), TypeError, "steps: expected an integer, got float"),
        (lambda: integrate(FIELD, 3, out=FIELD), ValueError, "overlaps an input"),
        (lambda: compose(FIELD, FIELD[..., 1:]), ValueError, "first: expected .* to fit"),
        (lambda: jacobian_determinant(IMAGE), ValueError, r"displacement: expected \(B, 3"),
        (lambda: invert(FIELD, shape=(4, 5)), ValueError, "shape: expected"),
        (lambda: invert(FIELD, shape=(4, 5, 0)), ValueError, "shape: expected at least 1, got 0"),
        (lambda: invert(FIELD, shape=(2048, 2048, 2048)), ValueError, "at most 2.31 - 1 voxels"),
        (lambda: region_stats(REGIONS.astype(int), VOLUME, 1), TypeError, "expected int32"),
        (lambda: region_stats(REGIONS, VOLUME[1:], 1), ValueError, "image: expected .* to fit"),
        (lambda: region_shapes(REGIONS, []), ValueError, "indices: expected at least 1, got 0"),
        (lambda: region_shapes(REGIONS, [1.0]), TypeError, "indices: expected integers"),
        (lambda: region_shapes(VOLUME, [1]), TypeError, "regions: expected int32"),
        (lambda: region_shapes(REGIONS, [1], [[0, 0, 0, 4, 5]]), ValueError, r"boxes: .*\(1, 6\)"),
        (lambda: region_shapes(REGIONS, [1], [[0, 0, 0, 4, 5, 7]]), ValueError, "boxes: .* within"),
        (lambda: gather_regions(VOLUME[1:], shapes(), MAPS, [[0, 1]], 4), ValueError,
         "image: expected .* to fit"),
        (lambda: gather_regions(VOLUME, shapes(), MAPS, [[0, 1]], 4,
                                out=np.zeros((1, 2, 4, 4, 4), np.float64)),
         ValueError, "out: expected .* float32, got .* float64"),
        (lambda: gather_regions(VOLUME, shapes(), np.eye(4)[None], [[0, 1]], 4), ValueError,
         r"affines: expected \(1, 3, 4\), got \(1, 4, 4\)"),
        (lambda: gather_regions(VOLUME, shapes(), MAPS, [[0, 1]], 4, channels=("edge",)),
         ValueError, "channels: .* got .*edge"),
        (lambda: gather_regions(VOLUME, shapes(), MAPS, [[0, 1]], 4,
                                displacement=np.zeros((1, 3, 3, 3, 3), np.float32)),
         ValueError, r"n times \(d, h, w\) the canvas \(4, 4, 4\)"),
        (lambda: gather_regions(VOLUME, shapes(), MAPS, [[0, 1]], (4, 4, 8),
                                displacement=np.zeros((1, 3, 2, 2, 2), np.float32)),
         ValueError, r"n times \(d, h, w\) the canvas \(4, 4, 8\), got \(1, 3, 2, 2, 2\)"),
        (lambda: gather_regions(VOLUME, shapes(), MAPS, [[0, 1]], (4, 8)), ValueError,
         r"canvas: expected cells along three axes, or one number, got \(4, 8\)"),
        (lambda: gather_regions(VOLUME, shapes(), MAPS, [[0, 1]], (4, 0, 4)), ValueError,
         "canvas: expected at least 1, got 0"),
        (lambda: gather_regions(VOLUME, shapes(), MAPS, [[0, 1]], 1291), ValueError,
         "canvas: expected at most 2.31 - 1 voxels"),
        (lambda: gather_regions(VOLUME, shapes(), MAPS, [[0, 1]], 4,
                                out=np.zeros((1, 1, 4, 4, 4), np.float32)),
         ValueError, r"out: expected \(1, 2 or more, 4, 4, 4\)"),
        (lambda: distance_to_mask(VOLUME[None], [[1, 1, 1]]), TypeError, "mask: expected uint8 or"),
        (lambda: distance_to_mask(REGIONS[None] > 0, [[1, 1, 0]]), ValueError, "positive mm"),
        (lambda: distance_to_mask(REGIONS[None] > 0, [[1, 1, 1]], farthest=0), ValueError,
         "farthest: expected mm above 0"),
        (lambda: fuse_fields(REGIONS, *FUSION, -1.0), ValueError, "reach: expected distances"),
        (lambda: fuse_fields(REGIONS, *FUSION[:2], np.ones((1, 3, 4)), *FUSION[3:], 1.0),
         ValueError, "to_field: expected a nonzero scale per axis"),
        (lambda: smooth(VOLUME, 1.0), ValueError, r"volume: expected \(B, C, D, H, W\)"),
        (lambda: smooth(IMAGE, -1.0), ValueError, r"sigma: expected mm, 0 or more, got -1\.0"),
        (lambda: smooth(IMAGE, (1, 2)), ValueError, r"sigma: .* or three, \(z, y, x\), got \(1, 2"),
        (lambda: smooth(IMAGE, np.nan), ValueError, "sigma: expected a finite number"),
        (lambda: smooth(IMAGE, 1e6), ValueError, "sigma: .*at most 32768 voxels.*coarser spacing"),
        (lambda: smooth(IMAGE, 1.0, (1, 0, 1)), ValueError, "spacing: expected positive mm"),
        (lambda: smooth(IMAGE, 1.0, truncate=0.0), ValueError, "truncate: .* above 0, got 0.0"),
        (lambda: smooth(IMAGE, 1.0, out=IMAGE), ValueError, "out: .* overlaps an input"),
        (lambda: spline_coefficients(IMAGE.astype(float)), TypeError, "volume: expected float32"),
        (lambda: spline_coefficients(IMAGE, out=IMAGE), ValueError, "out: .* overlaps an input"),
        (lambda: soft_dice(BATCH, 0, 2), ValueError, "second: expected 0 to 1, got 2"),
        (lambda: count_folds(BATCH[:, :1].repeat(3, 1), BATCH, 2), ValueError,
         "channel: expected 0 to 1, got 2"),
        (lambda: count_folds(np.zeros((1, 3, 3, 3, 3), np.float32), BATCH, 0), ValueError,
         r"\(D, H, W\) a multiple of \(3, 3, 3\)"),
        (lambda: count_folds(np.zeros((1, 3, 2, 2, 4), np.float32), BATCH, 0), ValueError,
         r"\(D, H, W\) a multiple of \(2, 2, 4\)"),
        (lambda: find_labels(VOLUME, 5), TypeError, "labels: expected uint8 or int16 or int32"),
        (lambda: find_labels(REGIONS, 0), ValueError, "limit: expected 1 to"),
        (lambda: relabel(VOLUME, [0]), TypeError, r"Convert with labels.astype\('int32'\)"),
        (lambda: relabel(REGIONS, np.zeros(0, int)), ValueError, "table: expected at least 1"),
        (lambda: relabel(REGIONS, [0.5]), TypeError, "table: expected integers"),
        (lambda: jacobian_sums(VOLUME, REGIONS[1:], 1), ValueError, "regions: expected .* to fit"),
        (lambda: surface_distances(REGIONS, REGIONS[1:], stats(), [1, 1, 1]), ValueError,
         "second: expected .* to fit"),
        (lambda: surface_distances(REGIONS, REGIONS, stats(), [1, 1, 0]), ValueError,
         "spacing: expected positive millimetres"),
        (lambda: surface_distances(REGIONS, REGIONS, (stats()[0], region_stats(REGIONS, VOLUME, 2)),
                                   [1, 1, 1]), ValueError, "stats: .* got 1 and 2"),
        (lambda: set_threads(0), ValueError, "threads: expected at least 1, got 0"),
    ],
)  # fmt: skip
def test_errors_say_what_came_and_how_to_mend_it(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_inputs_may_be_read_only():
    image, field = IMAGE.copy(), FIELD.copy()
    image.flags.writeable = field.flags.writeable = False
    np.testing.assert_array_equal(warp(image, field), image)


def test_out_must_be_writeable():
    out = np.zeros_like(IMAGE)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out: expected a writeable"):
        warp(IMAGE, FIELD, out=out)
