"""outline_pulls, follow_pulls and mark_blocks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segreg.kernels import (
    BLOCK,
    follow_pulls,
    mark_blocks,
    match_sides,
    outline_pulls,
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


class TestOutlinePulls:
    @sizes
    def test_agrees_with_reference(self, machine, side, random_field, shape):
        moving, fixed, field = side((8, 10, 12)), side(shape), random_field(shape)[0]
        affine = np.array([[0.9, 0.1, 0, 1], [-0.1, 1.1, 0, 0.5], [0, 0.05, 0.8, 0.3]])
        options = {**OPTIONS, "affine": affine}
        result = outline_pulls(
            machine.put_side(moving), machine.put_side(fixed), machine.put(field), **options
        )
        expected = reference.outline_pulls(moving, fixed, field, **options)
        wrong = np.abs(machine.get(result) - expected) > 2e-3
        assert wrong.mean() < 1e-3  # at a threshold or on a centre rounding may decide

    @sizes
    def test_is_matching_without_the_image(self, machine, side, random_field, shape):
        moving, fixed = machine.put_side(side((8, 10, 12))), machine.put_side(side(shape))
        field = machine.put(random_field(shape)[0])
        matches = machine.get(match_sides(moving, fixed, field, **OPTIONS))
        pulls = machine.get(outline_pulls(moving, fixed, field, **OPTIONS))
        np.testing.assert_allclose(pulls[3], np.abs(matches[6]), atol=1e-5)
        np.testing.assert_allclose(pulls[:3] * pulls[3], matches[7:] * matches[6], atol=1e-4)
        assert (pulls[3] > 0).any()

    def test_other_blocks_stay(self, machine, side, rng, random_field):
        shape = (9, 17, 70)
        moving, fixed = machine.put_side(side((8, 10, 12))), machine.put_side(side(shape))
        field = machine.put(random_field(shape)[0])
        marks, inside = some_blocks(rng, shape)
        whole = machine.get(outline_pulls(moving, fixed, field, **OPTIONS))
        out = machine.put(np.full((4, *shape), 7, np.float32))
        outline_pulls(moving, fixed, field, blocks=machine.put(marks), out=out, **OPTIONS)
        np.testing.assert_allclose(machine.get(out), np.where(inside, whole, 7), atol=1e-4)

    def test_refuses(self, side):
        one = side((3, 4, 5))
        field = np.zeros((3, 3, 4, 5), np.float32)
        marks = np.ones((1, 1, 1), np.uint8)
        with pytest.raises(ValueError, match="blocks: expected out"):
            outline_pulls(one, one, field, blocks=marks)
        out = np.empty((4, 3, 4, 5), np.float32)
        with pytest.raises(ValueError, match="blocks"):
            outline_pulls(one, one, field, blocks=marks[:0], out=out)


class TestFollowPulls:
    """Half of the rows of pulls are empty, as where outlines match."""

    @pytest.fixture
    def case(self, rng, random_labels, random_field):
        def make(shape):
            pulls = rng.standard_normal((4, *shape)).astype(np.float32)
            pulls[3] = np.abs(pulls[3])
            pulls *= (rng.random(shape[:2]) < 0.5)[..., None]
            field = random_field(shape)[0]
            edges = reference.couple(random_labels(shape, 3), field, slip=1.0)
            return pulls, edges.astype(np.float32), field

        return make

    @sizes
    @pytest.mark.parametrize("sigma", [1.0, (0, 1.5, 1.0)], ids=str)
    def test_agrees_with_reference(self, machine, case, shape, sigma):
        pulls, edges, field = case(shape)
        options = {"spacing": (1, 0.5, 1), "damping": 0.3, "longest": 0.4, "unit": (1, 0.5, 0.25)}
        expected = reference.follow_pulls(pulls, edges, field, sigma, **options)
        moved = machine.put(field.copy())
        result = follow_pulls(machine.put(pulls), machine.put(edges), moved, sigma, **options)
        assert result is moved
        np.testing.assert_allclose(machine.get(moved), expected, atol=2e-4)

    def test_what_is_not_off_resists(self, machine, case):
        """Rows whose voxels match, and hold (``rest``), count as any other."""
        pulls, edges, field = case((9, 17, 70))
        pulls[3, :, ::2] = 0
        options = {"damping": 0.3, "longest": 0.4}
        expected = reference.follow_pulls(pulls, edges, field, 1.0, **options)
        moved = machine.put(field.copy())
        follow_pulls(machine.put(pulls), machine.put(edges), moved, 1.0, **options)
        np.testing.assert_allclose(machine.get(moved), expected, atol=2e-4)

    def test_is_smoothed_equations_and_a_step(self, machine, case):
        pulls, edges, field = case((9, 17, 70))
        slope, away = pulls[:3], pulls[3]
        normals = np.stack([slope[i] * slope[j] for i in range(3) for j in range(i, 3)]
                           + [one * away for one in slope])  # fmt: skip
        means = smooth_within(machine.put(normals), machine.put(edges), 1.0)
        apart, moved = machine.put(field.copy()), machine.put(field.copy())
        options = {"damping": 0.2, "longest": 1.0}
        take_step(means, apart, **options)
        follow_pulls(machine.put(pulls), machine.put(edges), moved, 1.0, **options)
        np.testing.assert_allclose(machine.get(moved), machine.get(apart), atol=1e-4)

    def test_marked_blocks_alone(self, machine, rng, case):
        pulls, edges, field = case((9, 17, 70))
        marks, inside = some_blocks(rng, field.shape[1:])
        options = {"damping": 0.3, "longest": 0.4}
        expected = reference.follow_pulls(pulls, edges, field, 1.0, **options)
        moved = machine.put(field.copy())
        given = machine.put(pulls), machine.put(edges), moved, 1.0
        follow_pulls(*given, blocks=machine.put(marks), **options)
        np.testing.assert_allclose(
            machine.get(moved), np.where(inside, expected, field), atol=2e-4
        )
        with pytest.raises(ValueError, match="blocks"):
            follow_pulls(*given, blocks=machine.put(marks[:1]), **options)

    def test_refuses(self):
        pulls, field = np.zeros((4, 3, 4, 5), np.float32), np.zeros((3, 3, 4, 5), np.float32)
        with pytest.raises(ValueError, match="damping"):
            follow_pulls(pulls, field, field.copy(), 1.0, damping=0.0, longest=1.0)
        with pytest.raises(ValueError, match="edges"):
            follow_pulls(pulls, field[:2], field.copy(), 1.0, damping=1.0, longest=1.0)
        with pytest.raises(ValueError, match="sigma"):
            follow_pulls(pulls, field, field.copy(), -1.0, damping=1.0, longest=1.0)


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
