"""The graph holds what leads to the vectors, free axes, and nothing of the machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from segreg.engine.backends import open_backend
from segreg.engine.errors import PackageError
from segreg.engine.package import Package
from segreg.engine.version import __version__
from segreg.export.adapter import Adapter
from segreg.export.graph import Graph, write_graph
from segreg.export.spec import parse_spec
from tests.export.conftest import IMAGES, MakeSpec
from tests.export.networks import (
    Branching,
    FixedBatch,
    NormUNet,
    Pyramid,
    ValueShaped,
    WarpingFollower,
)


def write(network: Any, path: Path, content: dict[str, Any], **options: Any) -> Graph:
    spec = parse_spec(content)
    adapter = Adapter(network, spec)
    return write_graph(adapter, spec.shapes[0], len(spec.channels), path, {}, **options)


class TestExported:
    @pytest.fixture(scope="class")
    @classmethod
    def graph(cls, exported: Package) -> onnx.ModelProto:
        return onnx.load(exported.network)

    def test_names_and_free_axes(self, graph: onnx.ModelProto) -> None:
        (regions,), (vectors,) = graph.graph.input, graph.graph.output
        assert (regions.name, vectors.name) == ("regions", "vectors")
        axes = regions.type.tensor_type.shape.dim
        assert axes[1].dim_value == 4
        assert all(axes[i].dim_param for i in (0, 2, 3, 4))  # batch and canvas are free
        assert vectors.type.tensor_type.shape.dim[1].dim_value == 3

    def test_says_what_it_is(self, graph: onnx.ModelProto) -> None:
        properties = {entry.key: entry.value for entry in graph.metadata_props}
        assert properties == {"name": "small", "version": "0.1.0", "segreg": __version__}
        assert {o.version for o in graph.opset_import if not o.domain} == {20}

    def test_weights_are_named_as_in_the_network(
        self, graph: onnx.ModelProto, material: Any
    ) -> None:
        named = {t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}
        for name, value in material.network.state_dict().items():
            np.testing.assert_array_equal(named[name], value.numpy())

    def test_adds_nothing_where_conventions_agree(self, graph: onnx.ModelProto) -> None:
        operators = {node.op_type for node in graph.graph.node}
        assert operators == {"Conv", "LeakyRelu", "Resize", "Concat"}

    def test_holds_no_path_of_this_machine(self, exported: Package) -> None:
        content = exported.network.read_bytes()
        for trace in (os.getcwd(), str(Path.home()), "site-packages", ".py"):  # noqa: PTH109
            assert trace.encode() not in content

    @pytest.mark.parametrize("canvas", [16, 32])
    @pytest.mark.parametrize("count", [1, 3])
    def test_takes_other_batches_and_canvases(
        self, exported: Package, material: Any, count: int, canvas: int
    ) -> None:
        shape = (count, 4, canvas, canvas, canvas)
        regions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        with torch.inference_mode():
            expected = material.network(torch.from_numpy(regions)).numpy()
        backend = open_backend("onnxruntime", exported.network, channels=4)
        np.testing.assert_allclose(backend.infer(regions), expected, atol=1e-4)
        backend.close()


def test_warp_at_the_end_is_cut_out(tmp_path: Path, make_spec: MakeSpec) -> None:
    content = make_spec({"take": 1}, inputs=IMAGES)
    graph = write(WarpingFollower(), tmp_path / "cut.onnx", content)
    assert "GridSample" not in graph.operators
    assert graph.free_axes == ("batch", "space")


def test_warps_inside_stay(tmp_path: Path, make_spec: MakeSpec) -> None:
    content = make_spec(inputs=IMAGES)
    graph = write(Pyramid(), tmp_path / "pyramid.onnx", content)
    assert graph.operators["GridSample"] == 2
    assert graph.free_axes == ("batch", "space")


def test_space_is_fixed_where_asked(tmp_path: Path, make_spec: MakeSpec) -> None:
    graph = write(NormUNet(), tmp_path / "fixed.onnx", make_spec(), free_space=False)
    assert graph.free_axes == ("batch",)
    axes = onnx.load(tmp_path / "fixed.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_value for axis in axes][1:] == [4, 16, 16, 16]
    assert axes[0].dim_param


def test_large_weights_lie_beside_the_graph(tmp_path: Path, make_spec: MakeSpec) -> None:
    network = NormUNet()
    path = tmp_path / "large.onnx"
    write(network, path, make_spec(), external_from=1000)
    beside = tmp_path / "large.onnx.data"
    assert beside.stat().st_size > path.stat().st_size / 4
    entries = [t.external_data for t in onnx.load(path, load_external_data=False).graph.initializer]
    places = {e.value for entry in entries for e in entry if e.key == "location"}
    assert places == {"large.onnx.data"}  # no path: the folder may move
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in (path, beside):
        file.rename(moved / file.name)
    regions = np.random.default_rng(0).uniform(-1, 1, (1, 4, 16, 16, 16)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(regions)).numpy()
    backend = open_backend("onnxruntime", moved / "large.onnx", channels=4)
    np.testing.assert_allclose(backend.infer(regions), expected, atol=1e-4)
    backend.close()


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (ValueShaped(), r"depends on the values it is shown.*torch\.where"),
        (Branching(), r"depends on the values it is shown.*torch\.where"),
        (FixedBatch(), r"works for the one batch size it was traced with.*in forward"),
    ],
)
def test_refuses(
    network: Any,
    sentence: str,
    tmp_path: Path,
    make_spec: MakeSpec,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(PackageError, match=sentence):
        write(network, tmp_path / "refused.onnx", make_spec())
    assert not (tmp_path / "refused.onnx").exists()
    assert capfd.readouterr().err == ""  # the sentence alone, and not the graph
