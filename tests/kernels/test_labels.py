"""warp_labels, overlap, and the numbers of labels."""

from __future__ import annotations

import numpy as np
import pytest

from segreg.kernels import find_labels, overlap, reference, relabel, warp, warp_labels

SIZES = [((1, 5, 7), (1, 5, 7)), ((19, 3, 11), (9, 12, 13)), ((13, 10, 7), (2, 3, 1))]
AFFINE = np.array([[0.9, 0.1, 0.0, 1.0], [-0.1, 1.1, 0.05, -1.0], [0.0, 0.02, 0.8, 0.5]])

sizes = pytest.mark.parametrize(("moving", "fixed"), SIZES, ids=str)
affines = pytest.mark.parametrize("affine", [None, AFFINE], ids=["identity", "affine"])


def clear_votes(labels, field, affine):
    """Voxels whose vote rounding cannot turn."""
    _, votes = reference.label_votes(labels, field, affine=affine)
    ordered = np.sort(votes, axis=0)
    return ordered[-1] - ordered[-2] > 1e-4


@sizes
@affines
@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8", "uint16"])
def test_vote_agrees_with_reference(
    machine, random_field, random_labels, moving, fixed, affine, dtype
):
    labels = random_labels(moving, 4).astype(dtype)
    field = random_field(fixed)
    result = machine.get(warp_labels(machine.put(labels), machine.put(field), affine=affine))
    assert result.dtype == dtype
    clear = clear_votes(labels, field, affine)
    expected = reference.warp_labels(labels, field, affine=affine)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(result[clear], expected[clear])


@sizes
@affines
def test_nearest_agrees_with_reference(machine, random_field, random_labels, moving, fixed, affine):
    labels, field = random_labels(moving, 4), random_field(fixed)
    options = {"affine": affine, "mode": "nearest"}
    result = machine.get(warp_labels(machine.put(labels), machine.put(field), **options))
    np.testing.assert_array_equal(result, reference.warp_labels(labels, field, **options))


def test_vote_is_the_largest_of_one_warp_per_label(machine, random_field, random_labels):
    labels, field = random_labels((9, 10, 11), 3), random_field((9, 10, 11))
    volumes = np.stack([labels == k for k in range(4)])[None].astype(np.float32)
    chances = machine.get(warp(machine.put(volumes), machine.put(field)))[0]
    clear = clear_votes(labels, field, None)
    result = machine.get(warp_labels(machine.put(labels), machine.put(field)))
    np.testing.assert_array_equal(result[clear], chances.argmax(axis=0)[clear])


def test_equal_votes_go_to_the_smaller_label(machine):
    labels = np.array([7, 3, 3, 9], np.int32).reshape(1, 1, 4)
    field = np.zeros((1, 3, 1, 1, 4), np.float32)
    field[0, 2] = 0.5
    result = machine.get(warp_labels(machine.put(labels), machine.put(field)))
    # The last position is n - 0.5: outside.
    np.testing.assert_array_equal(result.ravel(), [3, 3, 3, 0])


def test_large_and_negative_labels_survive(machine):
    labels = np.array([2**31 - 1, -5, 70000, 0], np.int32).reshape(1, 2, 2)
    zero = np.zeros((1, 3, 1, 2, 2), np.float32)
    for mode in ("vote", "nearest"):
        result = machine.get(warp_labels(machine.put(labels), machine.put(zero), mode=mode))
        np.testing.assert_array_equal(result, labels)


def test_out_has_the_dtype_of_the_labels(machine, random_labels):
    labels = machine.put(random_labels((3, 4, 5), 3).astype(np.uint8))
    zero = machine.put(np.zeros((1, 3, 3, 4, 5), np.float32))
    out = machine.put(np.full((3, 4, 5), 99, np.uint8))
    assert warp_labels(labels, zero, out=out) is out
    np.testing.assert_array_equal(machine.get(out), machine.get(labels))


@sizes
@affines
@pytest.mark.parametrize("mode", ["vote", "nearest"])
def test_overlap_counts_what_warp_labels_gives(
    machine, random_field, random_labels, moving, fixed, affine, mode
):
    labels, target = random_labels(moving, 4), random_labels(fixed, 4)
    field = random_field(fixed)
    options = {"affine": affine, "mode": mode}
    table = overlap(machine.put(labels), machine.put(target), machine.put(field), 5, **options)
    warped = machine.get(warp_labels(machine.put(labels), machine.put(field), **options))
    expected = np.zeros((6, 6), np.int64)
    np.add.at(expected, (target.ravel(), warped.ravel()), 1)
    assert isinstance(table, np.ndarray)
    np.testing.assert_array_equal(table, expected)


def test_overlap_agrees_with_reference(machine, random_field, random_labels):
    labels, target = random_labels((9, 12, 13), 3), random_labels((9, 12, 13), 3)
    field = random_field((9, 12, 13))
    arrays = machine.put(labels), machine.put(target), machine.put(field)
    table = overlap(*arrays, 3, mode="nearest")
    expected = reference.overlap(labels, target, field, 3, mode="nearest")
    np.testing.assert_array_equal(table, expected)


def test_overlap_of_maps_as_they_lie(machine, random_labels):
    labels, target = random_labels((33, 20, 17), 3), random_labels((33, 20, 17), 3)
    table = overlap(machine.put(labels), machine.put(target), None, 3)
    expected = np.zeros((4, 4), np.int64)
    np.add.at(expected, (target.ravel(), labels.ravel()), 1)
    np.testing.assert_array_equal(table, expected)
    assert table.sum() == labels.size


@pytest.mark.parametrize("side", ["moving", "fixed"])
@pytest.mark.parametrize("label", [4, -1])
def test_overlap_refuses_labels_beyond_count(machine, random_labels, side, label):
    pair = {"moving": random_labels((3, 4, 5), 3), "fixed": random_labels((3, 4, 5), 3)}
    pair[side][1, 2, 3] = label
    with pytest.raises(ValueError, match="expected labels 0 to 3, got others in 1 voxels"):
        overlap(machine.put(pair["moving"]), machine.put(pair["fixed"]), None, 3)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (70_003,)], ids=str)
def test_relabel_is_a_table_look_up(machine, rng, dtype, shape):
    labels = rng.integers(0, 100, shape).astype(dtype)
    table = rng.integers(-5, 5000, 60)
    result = machine.get(relabel(machine.put(labels), table))
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, np.where(labels < 60, table[np.minimum(labels, 59)], 0))


def test_relabel_of_a_view_and_of_negative_labels(machine):
    labels = np.array([[0, 1, -1], [2, -32768, 1]], np.int16)
    result = machine.get(relabel(machine.put(labels).T, [4, 5, 6]))
    np.testing.assert_array_equal(result, [[4, 6], [5, 0], [0, 5]])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_find_labels_agrees_with_numpy(machine, rng, dtype):
    labels = rng.choice([0, 3, 4, 77, 126], (9, 40, 11)).astype(dtype)
    found = find_labels(machine.put(labels), 127)
    np.testing.assert_array_equal(found, [0, 3, 4, 77, 126])
    np.testing.assert_array_equal(find_labels(machine.put(labels), 77), [0, 3, 4])
    np.testing.assert_array_equal(find_labels(machine.put(labels).T[:1], 127), found)


def test_find_labels_leaves_out_negative_ones(machine):
    assert find_labels(machine.put(np.array([-1, 5, -32768, 0], np.int16)), 6).tolist() == [0, 5]


def test_vote_on_smooth_maps_agrees_with_reference(machine, smooth_field, random_labels):
    """Most cells lie inside one label, as in organs; the others are voted on apart."""
    labels = random_labels((20, 21, 45), 3).repeat(2, axis=2)
    labels[labels == 3] = -(2**31)  # a number like any other
    field = smooth_field((18, 20, 70), 1.5)
    result = machine.get(warp_labels(machine.put(labels), machine.put(field)))
    clear = clear_votes(labels, field, None)
    expected = reference.warp_labels(labels, field)
    np.testing.assert_array_equal(result[clear], expected[clear])
    assert (result == -(2**31)).any()
