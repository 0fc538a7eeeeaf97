"""The baseline's recipe on a made-up pair: the engine's canvas, steps, and a package that runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.cardiac import train_registration
from models.cardiac import train_whole_image as recipe
from models.cardiac.train_registration import Task, plan_task
from models.cardiac.train_whole_image import (
    PASSES,
    SPEC,
    WholeImageNetwork,
    WholeImages,
    gather,
    read_settings,
    train_batch,
)
from segreg.engine.phantom import Phantom, make_phantom
from segreg.engine.runtime import Engine
from segreg.export import export
from segreg.export.spec import read_spec

SPACING = (5.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom((24, 30, 27), SPACING)


@pytest.fixture(scope="module")
def task(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("pair")
    for name in ("moving", "fixed", "moving_labels", "fixed_labels"):
        getattr(phantom, name).write(folder / f"{name}.nii.gz")
    sides = [(folder / f"{s}.nii.gz", folder / f"{s}_labels.nii.gz") for s in ("moving", "fixed")]
    return plan_task(sides[0], sides[1], "identity")


def test_settings_are_those_that_the_export_writes() -> None:
    settings, exported = read_settings(), read_spec(SPEC).settings
    for name in ("placement", "shape", "spacing", "initial_map", "channels", "passes"):
        assert settings[name] == exported[name]
    assert settings["passes"] == PASSES


def test_canvas_shows_the_whole_image_and_every_label(task: Task) -> None:
    regions, _ = task.plans
    settings = read_settings()
    moving, fixed = gather(task, settings)
    cells = np.array(regions.fixed.region_map.shape) * SPACING / settings["spacing"]
    assert moving.shape == fixed.shape
    assert fixed.shape == (1 + len(regions.maps), *np.ceil(cells / 16).astype(int) * 16)
    voxels = regions.fixed.stats.voxels[1:] * np.prod(SPACING) / np.prod(settings["spacing"])
    np.testing.assert_allclose(fixed[1:].sum((1, 2, 3)), voxels, rtol=0.1)
    assert max(float(side[0].abs().max()) for side in (moving, fixed)) <= 1


def test_stream_is_seeded_and_mirrors_both_sides_alike(task: Task) -> None:
    one, other = (iter(WholeImages([task], seed=3)) for _ in range(2))
    plain = gather(task, read_settings())
    for _ in range(4):
        moving, fixed = next(one)
        assert torch.equal(moving, next(other)[0])
        flips = [
            axes for axes in ([], [1], [2], [3], [1, 2], [1, 3], [2, 3], [1, 2, 3])
            if torch.equal(plain[0].flip(axes), moving)
        ]  # fmt: skip
        assert torch.equal(plain[1].flip(flips[0]), fixed)


def test_training_matches_the_labels(task: Task) -> None:
    torch.manual_seed(0)
    network = WholeImageNetwork((8, 8))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    batch = [side.unsqueeze(0) for side in gather(task, read_settings())]
    first, _ = train_batch(network, optimizer, batch)
    for _ in range(30):
        last, spread = train_batch(network, optimizer, batch)
    assert len(last) == PASSES
    assert last[-1] > first[0] + 0.02
    assert 0 < spread < 2


def test_becomes_a_package_that_registers(
    task: Task, phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_registration, "TRAINING", [1])
    monkeypatch.setattr(train_registration, "frame_files", lambda data, number: [(data, data)] * 2)
    monkeypatch.setattr(
        train_registration, "plan_task", lambda moving, fixed, initial_map: task
    )
    monkeypatch.setattr(recipe, "WholeImageNetwork", lambda: WholeImageNetwork((8, 8)))
    for steps in (1, 2):
        weights = recipe.train(tmp_path / "run", tmp_path, steps, seed=0)
    assert torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["step"] == 2
    network = WholeImageNetwork((8, 8)).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    package = export(network, SPEC, tmp_path / "package")
    with Engine(package.folder) as engine:
        result = engine.register(
            phantom.moving, phantom.fixed, phantom.moving_labels, phantom.fixed_labels
        )
    assert result.quality.dice == pytest.approx(result.quality.dice_before, abs=0.1)
