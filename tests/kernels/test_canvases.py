"""region_shapes and gather_regions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.kernels import gather_regions, reference, region_shapes, region_stats, soft_dice

SIZES = [(1, 5, 7), (19, 3, 11), (33, 20, 17)]
CHANNELS = ("masked_image", "mask", "image")

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


def placements(rng, k, shape, canvas):
    """Random affines that put some of each canvas inside the image and some outside."""
    maps = np.zeros((k, 3, 4))
    scale = 1.3 * np.array(shape) / np.array(canvas)
    maps[:, :, :3] = np.diag(scale) + 0.1 * rng.standard_normal((k, 3, 3))
    maps[:, :, 3] = rng.uniform(-2, 2, (k, 3))
    return maps


def gathered(
    machine, image, regions, indices, *arguments, boxes=None, displacement=None, **options
):
    if displacement is not None:
        options["displacement"] = machine.put(displacement)
    shapes = region_shapes(machine.put(regions), indices, boxes)
    return machine.get(gather_regions(machine.put(image), shapes, *arguments, **options))


@sizes
@pytest.mark.parametrize("cells", [None, 4, 8], ids=lambda s: f"u{s}")
def test_gather_agrees_with_reference(machine, rng, random_labels, shape, cells):
    canvas = 8
    regions = random_labels(shape, 3)
    image = (50 + 10 * rng.standard_normal(shape)).astype(np.float32)
    arguments = (
        [2, 1, 3], placements(rng, 3, shape, canvas),
        [[50, 0.05], [40, 0.1], [60, 0.02]], canvas,
    )  # fmt: skip
    options = {"channels": CHANNELS}
    if cells:
        field = rng.standard_normal((3, 3, cells, cells, cells)).astype(np.float32)
        options["displacement"] = field
    result = gathered(machine, image, regions, *arguments, **options)
    expected = reference.gather_regions(image, regions, *arguments, **options)
    assert result.shape == (3, 3, canvas, canvas, canvas)
    assert 0 < expected[:, 1].mean() < 1
    np.testing.assert_allclose(result, expected, atol=1e-4)


@sizes
@pytest.mark.parametrize("stride", [None, 1, 2, 4])
@pytest.mark.parametrize("canvas", [(4, 8, 36), (40, 4, 12), (4, 20, 8)], ids=str)
def test_canvases_that_are_no_cubes(machine, rng, random_labels, shape, canvas, stride):
    regions = random_labels(shape, 3)
    image = (50 + 10 * rng.standard_normal(shape)).astype(np.float32)
    arguments = (
        [2, 1, 3], placements(rng, 3, shape, canvas), [[50, 0.05], [40, 0.1], [60, 0.02]], canvas,
    )  # fmt: skip
    options = {"channels": CHANNELS}
    if stride:
        grid = [length // stride for length in canvas]
        options["displacement"] = rng.standard_normal((3, 3, *grid)).astype(np.float32)
    boxes = region_stats(regions, image, 3).boxes[arguments[0]]
    found = gathered(machine, image, regions, *arguments, boxes=boxes, **options)
    expected = reference.gather_regions(image, regions, *arguments, **options)
    assert found.shape == (3, 3, *canvas)
    assert 0 < expected[:, 1].mean() < 1
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("canvas", [(5, 9, 14), (1, 9, 14)], ids=str)
def test_gather_agrees_with_scipy(machine, rng, canvas):
    shape = (9, 12, 11)
    image = rng.uniform(-1, 1, shape).astype(np.float32)
    regions = np.ones(shape, np.int32)
    maps = placements(rng, 1, shape, canvas)
    found = gathered(machine, image, regions, [1], maps, [[0, 1]], canvas, channels=("image",))
    cells = np.indices(canvas).reshape(3, -1)
    points = maps[0, :, :3] @ cells + maps[0, :, 3:]
    expected = ndimage.map_coordinates(image.astype(np.float64), points, order=1, mode="nearest")
    np.testing.assert_allclose(found[0, 0].ravel(), expected, atol=1e-5)


def test_identity_placement_copies_the_image(machine, rng, random_labels):
    regions = random_labels((6, 6, 6), 2)
    image = rng.uniform(-1, 1, (6, 6, 6)).astype(np.float32)
    result = gathered(
        machine, image, regions, [1], np.eye(3, 4)[None], [[0, 1]], 6, channels=CHANNELS
    )
    np.testing.assert_array_equal(result[0, 2], image)
    np.testing.assert_array_equal(result[0, 1], regions == 1)
    np.testing.assert_array_equal(result[0, 0], image * (regions == 1))


def test_single_slice_has_no_outside(machine, rng):
    regions = np.ones((1, 6, 6), np.int32)
    image = rng.uniform(-1, 1, (1, 6, 6)).astype(np.float32)
    maps = np.eye(3, 4)[None].copy()
    maps[0, 0, 3] = -2.5
    result = gathered(machine, image, regions, [1], maps, [[0, 1]], 6)
    np.testing.assert_array_equal(result[0, 1], 1)
    np.testing.assert_array_equal(result[0, 0], np.repeat(image, 6, axis=0))


def test_region_that_is_not_there_is_empty(machine, rng, random_labels):
    image = rng.standard_normal((5, 6, 7)).astype(np.float32)
    regions = random_labels((5, 6, 7), 2)
    result = gathered(machine, image, regions, [9], np.eye(3, 4)[None], [[0, 1]], 4)
    np.testing.assert_array_equal(result, 0)


def test_both_sides_share_one_batch(machine, rng, random_labels):
    image = rng.standard_normal((5, 6, 7)).astype(np.float32)
    regions = random_labels((5, 6, 7), 2)
    arguments = ([1, 2], np.tile(np.eye(3, 4), (2, 1, 1)), [[0, 1], [0, 1]], 4)
    out = machine.put(np.full((2, 5, 4, 4, 4), 9, np.float32))
    pair = machine.put(image), region_shapes(machine.put(regions), arguments[0])
    assert gather_regions(*pair, *arguments[1:], out=out) is out
    gather_regions(*pair, *arguments[1:], channels=("image",), out=out, channel=3)
    batch = machine.get(out)
    alone = gathered(machine, image, regions, *arguments, channels=CHANNELS)
    np.testing.assert_array_equal(batch[:, :2], alone[:, :2])
    np.testing.assert_array_equal(batch[:, 3], alone[:, 2])
    assert (batch[:, [2, 4]] == 9).all()


@sizes
@pytest.mark.parametrize("cells", [None, 4])
def test_boxes_change_nothing(machine, rng, random_labels, shape, cells):
    """Rows that cannot see a region are left out; what they would have shown is nothing."""
    regions = np.zeros(shape, np.int32)
    regions[:, shape[1] // 3 : shape[1] // 2 + 1, : shape[2] // 2] = 1
    regions[shape[0] // 2 :, -2:, -3:] = 2
    image = rng.standard_normal(shape).astype(np.float32)
    stats = region_stats(regions, image, 3)  # region 3 is not there
    maps = placements(rng, 4, shape, 12)
    # Turned, mirrored and stretched far beyond the volume.
    maps[1, :, :3] = maps[1, :, [2, 0, 1]]
    maps[2, :, 2] *= -2
    options = {"channels": ("masked_image", "mask")}
    if cells:
        field = 2 * rng.standard_normal((4, 3, cells, cells, cells))
        options["displacement"] = field.astype(np.float32)
    arguments = (maps, [[0, 1]] * 4, 12)
    numbers = [1, 2, 1, 3]
    boxes = stats.boxes[numbers]
    boxed = gathered(machine, image, regions, numbers, *arguments, boxes=boxes, **options)
    whole = reference.gather_regions(image, regions, numbers, *arguments, **options)
    assert whole[:, 1].max() > 0.5
    np.testing.assert_allclose(boxed, whole, atol=1e-4)


def test_region_zero_is_all_regions(machine, rng, random_labels):
    regions = random_labels((9, 8, 10), 5)
    image = rng.standard_normal(regions.shape).astype(np.float32)
    arguments = (placements(rng, 1, regions.shape, 8), [[0, 1]], 8)
    union = gathered(machine, image, regions, [0], *arguments)
    joined = gathered(machine, image, (regions > 0).astype(np.int32), [1], *arguments)
    np.testing.assert_array_equal(union, joined)
    assert 0 < union[:, 1].mean() < 1


def test_some_of_the_shapes(machine, rng, random_labels):
    regions = random_labels((9, 8, 10), 3)
    image = machine.put(rng.standard_normal(regions.shape).astype(np.float32))
    maps = placements(rng, 3, regions.shape, 8)
    shapes = region_shapes(machine.put(regions), [1, 2, 3])
    window = np.tile([0.0, 1.0], (3, 1))
    whole = machine.get(gather_regions(image, shapes, maps, window, 8))
    some = machine.get(gather_regions(image, shapes.take([2, 0]), maps[[2, 0]], window[:2], 8))
    np.testing.assert_array_equal(some, whole[[2, 0]])


def test_half_precision_rounds_as_numpy_does(machine, rng, random_labels):
    regions = random_labels((12, 9, 10), 3)
    image = rng.standard_normal(regions.shape).astype(np.float32)
    # Steep windows fill the range, flat ones reach the numbers below 2^-14, as small masks do.
    window = [[0, 1], [0.1, 3e-5], [0, 1e-7]]
    options = {"channels": CHANNELS}
    arguments = (placements(rng, 3, regions.shape, 16), window, 16)
    single = gathered(machine, image, regions, [1, 2, 3], *arguments, **options)
    out = machine.put(np.full((3, 4, 16, 16, 16), 9, np.float16))
    half = gathered(machine, image, regions, [1, 2, 3], *arguments, **options, out=out, channel=1)
    assert half.dtype == np.float16
    assert (half[:, 0] == 9).all()
    np.testing.assert_array_equal(half[:, 1:], single.astype(np.float16))
    assert 0 < np.abs(half[:, 1:][half[:, 1:] != 0]).min() < 2.0**-14


def test_halves_of_extremes(machine):
    """Ties, overflow, the least numbers: through the image's window, which passes -1..1 on."""
    values = np.array(
        [1, -1, 1 + 2**-11, 1 - 2**-12, 2**-24, 2**-25, 1.5 * 2**-25, 2**-14, 2**-14 - 2**-26,
         0.333, -0.0, 6e-8], np.float32,
    )  # fmt: skip
    image = np.tile(values, (12, 12, 1))
    out = machine.put(np.zeros((1, 1, 12, 12, 12), np.float16))
    half = gathered(
        machine, image, np.ones(image.shape, np.int32), [1], np.eye(3, 4)[None], [[0, 1]], 12,
        channels=("image",), out=out,
    )  # fmt: skip
    expected = np.clip(values, -1, 1).astype(np.float16)
    np.testing.assert_array_equal(half[0, 0, 3, 4], expected)


@pytest.mark.parametrize("cells", [None, 6])
def test_long_rows_agree_with_reference(machine, rng, cells):
    """Rows of several vectors, each of which sees the region elsewhere than the row before."""
    regions = np.zeros((20, 30, 44), np.int32)
    regions[2:, :, 8:27] = 1
    image = rng.standard_normal(regions.shape).astype(np.float32)
    sheared = np.diag([20, 30, 44]) / 48 @ np.eye(3, 4)
    sheared[2, 1] = 9.5
    sheared[2, 3] = -9 * 22 + 10
    options = {"channels": ("masked_image", "mask")}
    if cells:
        field = 0.1 * rng.standard_normal((1, 3, cells, cells, cells))
        options["displacement"] = field.astype(np.float32)
    arguments = (sheared[None], [[0, 0.5]], 48)
    boxes = region_stats(regions, image, 1).boxes[1:]
    found = gathered(machine, image, regions, [1], *arguments, boxes=boxes, **options)
    expected = reference.gather_regions(image, regions, [1], *arguments, **options)
    assert 0.02 < expected[0, 1].mean() < 0.5
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("size", [1, 5, 16, 33])
def test_soft_dice_agrees_with_numpy(machine, rng, size):
    """Sizes of less than a vector, of less than a piece, and of several pieces."""
    batch = rng.uniform(0, 1, (3, 4, size, size, size)).astype(np.float32)
    batch[2, [1, 3]] = 0
    found = soft_dice(machine.put(batch), 1, 3)
    one, other = (batch[:, c].reshape(3, -1).astype(np.float64) for c in (1, 3))
    expected = 2 * (one * other).sum(1) / np.maximum((one**2 + other**2).sum(1), 1e-6)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found[2] == 0
    np.testing.assert_allclose(soft_dice(machine.put(batch), 0, 0), 1, rtol=1e-6)
