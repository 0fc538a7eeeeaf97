"""Train the baseline of ``cardiac`` on ACDC: ``python -m models.cardiac.train_whole_image``.

The same network is shown whole images instead of regions, and no mask: what is left of the accuracy
is what the regions bring. It is trained with the labels all the same (semi-supervised), on the
canvas that the engine's placement ``grid`` makes of an image, from nothing. Resumable and seeded.

With ``--export`` the weights become a package folder that ``python -m benchmarks accuracy`` takes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from models.cardiac.train_registration import (
    SMOOTHNESS_WEIGHT,
    TEXTURE_WEIGHT,
    Task,
    plan_tasks,
    volume_loss,
)
from models.cardiac.training import no_displacement, run_pass, take_step, train_passes
from models.shapes.fields import to_canvas, warp
from models.shapes.losses import dice_loss, outline_loss, smoothness_loss, texture_loss
from models.shapes.network import RegionNetwork
from segreg.engine.canvases import Boxes, place_canvases
from segreg.engine.placements import make_placement
from segreg.engine.placements.layout import shape_of
from segreg.export import export
from segreg.kernels import gather_regions

SPEC = Path(__file__).with_name("whole_image.json")
RATE = 5e-4
STEPS = 1500
PASSES = 2  # as in the spec

Canvas = tuple[torch.Tensor, torch.Tensor]


class WholeImageNetwork(RegionNetwork):
    """The region network, shown two images and no masks."""

    CHANNELS = ("moving_image", "fixed_image")


def read_settings() -> dict[str, Any]:
    """The engine's settings of the baseline: those of its spec, and what the export adds."""
    spec = json.loads(SPEC.read_text(encoding="utf-8"))
    channels = [name for names in spec["network"]["inputs"] for name in names]
    added = {"channels": channels, "output": spec["network"]["output"], "free_axes": ["space"]}
    return {**spec["segreg"], **added}


def gather(task: Task, settings: dict[str, Any]) -> Canvas:
    """(1 + K, D, H, W) of the moving and of the fixed side: the image, and a mask per label."""
    regions, union = task.plans
    layout = make_placement(settings).lay_out(union)
    boxes = Boxes(*(np.tile(part, (len(regions.maps), 1)) for part in
                    (layout.boxes.low, layout.boxes.size)))  # fmt: skip
    canvases = place_canvases(regions, boxes, shape_of(layout.shapes[0]))
    clip = settings["intensity"]["clip"]
    gathered = []
    for side, whole, to_side in (
        (regions.moving, union.moving, canvases.to_moving),
        (regions.fixed, union.fixed, canvases.to_fixed),
    ):
        mean, std = whole.stats.intensity_mean[1:], whole.stats.intensity_std[1:]
        intensity = np.stack([mean, 1 / (clip * np.maximum(std, 1e-6))], 1).astype(np.float32)
        shown = gather_regions(
            side.image, side.shapes, to_side, np.repeat(intensity, len(to_side), 0),
            canvases.canvas, channels=("image", "mask"),
        )  # fmt: skip
        gathered.append(torch.from_numpy(np.concatenate([shown[:1, 0], shown[:, 1]])))
    return gathered[0], gathered[1]


class WholeImages(IterableDataset[Canvas]):
    """An endless, seeded stream of whole pairs, mirrored in 8 ways."""

    def __init__(self, tasks: list[Task], seed: int) -> None:
        self.tasks, self.seed, self.settings = tasks, seed, read_settings()

    def __iter__(self) -> Iterator[Canvas]:
        rng = torch.Generator().manual_seed(self.seed)
        while True:
            for number in torch.randperm(len(self.tasks), generator=rng).tolist():
                moving, fixed = gather(self.tasks[number], self.settings)
                flips = [axis + 1 for axis in range(3) if torch.rand((), generator=rng) < 0.5]
                yield moving.flip(flips), fixed.flip(flips)


def train_batch(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: list[torch.Tensor]
) -> tuple[list[float], float]:
    """One optimiser step a pass, as ``train_registration.train_batch`` takes them.

    The loss knows every label apart; the network sees the images alone.
    """
    device = next(network.parameters()).device
    moving, fixed = (part.to(device) for part in batch)
    displacement = no_displacement(fixed)
    masks = fixed[:, 1:].flatten(0, 1).unsqueeze(1)
    inside = fixed[:, 1:].amax(1, keepdim=True)
    related = torch.ones(len(fixed), device=device)
    reached, variance = [], torch.zeros(())
    for _ in range(PASSES):
        with torch.no_grad():
            warped = warp(moving[:, :1], to_canvas(displacement))
        shown = torch.cat([warped, fixed[:, :1]], 1)
        velocity, displacement = run_pass(network, shown, displacement)
        warped = warp(moving, to_canvas(displacement))
        warped_masks = warped[:, 1:].flatten(0, 1).unsqueeze(1)
        overlap = dice_loss(warped_masks, masks)
        variance = volume_loss(displacement / 2, torch.nn.functional.avg_pool3d(inside, 2))
        everywhere = torch.ones_like(inside)
        loss = (
            overlap
            + outline_loss(warped_masks, masks)
            + TEXTURE_WEIGHT * texture_loss(warped[:, :1], fixed[:, :1], everywhere, related)
            + SMOOTHNESS_WEIGHT * smoothness_loss(velocity)
        )
        take_step(network, optimizer, loss)
        displacement = displacement.detach()
        reached.append(1 - float(overlap.detach()))
    return reached, float(variance.detach()) ** 0.5


def train(folder: Path, data: Path, steps: int, seed: int) -> Path:
    """Train for ``steps`` steps, from ``folder/checkpoint.pt`` where there is one."""
    torch.manual_seed(seed)
    tasks = plan_tasks(data, read_settings()["initial_map"])

    def batches(done: int) -> Iterable[list[torch.Tensor]]:
        return DataLoader(WholeImages(tasks, seed + done), 1)  # images differ in size

    return train_passes(folder, WholeImageNetwork(), batches, train_batch, steps, RATE, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("training/cardiac/whole_image"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/acdc"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write a package there")
    options = parser.parse_args()
    weights = train(options.output, options.data, options.steps, options.seed)
    if options.export:
        network = WholeImageNetwork().eval()
        network.load_state_dict(torch.load(weights, weights_only=True))
        export(network, SPEC, options.export, progress=print)


if __name__ == "__main__":
    main()
