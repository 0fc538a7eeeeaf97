"""Train the segmentation of ``cardiac`` on ACDC: ``python -m models.cardiac.train_segmentation``.

Resumable (the checkpoint is written every few minutes and picked up again) and seeded. Runs on a
GPU where there is one, else on the CPU, in bfloat16 where that is sound.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from models.cardiac.augmentation import SIDES, SPACING, make_patch
from models.cardiac.patients import NAMES, TRAINING, VALIDATION, Frame, read_frames
from models.cardiac.segmentation_network import StackNetwork, widen
from models.cardiac.training import append_log, best_device, draw_curves
from models.shapes.training import learning_rate, reduced, resume, save_checkpoint

RATE = 1.5e-3
BATCH = 2
STEPS = 20000
SAVE_EVERY = 250
VALIDATE_EVERY = 2500
CROPPED, FEWEST = 0.25, 6  # share of the stacks that lose slices, and how many stay at least

Batch = tuple[torch.Tensor, torch.Tensor]


class Patches(IterableDataset[Batch]):
    """An endless, seeded stream of batches: images (B, 1, D, H, W), labels (B, D, H, W)."""

    def __init__(self, frames: list[Frame], seed: int, batch: int = BATCH) -> None:
        self.frames, self.seed, self.batch = frames, seed, batch

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        rng = torch.Generator().manual_seed(self.seed)
        while True:
            order = torch.randperm(len(self.frames), generator=rng).tolist()
            # Stacks of equal depth share a batch, so that whole ones can be shown.
            order.sort(key=lambda i: len(self.frames[i].image))
            starts = range(0, len(order) - self.batch + 1, self.batch)
            for number in torch.randperm(len(starts), generator=rng).tolist():
                start = starts[number]
                chosen = [self.frames[i] for i in order[start : start + self.batch]]
                slices = min(len(frame.image) for frame in chosen)
                if torch.rand((), generator=rng) < CROPPED and slices > FEWEST:
                    slices = int(torch.randint(FEWEST, slices, (), generator=rng))
                side = SIDES[int(torch.randint(len(SIDES), (), generator=rng))]
                patches = [make_patch(rng, frame, slices, side) for frame in chosen]
                images, labels = zip(*patches, strict=True)
                yield torch.stack(images), torch.stack(labels)


def segmentation_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy plus one minus the soft Dice of each class but the background.

    The Dice is taken over the whole batch, so a patch without a class does not count as an error.
    """
    probabilities = logits.softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(probabilities.dtype)
    axes = (0, 2, 3, 4)
    overlap = (probabilities * truth).sum(axes)
    total = (probabilities + truth).sum(axes)
    dice = (2 * overlap + 1) / (total + 1)
    return F.cross_entropy(logits, labels) + 1 - dice[1:].mean()


@torch.no_grad()
def validate(network: torch.nn.Module, frames: list[Frame]) -> dict[str, float]:
    """Mean 3-D Dice of each label on the native grids, whole images, nothing cleaned up."""
    device = next(network.parameters()).device
    network.eval()
    reached = dict.fromkeys(NAMES.values(), 0.0)
    for frame in frames:
        labels = predict(network, frame, device)
        for label, name in NAMES.items():
            found, truth = labels == label, frame.labels == label
            both = found.sum() + truth.sum()
            reached[name] += float(2 * (found & truth).sum() / both.clamp(min=1)) / len(frames)
    network.train()
    return reached


def predict(network: torch.nn.Module, frame: Frame, device: torch.device) -> torch.Tensor:
    """Labels (D, H, W) of a whole image: resampled in plane, padded, and back."""
    depth, *native = frame.image.shape
    size = [round(n * mm / SPACING) for n, mm in zip(native, frame.spacing[1:], strict=True)]
    stack = F.interpolate(frame.image[None], size, mode="bilinear", align_corners=False)
    stack = F.pad(stack, [0, -size[1] % 16, 0, -size[0] % 16], mode="replicate")
    with reduced(device):
        logits = network(stack[None].to(device))[0].float().cpu()
    logits = logits[:, :, : size[0], : size[1]]
    back = F.interpolate(logits, native, mode="bilinear", align_corners=False)
    return back.argmax(0).view(depth, *native)


def train(
    folder: Path,
    data: Path,
    steps: int,
    seed: int,
    start: Path | None = None,
    rate: float = RATE,
    settled: bool = False,
) -> Path:
    """Train for ``steps`` steps, continuing ``folder/checkpoint.pt`` where there is one.

    ``start`` : weights to begin with, also those of a network before it got all its connections.
    ``rate`` : of learning, at its highest.
    ``settled`` : normalise by the statistics of the weights begun with, as whole images will be;
    those of a batch of two differ from them the more, the longer a network is trained on them.
    """
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    device = best_device()
    network = StackNetwork()
    if start:
        network.load_state_dict(widen(torch.load(start, weights_only=True), network))
    network.to(device, memory_format=torch.channels_last_3d)
    if settled:
        settle(network)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    checkpoint = folder / "checkpoint.pt"
    done = resume(checkpoint, network, average, optimizer)
    patches = Patches(read_frames(data, TRAINING), seed + done)
    unseen = read_frames(data, VALIDATION)
    loader = iter(DataLoader(patches, batch_size=None, num_workers=1, prefetch_factor=4))
    mean_loss = 0.0
    for step in tqdm(range(done, steps), total=steps, initial=done, mininterval=10):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, rate)
        loss = train_batch(network, optimizer, next(loader))
        average.update_parameters(network)
        mean_loss = loss if step == done else 0.98 * mean_loss + 0.02 * loss
        last = step + 1 == steps
        if (step + 1) % VALIDATE_EVERY == 0 or last:
            reached = validate(average, unseen)
            append_log(folder / "log.csv", {"step": step + 1, "loss": mean_loss, **reached})
        if (step + 1) % SAVE_EVERY == 0 or last:
            tqdm.write(f"step {step + 1}: loss {mean_loss:.4f}")
            save_checkpoint(checkpoint, step + 1, network, average, optimizer)
    torch.save(average.module.state_dict(), folder / "weights.pt")
    draw_curves(folder / "log.csv", folder / "curves.png")
    return folder / "weights.pt"


def settle(network: torch.nn.Module) -> None:
    """Let the statistics of normalisation be as they are, also in training."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eval()


def train_batch(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Batch
) -> float:
    """One optimiser step; the loss before it."""
    device = next(network.parameters()).device
    images, labels = (part.to(device) for part in batch)
    with reduced(device):
        logits = network(images.contiguous(memory_format=torch.channels_last_3d))
    loss = segmentation_loss(logits.float(), labels)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("training/cardiac/segmentation"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/acdc"))
    parser.add_argument("--start", type=Path, help="weights to begin with (a state dict)")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=RATE, help="highest rate of learning")
    parser.add_argument("--settled", action="store_true", help="keep the statistics of --start")
    options = parser.parse_args()
    train(
        options.output,
        options.data,
        options.steps,
        options.seed,
        options.start,
        options.rate,
        options.settled,
    )


if __name__ == "__main__":
    main()
