"""match_sides, take_step and add_change."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.kernels import (
    MatchingSide,
    add_change,
    find_borders,
    match_sides,
    reference,
    take_step,
)

SIZES = [(1, 12, 13), (9, 1, 14), (7, 9, 11), (12, 15, 21)]

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


class TestMatchSides:
    @sizes
    def test_agrees_with_reference(self, machine, side, random_field, shape):
        moving, fixed, field = side((8, 10, 12)), side(shape), random_field(shape)[0]
        affine = np.array([[0.9, 0.1, 0, 1], [-0.1, 1.1, 0, 0.5], [0, 0.05, 0.8, 0.3]])
        options = {"affine": affine, "unit": (1.0, 0.5, 2.0), "slack": 0.4, "beyond": 1.0}
        result = match_sides(
            machine.put_side(moving), machine.put_side(fixed), machine.put(field), **options
        )
        expected = reference.match_sides(moving, fixed, field, **options)
        wrong = np.abs(machine.get(result) - expected) > 2e-4
        assert wrong.mean() < 1e-3  # at a threshold or on a voxel's centre rounding may decide

    def test_slope_is_that_of_the_image_seen(self, machine, side):
        """Against differences of SciPy's samples a little apart."""
        shape = (9, 10, 11)
        moving, fixed = side(shape), side(shape)
        field = np.full((3, *shape), 0.3, np.float32)
        result = machine.get(
            match_sides(machine.put_side(moving), machine.put_side(fixed), machine.put(field))
        )
        inner = (slice(None), *(slice(1, -2),) * 3)
        for axis in range(3):
            low, high = ((np.indices(shape) + 0.3) for _ in range(2))
            low[axis] -= 0.01
            high[axis] += 0.01
            values = [ndimage.map_coordinates(moving.image, at, order=1) for at in (low, high)]
            np.testing.assert_allclose(
                result[3 + axis][inner[1:]],
                ((values[1] - values[0]) / 0.02)[inner[1:]],
                atol=2e-3,
            )

    def test_outline_off_by_a_shift(self, machine):
        """A slab that lies two voxels further on: the step that is missing, from both regions."""
        fixed, moving = np.zeros((2, 3, 4, 24), np.int32)
        fixed[..., 8:16] = 1
        moving[..., 10:18] = 1
        sides = [
            MatchingSide(np.zeros(r.shape, np.float32), *find_borders(r, farthest=4.0))
            for r in (moving, fixed)
        ]
        field = np.zeros((3, *fixed.shape), np.float32)
        result = machine.get(
            match_sides(*(machine.put_side(s) for s in sides), machine.put(field), slack=0.0)
        )
        error, slope = result[6], result[9]
        for x in (7, 8, 15, 16):
            np.testing.assert_allclose(error[..., x] / slope[..., x], 2.0, atol=0.7)
        assert (error[..., 8] < 0).all()

    def test_a_third_region_says_nothing(self, machine):
        moving = np.zeros((4, 4, 8), np.int32)
        moving[..., 4:] = 2
        fixed = np.ones_like(moving)
        sides = [
            MatchingSide(np.ones(r.shape, np.float32), *find_borders(r, farthest=2.0))
            for r in (moving, fixed)
        ]
        result = match_sides(
            *(machine.put_side(s) for s in sides), machine.put(np.zeros((3, 4, 4, 8), np.float32))
        )
        np.testing.assert_array_equal(machine.get(result)[6:], 0)

    def test_the_end_of_a_thick_slab_calls_back(self, machine):
        """Beyond the last slice of a region, where no outline is in reach, the vote has turned."""
        regions = np.zeros((8, 6, 6), np.int32)
        regions[:4] = 1
        side = MatchingSide(
            np.zeros(regions.shape, np.float32),
            *find_borders(regions, (6.0, 1.0, 1.0), farthest=2.5),
        )
        field = np.zeros((3, *regions.shape), np.float32)
        field[0, :4] = 0.75  # the last slice looks three quarters into the next region
        given = machine.put_side(side)
        options = {"unit": (1 / 6, 1.0, 1.0), "margin": 0.1}
        result = machine.get(match_sides(given, given, machine.put(field), **options))
        # A quarter of a slice and the margin to go, in lengths, against the slope.
        np.testing.assert_allclose(result[6, 3], -(0.25 * 6 + 0.1), rtol=1e-4)
        np.testing.assert_allclose(result[7, 3], 1.0, rtol=1e-5)
        np.testing.assert_allclose(result[8:, 3], 0, atol=1e-6)
        np.testing.assert_array_equal(result[6, :3], 0)

    def test_what_looks_beyond_the_grid_is_called_back(self, machine):
        regions = np.ones((5, 6, 7), np.int32)
        side = MatchingSide(
            np.zeros(regions.shape, np.float32), *find_borders(regions, farthest=2.5)
        )
        field = np.zeros((3, *regions.shape), np.float32)
        field[0, 0], field[2, :, :, 6] = -0.9, 0.7
        field[1, 4, 0] = -2.0  # out of sight: the region may go on there
        given = machine.put_side(side)
        result = machine.get(
            match_sides(given, given, machine.put(field), margin=0.1, beyond=1.0)
        )
        np.testing.assert_allclose(result[6, 0, :, :6], -0.5, rtol=1e-5)  # 0.4 beyond, 0.1 margin
        np.testing.assert_allclose(result[7, 0, :, :6], -1.0, rtol=1e-5)
        np.testing.assert_allclose(result[6, 1:4, :, 6], -0.301, rtol=1e-4)
        np.testing.assert_allclose(result[9, 1:4, :, 6], 1.0, rtol=1e-5)
        np.testing.assert_array_equal(result[6:, 1:, 1:, :6], 0)
        np.testing.assert_array_equal(result[6:, 4, 0, :6], 0)

    def test_refuses(self, side):
        one = side((3, 4, 5))
        with pytest.raises(ValueError, match="displacement"):
            match_sides(one, one, np.zeros((3, 3, 4, 4), np.float32))
        wrong = one._replace(words=one.words.astype(np.float32))
        with pytest.raises(TypeError, match=r"moving\.words"):
            match_sides(wrong, one, np.zeros((3, 3, 4, 5), np.float32))


class TestTakeStep:
    @sizes
    def test_agrees_with_reference(self, machine, rng, random_field, shape):
        slopes = rng.standard_normal((3, 4, *shape))
        normals = np.concatenate([
            [(slopes[i] * slopes[j]).sum(0) for i in range(3) for j in range(i, 3)],
            rng.standard_normal((3, *shape)),
        ]).astype(np.float32)  # fmt: skip
        field = random_field(shape)[0]
        options = {"damping": 0.3, "longest": 0.4, "unit": (1.0, 0.5, 0.25)}
        expected = reference.take_step(normals, field, **options)
        moved = machine.put(field.copy())
        assert take_step(machine.put(normals), moved, **options) is moved
        np.testing.assert_allclose(machine.get(moved), expected, atol=1e-4)

    def test_refuses(self):
        normals, field = np.zeros((9, 3, 4, 5), np.float32), np.zeros((3, 3, 4, 5), np.float32)
        with pytest.raises(ValueError, match="damping"):
            take_step(normals, field, damping=0.0, longest=1.0)
        strided = np.zeros((3, 3, 4, 10), np.float32)[..., ::2]
        with pytest.raises(ValueError, match="writeable"):
            take_step(normals, strided, damping=1.0, longest=1.0)


class TestAddChange:
    @pytest.mark.parametrize("step", [(1, 2, 2), (2, 4, 2)], ids=str)
    def test_agrees_with_reference(self, machine, rng, random_labels, random_field, step):
        regions = random_labels((9, 13, 14), 3)
        first = [s // 2 for s in step]
        coarse = np.ascontiguousarray(
            regions[tuple(slice(f, None, s) for f, s in zip(first, step, strict=True))]
        )
        change = rng.standard_normal((3, *coarse.shape)).astype(np.float32)
        field = random_field(regions.shape)[0]
        expected = reference.add_change(change, coarse, regions, field, step=step, first=first)
        added = machine.put(field.copy())
        arrays = map(machine.put, (change, coarse, regions))
        assert add_change(*arrays, added, step=step, first=first) is added
        np.testing.assert_allclose(machine.get(added), expected, atol=1e-4)

    def test_regions_do_not_mix(self, machine):
        regions = np.zeros((8, 8, 8), np.int32)
        regions[:, :, 4:] = 1
        coarse = np.ascontiguousarray(regions[1::2, 1::2, 1::2])
        change = np.where(coarse, 3, -1).astype(np.float32) * np.ones((3, 1, 1, 1), np.float32)
        field = machine.put(np.zeros((3, 8, 8, 8), np.float32))
        arrays = map(machine.put, (change, coarse, regions))
        result = add_change(*arrays, field, step=(2, 2, 2), first=(1, 1, 1))
        np.testing.assert_allclose(machine.get(result)[0], np.where(regions, 6, -2), atol=1e-5)
