"""Fixtures shared by all tests: a tiny model package, the research data if it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segreg.engine.package import write_checksums

if TYPE_CHECKING:
    from tests.engine.strict_cupy import StrictGpu
    from tests.kernels.conftest import Emulated

ROOT = Path(__file__).resolve().parent.parent

BuildPackage = Callable[..., Path]


def tiny_network(
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0), weights: Any = None
) -> onnx.ModelProto:
    """A network whose velocity is ``bias`` everywhere: one strided convolution of zero weights.

    With ``weights`` (3, channels, 2, 2, 2) the velocity depends on what the canvases show.
    """
    if weights is None:
        weights = np.zeros((3, 4, 2, 2, 2))
    channels = np.shape(weights)[1]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["regions", "w", "b"], ["vectors"], strides=[2, 2, 2])],
        "tiny",
        [helper.make_tensor_value_info("regions", TensorProto.FLOAT, ["K", channels, *[16] * 3])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["K", 3, 8, 8, 8])],
        [
            numpy_helper.from_array(np.asarray(weights, np.float32), "w"),
            numpy_helper.from_array(np.asarray(bias, np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def write_tiny_package(folder: Path, network: onnx.ModelProto, **settings: Any) -> Path:
    """A valid package around ``network``, on a canvas of 16 cells, one pass.

    ``settings`` replace those of its ``segreg`` block; None takes one away.
    """
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    metadata = json.loads((ROOT / "models/shapes/configs/metadata.json").read_text())
    metadata.update(name="tiny", version="0.1.0", description="A network for tests")
    metadata["segreg"].pop("variants", None)  # those of another network
    block = {**metadata["segreg"], "canvas": [16], "passes": 1, "refine": None, **settings}
    metadata["segreg"] = {key: value for key, value in block.items() if value is not None}
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


def threshold_network(low: float = 50.0, high: float = 150.0) -> onnx.ModelProto:
    """Scores of three classes, the largest of which says where an image lies between thresholds."""
    weights = np.array([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1, 1)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w", "b"], ["scores"])],
        "threshold",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["K", 1, *"DHW"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["K", 3, *"DHW"])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "w"),
            numpy_helper.from_array(np.array([0, -low, -low - high], np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


SEGMENTATION = {
    "spacing": [None, None, None],
    "patch": [None, None, None],
    "stride": [1, 1, 1],
    "overlap": 0.5,
    "intensity": {"rule": "window", "low": 0, "high": 400, "mean": 0, "std": 1},
    "classes": [{"name": "ball", "label": 4}, {"name": "bar", "label": 9}],
}


def write_segmenting_package(
    folder: Path, network: onnx.ModelProto | None = None, **settings: Any
) -> Path:
    """A tiny package that also segments, by thresholds; ``settings`` are of its segmentation."""
    block = {**SEGMENTATION, **settings}
    write_tiny_package(folder, tiny_network(), segmentation=block)
    content = (network or threshold_network()).SerializeToString()
    (folder / "models/segmentation.onnx").write_bytes(content)
    write_checksums(folder)
    return folder


@pytest.fixture(scope="session")
def segmenting_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_segmenting_package(tmp_path_factory.mktemp("packages") / "segmenting")


@pytest.fixture
def build_package(tmp_path: Path) -> BuildPackage:
    """Writes a tiny package: its network's ``bias``, and settings of its ``segreg`` block."""

    def build(bias: tuple[float, float, float] = (0.0, 0.0, 0.0), **settings: Any) -> Path:
        return write_tiny_package(tmp_path / "built", tiny_network(bias), **settings)

    return build


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    """The CUDA sources, run by the host's compiler."""
    from tests.kernels.conftest import Emulated

    return Emulated(tmp_path_factory.mktemp("emulated"))


@pytest.fixture
def gpu(emulated: Emulated, monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictGpu]:
    """A stand-in for a GPU that refuses to mix its arrays with the host's."""
    from tests.engine.strict_cupy import strict_gpu

    with strict_gpu(emulated, monkeypatch) as gpu:
        yield gpu


@pytest.fixture(scope="session")
def research_data() -> Path:
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the research data is not beside the checkout (../shared/data)")
    return path
