"""Train the ``shapes`` network on generated anatomy: ``python -m models.shapes.train``.

Resumable (the checkpoint is written every few minutes and picked up again), seeded, and bound to no
data set: see ``anatomy.py``. ``models/shapes/NOTES.md`` says what was measured on the way.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from models.shapes.anatomy import make_pair
from models.shapes.fields import compose, integrate, to_canvas, warp
from models.shapes.losses import total_loss
from models.shapes.network import RegionNetwork
from models.shapes.training import learning_rate, reduced, resume, save_checkpoint

INTEGRATION_STEPS = 6
PASSES = 3
RATE = 1e-3


@dataclass(frozen=True)
class Stage:
    """Train on canvases of ``canvas`` cells until step ``until``."""

    canvas: int
    batch: int
    until: int


# Large motion is learnt faster on the small canvas, sharp outlines only on the large one.
STAGES = (Stage(canvas=48, batch=4, until=2000), Stage(canvas=64, batch=2, until=3400))


class GeneratedRegions(IterableDataset[Any]):
    """An endless, seeded stream of (moving, fixed, related)."""

    def __init__(self, canvas: int, seed: int) -> None:
        self.canvas, self.seed = canvas, seed

    def __iter__(self) -> Iterator[Any]:
        torch.set_num_threads(1)
        rng = torch.Generator().manual_seed(self.seed)
        while True:
            moving, fixed, related = make_pair(rng, self.canvas)
            # Each pair is dear to make: show it again in another of the 48 orientations.
            for _ in range(2):
                moving, fixed = _reorient(rng, moving, fixed)
                yield moving, fixed, related


def _reorient(rng: torch.Generator, *volumes: torch.Tensor) -> list[torch.Tensor]:
    axes = (torch.randperm(3, generator=rng) + 1).tolist()
    flips = [axis + 1 for axis in range(3) if torch.rand((), generator=rng) < 0.5]
    return [v.permute(0, *axes).flip(flips).contiguous() for v in volumes]


def train_batch(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: list[torch.Tensor]
) -> list[float]:
    """One optimiser step a pass, as the engine runs them: warp, infer again, compose.

    Returns the Dice after each pass.
    """
    moving, fixed, related = batch
    displacement = torch.zeros(len(fixed), 3, *(n // 2 for n in fixed.shape[2:]))
    reached = []
    for _ in range(PASSES):
        with torch.no_grad():
            warped = warp(moving, to_canvas(displacement))
        regions = torch.stack([warped[:, 1], warped[:, 0], fixed[:, 1], fixed[:, 0]], 1)
        with reduced("cpu"):
            velocity = network(regions.contiguous(memory_format=torch.channels_last_3d))
        velocity = velocity.float()
        # Half-resolution grid, canvas-voxel unit: compose there in half voxels.
        update = 2 * integrate(velocity / 2, INTEGRATION_STEPS)
        displacement = 2 * compose(displacement / 2, update / 2)
        loss, overlap = total_loss(warp(moving, to_canvas(displacement)), fixed, velocity, related)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        displacement = displacement.detach()
        reached.append(1 - float(overlap))
    return reached


def train(folder: Path, stages: tuple[Stage, ...], seed: int) -> Path:
    """Train through all ``stages``, continuing ``folder/checkpoint.pt`` where there is one."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    network = RegionNetwork().to(memory_format=torch.channels_last_3d)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    checkpoint = folder / "checkpoint.pt"
    done = resume(checkpoint, network, average, optimizer)
    last = stages[-1].until
    reached_so_far = None
    progress = tqdm(total=last, initial=done, mininterval=10)
    for stage in stages:
        if done >= stage.until:
            continue
        regions = GeneratedRegions(stage.canvas, seed + done)
        loader = iter(DataLoader(regions, batch_size=stage.batch, num_workers=1, prefetch_factor=4))
        while done < stage.until:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(done, last, RATE)
            reached = torch.tensor(train_batch(network, optimizer, next(loader)))
            average.update_parameters(network)
            done += 1
            reached_so_far = (
                reached if reached_so_far is None else 0.98 * reached_so_far + 0.02 * reached
            )
            progress.update()
            progress.set_postfix_str(" ".join(f"{d:.4f}" for d in reached_so_far))
            if done % 250 == 0 or done == stage.until:
                _log(folder, done, reached_so_far)
                save_checkpoint(checkpoint, done, network, average, optimizer)
    return checkpoint


def _log(folder: Path, step: int, reached: torch.Tensor) -> None:
    with (folder / "dice.csv").open("a") as log:
        log.write(",".join([str(step), *(f"{d:.5f}" for d in reached)]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("training/shapes"))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    train(options.output, STAGES, options.seed)


if __name__ == "__main__":
    main()
