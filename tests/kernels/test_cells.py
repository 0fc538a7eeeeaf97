"""cell_windows and cell_normals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.kernels import (
    cell_normals,
    cell_windows,
    find_borders,
    match_sides,
    reference,
)

SIZES = [((1, 12, 13), (1, 2, 2)), ((9, 1, 14), (2, 1, 4)), ((7, 9, 37), (2, 2, 2)),
         ((5, 6, 7), (1, 1, 1))]  # fmt: skip

sizes = pytest.mark.parametrize(("shape", "factors"), SIZES, ids=str)
AFFINE = np.array([[0.9, 0.1, 0, 1], [-0.1, 1.1, 0, 0.5], [0, 0.05, 0.8, 0.3]])
OPTIONS = {"unit": (1.0, 0.5, 2.0), "slack": 0.4, "rest": 0.2, "beyond": 1.0}


def cells_of(side, factors):
    picked = tuple(slice(factor // 2, None, factor) for factor in factors)
    return np.ascontiguousarray(side.words[picked] & 0xFFFF)


class TestWindows:
    @sizes
    def test_agrees_with_reference(self, machine, side, random_field, shape, factors):
        moving, fixed, field = side((8, 10, 12)), side(shape), random_field(shape)[0]
        regions = cells_of(fixed, factors)
        result = cell_windows(
            machine.put_side(moving), machine.put_side(fixed), machine.put(field),
            machine.put(regions),
            factors, affine=AFFINE,
        )  # fmt: skip
        expected = reference.cell_windows(moving, fixed, field, regions, factors, affine=AFFINE)
        np.testing.assert_allclose(machine.get(result), expected, atol=2e-4)

    def test_sums_are_those_of_scipy(self, machine, side):
        """One region, no displacement: block sums of the images."""
        shape, factors = (4, 6, 8), (2, 2, 2)
        words, distances = find_borders(np.ones(shape, np.int32), farthest=2.5)
        sides = [side(shape)._replace(words=words, distances=distances) for _ in range(2)]
        field = np.zeros((3, *shape), np.float32)
        regions = cells_of(sides[1], factors)
        result = machine.get(
            cell_windows(
                *map(machine.put_side, sides), machine.put(field), machine.put(regions), factors
            )
        )
        product = sides[0].image * sides[1].image
        means = ndimage.uniform_filter(product.astype(np.float64), 2, origin=-1)[::2, ::2, ::2]
        np.testing.assert_allclose(result[5], means, atol=1e-5)
        np.testing.assert_allclose(result[0], 1)

    def test_refuses(self, side):
        one = side((4, 5, 6))
        field = np.zeros((3, 4, 5, 6), np.float32)
        with pytest.raises(ValueError, match="cells of"):
            cell_windows(one, one, field, np.zeros((3, 2, 3), np.int32), (2, 2, 2))
        with pytest.raises(ValueError, match="factors"):
            cell_windows(one, one, field, np.zeros((2, 2, 3), np.int32), (0, 2, 2))
        with pytest.raises(TypeError, match="regions"):
            cell_windows(one, one, field, np.zeros((2, 2, 3), np.float32), (2, 2, 2))


class TestNormals:
    @sizes
    def test_agrees_with_reference(self, machine, side, rng, random_field, shape, factors):
        moving, fixed, field = side((8, 10, 12)), side(shape), random_field(shape)[0]
        regions = cells_of(fixed, factors)
        windows = rng.uniform(0.1, 1, (6, *regions.shape)).astype(np.float32)
        windows[[2, 4]] += 2
        windows[:, 0, 0, 0] = 0  # nothing seen there
        options = {**OPTIONS, "affine": AFFINE, "image": 0.7, "outline": 2.0, "floor": 0.1}
        result = cell_normals(
            machine.put_side(moving), machine.put_side(fixed), machine.put(field),
            machine.put(windows),
            machine.put(regions), factors, **options,
        )  # fmt: skip
        expected = reference.cell_normals(
            moving, fixed, field, windows, regions, factors, **options
        )
        wrong = np.abs(machine.get(result) - expected) > 5e-3 * (1 + np.abs(expected))
        assert wrong.mean() < 5e-3  # at a threshold or on a centre rounding may decide

    def test_cells_of_one_voxel_are_voxels(self, machine, side, rng, random_field):
        shape = (5, 6, 9)
        moving, fixed = machine.put_side(side(shape)), machine.put_side(side(shape))
        field = machine.put(random_field(shape)[0])
        means = rng.uniform(0, 1, (5, *shape)).astype(np.float32)
        means[[1, 3]] += 1
        windows = machine.put(np.concatenate([np.ones((1, *shape), np.float32), means]))
        regions = machine.put(machine.get(fixed.words) & 0xFFFF)
        result = cell_normals(
            moving, fixed, field, windows, regions, (1, 1, 1), outline=2.0, **OPTIONS
        )
        matches = machine.get(match_sides(moving, fixed, field, **OPTIONS))
        image = machine.get(fixed.image)
        expected = reference.form_normals(image, means[:2], matches, means[2:], outline=2.0)
        np.testing.assert_allclose(machine.get(result), expected, rtol=1e-3, atol=2e-3)

    def test_images_linear_in_each_other_are_content(self, machine, side):
        """Any contrast, inverted too, and a floor: no force."""
        shape = (3, 4, 5)
        moving = side(shape)
        fixed = moving._replace(image=(-2.5 * moving.image + 3).astype(np.float32))
        one, other = fixed.image, moving.image
        means = [1.0, one.mean(), (one**2).mean(), other.mean(), (other**2).mean(),
                 (one * other).mean()]  # fmt: skip
        windows = np.broadcast_to(np.array(means, np.float32)[:, None, None, None], (6, *shape))
        field = machine.put(np.zeros((3, *shape), np.float32))
        result = cell_normals(
            machine.put_side(moving), machine.put_side(fixed), field,
            machine.put(np.ascontiguousarray(windows)), machine.put(moving.words & 0xFFFF),
            (1, 1, 1), outline=0.0, floor=0.3,
        )  # fmt: skip
        np.testing.assert_allclose(machine.get(result)[6:], 0, atol=1e-5)

    def test_refuses(self, side):
        one = side((4, 5, 6))
        field, regions = np.zeros((3, 4, 5, 6), np.float32), np.zeros((2, 2, 3), np.int32)
        windows = np.ones((6, 2, 2, 3), np.float32)
        with pytest.raises(ValueError, match="windows"):
            cell_normals(one, one, field, windows[:5], regions, (2, 2, 2))
        with pytest.raises(ValueError, match="floor"):
            cell_normals(one, one, field, windows, regions, (2, 2, 2), floor=0.0)
        with pytest.raises(ValueError, match="outline"):
            cell_normals(one, one, field, windows, regions, (2, 2, 2), outline=-1.0)
