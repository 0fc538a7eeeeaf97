"""One contract for every backend of the registry, and what each alone must do."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segreg.engine.backends import REGISTRY, Backend, availability, open_backend
from segreg.engine.errors import BackendError

CHANNELS, CANVAS = 4, 16
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(0, 0.5, (3, CHANNELS, 2, 2, 2)).astype(np.float32)
BIAS = np.array([0.5, -1.0, 2.0], np.float32)


def network(folder: Path, weights: Any = WEIGHTS, bias: Any = BIAS) -> Path:
    """One strided convolution: small enough to be computed by hand."""
    outputs, channels = weights.shape[:2]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["regions", "w", "b"], ["vectors"], strides=[2, 2, 2])],
        "conv",
        [helper.make_tensor_value_info("regions", TensorProto.FLOAT, ["K", channels, *"DHW"])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["K", outputs, *"dhw"])],
        [
            numpy_helper.from_array(np.asarray(weights, np.float32), "w"),
            numpy_helper.from_array(np.asarray(bias, np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path = folder / "network.onnx"
    onnx.save(model, path)
    return path


def regions(count: int = 3, seed: int = 1) -> np.ndarray:
    shape = (count, CHANNELS, CANVAS, CANVAS, CANVAS)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def by_hand(batch: np.ndarray) -> np.ndarray:
    k, c, half = len(batch), CHANNELS, CANVAS // 2
    blocks = batch.reshape(k, c, half, 2, half, 2, half, 2)
    fields = np.einsum("kczaybxd,ocabd->kozyx", blocks, WEIGHTS, dtype=np.float64)
    return np.asarray(fields + BIAS[:, None, None, None])


@pytest.fixture(params=list(REGISTRY))
def name(request: pytest.FixtureRequest) -> str:
    known = {entry.name: entry for entry in availability()}
    if not known[request.param].usable:
        pytest.skip(str(known[request.param].reason))
    return str(request.param)


@pytest.fixture
def backend(name: str, tmp_path: Path) -> Iterator[Backend]:
    opened = open_backend(name, network(tmp_path), channels=CHANNELS, threads=2)
    yield opened
    opened.close()


def allowed(backend: Backend) -> float:
    """Rounding of 32 products of about one half."""
    return 1e-4 if backend.precision == "float32" else 0.05


class TestContract:
    def test_computes_the_network(self, backend: Backend) -> None:
        batch = regions()
        fields = backend.infer(batch)
        assert fields.shape == (3, 3, 8, 8, 8)
        assert fields.dtype == np.float32
        np.testing.assert_allclose(fields, by_hand(batch), atol=allowed(backend))

    def test_says_what_it_is(self, backend: Backend, name: str) -> None:
        assert backend.name == name
        assert backend.library_version()[0].isdigit()
        assert backend.precision in ("float32", "bfloat16", "float16")

    def test_one_by_one_is_all_at_once(self, backend: Backend) -> None:
        batch = regions(5)
        alone = [backend.infer(batch[k : k + 1])[0] for k in range(5)]
        np.testing.assert_array_equal(backend.infer(batch), np.stack(alone))

    def test_results_keep_their_values(self, backend: Backend) -> None:
        """A field handed out is not the buffer of the next run."""
        first = backend.infer(regions(1))
        kept = first.copy()
        backend.infer(regions(1, seed=2))
        np.testing.assert_array_equal(first, kept)

    def test_input_is_left_alone(self, backend: Backend) -> None:
        batch = regions()
        kept = batch.copy()
        backend.infer(batch)
        np.testing.assert_array_equal(batch, kept)

    def test_takes_views(self, backend: Backend) -> None:
        batch = regions()
        view = batch[::-1, :, ::-1]
        assert not view.flags.c_contiguous
        np.testing.assert_array_equal(backend.infer(view), backend.infer(view.copy()))

    @pytest.mark.parametrize("canvas", [8, 24])
    def test_any_canvas_the_graph_takes(self, backend: Backend, canvas: int) -> None:
        batch = np.zeros((2, CHANNELS, canvas, canvas, canvas), np.float32)
        fields = backend.infer(batch)
        half = canvas // 2
        expected = np.broadcast_to(BIAS[:, None, None, None], (2, 3, half, half, half))
        np.testing.assert_allclose(fields, expected, atol=allowed(backend))

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((2, CHANNELS + 1, 16, 16, 16), np.float32),
            np.zeros((CHANNELS, 16, 16, 16), np.float32),
            np.zeros((2, CHANNELS, 16, 16, 16), np.float64),
        ],
        ids=["channels", "axes", "dtype"],
    )
    def test_wrong_batches(self, backend: Backend, wrong: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"regions: expected \(K, 4, D, H, W\) float32"):
            backend.infer(wrong)

    def test_nothing_after_close(self, backend: Backend) -> None:
        backend.close()
        backend.close()
        with pytest.raises(BackendError, match="infer after close"):
            backend.infer(regions())

    def test_threads_get_what_one_gets(self, backend: Backend) -> None:
        batches = [regions(2, seed) for seed in range(8)]
        expected = [backend.infer(batch) for batch in batches]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(backend.infer, batches))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_close_waits_for_a_run(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, entered, go = backend._run, threading.Event(), threading.Event()

        def slow(batch: Any) -> Any:
            entered.set()
            assert go.wait(10)
            return run(batch)

        monkeypatch.setattr(backend, "_run", slow)
        with ThreadPoolExecutor(2) as pool:
            field = pool.submit(backend.infer, regions())
            assert entered.wait(10)
            closed = pool.submit(backend.close)
            go.set()
            assert np.isfinite(field.result()).all()
            assert closed.result() is None

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_network_of_nan(self, name: str, tmp_path: Path, value: float) -> None:
        broken = network(tmp_path, bias=np.array([0, value, 0]))
        backend = open_backend(name, broken, channels=CHANNELS)
        with pytest.raises(BackendError, match="NaN or infinite vectors"):
            backend.infer(regions())
        backend.close()

    def test_network_of_two_components(self, name: str, tmp_path: Path) -> None:
        flat = network(tmp_path, WEIGHTS[:2], BIAS[:2])
        backend = open_backend(name, flat, channels=CHANNELS)
        with pytest.raises(BackendError, match=r"expected the network to give \(3, 3, D, H, W\)"):
            backend.infer(regions())
        backend.close()

    def test_network_of_other_channels(self, name: str, tmp_path: Path) -> None:
        backend = open_backend(name, network(tmp_path), channels=2)
        with pytest.raises(BackendError, match=f"backend {name} failed while running"):
            backend.infer(np.zeros((1, 2, 16, 16, 16), np.float32))
        backend.close()

    @pytest.mark.parametrize("content", [b"", b"not a network", bytes(300)])
    def test_wrong_file(self, name: str, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "wrong.onnx"
        path.write_bytes(content)
        with pytest.raises(BackendError, match=f"backend {name} refuses wrong.onnx"):
            open_backend(name, path, channels=CHANNELS)

    def test_missing_file(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match=r"refuses nowhere\.onnx"):
            open_backend(name, tmp_path / "nowhere.onnx", channels=CHANNELS)


def test_backends_agree(tmp_path: Path) -> None:
    usable = [entry.name for entry in availability() if entry.usable]
    if len(usable) < 2:
        pytest.skip("one backend alone has nobody to agree with")
    path, batch = network(tmp_path), regions(4)
    opened = [open_backend(name, path, channels=CHANNELS) for name in usable]
    fields = [backend.infer(batch) for backend in opened]
    for backend, field in zip(opened, fields, strict=True):
        backend.close()
        assert np.abs(field - fields[0]).max() < 0.1  # voxels; vectors are up to 8 long


def network_with_a_warp(folder: Path) -> Path:
    """A graph that samples its own vectors in 5-D, as foreign networks do."""
    grid = np.eye(3, 4, dtype=np.float32)[None]
    size = np.array([1, 3, 8, 8, 8])
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["regions", "w", "b"], ["inner"], strides=[2, 2, 2]),
            helper.make_node("AffineGrid", ["theta", "size"], ["grid"], align_corners=0),
            helper.make_node("GridSample", ["inner", "grid"], ["vectors"], mode="linear"),
        ],
        "warp",
        [helper.make_tensor_value_info("regions", TensorProto.FLOAT, [1, CHANNELS, 16, 16, 16])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [1, 3, 8, 8, 8])],
        [
            numpy_helper.from_array(array, name)
            for name, array in (("w", 0 * WEIGHTS), ("b", BIAS), ("theta", grid), ("size", size))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, folder / "warp.onnx")
    return folder / "warp.onnx"


def test_reference_runs_a_graph_with_a_warp_inside(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    backend = open_backend("onnxruntime", network_with_a_warp(tmp_path), channels=CHANNELS)
    np.testing.assert_allclose(backend.infer(regions(1))[0, :, 4, 4, 4], BIAS, atol=1e-5)
    backend.close()


def test_refused_operator_names_the_way_out(tmp_path: Path) -> None:
    """OpenVINO has no 5-D GridSample; nothing falls back to another backend unasked."""
    openvino = pytest.importorskip("openvino")
    if int(openvino.__version__.split(".")[0]) > 2026:
        pytest.skip("not known whether this OpenVINO still lacks the operator")
    with pytest.raises(BackendError, match=r"(?s)refuses warp\.onnx.*GridSample.*by name"):
        open_backend("openvino", network_with_a_warp(tmp_path), channels=CHANNELS)


def test_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="expected one of openvino, onnxruntime, got 'abacus'"):
        open_backend("abacus", network(tmp_path), channels=CHANNELS)


def test_first_usable_is_the_default(tmp_path: Path) -> None:
    first = next(entry.name for entry in availability() if entry.usable)
    backend = open_backend(None, network(tmp_path), channels=CHANNELS)
    assert backend.name == first
    backend.close()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes libraries look as if they were not installed."""

    def hide(*libraries: str) -> None:
        for library in libraries:
            monkeypatch.setitem(sys.modules, library, None)
            module = REGISTRY[library].partition(":")[0]
            monkeypatch.delitem(sys.modules, module, raising=False)

    return hide


def test_missing_library_is_said(without: Callable[..., None], tmp_path: Path) -> None:
    without("openvino")
    entry = availability()[0]
    assert (entry.name, entry.version, entry.usable) == ("openvino", None, False)
    assert "openvino: its library cannot be imported" in str(entry.reason)
    assert "pip install 'segreg[cpu]'" in str(entry.reason)
    with pytest.raises(BackendError, match="cannot be imported"):
        open_backend("openvino", network(tmp_path), channels=CHANNELS)


def test_default_skips_a_missing_library(without: Callable[..., None], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    without("openvino")
    backend = open_backend(None, network(tmp_path), channels=CHANNELS)
    assert backend.name == "onnxruntime"
    backend.close()


def test_no_library_at_all(without: Callable[..., None], tmp_path: Path) -> None:
    without(*REGISTRY)
    with pytest.raises(BackendError, match="no inference backend is installed"):
        open_backend(None, network(tmp_path), channels=CHANNELS)


def test_onnxruntime_on_another_provider_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """onnxruntime falls back without a word; the backend does not."""
    onnxruntime = pytest.importorskip("onnxruntime")
    asked: list[Any] = []

    class Elsewhere:
        def __init__(self, path: str, options: Any, providers: list[str]) -> None:
            asked.append(providers)

        def get_providers(self) -> list[str]:
            return ["AzureExecutionProvider", "CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Elsewhere)
    with pytest.raises(BackendError, match="asked for CPUExecutionProvider, got"):
        open_backend("onnxruntime", network(tmp_path), channels=CHANNELS)
    assert asked == [["CPUExecutionProvider"]]


def test_threads_reach_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    real, seen = onnxruntime.InferenceSession, []

    def spy(path: str, options: Any, providers: list[str]) -> Any:
        seen.append(options.intra_op_num_threads)
        return real(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    open_backend("onnxruntime", network(tmp_path), channels=CHANNELS, threads=1).close()
    assert seen == [1]


def test_registry_names_its_classes() -> None:
    for key, home in REGISTRY.items():
        module, _, attribute = home.partition(":")
        pytest.importorskip(key)
        backend = getattr(importlib.import_module(module), attribute)
        assert issubclass(backend, Backend)
        assert backend.name == key
