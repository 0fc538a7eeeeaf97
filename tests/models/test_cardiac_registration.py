"""The registration recipe of ``cardiac`` on a made-up pair: the engine's canvases, one step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.cardiac import train_registration as recipe
from models.cardiac.train_registration import (
    PASSES,
    Regions,
    Task,
    gather,
    plan_task,
    train_batch,
    volume_loss,
)
from models.shapes.network import RegionNetwork
from segreg.engine.canvases import bounding_boxes, place_canvases
from segreg.engine.phantom import make_phantom


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("pair")
    phantom = make_phantom((24, 30, 27), (5.0, 4.0, 4.0))
    for name in ("moving", "fixed", "moving_labels", "fixed_labels"):
        getattr(phantom, name).write(folder / f"{name}.nii.gz")
    sides = [(folder / f"{s}.nii.gz", folder / f"{s}_labels.nii.gz") for s in ("moving", "fixed")]
    return plan_task(sides[0], sides[1])


def test_canvases_are_those_of_the_engine(task: Task) -> None:
    regions, whole = task.plans
    moving, fixed = gather(regions, 16)
    assert moving.shape == fixed.shape == (len(regions.maps), 2, 16, 16, 16)
    # A canvas holds its region: as much mask as the region has voxels, in canvas cells.
    boxes = bounding_boxes(regions.fixed, recipe.MARGIN)
    canvases = place_canvases(regions, boxes, (16, 16, 16), 2)
    cells = np.prod(canvases.spacing, axis=1) / 8  # field cells are twice as wide
    voxel = float(np.prod([5.0, 4.0, 4.0]))
    expected = regions.fixed.stats.voxels[1:] * voxel / cells
    np.testing.assert_allclose(fixed[:, 0].sum((1, 2, 3)), expected, rtol=0.15)
    assert gather(whole, 16)[0].shape[0] == 1


def test_stream_is_seeded(task: Task) -> None:
    one, other = (iter(Regions([task], seed=3, size=16)) for _ in range(2))
    for _ in range(5):
        for first, second in zip(next(one), next(other), strict=True):
            assert torch.equal(first, second)
            assert first.shape == (2, 16, 16, 16)


def test_volume_loss_is_the_variance_of_the_log_jacobian() -> None:
    inside = torch.ones(1, 1, 6, 6, 6)
    steady = 0.3 * torch.arange(6.0).view(1, 1, 6, 1, 1).expand(1, 3, 6, 6, 6).clone()
    steady[:, 1:] = 0
    assert float(volume_loss(steady, inside)) == pytest.approx(0, abs=1e-9)  # 1.3 everywhere
    two = torch.zeros(1, 3, 1, 1, 12).expand(1, 3, 8, 8, 12).clone()
    two[:, 2] = torch.cat([torch.zeros(6), 0.5 * torch.arange(6.0)])
    halves = torch.ones(1, 1, 8, 8, 12)
    halves[..., 5:7] = 0  # where the gradient is of both halves
    assert float(volume_loss(two, halves)) == pytest.approx((np.log(1.5) / 2) ** 2, rel=1e-3)


def test_a_batch_makes_steps(task: Task) -> None:
    torch.manual_seed(0)
    network = RegionNetwork((32, 32))
    before = [parameter.clone() for parameter in network.parameters()]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    stream = iter(Regions([task], seed=3, size=16))
    moving, fixed = zip(*[next(stream) for _ in range(2)], strict=True)
    reached, spread = train_batch(network, optimizer, [torch.stack(moving), torch.stack(fixed)])
    assert len(reached) == PASSES
    assert all(0 < dice <= 1 for dice in reached)
    assert np.isfinite(spread)
    changed = [
        not torch.equal(now, old)
        for now, old in zip(network.parameters(), before, strict=True)
    ]
    assert any(changed)


def test_goes_on_from_the_weights_and_the_checkpoint(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "TRAINING", [1])
    monkeypatch.setattr(recipe, "frame_files", lambda data, number: [(data, data)] * 2)
    monkeypatch.setattr(recipe, "plan_task", lambda moving, fixed, initial_map: task)
    monkeypatch.setattr(recipe, "CANVAS", 16)
    monkeypatch.setattr(recipe, "RegionNetwork", lambda: RegionNetwork((32, 32)))
    start = tmp_path / "start.pt"
    torch.save(RegionNetwork((32, 32)).state_dict(), start)
    for steps in (1, 2):
        weights = recipe.train(tmp_path / "run", tmp_path, start, steps, seed=0)
    assert torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["step"] == 2
    assert len((tmp_path / "run/log.csv").read_text().splitlines()) == 3
    RegionNetwork((32, 32)).load_state_dict(torch.load(weights, weights_only=True))
