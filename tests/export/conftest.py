"""Networks small enough to export in seconds, with weights that say something."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from models.shapes.network import RegionNetwork
from segreg.engine.package import Package
from segreg.engine.phantom import make_phantom
from segreg.engine.volume import Volume
from segreg.export import export

ROOT = Path(__file__).resolve().parents[2]
IMAGES = [["moving_masked_image"], ["fixed_masked_image"]]  # of a network that takes two arguments

MakeSpec = Callable[..., dict[str, Any]]


class SmallNetwork(RegionNetwork):
    """The shipped architecture with few features; like any class that can be exported."""

    def __init__(self) -> None:
        super().__init__((4, 6, 8, 8))


@dataclass(frozen=True)
class Material:
    """What an export starts from."""

    network: Any
    spec: dict[str, Any]
    card: Path
    licence: Path
    weights: Path

    @property
    def texts(self) -> dict[str, Path]:
        return {"card": self.card, "licence": self.licence}


def make_network() -> Any:
    torch.manual_seed(0)
    network = SmallNetwork().eval()
    with torch.no_grad():  # an untrained velocity is next to nothing; this one is voxels
        network.velocity.weight.normal_(std=2.0)
        network.velocity.bias.normal_()
    return network


@pytest.fixture(scope="session")
def shapes_spec() -> dict[str, Any]:
    """The spec of the shipped package, on a canvas of 16 cells, one pass, not refined."""
    spec = json.loads((ROOT / "models/shapes/spec.json").read_text(encoding="utf-8"))
    spec.update(name="small", version="0.1.0", description="Untrained")
    spec["segreg"].update(canvas=[16], passes=1, refine="off")
    spec["network"]["precisions"] = ["float32"]  # what a clock decides is tried in test_variants
    return dict(spec)


@pytest.fixture
def make_spec(shapes_spec: dict[str, Any]) -> MakeSpec:
    """A spec of displacements in canvas voxels; ``output`` and others replace what it says."""

    def make(output: dict[str, Any] | None = None, **network: Any) -> dict[str, Any]:
        spec = copy.deepcopy(shapes_spec)
        stated = {"kind": "displacement", "unit": "canvas_voxel", "order": "zyx", **(output or {})}
        spec["network"] = {**spec["network"], "output": stated, **network}
        return spec

    return make


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory, shapes_spec: dict[str, Any]) -> Material:
    folder = tmp_path_factory.mktemp("material")
    network = make_network()
    (folder / "card.md").write_text("# Small\n\nUntrained.\n")
    (folder / "LICENSE").write_text("Do as you like.\n")
    torch.save(network.state_dict(), folder / "weights.pt")
    return Material(
        network, shapes_spec, folder / "card.md", folder / "LICENSE", folder / "weights.pt"
    )


@pytest.fixture(scope="session")
def sides() -> list[Volume]:
    """A pair of few voxels, quick to register."""
    phantom = make_phantom((20, 24, 22), (5.0, 4.0, 4.0))
    return [phantom.moving, phantom.fixed, phantom.moving_labels, phantom.fixed_labels]


@pytest.fixture(scope="session")
def exported(
    material: Material, sides: list[Volume], tmp_path_factory: pytest.TempPathFactory
) -> Package:
    folder = tmp_path_factory.mktemp("exported") / "small"
    return export(material.network, material.spec, folder, pair=sides, **material.texts)
