"""What the recipes of this package share: the device, the log and its picture."""

from __future__ import annotations

import csv
from pathlib import Path

import torch


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
