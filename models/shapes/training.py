"""What all recipes share: schedule of the learning rate, arithmetic, checkpoints to go on from."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from segreg.engine.machine import processor_flags


def reduced(device: str | torch.device) -> torch.autocast:
    """bfloat16 where its gradients are sound: on a GPU, and on a CPU with AMX.

    On AVX-512 bf16 alone PyTorch's gradient of a Conv3d with few channels is NaN now and then
    (2.13): there, and where the system does not tell, float32.
    """
    kind = torch.device(device).type
    sound = kind == "cuda" or "amx_bf16" in (processor_flags() or ())
    return torch.autocast(kind, torch.bfloat16, enabled=sound)


def learning_rate(step: int, last: int, rate: float) -> float:
    """Warm-up over 200 steps, then a cosine to 1 % of ``rate``."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / last))
    return rate * min(1.0, (step + 1) / 200) * (0.01 + 0.99 * cosine)


def save_checkpoint(
    path: Path,
    step: int,
    network: torch.nn.Module,
    average: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Replace ``path`` in one go: an interruption leaves the old checkpoint whole."""
    partial = path.with_suffix(".partial")
    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
    }
    torch.save(state, partial)
    partial.replace(path)


def resume(
    path: Path,
    network: torch.nn.Module,
    average: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> int:
    """Go on from the checkpoint ``path``: its step, 0 where there is none."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
