"""The network's shape, and what its losses reward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.shapes import losses
from models.shapes.network import RegionNetwork

SPEC = Path(__file__).resolve().parents[2] / "models/shapes/spec.json"


@pytest.fixture(scope="module")
def network() -> RegionNetwork:
    torch.manual_seed(0)
    return RegionNetwork((4, 6, 8, 8)).eval()


@pytest.mark.parametrize("canvas", [16, 48])
def test_velocity_has_half_the_cells(network: RegionNetwork, canvas: int) -> None:
    with torch.inference_mode():
        velocity = network(torch.zeros(2, 4, canvas, canvas, canvas))
    assert velocity.shape == (2, 3, canvas // 2, canvas // 2, canvas // 2)


def test_untrained_network_moves_next_to_nothing(network: RegionNetwork) -> None:
    with torch.inference_mode():
        assert network(torch.rand(1, 4, 16, 16, 16)).abs().max() < 0.01


def test_regions_do_not_see_each_other(network: RegionNetwork) -> None:
    regions = torch.rand(3, 4, 16, 16, 16)
    with torch.inference_mode():
        together = network(regions)
        alone = torch.cat([network(region[None]) for region in regions])
    torch.testing.assert_close(together, alone)


def test_spec_describes_this_network() -> None:
    spec = json.loads(SPEC.read_text(encoding="utf-8"))
    settings = {**spec["segreg"], **spec["network"]}
    assert settings["inputs"] == [list(RegionNetwork.CHANNELS)]
    output = settings["output"]
    assert (output["kind"], output["unit"]) == ("velocity", "canvas_voxel")
    assert (output["order"], output["stride"]) == ("zyx", 2)
    assert all(canvas % 16 == 0 for canvas in settings["canvas"])  # the coarsest level's cell


def ball(radius: float, shift: float = 0.0) -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(16.0) - 7.5] * 3, indexing="ij"))
    grid[0] -= shift
    return (grid.norm(dim=0) < radius).float()[None, None]


class TestLosses:
    def test_dice(self) -> None:
        assert losses.dice_loss(ball(5), ball(5)).item() == pytest.approx(0)
        assert losses.dice_loss(ball(3, -5), ball(3, 5)).item() == pytest.approx(1)
        half = losses.dice_loss(ball(5) * (torch.arange(16) < 8), ball(5)).item()
        assert half == pytest.approx(1 / 3)

    def test_dice_of_nothing_is_finite(self) -> None:
        assert torch.isfinite(losses.dice_loss(0 * ball(5), 0 * ball(5)))

    def test_outline_grows_with_the_distance(self) -> None:
        found = [losses.outline_loss(ball(3, shift), ball(3)).item() for shift in (0, 1, 2, 4)]
        assert found[0] == 0
        assert found == sorted(set(found))

    def test_texture_counts_only_where_it_corresponds(self) -> None:
        rng = torch.Generator().manual_seed(0)
        one, two = torch.rand((2, 1, 1, 16, 16, 16), generator=rng)
        inside = ball(5)
        assert losses.texture_loss(one, two, inside, torch.tensor([0.0])).item() == 0
        assert losses.texture_loss(one, one, inside, torch.tensor([1.0])).item() == 0
        assert losses.texture_loss(one, two, inside, torch.tensor([1.0])).item() > 0
        outside = torch.where(inside > 0, one, two)
        assert losses.texture_loss(one, outside, inside, torch.tensor([1.0])).item() == 0

    def test_smoothness_of_a_shift_is_free(self) -> None:
        shift = torch.ones(1, 3, 8, 8, 8)
        assert losses.smoothness_loss(shift).item() == 0
        assert losses.smoothness_loss(torch.rand(1, 3, 8, 8, 8)).item() > 0

    def test_total_is_least_for_equal_sides(self) -> None:
        side = torch.cat([ball(5), ball(5) * 0.3, torch.rand(1, 1, 16, 16, 16)], 1)
        still, related = torch.zeros(1, 3, 8, 8, 8), torch.tensor([1.0])
        equal, dice = losses.total_loss(side, side, still, related)
        assert equal.item() == pytest.approx(0, abs=1e-6)
        assert dice.item() == pytest.approx(0, abs=1e-6)
        other, _ = losses.total_loss(side.roll(3, 2), side, still, related)
        assert other > equal
