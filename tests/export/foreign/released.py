"""Networks from other people's released packages, made with random weights.

Nothing of theirs is copied: a wrapper here only calls their classes, as a user's own module would.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn


def load(module: str) -> Any:
    """A module of a package that may be absent; skips the test with the reason.

    Their import-time warnings are not ours to mend.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(module)
        except ImportError as error:
            pytest.skip(f"{module.partition('.')[0]} is not installed ({error})")


def randomise(network: nn.Module, last: nn.Module, size: float) -> nn.Module:
    """``network`` with random weights in its ``last`` layer: an untrained field is next to zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.normal_(std=size)
    return network.eval()


def voxelmorph() -> nn.Module:
    torch.manual_seed(0)
    return load("voxelmorph.nn.models").VxmPairwise(
        ndim=3,
        source_channels=1,
        target_channels=1,
        nb_features=[8, 8, 8],
        flow_initializer=0.3,
        integration_steps=4,
    )


def monai_voxelmorph() -> nn.Module:
    torch.manual_seed(0)
    network = load("monai.networks.nets").VoxelMorphUNet(
        spatial_dims=3,
        in_channels=2,
        unet_out_channels=8,
        channels=(4, 8, 8, 8, 8, 8),
        final_conv_channels=(8, 8),
    )
    last = [module for module in network.modules() if isinstance(module, nn.Conv3d)][-1]
    return randomise(network, last, 2.0)


def monai_localnet() -> nn.Module:
    torch.manual_seed(0)
    network = load("monai.networks.nets").LocalNet(
        spatial_dims=3, in_channels=2, num_channel_initial=4, extract_levels=(0, 1, 2)
    )
    return randomise(network, network.output_block, 0.1)


def monai_segresnet() -> nn.Module:
    torch.manual_seed(0)
    network = load("monai.networks.nets").SegResNet(
        spatial_dims=3, init_filters=8, in_channels=4, out_channels=3, blocks_down=(1, 1, 1),
        blocks_up=(1, 1),
    )
    return randomise(network, network.conv_final, 0.2)


class IconTwoStep(nn.Module):
    """Two registrations, the second of what the first left; on a grid that spans 0 to 1."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        icon = load("icon_registration")
        parts = [
            load("icon_registration.networks").UNet2(2, [[2, 8, 8], [4, 8]], dimension=3)
            for _ in range(2)
        ]
        for part in parts:
            randomise(part, part.lastConv, 0.05)
        first, second = (icon.FunctionFromVectorField(part) for part in parts)
        self.net = icon.TwoStepRegistration(first, second)
        self.net.assign_identity_map([1, 1, cells, cells, cells])

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        grid = self.net.identity_map
        return self.net(moving, fixed)(grid) - grid
