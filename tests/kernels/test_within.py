"""find_borders, couple and smooth_within."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.kernels import couple, find_borders, reference, smooth_within

SIZES = [(1, 12, 13), (9, 1, 14), (7, 9, 11), (19, 17, 23)]

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


def edges_of(regions, slip=1e-3):
    """Coupling 1 within regions and nearly none across their borders."""
    jumps = np.stack([regions] * 3).astype(np.float32)
    return reference.couple(regions, jumps, slip=slip).astype(np.float32)


class TestFindBorders:
    @pytest.mark.parametrize("spacing", [(1, 1, 1), (4, 1.5, 1)], ids=str)
    @sizes
    def test_agrees_with_reference(self, machine, random_labels, shape, spacing):
        regions = random_labels(shape, 3)
        words, distances = find_borders(machine.put(regions), spacing, farthest=3.0)
        words, distances = machine.get(words), machine.get(distances)
        others, expected = reference.find_borders(regions, spacing, farthest=3.0)
        np.testing.assert_allclose(distances, expected, atol=1e-5)
        np.testing.assert_array_equal(words & 0xFFFF, regions)
        # Of several at the same distance any is right: the distance to it says so.
        same = (words >> 16 & 0xFFFF) == (others >> 16)
        assert same.mean() > 0.7
        assert ((distances < 3) == ((words >> 16 & 0xFFFF) != regions)).all()

    def test_agrees_with_a_distance_transform(self, machine, rng):
        """Two regions: the nearest box of the other, as the distance of a finer grid finds it."""
        regions = np.zeros((20, 20, 20), np.int32)
        regions[8:13, 6:14, 7:12] = 1
        _, distances = find_borders(machine.put(regions), farthest=4.0)
        fine = np.kron(regions, np.ones((5, 5, 5), np.int32))
        for region in (0, 1):
            away = ndimage.distance_transform_edt(fine == region)[2::5, 2::5, 2::5] / 5
            here = (regions == region) & (away < 3.5)
            np.testing.assert_allclose(machine.get(distances)[here], away[here], atol=0.25)

    def test_large_numbers_fit_a_word(self, machine):
        regions = np.full((3, 4, 5), 65535, np.int32)
        regions[:, :, 2:] = 65534
        words, _ = find_borders(machine.put(regions), farthest=2.0)
        words = machine.get(words)
        np.testing.assert_array_equal(words & 0xFFFF, regions)
        assert (words[0, 0, 1] >> 16) & 0xFFFF == 65534

    def test_refuses(self):
        regions = np.zeros((3, 4, 5), np.int32)
        with pytest.raises(ValueError, match="farthest"):
            find_borders(regions, farthest=0.0)
        with pytest.raises(ValueError, match="65535"):
            find_borders(regions + 70000, farthest=2.0)
        with pytest.raises(ValueError, match="spacing"):
            find_borders(regions, (1, 0, 1), farthest=2.0)
        with pytest.raises(TypeError, match="int32"):
            find_borders(regions.astype(np.float32), farthest=2.0)


class TestCouple:
    @sizes
    def test_agrees_with_reference(self, machine, random_labels, random_field, shape):
        regions, field = random_labels(shape, 3), random_field(shape)[0]
        edges = couple(machine.put(regions), machine.put(field), (2.0, 1.0, 0.5), slip=1.5)
        expected = reference.couple(regions, field, (2.0, 1.0, 0.5), slip=1.5)
        np.testing.assert_allclose(machine.get(edges), expected, atol=1e-5)

    def test_slip_is_where_half_is_left(self, machine):
        regions = np.zeros((4, 4, 4), np.int32)
        regions[2:] = 1
        field = np.zeros((3, 4, 4, 4), np.float32)
        field[2, 2:] = 3
        edges = machine.get(couple(machine.put(regions), machine.put(field), slip=3.0))
        np.testing.assert_allclose(edges[0, 1], 0.5)
        np.testing.assert_array_equal(edges[0, [0, 2]], 1)
        np.testing.assert_array_equal(edges[0, 3], 0)

    def test_refuses(self):
        regions, field = np.zeros((3, 4, 5), np.int32), np.zeros((3, 3, 4, 5), np.float32)
        with pytest.raises(ValueError, match="slip"):
            couple(regions, field, slip=0.0)
        with pytest.raises(ValueError, match="displacement"):
            couple(regions, field[:, :2], slip=1.0)


class TestSmoothWithin:
    @pytest.mark.parametrize("paired", [False, True])
    @sizes
    def test_agrees_with_reference(self, machine, rng, random_labels, shape, paired):
        volume = rng.standard_normal((2, *shape)).astype(np.float32)
        edges = rng.uniform(0, 1, (3, *shape)).astype(np.float32)
        edges[:, random_labels(shape, 1) > 0] = 1
        smoothed = smooth_within(
            machine.put(volume), machine.put(edges), 1.5, (1, 2, 1), paired=paired
        )
        expected = reference.smooth_within(volume, edges, 1.5, (1, 2, 1), paired=paired)
        np.testing.assert_allclose(machine.get(smoothed), expected, atol=1e-5)

    @pytest.mark.parametrize("paired", [False, True])
    @sizes
    def test_without_edges_all_are_coupled(self, machine, rng, shape, paired):
        volume = rng.standard_normal((3, *shape)).astype(np.float32)
        found = smooth_within(machine.put(volume), None, 2.0, (1, 2, 1), paired=paired)
        expected = reference.smooth_within(volume, None, 2.0, (1, 2, 1), paired=paired)
        np.testing.assert_allclose(machine.get(found), expected, atol=1e-5)

    def test_a_region_is_as_if_alone(self, machine, rng):
        """Against normalised convolution by SciPy, row by row of a box."""
        regions = np.zeros((1, 1, 40), np.int32)
        regions[..., 12:25] = 1
        volume = rng.standard_normal((1, 1, 1, 40)).astype(np.float32)
        smoothed = smooth_within(machine.put(volume), machine.put(edges_of(regions)), (0, 0, 2.0))
        weights = ndimage.gaussian_filter1d(np.eye(9)[4], 2.0, radius=4, mode="constant")
        part = volume[0, 0, 0, 12:25].astype(float)
        expected = np.convolve(part, weights, "same") / np.convolve(part * 0 + 1, weights, "same")
        np.testing.assert_allclose(machine.get(smoothed)[0, 0, 0, 12:25], expected, atol=1e-4)

    def test_pairs_keep_what_is_linear(self, machine):
        regions = np.zeros((12, 13, 14), np.int32)
        regions[3:9, 2:11, 4:10] = 1
        z, y, x = np.indices(regions.shape)
        slope = np.where(regions, 3 * z - y + 0.5 * x, 7 - 2 * x).astype(np.float32)[None]
        smoothed = smooth_within(
            machine.put(slope), machine.put(edges_of(regions)), 2.0, paired=True
        )
        np.testing.assert_allclose(machine.get(smoothed), slope, atol=2e-3)

    def test_nothing_passes_through_a_wall(self, machine):
        """A thin region parts two halves of another."""
        regions = np.zeros((1, 3, 15), np.int32)
        regions[..., 7] = 1
        volume = np.zeros((1, *regions.shape), np.float32)
        volume[..., 8:] = 1
        smoothed = smooth_within(machine.put(volume), machine.put(edges_of(regions)), 3.0)
        np.testing.assert_allclose(machine.get(smoothed)[..., :7], 0, atol=1e-5)
        np.testing.assert_allclose(machine.get(smoothed)[..., 8:], 1, atol=1e-5)

    def test_any_layout_and_buffers(self, machine, rng):
        volume = rng.standard_normal((2, 9, 8, 7)).astype(np.float32)
        edges = np.ones((3, 7, 8, 9), np.float32)
        turned = volume.transpose(0, 3, 2, 1)
        out, scratch = machine.put(np.empty((2, 2, 7, 8, 9), np.float32))
        result = smooth_within(
            machine.put(turned), machine.put(edges), 1.0, out=out, scratch=scratch
        )
        assert result is out
        expected = reference.smooth_within(turned, edges, 1.0)
        np.testing.assert_allclose(machine.get(out), expected, atol=1e-5)
        kept = smooth_within(machine.put(volume[:1]), machine.put(edges.transpose(0, 3, 2, 1)), 0)
        np.testing.assert_array_equal(machine.get(kept), volume[:1])

    def test_refuses(self):
        volume, edges = np.zeros((1, 3, 4, 5), np.float32), np.ones((3, 3, 4, 5), np.float32)
        with pytest.raises(ValueError, match="sigma"):
            smooth_within(volume, edges, -1.0)
        with pytest.raises(ValueError, match="edges"):
            smooth_within(volume, edges[:, :2], 1.0)
        with pytest.raises(ValueError, match="out"):
            smooth_within(volume, edges, 1.0, out=volume)
