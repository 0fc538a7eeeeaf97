"""Networks that nobody here wrote go through the one export path and register a pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segreg.engine.backends import CudaOptions, availability
from segreg.engine.backends.engine_build import build_engine, parse_network
from segreg.engine.errors import BackendError
from segreg.engine.runtime import Engine
from segreg.export import export
from segreg.export.adapter import Adapter
from segreg.export.graph import write_graph
from segreg.export.spec import parse_spec
from tests.export.conftest import IMAGES, MakeSpec
from tests.export.foreign import released
from tests.export.networks import NormUNet, Pyramid

CONCATENATED = [["moving_masked_image", "fixed_masked_image"]]


@dataclass(frozen=True)
class Case:
    """A network, what its spec says beyond the default, and what its graph must hold."""

    make: Callable[[], nn.Module]
    network: dict[str, Any]
    output: dict[str, Any] = field(default_factory=dict)
    warps: int = 0  # GridSample operators left in the graph
    cells: int = 16
    free_space: bool = True
    operators: tuple[str, ...] = ()


def pyramid() -> nn.Module:
    torch.manual_seed(0)
    network = Pyramid()
    return released.randomise(network, network.heads, 0.3)


def normalised() -> nn.Module:
    torch.manual_seed(0)
    network = NormUNet()
    return released.randomise(network, network.head, 0.3)


VELOCITY = {"return_field_type": "velocity"}
WARPED = {"return_warped_source": True}
CASES = {
    "voxelmorph, its velocity": Case(
        released.voxelmorph,
        {"inputs": IMAGES, "arguments": VELOCITY, "intensity_range": [0, 1]},
        {"kind": "velocity"},
    ),
    # It integrates inside and warps at its end: four warps are needed, the fifth is cut out. The
    # integration keeps a grid of the size it first saw.
    "voxelmorph, field and warped image": Case(
        released.voxelmorph,
        {"inputs": IMAGES, "arguments": WARPED},
        {"take": 0},
        warps=4,
        free_space=False,
    ),
    "MONAI VoxelMorphUNet": Case(
        released.monai_voxelmorph, {"inputs": CONCATENATED}, {"order": "xyz"}, cells=32
    ),
    "MONAI LocalNet": Case(
        released.monai_localnet, {"inputs": CONCATENATED}, operators=("ConvTranspose",)
    ),
    "MONAI SegResNet": Case(released.monai_segresnet, {}, {"kind": "velocity"}),
    "icon_registration, two steps": Case(
        lambda: released.IconTwoStep(16).eval(),
        {"inputs": IMAGES, "free_space": False},
        {"unit": "unit_interval", "align_corners": True},
        warps=4,
        free_space=False,
    ),
    "pyramid that warps its features": Case(
        pyramid, {"inputs": IMAGES}, warps=2
    ),
    "InstanceNorm and transposed convolutions": Case(
        normalised,
        {},
        {"kind": "velocity"},
        operators=("ConvTranspose", "InstanceNormalization", "PRelu", "Elu"),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_exports_and_registers(
    case: Case, make_spec: MakeSpec, sides: Any, tmp_path: Path
) -> None:
    spec = make_spec(case.output, **case.network)
    spec["segreg"].update(canvas=[case.cells], integration_steps=4)
    package = export(case.make(), spec, tmp_path / "small", pair=sides)
    assert package.settings["parity"] == "passed"
    report = json.loads((package.folder / "docs/parity.json").read_text())
    assert report["graph"]["operators"].get("GridSample", 0) == case.warps
    assert set(case.operators) <= set(report["graph"]["operators"])
    assert ("space" in package.settings["free_axes"]) == case.free_space
    assert max(c["largest_displacement"] for c in report["cases"]) > 0.3  # it says something
    assert report["conventions"]["conventions"].startswith("not measurable")
    with Engine(package.folder) as engine:
        moved = engine.register(*sides)
    with Engine(package.folder, passes=0) as still:
        assert moved.quality.dice != still.register(*sides).quality.dice
    usable = [entry.name for entry in availability() if entry.usable]
    proved = {entry["backend"] for entry in report["pair"]["backends"]}
    refused = package.settings.get("refused_by", {})
    assert proved | set(refused) == set(usable)
    for name, why in refused.items():
        assert case.warps
        assert why == "lacks GridSample"
        sentence = rf"{name} lacks GridSample\. .* {engine.backend.name}"
        with pytest.raises(BackendError, match=sentence):
            Engine(package.folder, backend=name)


@pytest.mark.parametrize("capability", [(8, 6), (12, 0)], ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_builds_for_rtx(
    case: Case, capability: tuple[int, int], make_spec: MakeSpec, tmp_path: Path
) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    content = make_spec(case.output, **case.network)
    content["segreg"].update(canvas=[case.cells], integration_steps=4)
    spec, path = parse_spec(content), tmp_path / "network.onnx"
    write_graph(
        Adapter(case.make(), spec), spec.shapes[0], len(spec.channels), path, {},
        free_space=case.free_space,
    )  # fmt: skip
    parsed = parse_network(rtx, path, "tensorrt-rtx")
    assert sum(layer.kind == "GRID_SAMPLE" for layer in parsed.layers) == case.warps
    sizes = (case.cells,) * 3
    engine, _ = build_engine(parsed, sizes, CudaOptions(), capability=capability)
    assert len(engine) > 10_000
