"""region_stats and gather_regions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from segreg.kernels import gather_regions, reference, region_stats

SIZES = [(1, 5, 7), (19, 3, 11), (33, 20, 17)]
CHANNELS = ("masked_image", "mask", "image")

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


@sizes
def test_stats_agree_with_reference(machine, rng, random_labels, shape):
    regions = random_labels(shape, 4)
    image = (100 + 20 * rng.standard_normal(shape)).astype(np.float32)
    # Region 6 is there but empty, as region 5.
    stats = region_stats(machine.put(regions), machine.put(image), 6)
    expected = reference.region_stats(regions, image, 6)
    for field in dataclasses.fields(stats):
        value, wanted = getattr(stats, field.name), getattr(expected, field.name)
        assert isinstance(value, np.ndarray)
        assert value.shape == wanted.shape
        if value.dtype.kind == "i":
            np.testing.assert_array_equal(value, wanted, err_msg=field.name)
        else:
            np.testing.assert_allclose(value, wanted, atol=1e-9, err_msg=field.name)
    assert stats.voxels.dtype == np.int64
    assert stats.low.dtype == stats.high.dtype == np.int32


def test_stats_of_a_view(machine, rng, random_labels):
    regions = random_labels((8, 9, 10), 3)
    image = rng.standard_normal((8, 9, 10)).astype(np.float32)
    turned = region_stats(machine.put(regions).T, machine.put(image).T, 3)
    straight = region_stats(machine.put(regions), machine.put(image), 3)
    np.testing.assert_array_equal(turned.mean, straight.mean[:, ::-1])
    np.testing.assert_array_equal(turned.low, straight.low[:, ::-1])


def test_stats_of_constant_intensity_have_no_spread(machine):
    regions = np.ones((5, 6, 7), np.int32)
    image = np.full((5, 6, 7), 0.1, np.float32)
    stats = region_stats(machine.put(regions), machine.put(image), 1)
    assert stats.intensity_std[1] < 1e-8
    assert stats.voxels.tolist() == [0, 210]


@pytest.mark.parametrize("number", [3, -1, 32767])
def test_stats_refuse_numbers_beyond_count(machine, number):
    regions = np.zeros((3, 4, 5), np.int32)
    regions[1, 2, 3:] = number
    image = np.zeros((3, 4, 5), np.float32)
    with pytest.raises(ValueError, match="expected numbers 0 to 2, got others in 2 voxels"):
        region_stats(machine.put(regions), machine.put(image), 2)


def placements(rng, k, shape, canvas):
    """Random affines that put some of each canvas inside the image and some outside."""
    maps = np.zeros((k, 3, 4))
    maps[:, :, :3] = np.diag(1.3 * np.array(shape) / canvas) + 0.1 * rng.standard_normal((k, 3, 3))
    maps[:, :, 3] = rng.uniform(-2, 2, (k, 3))
    return maps


def gathered(machine, image, regions, indices, *arguments, displacement=None, **options):
    if displacement is not None:
        options["displacement"] = machine.put(displacement)
    return machine.get(
        gather_regions(machine.put(image), machine.put(regions), indices, *arguments, **options)
    )


@sizes
@pytest.mark.parametrize("supersample", [None, [[1, 1, 1], [2, 3, 1], [1, 2, 2]]])
@pytest.mark.parametrize("cells", [None, 4, 8], ids=lambda s: f"u{s}")
def test_gather_agrees_with_reference(machine, rng, random_labels, shape, supersample, cells):
    canvas = 8
    regions = random_labels(shape, 3)
    image = (50 + 10 * rng.standard_normal(shape)).astype(np.float32)
    arguments = (
        [2, 1, 3], placements(rng, 3, shape, canvas),
        [[50, 0.05], [40, 0.1], [60, 0.02]], canvas,
    )  # fmt: skip
    options = {"channels": CHANNELS, "supersample": supersample}
    if cells:
        field = rng.standard_normal((3, 3, cells, cells, cells)).astype(np.float32)
        options["displacement"] = field
    result = gathered(machine, image, regions, *arguments, **options)
    expected = reference.gather_regions(image, regions, *arguments, **options)
    assert result.shape == (3, 3, canvas, canvas, canvas)
    assert 0 < expected[:, 1].mean() < 1
    np.testing.assert_allclose(result, expected, atol=1e-4)


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


def test_supersampling_is_the_mean_of_a_finer_canvas(machine, rng, random_labels):
    image = rng.standard_normal((12, 12, 12)).astype(np.float32)
    regions = random_labels((12, 12, 12), 2)
    coarse, fine = np.eye(3, 4)[None] * 2, np.eye(3, 4)[None]
    coarse[0, :, 3] = 0.5
    small = gathered(machine, image, regions, [1], coarse, [[0, 1]], 6, supersample=[[2, 2, 2]])
    large = gathered(machine, image, regions, [1], fine, [[0, 1]], 12)
    means = large.reshape(1, 2, 6, 2, 6, 2, 6, 2).mean(axis=(3, 5, 7))
    np.testing.assert_allclose(small, means, atol=1e-5)


def test_both_sides_share_one_batch(machine, rng, random_labels):
    image = rng.standard_normal((5, 6, 7)).astype(np.float32)
    regions = random_labels((5, 6, 7), 2)
    arguments = ([1, 2], np.tile(np.eye(3, 4), (2, 1, 1)), [[0, 1], [0, 1]], 4)
    out = machine.put(np.full((2, 5, 4, 4, 4), 9, np.float32))
    pair = machine.put(image), machine.put(regions)
    assert gather_regions(*pair, *arguments, out=out) is out
    gather_regions(*pair, *arguments, channels=("image",), out=out, channel=3)
    batch = machine.get(out)
    alone = gathered(machine, image, regions, *arguments, channels=CHANNELS)
    np.testing.assert_array_equal(batch[:, :2], alone[:, :2])
    np.testing.assert_array_equal(batch[:, 3], alone[:, 2])
    assert (batch[:, [2, 4]] == 9).all()
