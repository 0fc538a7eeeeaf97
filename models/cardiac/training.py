"""What the recipes of this package share: the device, the loop, the log and its picture."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from tqdm import tqdm

from models.shapes.fields import compose, integrate
from models.shapes.training import learning_rate, reduced, resume, save_checkpoint

SAVE_EVERY = 100
INTEGRATION_STEPS = 6  # as in spec.json

Batch = list[torch.Tensor]
# One optimiser step a pass; the Dice after each, and the SD of the log Jacobian after the last.
TrainBatch = Callable[
    [torch.nn.Module, torch.optim.Optimizer, Batch], tuple[list[float], float]
]


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def no_displacement(fixed: torch.Tensor) -> torch.Tensor:
    """Zeros (B, 3, D/2, H/2, W/2) for canvases ``fixed`` (B, C, D, H, W)."""
    return fixed.new_zeros(len(fixed), 3, *(n // 2 for n in fixed.shape[2:]))


def run_pass(
    network: torch.nn.Module, shown: torch.Tensor, displacement: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocity for the canvases ``shown``, and ``displacement`` carried on by its flow.

    Both on the half-resolution grid, in canvas cells.
    """
    with reduced(shown.device):
        velocity = network(shown.contiguous(memory_format=torch.channels_last_3d)).float()
    # Composed in cells of their own grid.
    update = 2 * integrate(velocity / 2, INTEGRATION_STEPS)
    return velocity, 2 * compose(displacement / 2, update / 2)


def take_step(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor
) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def train_passes(
    folder: Path,
    network: torch.nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    train_batch: TrainBatch,
    steps: int,
    rate: float,
    seed: int,
) -> Path:
    """Train a registration network until ``steps``, from ``folder/checkpoint.pt`` if it is there.

    ``batches`` gives the stream that begins after so many steps. Writes the running average of the
    weights, the log and its picture into ``folder``; returns the weights' path.
    """
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    network.to(best_device(), memory_format=torch.channels_last_3d)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    checkpoint = folder / "checkpoint.pt"
    done = resume(checkpoint, network, average, optimizer)
    stream = iter(batches(done))
    means: dict[str, float] = {}
    for step in tqdm(range(done, steps), total=steps, initial=done, mininterval=10):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, rate)
        reached, spread = train_batch(network, optimizer, next(stream))
        average.update_parameters(network)
        found = {f"pass {k}": dice for k, dice in enumerate(reached, start=1)}
        found["SD log J loss"] = spread
        means = {name: 0.98 * means.get(name, new) + 0.02 * new for name, new in found.items()}
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            append_log(folder / "log.csv", {"step": step + 1, **means})
            save_checkpoint(checkpoint, step + 1, network, average, optimizer)
    torch.save(average.module.state_dict(), folder / "weights.pt")
    draw_curves(folder / "log.csv", folder / "curves.png")
    return folder / "weights.pt"


def append_log(path: Path, row: dict[str, float]) -> None:
    """Add a line to the CSV file ``path``, with a header where it is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({name: f"{value:.5g}" for name, value in row.items()})


def draw_curves(log: Path, picture: Path) -> None:
    """Every column of ``log`` but ``step`` over the steps, losses and Dice on axes of their own."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with log.open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    steps = [row["step"] for row in rows]
    losses = [name for name in rows[0] if "loss" in name]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name in rows[0]:
        if name != "step":
            axis = axes[0] if name in losses else axes[1]
            axis.plot(steps, [row[name] for row in rows], label=name)
    for axis, title in zip(axes, ("loss", "Dice"), strict=True):
        axis.set(xlabel="step", title=title)
        if axis.lines:
            axis.legend(frameon=False)
    figure.savefig(picture, dpi=120)
    plt.close(figure)
