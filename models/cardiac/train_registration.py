"""Train the registration of ``cardiac`` on ACDC: ``python -m models.cardiac.train_registration``.

Starts from the weights of ``shapes`` and goes on with what the heart does from end-diastole to
end-systole, both ways, on the canvases that the engine's own planning and gathering make of it.
Resumable and seeded. Runs on a GPU where there is one, else on the CPU, in bfloat16 where that is
sound.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from models.cardiac.patients import TRAINING, frame_files
from models.cardiac.training import no_displacement, run_pass, take_step, train_passes
from models.shapes.fields import to_canvas, warp
from models.shapes.losses import dice_loss, outline_loss, smoothness_loss, texture_loss
from models.shapes.network import RegionNetwork
from segreg.engine.background import union_plan
from segreg.engine.canvases import bounding_boxes, place_canvases
from segreg.engine.labels import make_scheme
from segreg.engine.regions import RegionPlan, Side, plan_regions
from segreg.engine.volume import Volume, check_image
from segreg.kernels import gather_regions

RATE = 3e-4
BATCH = 4
STEPS = 400
CANVAS = 64
MARGIN, CLIP = 0.15, 3.0  # as in spec.json
PASSES = 3
TEXTURE_WEIGHT, SMOOTHNESS_WEIGHT, VOLUME_WEIGHT = 0.3, 0.3, 0.05

Canvases = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Task:
    """One direction of one patient, planned as the engine plans it."""

    plans: tuple[RegionPlan, RegionPlan]  # of the regions, and of all of them as one


def plan_task(
    moving: tuple[Path, Path], fixed: tuple[Path, Path], initial_map: str = "affine"
) -> Task:
    """Plan from (image, label map) to (image, label map)."""
    sides = []
    volumes = [
        (check_image(Volume.read(image)), Volume.read(labels)) for image, labels in (moving, fixed)
    ]
    scheme = make_scheme(volumes[0][1].array, volumes[1][1].array)
    for image, labels in volumes:
        region_map = scheme.region_map(labels.array)
        sides.append(Side.measure(image.array, region_map, len(scheme), image.affine))
    plan = plan_regions(sides[0], sides[1], initial_map)
    return Task((plan, union_plan(plan)))


def gather(plan: RegionPlan, size: int) -> Canvases:
    """(K, 2, S, S, S) of the moving and of the fixed side: masks and masked images."""
    boxes = bounding_boxes(plan.fixed, MARGIN)
    canvases = place_canvases(plan, boxes, (size, size, size), 2)
    gathered = []
    for side, to_side in (
        (plan.moving, canvases.to_moving),
        (plan.fixed, canvases.to_fixed),
    ):
        mean, std = side.stats.intensity_mean[1:], side.stats.intensity_std[1:]
        intensity = np.stack([mean, 1 / (CLIP * np.maximum(std, 1e-6))], 1).astype(np.float32)
        regions = gather_regions(
            side.image, side.shapes, to_side, intensity, size,
            channels=("mask", "masked_image"),
        )
        gathered.append(torch.from_numpy(regions))
    return gathered[0], gathered[1]


class Regions(IterableDataset[Canvases]):
    """An endless, seeded stream of region pairs (2, S, S, S), turned in 48 ways."""

    def __init__(self, tasks: list[Task], seed: int, size: int = CANVAS) -> None:
        self.tasks, self.seed, self.size = tasks, seed, size

    def __iter__(self) -> Iterator[Canvases]:
        rng = torch.Generator().manual_seed(self.seed)
        while True:
            for number in torch.randperm(len(self.tasks), generator=rng).tolist():
                # A third of the canvases show all regions as one, as the background's do.
                whole = int(torch.rand((), generator=rng) < 1 / 3)
                moving, fixed = gather(self.tasks[number].plans[whole], self.size)
                for one, other in zip(moving, fixed, strict=True):
                    axes = (torch.randperm(3, generator=rng) + 1).tolist()
                    flips = [a + 1 for a in range(3) if torch.rand((), generator=rng) < 0.5]
                    turned = [v.permute(0, *axes).flip(flips).contiguous() for v in (one, other)]
                    yield turned[0], turned[1]


def volume_loss(displacement: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Variance of the log Jacobian inside ``inside`` (B, 1, d, h, w), folds as a small volume.

    ``displacement`` (B, 3, d, h, w) in cells of its own grid.
    """
    slopes = torch.stack(torch.gradient(displacement, dim=(2, 3, 4)), 2)
    matrices = slopes.movedim((1, 2), (-2, -1)) + torch.eye(3, device=displacement.device)
    logarithms = torch.linalg.det(matrices).clamp(min=0.05).log()
    weight = inside[:, 0] / inside.sum((1, 2, 3, 4)).clamp(min=1.0)[:, None, None, None]
    mean = (weight * logarithms).sum((1, 2, 3), keepdim=True)
    return (weight * (logarithms - mean).square()).sum((1, 2, 3)).mean()


def train_batch(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: list[torch.Tensor]
) -> tuple[list[float], float]:
    """One optimiser step a pass, as the engine runs them: warp, infer again, compose.

    Returns the Dice after each pass and the SD of the log Jacobian after the last.
    """
    device = next(network.parameters()).device
    moving, fixed = (part.to(device) for part in batch)
    displacement = no_displacement(fixed)
    inside = torch.nn.functional.avg_pool3d(fixed[:, :1], 2)
    related = torch.ones(len(fixed), device=device)
    reached, variance = [], torch.zeros(())
    for _ in range(PASSES):
        with torch.no_grad():
            warped = warp(moving, to_canvas(displacement))
        regions = torch.stack([warped[:, 1], warped[:, 0], fixed[:, 1], fixed[:, 0]], 1)
        velocity, displacement = run_pass(network, regions, displacement)
        warped = warp(moving, to_canvas(displacement))
        both = (warped[:, :1] * fixed[:, :1]).detach()
        overlap = dice_loss(warped[:, :1], fixed[:, :1])
        variance = volume_loss(displacement / 2, inside)
        loss = (
            overlap
            + outline_loss(warped[:, :1], fixed[:, :1])
            + TEXTURE_WEIGHT * texture_loss(warped[:, 1:], fixed[:, 1:], both, related)
            + SMOOTHNESS_WEIGHT * smoothness_loss(velocity)
            + VOLUME_WEIGHT * variance
        )
        take_step(network, optimizer, loss)
        displacement = displacement.detach()
        reached.append(1 - float(overlap.detach()))
    return reached, float(variance.detach()) ** 0.5


def train(folder: Path, data: Path, start: Path, steps: int, seed: int) -> Path:
    """Train for ``steps`` steps from the weights ``start``, or from ``folder/checkpoint.pt``."""
    network = RegionNetwork()
    network.load_state_dict(torch.load(start, weights_only=True))
    tasks = plan_tasks(data)

    def batches(done: int) -> Iterable[list[torch.Tensor]]:
        # No worker: the kernels' threads do not survive a fork, and gathering takes milliseconds.
        return DataLoader(Regions(tasks, seed + done, CANVAS), BATCH)

    return train_passes(folder, network, batches, train_batch, steps, RATE, seed)


def plan_tasks(data: Path, initial_map: str = "affine") -> list[Task]:
    """Both directions of every patient to train on."""
    tasks = []
    for number in TRAINING:
        ends = frame_files(data, number)
        tasks += [
            plan_task(ends[0], ends[1], initial_map), plan_task(ends[1], ends[0], initial_map)
        ]
    return tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("training/cardiac/registration"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/acdc"))
    parser.add_argument(
        "--start", type=Path, default=Path("training/shapes/weights.pt"),
        help="weights of the shapes network (a state dict)",
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    train(options.output, options.data, options.start, options.steps, options.seed)


if __name__ == "__main__":
    main()
