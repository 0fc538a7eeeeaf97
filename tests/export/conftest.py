"""A network small enough to export in seconds, with weights that say something."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from models.shapes.network import RegionNetwork
from segreg.engine.package import Package
from segreg.export import export

ROOT = Path(__file__).resolve().parents[2]


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
    def channels(self) -> list[str]:
        return list(self.spec["segreg"]["channels"])

    @property
    def texts(self) -> dict[str, Path]:
        return {"card": self.card, "licence": self.licence}


def make_network() -> Any:
    torch.manual_seed(0)
    network = SmallNetwork().eval()
    with torch.no_grad():  # an untrained velocity is next to nothing; this one is voxels
        network.velocity.weight.normal_(std=4.0)
        network.velocity.bias.normal_()
    return network


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("material")
    network = make_network()
    spec = json.loads((ROOT / "models/shapes/spec.json").read_text(encoding="utf-8"))
    spec.update(name="small", description="Untrained")
    spec["segreg"].update(canvas=[16], passes=1)
    (folder / "card.md").write_text("# Small\n\nUntrained.\n")
    (folder / "LICENSE").write_text("Do as you like.\n")
    torch.save(network.state_dict(), folder / "weights.pt")
    return Material(
        network, spec, folder / "card.md", folder / "LICENSE", folder / "weights.pt"
    )


@pytest.fixture(scope="session")
def exported(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("exported") / "small"
    return export(material.network, material.spec, folder, **material.texts)
