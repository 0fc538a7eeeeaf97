"""Generated pairs: the same seed, the same pair; and a pair worth learning from."""

from __future__ import annotations

import pytest
import torch

from models.shapes.anatomy import Shape, Side, make_pair, sample
from segreg.engine.moments import match_moments

CANVAS = 16


def pair(seed: int, canvas: int = CANVAS) -> tuple[torch.Tensor, torch.Tensor, float]:
    return make_pair(torch.Generator().manual_seed(seed), canvas)


def test_same_seed_same_pair() -> None:
    one, other = pair(3), pair(3)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert one[2] == other[2]
    assert not torch.equal(one[1], pair(4)[1])


def test_other_randomness_does_not_matter() -> None:
    torch.manual_seed(1)
    one = pair(3)[0]
    torch.manual_seed(2)
    assert torch.equal(one, pair(3)[0])


@pytest.mark.parametrize("seed", range(8))
def test_both_sides_show_the_region(seed: int) -> None:
    moving, fixed, related = pair(seed)
    assert related in (0.0, 1.0)
    for side in (moving, fixed):
        assert side.shape == (3, CANVAS, CANVAS, CANVAS)
        assert side.dtype == torch.float32
        assert torch.isfinite(side).all()
        mask, masked = side[0], side[1]
        assert mask.max() > 0.5
        assert mask.min() >= 0
        assert mask.max() <= 1 + 1e-5
        assert (masked.abs() <= mask + 1e-6).all()  # intensities lie in -1..1, and inside


@pytest.mark.parametrize("seed", range(4))
def test_moments_are_matched_beforehand(seed: int) -> None:
    """The moving side has been carried roughly onto the fixed one, as the engine does."""
    moving, fixed, _ = pair(seed, 32)
    grid = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij"))
    centres = [(side[0] * grid).sum((1, 2, 3)) / side[0].sum() for side in (moving, fixed)]
    assert (centres[0] - centres[1]).norm() < 3  # of 32 cells


def test_canvas_leaves_a_margin_around_the_fixed_side() -> None:
    for seed in range(4):
        mask = pair(seed, 32)[1][0]
        for axis in range(3):
            line = mask.amax([other for other in range(3) if other != axis])
            assert line[0] < 0.5
            assert line[-1] < 0.5
            assert line.max() > 0.5


@pytest.mark.parametrize("family", sorted(set(Shape.FAMILIES)))
def test_every_family_has_an_inside_and_an_outside(family: str) -> None:
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    for seed in range(40):
        shape = Shape(torch.Generator().manual_seed(seed))
        if shape.family == family:
            found.append(float((shape(points, 1.0) > 0).float().mean()))
    assert len(found) > 1
    assert max(found) > 0.01
    assert max(found) < 0.9


class TestSample:
    def test_linear_volume(self) -> None:
        index = torch.stack(torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij"))
        volume = (index * torch.tensor([1.0, 10.0, 100.0])[:, None, None, None]).sum(0)[None]
        where = torch.tensor([[1.25, 2.5, 3.75], [0.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
        expected = where @ torch.tensor([1.0, 10.0, 100.0])
        torch.testing.assert_close(sample(volume, where)[0], expected)

    def test_outside(self) -> None:
        volume = torch.full((1, 4, 4, 4), 7.0)
        where = torch.tensor([[-5.0, 1.0, 1.0]])
        assert sample(volume, where).item() == 0
        assert sample(volume, where, "border").item() == 7

    def test_a_single_slice_stands_for_its_thickness(self) -> None:
        volume = torch.full((1, 1, 4, 4), 7.0)
        where = torch.tensor([[-1.0, 1.0, 1.0], [0.4, 1.0, 1.0]])
        torch.testing.assert_close(sample(volume, where)[0], torch.tensor([7.0, 7.0]))


def test_sides_measure_their_moments_as_the_engine_does() -> None:
    """A box: mean in its middle, variance of its length; equal sides match by the identity."""
    voxels = torch.zeros(3, 12, 10, 8)
    voxels[0, 2:8, 3:7, 1:6] = 1
    side = Side(voxels, 2 / torch.tensor([12.0, 10.0, 8.0]))
    mean, covariance = side.moments()
    low = side.points(torch.tensor([2.0, 3.0, 1.0]) - 0.5)
    high = side.points(torch.tensor([8.0, 7.0, 6.0]) - 0.5)
    torch.testing.assert_close(torch.from_numpy(mean).float(), (low + high) / 2)
    expected = torch.diag((high - low).square() / 12)
    torch.testing.assert_close(torch.from_numpy(covariance).float(), expected)
    affine = torch.from_numpy(match_moments(mean, covariance, mean, covariance))
    torch.testing.assert_close(affine, torch.eye(4, dtype=torch.float64))
