"""Fixtures shared by all tests: a tiny model package, the research data if it is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segreg.engine.package import write_checksums

ROOT = Path(__file__).resolve().parent.parent

BuildPackage = Callable[..., Path]


def tiny_network(
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0), weights: Any = None
) -> onnx.ModelProto:
    """A network whose velocity is ``bias`` everywhere: one strided convolution of zero weights.

    With ``weights`` (3, 4, 2, 2, 2) the velocity depends on what the canvases show.
    """
    if weights is None:
        weights = np.zeros((3, 4, 2, 2, 2))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["regions", "w", "b"], ["vectors"], strides=[2, 2, 2])],
        "tiny",
        [helper.make_tensor_value_info("regions", TensorProto.FLOAT, ["K", 4, 16, 16, 16])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["K", 3, 8, 8, 8])],
        [
            numpy_helper.from_array(np.asarray(weights, np.float32), "w"),
            numpy_helper.from_array(np.asarray(bias, np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def write_tiny_package(folder: Path, network: onnx.ModelProto, **settings: Any) -> Path:
    """A valid package around ``network``, on a canvas of 16 cells, one pass.

    ``settings`` replace those of its ``segreg`` block.
    """
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    metadata = json.loads((ROOT / "models/shapes/configs/metadata.json").read_text())
    metadata.update(name="tiny", version="0.1.0", description="A network for tests")
    metadata["segreg"].pop("variants", None)  # those of another network
    metadata["segreg"].update({"canvas": [16], "passes": 1, **settings})
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    (folder / "models/registration.onnx").write_bytes(network.SerializeToString())
    (folder / "LICENSE").write_text("test")
    write_checksums(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_package(tmp_path_factory.mktemp("packages") / "tiny", tiny_network())


@pytest.fixture(scope="session")
def looking_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose network looks at its canvases: every region gets a field of its own."""
    weights = np.random.default_rng(0).normal(0, 0.2, (3, 4, 2, 2, 2))
    network = tiny_network((0.3, -0.2, 0.1), weights)
    return write_tiny_package(tmp_path_factory.mktemp("packages") / "looking", network)


@pytest.fixture
def build_package(tmp_path: Path) -> BuildPackage:
    """Writes a tiny package: its network's ``bias``, and settings of its ``segreg`` block."""

    def build(bias: tuple[float, float, float] = (0.0, 0.0, 0.0), **settings: Any) -> Path:
        return write_tiny_package(tmp_path / "built", tiny_network(bias), **settings)

    return build


@pytest.fixture(scope="session")
def research_data() -> Path:
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the research data is not beside the checkout (../shared/data)")
    return path
