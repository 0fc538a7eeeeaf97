"""Training starts, steps, stops and goes on where it stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from models.shapes import train as recipe
from models.shapes.network import RegionNetwork
from models.shapes.train import (
    PASSES,
    RATE,
    GeneratedRegions,
    Stage,
    train,
    train_batch,
)
from models.shapes.training import learning_rate, reduced


def batch(count: int = 2) -> list[torch.Tensor]:
    stream = iter(GeneratedRegions(16, seed=0))
    moving, fixed, related = zip(*[next(stream) for _ in range(count)], strict=True)
    return [torch.stack(moving), torch.stack(fixed), torch.tensor(related)]


def test_stream_is_seeded_and_endless() -> None:
    one, other = iter(GeneratedRegions(16, seed=5)), iter(GeneratedRegions(16, seed=5))
    for _ in range(3):
        for first, second in zip(next(one), next(other), strict=True):
            assert torch.equal(torch.as_tensor(first), torch.as_tensor(second))


def test_pair_is_shown_in_another_orientation() -> None:
    """Turned together: what they have in common is untouched."""
    stream = iter(GeneratedRegions(16, seed=0))
    (moving, fixed, _), (turned_moving, turned_fixed, _) = next(stream), next(stream)
    assert not torch.equal(fixed, turned_fixed)
    overlaps = [(m[0] * f[0]).sum() for m, f in ((moving, fixed), (turned_moving, turned_fixed))]
    torch.testing.assert_close(overlaps[0], overlaps[1])


def test_one_batch_makes_a_step_per_pass() -> None:
    torch.manual_seed(0)
    network = RegionNetwork((4, 6, 8, 8))
    before = [parameter.clone() for parameter in network.parameters()]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    reached = train_batch(network, optimizer, batch())
    assert len(reached) == PASSES
    assert all(math.isfinite(dice) and 0 < dice <= 1 for dice in reached)
    changed = [
        not torch.equal(parameter, old)
        for parameter, old in zip(network.parameters(), before, strict=True)
    ]
    assert any(changed)
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
    assert optimizer.state_dict()["state"][0]["step"] == PASSES


def test_learning_rate_warms_up_and_cools_down() -> None:
    rates = [learning_rate(step, 4000, recipe.RATE) for step in range(4001)]
    assert rates[0] == pytest.approx(RATE / 200)
    assert max(rates) <= RATE
    assert 150 < rates.index(max(rates)) < 250
    assert rates[-1] == pytest.approx(0.01 * RATE)


class TestResume:
    @pytest.fixture
    def steps(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Training in this process, with a small network and batches that are counted."""
        canvases: list[int] = []

        def counted(network: Any, optimizer: Any, batch: Any) -> list[float]:
            canvases.append(batch[1].shape[-1])
            return train_batch(network, optimizer, batch)

        monkeypatch.setattr(recipe, "train_batch", counted)
        monkeypatch.setattr(recipe, "RegionNetwork", lambda: RegionNetwork((4, 6, 8, 8)))
        monkeypatch.setattr(
            recipe, "DataLoader", lambda data, batch_size, **_: DataLoader(data, batch_size)
        )
        return canvases

    def test_goes_on_where_it_stopped(self, steps: list[int], tmp_path: Path) -> None:
        first = train(tmp_path / "run", (Stage(canvas=16, batch=1, until=2),), seed=1)
        assert torch.load(first, weights_only=True)["step"] == 2
        assert steps == [16, 16]
        stages = (Stage(canvas=16, batch=1, until=2), Stage(canvas=32, batch=1, until=3))
        second = train(tmp_path / "run", stages, seed=1)
        assert second == first
        state = torch.load(second, weights_only=True)
        assert state["step"] == 3
        assert steps == [16, 16, 32]
        assert state["optimizer"]["state"][0]["step"] == 3 * PASSES
        assert state["average"]["n_averaged"] == 3

    def test_finished_run_does_nothing(self, steps: list[int], tmp_path: Path) -> None:
        stages = (Stage(canvas=16, batch=1, until=1),)
        train(tmp_path, stages, seed=1)
        before = (tmp_path / "checkpoint.pt").read_bytes()
        train(tmp_path, stages, seed=1)
        assert steps == [16]
        assert (tmp_path / "checkpoint.pt").read_bytes() == before

    def test_log_has_a_line_per_stage(self, steps: list[int], tmp_path: Path) -> None:
        stages = (Stage(canvas=16, batch=1, until=1), Stage(canvas=16, batch=1, until=2))
        train(tmp_path, stages, seed=1)
        rows = [line.split(",") for line in (tmp_path / "dice.csv").read_text().splitlines()]
        assert [int(row[0]) for row in rows] == [1, 2]
        assert all(len(row) == 1 + PASSES for row in rows)

    def test_nothing_half_written(self, steps: list[int], tmp_path: Path) -> None:
        train(tmp_path, (Stage(canvas=16, batch=1, until=1),), seed=1)
        assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "dice.csv"}

    def test_same_seed_same_network(self, steps: list[int], tmp_path: Path) -> None:
        states = [
            torch.load(
                train(tmp_path / name, (Stage(canvas=16, batch=1, until=1),), seed=7),
                weights_only=True,
            )["network"]
            for name in ("one", "two")
        ]
        for name, value in states[0].items():
            torch.testing.assert_close(value, states[1][name])


@pytest.mark.parametrize(
    ("flags", "sound"), [({"amx_bf16"}, True), ({"avx512_bf16"}, False), (None, False)], ids=str
)
def test_reduced_precision_only_where_gradients_are_sound(
    flags: set[str] | None, sound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.shapes.training.processor_flags", lambda: flags)
    with reduced("cpu"):
        assert torch.is_autocast_enabled("cpu") == sound
