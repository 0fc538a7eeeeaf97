"""outline_normals and mark_blocks, and operations on marked blocks alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.kernels import (
    BLOCK,
    couple,
    form_normals,
    mark_blocks,
    match_sides,
    outline_normals,
    reference,
    smooth_within,
    take_step,
)

SIZES = [(1, 12, 13), (9, 1, 14), (6, 9, 37), (9, 17, 70)]

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)
OPTIONS = {"unit": (1.0, 0.5, 2.0), "slack": 0.4, "rest": 0.2, "beyond": 1.0}


def some_blocks(rng, shape):
    blocks = [-(-n // size) for n, size in zip(shape, BLOCK, strict=True)]
    marks = (rng.random(blocks) < 0.5).astype(np.uint8)
    marks.flat[0] = 1
    wide = marks
    for axis, size in enumerate(BLOCK):
        wide = wide.repeat(size, axis)
    return marks, wide[tuple(slice(0, n) for n in shape)] > 0


class TestOutlineNormals:
    @sizes
    def test_agrees_with_reference(self, machine, side, random_field, shape):
        moving, fixed, field = side((8, 10, 12)), side(shape), random_field(shape)[0]
        affine = np.array([[0.9, 0.1, 0, 1], [-0.1, 1.1, 0, 0.5], [0, 0.05, 0.8, 0.3]])
        options = {**OPTIONS, "affine": affine, "weight": 3.0}
        results = outline_normals(
            machine.put_side(moving), machine.put_side(fixed), machine.put(field), **options
        )
        expected = reference.outline_normals(moving, fixed, field, **options)
        for result, wanted in zip(results, expected, strict=True):
            wrong = np.abs(machine.get(result) - wanted) > 2e-3
            assert wrong.mean() < 1e-3  # at a threshold or on a centre rounding may decide

    @sizes
    def test_is_matching_without_the_image(self, machine, side, random_field, shape):
        moving, fixed = machine.put_side(side((8, 10, 12))), machine.put_side(side(shape))
        field = machine.put(random_field(shape)[0])
        matches = match_sides(moving, fixed, field, **OPTIONS)
        nothing = machine.put(np.zeros((3, *shape), np.float32))
        apart = form_normals(
            nothing[0], nothing[:2], matches, nothing, image=0.0, outline=2.0, floor=1.0
        )
        normals, errors = outline_normals(moving, fixed, field, weight=2.0, **OPTIONS)
        np.testing.assert_allclose(machine.get(normals), machine.get(apart), atol=1e-4)
        np.testing.assert_allclose(
            machine.get(errors), np.abs(machine.get(matches)[6]), atol=1e-5
        )

    def test_other_blocks_stay(self, machine, side, rng, random_field):
        shape = (9, 17, 70)
        moving, fixed = machine.put_side(side((8, 10, 12))), machine.put_side(side(shape))
        field = machine.put(random_field(shape)[0])
        marks, inside = some_blocks(rng, shape)
        whole = [machine.get(a) for a in outline_normals(moving, fixed, field, **OPTIONS)]
        out = machine.put(np.full((9, *shape), 7, np.float32))
        errors = machine.put(np.full(shape, 7, np.float32))
        outline_normals(
            moving, fixed, field, blocks=machine.put(marks), errors=errors, out=out, **OPTIONS
        )
        for part, wanted in zip((out, errors), whole, strict=True):
            np.testing.assert_allclose(machine.get(part), np.where(inside, wanted, 7), atol=1e-4)

    def test_refuses(self, side):
        one = side((3, 4, 5))
        field = np.zeros((3, 3, 4, 5), np.float32)
        with pytest.raises(ValueError, match="weight"):
            outline_normals(one, one, field, weight=-1.0)
        marks = np.ones((1, 1, 1), np.uint8)
        with pytest.raises(ValueError, match="blocks: expected errors"):
            outline_normals(one, one, field, blocks=marks)
        out, errors = np.empty((9, 3, 4, 5), np.float32), np.empty((3, 4, 5), np.float32)
        with pytest.raises(ValueError, match="blocks"):
            outline_normals(one, one, field, blocks=marks[:0], errors=errors, out=out)


class TestBlocks:
    @sizes
    @pytest.mark.parametrize("rim", [0, 3])
    def test_marks(self, machine, rng, shape, rim):
        """Against the reference, and SciPy's maximum over a window."""
        errors = np.where(rng.random(shape) < 2e-3, 1, 0.1).astype(np.float32)
        marks = machine.get(mark_blocks(machine.put(errors), rim=rim, bound=0.5))
        np.testing.assert_array_equal(marks, reference.mark_blocks(errors, rim=rim, bound=0.5))
        near = ndimage.maximum_filter(errors, 2 * rim + 1, mode="constant") > 0.5
        for place in np.ndindex(*marks.shape):
            box = tuple(slice(p * n, (p + 1) * n) for p, n in zip(place, BLOCK, strict=True))
            assert marks[place] == near[box].any()

    @pytest.mark.parametrize("sigma", [1.0, (0, 1.5, 1.0)], ids=str)
    def test_means_in_blocks_are_those_of_the_whole(
        self, machine, rng, random_labels, random_field, sigma
    ):
        shape = (9, 17, 70)
        volume = machine.put(rng.standard_normal((4, *shape)).astype(np.float32))
        regions = machine.put(random_labels(shape, 3))
        edges = couple(regions, machine.put(random_field(shape)[0]), slip=1.0)
        marks, inside = some_blocks(rng, shape)
        whole = machine.get(smooth_within(volume, edges, sigma))
        part = machine.get(smooth_within(volume, edges, sigma, blocks=machine.put(marks)))
        np.testing.assert_allclose(part[:, inside], whole[:, inside], atol=1e-5)

    def test_steps_in_blocks_alone(self, machine, rng, random_field):
        shape = (9, 17, 70)
        slopes = rng.standard_normal((3, *shape))
        normals = np.concatenate([
            [slopes[i] * slopes[j] for i in range(3) for j in range(i, 3)],
            rng.standard_normal((3, *shape)),
        ]).astype(np.float32)  # fmt: skip
        field = random_field(shape)[0]
        options = {"damping": 0.3, "longest": 0.4}
        expected = reference.take_step(normals, field, **options)
        marks, inside = some_blocks(rng, shape)
        moved = machine.put(field.copy())
        take_step(machine.put(normals), moved, blocks=machine.put(marks), **options)
        np.testing.assert_allclose(
            machine.get(moved), np.where(inside, expected, field), atol=1e-4
        )
        with pytest.raises(ValueError, match="blocks"):
            take_step(machine.put(normals), moved, blocks=machine.put(marks[:1]), **options)
