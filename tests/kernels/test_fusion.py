"""distance_to_mask and fuse_fields."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from segreg.kernels import distance_to_mask, fuse_fields, reference

SIZES = [(1, 5, 7), (19, 3, 11), (16, 10, 17)]

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


@sizes
@pytest.mark.parametrize("dtype", ["uint8", "bool"])
def test_distance_agrees_with_reference(machine, rng, shape, dtype):
    mask = (rng.random((3, *shape)) < [[[[0.02]]], [[[0.2]]], [[[0.7]]]]).astype(dtype)
    mask[:, 0, 1, 2] = 1
    spacing = [[1, 1, 1], [0.7, 2.5, 1.1], [3, 0.5, 0.5]]
    result = machine.get(distance_to_mask(machine.put(mask), spacing))
    np.testing.assert_allclose(result, reference.distance_to_mask(mask, spacing), rtol=1e-5)


def test_distances_are_cut_off(machine, rng):
    mask = rng.random((2, 9, 14, 33)) < 0.002
    mask[1, 4, 7, 16] = True
    spacing = [[1.0, 2.0, 0.5], [1.5, 1.0, 1.0]]
    whole = reference.distance_to_mask(mask, spacing)
    for farthest in (0.4, 3.0, 7.25):
        result = machine.get(distance_to_mask(machine.put(mask), spacing, farthest=farthest))
        np.testing.assert_allclose(result, np.minimum(whole, farthest), rtol=1e-5)


def test_distance_agrees_with_scipy(machine, rng):
    mask = rng.random((2, 24, 25, 26)) < 0.001
    spacing = [[1.5, 0.8, 1.0], [0.5, 1, 2]]
    result = machine.get(distance_to_mask(machine.put(mask), spacing))
    for k in range(2):
        expected = distance_transform_edt(~mask[k], sampling=spacing[k])
        np.testing.assert_allclose(result[k], expected, rtol=1e-5)


def test_distance_to_nothing_is_large_and_finite(machine):
    mask = np.zeros((2, 4, 5, 6), np.uint8)
    mask[1, 2, 2, 2] = 255
    result = machine.get(distance_to_mask(machine.put(mask), [[1, 1, 1], [1, 1, 1]]))
    np.testing.assert_array_equal(result[0], np.float32(1e6))
    assert result[1].max() < 10


def test_distance_of_a_view(machine, rng):
    mask = rng.random((1, 8, 6, 10)) < 0.05
    view = machine.put(mask)[:, ::2, :, 1:]
    result = machine.get(distance_to_mask(view, [[1, 2, 3]]))
    expected = reference.distance_to_mask(mask[:, ::2, :, 1:], [[1, 2, 3]])
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def scene(rng, shape, cells, count, empty=()):
    """Regions in boxes, a field grid around each, and the distances on it."""
    regions = np.zeros(shape, np.int32)
    to_field = np.zeros((count, 3, 4))
    to_voxel = np.zeros((count, 3, 4))
    spacing = np.zeros((count, 3))
    masks = np.zeros((count, *cells), bool)
    for k in range(count):
        low = rng.integers(0, np.maximum(1, np.array(shape) // 2))
        high = np.minimum(low + rng.integers(2, 6, 3), shape)
        if k not in empty:
            regions[tuple(map(slice, low, high))] = k + 1
        # The canvas holds the box and a margin of one voxel.
        scale = np.array(cells) / (high - low + 2)
        offset = (0.5 - low + 1) * scale - 0.5
        to_field[k, :, :3] = np.diag(scale)
        to_field[k, :, 3] = offset
        to_voxel[k, :, :3] = np.diag(1 / scale) + 0.05 * rng.standard_normal((3, 3))
        to_voxel[k, :, 3] = -offset / scale
        spacing[k] = rng.uniform(0.8, 1.2, 3) / scale
        voxels = (np.indices(cells) - offset.reshape(3, 1, 1, 1)) / scale.reshape(3, 1, 1, 1)
        middle, half = (low + high - 1) / 2, (high - low) / 2
        away = np.abs(voxels - middle.reshape(3, 1, 1, 1))
        masks[k] = (away < half.reshape(3, 1, 1, 1)).all(axis=0)
    distances = reference.distance_to_mask(masks, spacing).astype(np.float32)
    fields = (0.5 * rng.standard_normal((count, 3, *cells))).astype(np.float32)
    coarse = 0.3 * rng.standard_normal((3, *(max(2, n // 3) for n in shape)))
    to_coarse = np.diag(np.array(coarse.shape[1:]) / np.array(shape)) @ np.eye(3, 4)
    from_coarse = np.diag(1 / np.diagonal(to_coarse)) @ np.eye(3, 4)
    background = coarse.astype(np.float32), to_coarse, from_coarse
    return regions, fields, distances, to_field, to_voxel, spacing, background


def affine_background(affine):
    """The background's map as an affine: a field of zeros on a grid of one cell."""
    return np.zeros((3, 1, 1, 1), np.float32), np.eye(3, 4), affine


def fused(machine, regions, fields, distances, to_field, to_voxel, spacing, background, reach):
    arrays = machine.put(regions), machine.put(fields), machine.put(distances)
    background = machine.put(background[0]), *background[1:]
    return machine.get(fuse_fields(*arrays, to_field, to_voxel, spacing, background, reach))


def reaches(count, falloff, *pairs):
    """Table of one falloff into the background and of pairs (j, k, mm)."""
    table = np.zeros((count + 1, count + 1))
    table[0] = table[:, 0] = falloff
    for j, k, length in pairs:
        table[j, k] = table[k, j] = length
    return table


def beside(first, second, gap=0, length=24):
    """Two regions along x, each moved whole by a vector: maps over one grid of voxels."""
    regions = np.zeros((5, 6, length), np.int32)
    half = length // 2
    regions[:, :, : half - gap], regions[:, :, half + gap :] = 1, 2
    fields = np.empty((2, 3, *regions.shape), np.float32)
    fields[0], fields[1] = (np.reshape(v, (3, 1, 1, 1)) for v in (first, second))
    x = np.arange(length)
    away = [np.maximum(x - (half - gap - 1), 0), np.maximum(half + gap - x, 0)]
    distances = np.stack([np.broadcast_to(d, regions.shape) for d in away]).astype(np.float32)
    maps = np.tile(np.eye(3, 4), (2, 1, 1))
    return regions, fields, distances, maps, maps, np.ones((2, 3)), affine_background(np.eye(3, 4))


@sizes
@pytest.mark.parametrize("falloff", [0.0, 0.5, 4.0, 40.0])
@pytest.mark.parametrize("cells", [(6, 6, 6), (3, 5, 4)], ids=str)
def test_fuse_agrees_with_reference(machine, rng, shape, falloff, cells):
    arguments = scene(rng, shape, cells, 3, empty=(1,))
    result = fused(machine, *arguments, falloff)
    expected = reference.fuse_fields(*arguments, falloff)
    assert result.shape == (1, 3, *shape)
    np.testing.assert_allclose(result, expected, atol=2e-3)


def test_fuse_with_mirrored_field_grid(machine, rng):
    regions, fields, distances, to_field, to_voxel, spacing, background = scene(
        rng, (12, 13, 14), (6, 6, 6), 2
    )
    flip = np.array([[-1, 0, 0, 5.0], [0, 1, 0, 0], [0, 0, -1, 5.0], [0, 0, 0, 1]])
    to_field = np.stack([(flip @ np.vstack([m, [0, 0, 0, 1]]))[:3] for m in to_field])
    arguments = regions, fields, distances, to_field, to_voxel, spacing, background
    expected = reference.fuse_fields(*arguments, 5.0)
    np.testing.assert_allclose(fused(machine, *arguments, 5.0), expected, atol=2e-3)


def test_one_region_over_everything_is_its_field(machine, rng):
    shape = (6, 7, 8)
    fields = rng.standard_normal((1, 3, *shape)).astype(np.float32)
    result = fused(
        machine, np.ones(shape, np.int32), fields, np.zeros((1, *shape), np.float32),
        np.eye(3, 4)[None], np.eye(3, 4)[None], np.ones((1, 3)),
        affine_background(np.eye(3, 4)), 5.0,
    )  # fmt: skip
    np.testing.assert_allclose(result, fields, atol=1e-5)


def test_weights_sum_to_one(machine, rng):
    # If every map is the same, so is every blend of them.
    regions, fields, distances, to_field, _, spacing, _ = scene(rng, (12, 13, 14), (5, 5, 5), 3)
    same = np.eye(4) + 0.1 * rng.standard_normal((4, 4))
    same[3] = 0, 0, 0, 1
    whole = [np.vstack([m, [0, 0, 0, 1]]) for m in to_field]
    to_voxel = np.stack([(same @ np.linalg.inv(m))[:3] for m in whole])
    zero = np.zeros_like(fields)
    everywhere = affine_background(same[:3])
    result = fused(machine, regions, zero, distances, to_field, to_voxel, spacing, everywhere, 8.0)
    voxels = np.indices((12, 13, 14)).reshape(3, -1)
    expected = (same[:3, :3] @ voxels + same[:3, 3:] - voxels).reshape(1, 3, 12, 13, 14)
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_far_from_regions_only_the_background_moves(machine, rng):
    regions, fields, distances, to_field, to_voxel, spacing, _ = scene(
        rng, (30, 30, 30), (5, 5, 5), 2
    )
    affine = np.eye(3, 4) + 0.05 * rng.standard_normal((3, 4))
    background = affine_background(affine)
    arguments = fields, distances, to_field, to_voxel, spacing, background, 3.0
    result = fused(machine, regions, *arguments)
    point = np.array([29, 29, 29])
    expected = affine[:, :3] @ point + affine[:, 3] - point
    np.testing.assert_allclose(result[0, :, 29, 29, 29], expected, atol=1e-5)


def test_background_field_is_interpolated_on_its_own_grid(machine, rng):
    field = rng.standard_normal((3, 3, 4, 5)).astype(np.float32)
    shape = (5, 7, 9)  # nodes on every second voxel
    to_field, to_voxel = np.diag([0.5] * 3) @ np.eye(3, 4), np.diag([2.0] * 3) @ np.eye(3, 4)
    one = np.ones((1, 3, 2, 2, 2), np.float32), np.ones((1, 2, 2, 2), np.float32)
    regions = np.zeros(shape, np.int32)
    maps = np.eye(3, 4)[None], np.eye(3, 4)[None], np.ones((1, 3))
    result = fused(machine, regions, *one, *maps, (field, to_field, to_voxel), 0.0)
    np.testing.assert_allclose(result[0][:, ::2, ::2, ::2], 2 * field, atol=1e-5)


def test_numbers_without_a_field_are_background(machine, rng):
    arguments = scene(rng, (12, 13, 14), (5, 5, 5), 2)
    regions = arguments[0].copy()
    regions[-1], regions[-2] = 9, -1
    plain = arguments[0].copy()
    plain[-2:] = 0
    strange = fused(machine, regions, *arguments[1:], 4.0)
    np.testing.assert_array_equal(strange, fused(machine, plain, *arguments[1:], 4.0))


PAIRS = [(1, 3, 40.0), (2, 3, 1.5), (1, 2, 9.0)]


@sizes
@pytest.mark.parametrize("pairs", [PAIRS, PAIRS[:1]], ids=["all", "one"])
@pytest.mark.parametrize("falloff", [0.0, 4.0])
def test_partners_agree_with_reference(machine, rng, shape, falloff, pairs):
    arguments = scene(rng, shape, (5, 6, 4), 3)
    reach = reaches(3, falloff, *pairs)
    result = fused(machine, *arguments, reach)
    expected = reference.fuse_fields(*arguments, reach)
    np.testing.assert_allclose(result, expected, atol=2e-3)
    # The table is about something: sliding regions give another field.
    assert np.abs(result - fused(machine, *arguments, falloff)).max() > 0.01


def test_more_regions_than_bits_in_a_word(machine, rng):
    arguments = scene(rng, (12, 13, 14), (4, 4, 4), 40, empty=range(3, 35))
    pairs = [(1, 2, 5.0), (36, 40, 5.0), (2, 40, 9.0)]
    reach = reaches(40, rng.uniform(0, 6, 41), *pairs)
    expected = reference.fuse_fields(*arguments, reach)
    np.testing.assert_allclose(fused(machine, *arguments, reach), expected, atol=2e-3)


def test_one_number_is_a_table_of_sliding_regions(machine, rng):
    arguments = scene(rng, (12, 13, 14), (5, 5, 5), 3)
    one, table = (fused(machine, *arguments, reach) for reach in (4.0, reaches(3, 4.0)))
    np.testing.assert_array_equal(one, table)


@pytest.mark.parametrize("length", [2.0, 5.0, 9.0])
def test_partners_meet_without_a_step(machine, length):
    first, second = (0, 0, 1.0), (0, 2.0, -1.0)
    result = fused(machine, *beside(first, second), reaches(2, 1.0, (1, 2, length)))[0, :, 2, 3]
    border = slice(11, 13)
    t = 1 / length  # the centres of both voxels lie 1 mm from the other region
    share = (1 - 3 * t**2 + 2 * t**3) / (2 - 3 * t**2 + 2 * t**3)
    mixed = [(1 - share) * np.array(a) + share * np.array(b)
             for a, b in ((first, second), (second, first))]  # fmt: skip
    np.testing.assert_allclose(result[:, border].T, mixed, atol=1e-5)
    # Beyond its length nothing of the other region is left.
    np.testing.assert_array_equal(result[:, : 12 - int(length)].T - first, 0)
    np.testing.assert_array_equal(result[:, 12 + int(length) :].T - second, 0)
    # In between the components run from one to the other without a way back.
    assert (np.diff(result[1]) >= 0).all()


def test_regions_that_are_no_partners_slide(machine):
    first, second = (0, 0, 1.0), (0, 2.0, -1.0)
    result = fused(machine, *beside(first, second), reaches(2, 1.0))[0, :, 2, 3]
    np.testing.assert_array_equal(result[:, :12].T - first, 0)
    np.testing.assert_array_equal(result[:, 12:].T - second, 0)


def test_background_meets_what_partners_make_of_the_border(machine):
    """Beside a voxel where two regions blend, the background runs into the blend."""
    first, second = (0, 0, 1.0), (0, 2.0, -1.0)
    regions, fields, distances, *maps = beside(first, second)
    regions[:, 3:] = 0
    rows = np.maximum(np.arange(6) - 2, 0)[:, None]
    distances = np.hypot(distances, np.where(rows > 0, rows - 0.995, 0)).astype(np.float32)
    result = fused(machine, regions, fields, distances, *maps, reaches(2, 2.0, (1, 2, 6.0)))
    slide = fused(machine, regions, fields, distances, *maps, reaches(2, 2.0))
    border, outside = (result[0, :, 2, y].T for y in (2, 3))
    np.testing.assert_allclose(outside[9:15], border[9:15], atol=2e-2)
    assert np.abs(slide[0, :, 2, 3].T - border)[9:15].max() > 0.2


def test_background_takes_nothing_of_a_region_that_slides_in_it(machine):
    first, second = (0, 0, 1.0), (0, 2.0, -1.0)
    arguments = beside(first, second, gap=3)
    reach = reaches(2, [0, 2.5, 0])
    result = fused(machine, *arguments, reach)[0, :, 2, 3]
    assert np.abs(result[2, 9:11]).min() > 0.01
    np.testing.assert_array_equal(result[:, 11:15], 0)


def test_partners_weights_sum_to_one(machine, rng):
    """Maps that are the same blend to the same, whoever blends with whom."""
    arguments = list(beside((1.0, -2.0, 0.5), (1.0, -2.0, 0.5), gap=2))
    arguments[-1] = affine_background([[1, 0, 0, 1.0], [0, 1, 0, -2.0], [0, 0, 1, 0.5]])
    for falloff, length in rng.uniform(0, 20, (6, 2)):
        result = fused(machine, *arguments, reaches(2, falloff, (1, 2, length)))
        np.testing.assert_allclose(result[0], np.broadcast_to(
            np.reshape((1.0, -2.0, 0.5), (3, 1, 1, 1)), result[0].shape), atol=1e-5)  # fmt: skip


def test_one_region_has_no_partner(machine, rng):
    arguments = scene(rng, (9, 10, 11), (5, 5, 5), 1)
    one, table = (fused(machine, *arguments, reach) for reach in (3.0, [[0, 3.0], [3.0, 7.0]]))
    np.testing.assert_array_equal(one, table)


@pytest.mark.parametrize(
    ("reach", "match"),
    [
        (-1.0, "0 or more"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        (np.zeros((2, 2)), r"expected \(3, 3\)"),
        (np.zeros(3), r"expected \(3, 3\)"),
        (reaches(2, 1.0, (1, 2, -3.0)), "0 or more"),
        (reaches(2, float("nan")), "finite"),
        (np.triu(np.ones((3, 3))), "symmetric"),
    ],
    ids=str,
)
def test_bad_reach(rng, reach, match):
    with pytest.raises(ValueError, match=f"reach: .*{match}"):
        fuse_fields(*scene(rng, (6, 6, 6), (3, 3, 3), 2), reach)
