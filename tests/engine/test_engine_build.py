"""TensorRT for RTX really parses and builds here; it needs no GPU for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from segreg.engine.backends import CudaOptions
from segreg.engine.backends.engine_build import (
    ParsedNetwork,
    build_engine,
    parse_network,
    profile_shapes,
    targets,
)
from segreg.engine.errors import BackendError, OperatorError
from segreg.engine.package import shipped_packages
from tests.engine.networks import network, write_network

rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")

CANVAS = (48, 80, 128)
CAPABILITIES = [(8, 6), (12, 0)]
RANDOM = np.random.default_rng(0)


def parse(path: Path) -> ParsedNetwork:
    return parse_network(rtx, path, "tensorrt-rtx")


def build(parsed: ParsedNetwork, **options: Any) -> bytes:
    capability = options.pop("capability", (8, 6))
    return build_engine(parsed, CANVAS, CudaOptions(**options), capability=capability)[0]


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 0.3, shape).astype(np.float32)


def pyramid(folder: Path) -> Path:
    """What foreign networks have: transposed convolution, instance norm, a warp inside."""
    node = helper.make_node
    line = np.linspace(-15 / 16, 15 / 16, 16, dtype=np.float32)
    identity = np.stack(np.meshgrid(line, line, line, indexing="ij")[::-1], -1)[None]
    nodes = [
        node("Conv", ["regions", "down"], ["coarse"], strides=[2, 2, 2], name="down"),
        node("InstanceNormalization", ["coarse", "scale", "shift"], ["even"], name="norm"),
        node("LeakyRelu", ["even"], ["active"], alpha=0.2),
        node("ConvTranspose", ["active", "up"], ["fine"], strides=[2, 2, 2], name="up"),
        node("Transpose", ["fine"], ["flow"], perm=[0, 2, 3, 4, 1]),
        node("Add", ["flow", "identity"], ["grid"]),
        node("GridSample", ["fine", "grid"], ["vectors"], mode="linear", name="warp"),
    ]
    shapes = [["K", 4, 16, 16, 16], ["K", 3, 16, 16, 16]]
    return write_network(
        folder / "pyramid.onnx", nodes, shapes, down=normal(8, 4, 2, 2, 2),
        up=normal(8, 3, 2, 2, 2), scale=np.ones(8, np.float32), shift=np.zeros(8, np.float32),
        identity=identity,
    )


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("folder", shipped_packages().values(), ids=shipped_packages())
def test_builds_shipped_packages(folder: Path, capability: tuple[int, int]) -> None:
    path = folder / "models/registration.onnx"
    parsed = parse(path)
    kinds = [layer.kind for layer in parsed.layers]
    assert kinds.count("CONVOLUTION") == 13
    assert kinds.count("RESIZE") == 3
    assert {layer.precision for layer in parsed.layers} == {"FLOAT"}
    engine = build(parsed, capability=capability)
    assert len(engine) > 0.5 * path.stat().st_size  # the weights are inside


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_builds_shipped_segmentation(capability: tuple[int, int]) -> None:
    path = shipped_packages()["cardiac"] / "models/segmentation.onnx"
    parsed = parse(path)
    engine, _ = build_engine(parsed, (8, 96, 128), CudaOptions(), capability=capability)
    assert len(engine) > 0.5 * path.stat().st_size


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_builds_what_foreign_networks_hold(
    tmp_path: Path, capability: tuple[int, int]
) -> None:
    parsed = parse(pyramid(tmp_path))
    kinds = {layer.kind for layer in parsed.layers}
    assert {"DECONVOLUTION", "NORMALIZATION", "GRID_SAMPLE"} <= kinds
    assert len(build(parsed, capability=capability)) > 10_000


def test_layers_bear_the_names_of_their_nodes(tmp_path: Path) -> None:
    names = {layer.name for layer in parse(pyramid(tmp_path)).layers}
    assert {"down", "up", "warp"} <= names


def test_every_missing_operator_is_named_at_once(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("Unfold", ["regions"], ["a"], domain="elsewhere", name="first"),
        node("Conv", ["a", "w"], ["b"], strides=[2, 2, 2]),
        node("Transmogrify", ["b"], ["vectors"], domain="elsewhere", name="last"),
    ]
    shapes = [["K", 4, 8, 8, 8], ["K", 3, 4, 4, 4]]
    path = write_network(tmp_path / "odd.onnx", nodes, shapes, w=normal(3, 4, 2, 2, 2))
    with pytest.raises(OperatorError, match=r"odd\.onnx because of .*Transmogrify") as caught:
        parse(path)
    assert {"Transmogrify", "Unfold"} <= set(caught.value.operators)
    assert "Unfold (first)" in str(caught.value)
    assert "Transmogrify (last)" in str(caught.value)


def test_operator_that_is_standard_but_missing(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Det", ["regions"], ["d"], name="determinant"),
        helper.make_node("Conv", ["regions", "w"], ["vectors"], strides=[2, 2, 2]),
    ]
    shapes = [["K", 4, 8, 8, 8], ["K", 3, 4, 4, 4]]
    path = write_network(tmp_path / "det.onnx", nodes, shapes, w=normal(3, 4, 2, 2, 2))
    with pytest.raises(OperatorError, match=r"because of Det: Det \(determinant\): UNSUPPORTED"):
        parse(path)


def test_interface_that_does_not_fit(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["regions", "w"], ["vectors"], strides=[2, 2])
    flat = write_network(
        tmp_path / "flat.onnx", [node], [["K", 4, 8, 8], ["K", 3, 4, 4]], w=normal(3, 4, 2, 2)
    )
    with pytest.raises(BackendError, match=r"expected regions to be float32 \(K, C, D, H, W\)"):
        parse(flat)
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(BackendError, match="expected one input and one output, got 0 and 0"):
        parse(tmp_path / "empty.onnx")


class TestVolumeSampling:
    """Full TensorRT samples volumes from 11.2.1 on; its older parsers are stood in for."""

    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rtx, "__name__", "tensorrt")

    @pytest.mark.usefixtures("full")
    @pytest.mark.parametrize("version", ["10.13.0.35", "11.2.0"])
    def test_refused_where_it_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
    ) -> None:
        monkeypatch.setattr(rtx, "__version__", version)
        with pytest.raises(OperatorError, match="because of GridSample: TensorRT 1"):
            parse(pyramid(tmp_path))
        assert parse(network(tmp_path)).layers  # without the operator it is fine

    @pytest.mark.usefixtures("full")
    def test_taken_where_it_is_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rtx, "__version__", "11.2.1")
        assert parse(pyramid(tmp_path)).layers


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((-1, 4, -1, -1, -1), [(1, 4, 48, 48, 48), (4, 4, 80, 80, 80), (16, 4, 128, 128, 128)]),
        ((1, 4, 16, 24, -1), [(1, 4, 16, 24, 48), (1, 4, 16, 24, 80), (1, 4, 16, 24, 128)]),
    ],
)
def test_profile_opens_what_the_network_leaves_open(shape: Any, expected: Any) -> None:
    assert list(profile_shapes(shape, 16, CANVAS)) == expected


def test_usual_batch_is_never_more_than_the_largest() -> None:
    shapes = profile_shapes((-1, 4, 8, 8, 8), 2, CANVAS)
    assert [shape[0] for shape in shapes] == [1, 2, 2]


def test_other_gpus_are_refused_by_name(tmp_path: Path) -> None:
    assert set(CAPABILITIES) <= set(targets(rtx))
    with pytest.raises(BackendError, match=r"compute capabilities 7\.5, .*12\.0.*; got 3\.5"):
        build(parse(network(tmp_path)), capability=(3, 5))


def test_library_says_why_it_cannot_build(tmp_path: Path) -> None:
    parsed = parse(network(tmp_path))
    parsed.definition.unmark_output(parsed.definition.get_output(0))
    with pytest.raises(BackendError, match=r"cannot build an engine: .*at least one output"):
        build(parsed)


def test_progress_counts_every_phase_to_its_end(tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {}
    build(
        parse(network(tmp_path)),
        progress=lambda phase, done, of: seen.setdefault(phase, []).append(of - done),
    )
    assert "Building engine" in seen
    for left in seen.values():
        assert min(left) == left[-1] == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_progress_can_stop_the_build(tmp_path: Path, error: type[BaseException]) -> None:
    def stop(phase: str, done: int, of: int) -> None:
        raise error("enough")

    parsed = parse(network(tmp_path))
    with pytest.raises(error, match="enough"):
        build(parsed, progress=stop)
    assert build(parsed)  # and the next one is not held up


def test_precision_follows_the_network_and_the_options(tmp_path: Path) -> None:
    """TF32 is a library's default; here it is asked for."""
    flags = []

    class Spy:
        def __init__(self, builder: Any) -> None:
            self.builder = builder

        def __getattr__(self, name: str) -> Any:
            return getattr(self.builder, name)

        def build_serialized_network(self, definition: Any, config: Any) -> Any:
            flags.append(config.get_flag(rtx.BuilderFlag.TF32))
            return self.builder.build_serialized_network(definition, config)

    parsed = parse(network(tmp_path))
    spied = ParsedNetwork(rtx, Spy(parsed.builder), parsed.definition, parsed.parser)
    build(spied)
    build(spied, tf32=True)
    assert flags == [False, True]
