"""The segmentation network of the ``cardiac`` package: a U-Net on stacks of thick slices."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import nn

IN_PLANE = (1, 3, 3)
THROUGH_PLANE = (3, 3, 3)
HALVED = (1, 2, 2)
ACROSS_FROM = 2  # the first level whose cells are about as wide as the slices are apart


class SliceConv(nn.Conv3d):
    """A convolution within slices.

    Slices are a batch of 2-D images to it: on a CPU with bfloat16, PyTorch's gradient of a Conv3d
    of few channels corrupts memory (2.13). The exported graph holds the Conv itself.
    """

    def forward(self, stack: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_exporting():
            return super().forward(stack)
        kernel = self.weight.squeeze(2)
        stride, padding = self.stride[1:], self.padding[1:]
        return _stack(F.conv2d(_slices(stack), kernel, self.bias, stride, padding), len(stack))


class SliceUnfold(nn.ConvTranspose3d):
    """Each cell of a slice becomes 2 x 2 cells; see ``SliceConv``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, HALVED, stride=HALVED)

    def forward(self, stack: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        if torch.compiler.is_exporting():
            return super().forward(stack, output_size)
        kernel = self.weight.squeeze(2)
        cells = F.conv_transpose2d(_slices(stack), kernel, self.bias, self.stride[1:])
        return _stack(cells, len(stack))


def _slices(stack: torch.Tensor) -> torch.Tensor:
    """(B, C, D, H, W) as (B D, C, H, W); a view where channels are last."""
    return stack.movedim(2, 1).flatten(0, 1)


def _stack(slices: torch.Tensor, count: int) -> torch.Tensor:
    return slices.unflatten(0, (count, -1)).movedim(1, 2)


def _block(inputs: int, outputs: int, kernel: tuple[int, int, int]) -> nn.Sequential:
    convolution = SliceConv if kernel[0] == 1 else nn.Conv3d
    padding = tuple(n // 2 for n in kernel)
    return nn.Sequential(
        convolution(inputs, outputs, kernel, padding=padding, bias=False),
        nn.BatchNorm3d(outputs, momentum=0.02),
        nn.LeakyReLU(0.1),
    )


def _kernel(level: int) -> tuple[int, int, int]:
    return THROUGH_PLANE if level >= ACROSS_FROM else IN_PLANE


class StackNetwork(nn.Module):
    """Image stacks in, one logit a class out.

    Slices of cardiac cine MR lie 5 to 10 mm apart and are moved against each other by breathing:
    the fine levels look at one slice at a time, the coarse ones at its neighbours too. The
    resolution is halved in plane only, so a stack may have any number of slices. The stem halves
    it at once; the tail, which sees the image again, draws the outlines on the image's own cells.

    Parameters
    ----------
    classes : background included.
    channels : features of the levels, finest (half resolution) first.
    tail : features at full resolution.
    """

    def __init__(
        self, classes: int = 4, channels: tuple[int, ...] = (32, 64, 96, 128), tail: int = 16
    ) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))
        self.stem = nn.Sequential(
            SliceConv(1, channels[0], (1, 4, 4), stride=HALVED, padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(channels[0], momentum=0.02),
            nn.LeakyReLU(0.1),
            _block(channels[0], channels[0], IN_PLANE),
        )
        self.shrink = nn.MaxPool3d(HALVED)
        self.grow = nn.Upsample(scale_factor=tuple(map(float, HALVED)), mode="nearest")
        self.down = nn.ModuleList(
            nn.Sequential(
                _block(fine, coarse, _kernel(level)), _block(coarse, coarse, _kernel(level))
            )
            for level, (fine, coarse) in enumerate(pairs, start=1)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                _block(coarse + fine, fine, IN_PLANE), _block(fine, fine, _kernel(level))
            )
            for level, (fine, coarse) in reversed(list(enumerate(pairs)))
        )
        self.unfold = SliceUnfold(channels[0], tail)
        self.edges = SliceConv(1, tail, IN_PLANE, padding=(0, 1, 1), bias=False)
        self.tail = _block(tail, tail, IN_PLANE)
        self.logits = SliceConv(tail, classes, 1)

    @property
    def stride(self) -> tuple[int, int, int]:
        """What the size of a stack must be a multiple of, per axis."""
        return 1, 2 ** (len(self.down) + 1), 2 ** (len(self.down) + 1)

    def forward(self, stack: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes, D, H, W) of ``stack`` (B, 1, D, H, W)."""
        features = self.stem(stack)
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(self.shrink(features))
        for up in self.up:
            features = up(torch.cat([self.grow(features), skips.pop()], 1))
        outlines = self.tail(self.unfold(features) + self.edges(stack))
        logits: torch.Tensor = self.logits(outlines)
        return logits


def widen(weights: dict[str, torch.Tensor], network: StackNetwork) -> dict[str, torch.Tensor]:
    """The state of a network of fewer connections as one of ``network``: what is new is zero.

    Kernels within slices become the middle of kernels through slices, and ``network`` gives the
    same logits as the one before. Weights that already fit come back as they are.
    """
    state = {}
    for name, value in network.state_dict().items():
        old = weights.get(name, torch.zeros_like(value))
        if old.shape != value.shape:
            old = F.pad(old, [0, 0, 0, 0, 1, 1])
        state[name] = old
    return state
