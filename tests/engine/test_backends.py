"""One contract for every backend of the registry, and what each alone must do."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from segreg.engine.backends import REGISTRY, Backend, CudaOptions, availability, open_backend
from segreg.engine.errors import BackendError, OperatorError
from tests.engine.networks import (
    BIAS,
    CHANNELS,
    WEIGHTS,
    by_hand,
    network,
    network_with_a_warp,
    regions,
    write_network,
)


def cases() -> Iterator[Any]:
    """Every backend; those of a GPU where there is one, and on a stand-in everywhere."""
    for name, entry in REGISTRY.items():
        if entry.device == "cuda":
            yield pytest.param(name, marks=pytest.mark.gpu)
            yield f"{name} on a stand-in"
        else:
            yield name


@pytest.fixture(params=cases())
def name(request: pytest.FixtureRequest) -> str:
    name, _, stand_in = request.param.partition(" on ")
    if stand_in:
        if name.startswith("tensorrt"):
            pytest.importorskip("tensorrt_rtx", reason="the stand-in builds with TensorRT for RTX")
        request.getfixturevalue("stand_in_gpu")
    else:
        known = {entry.name: entry for entry in availability()}
        if not known[name].usable:
            promised = os.environ.get("SEGREG_REQUIRE_GPU") == "1" and name == "onnxruntime-cuda"
            (pytest.fail if promised else pytest.skip)(str(known[name].reason))
    return str(name)


@pytest.fixture
def backend(name: str, tmp_path: Path) -> Iterator[Backend]:
    path = network(tmp_path)
    opened = open_backend(name, path, channels=CHANNELS, threads=2, canvas=(8, 16, 24))
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
        alone = np.stack([backend.infer(batch[k : k + 1])[0] for k in range(5)])
        # A GPU's libraries choose other kernels, and sum in another order, for other batches.
        atol = 0.0 if backend.device == "cpu" else allowed(backend)
        np.testing.assert_allclose(backend.infer(batch), alone, rtol=0, atol=atol)

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
        with pytest.raises(BackendError, match="NaN or infinite values"):
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


def test_reference_runs_a_graph_with_a_warp_inside(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    backend = open_backend("onnxruntime", network_with_a_warp(tmp_path), channels=CHANNELS)
    np.testing.assert_allclose(backend.infer(regions(1))[0, :, 4, 4, 4], BIAS, atol=1e-5)
    backend.close()


@pytest.fixture
def without_volume_sampling() -> None:
    """Skips unless OpenVINO is here and is known to lack 5-D GridSample."""
    openvino = pytest.importorskip("openvino")
    if int(openvino.__version__.split(".")[0]) > 2026:
        pytest.skip("not known whether this OpenVINO still lacks the operator")


@pytest.mark.usefixtures("without_volume_sampling")
def test_refused_operator_names_the_way_out(tmp_path: Path) -> None:
    """Nothing falls back to another backend unasked."""
    path = network_with_a_warp(tmp_path)
    words = r"(?s)warp\.onnx because of GridSample: .*4D"
    with pytest.raises(OperatorError, match=words) as caught:
        open_backend("openvino", path, channels=CHANNELS)
    assert caught.value.operators == ("GridSample",)
    pytest.importorskip("onnxruntime")
    assert "what it needs: onnxruntime; ask for one by name" in str(caught.value)


@pytest.mark.usefixtures("without_volume_sampling")
def test_default_takes_one_that_can_and_says_so(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    backend = open_backend(None, network_with_a_warp(tmp_path), channels=CHANNELS)
    assert backend.name == "onnxruntime"
    (note,) = backend.notes
    assert "openvino refuses warp.onnx because of GridSample" in note
    assert note.endswith("Backend onnxruntime runs it instead.")
    backend.close()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", None])
def test_operator_that_nobody_has(name: str | None, tmp_path: Path) -> None:
    pytest.importorskip(name or "onnxruntime")
    node = helper.make_node("Transmogrify", ["regions"], ["vectors"], domain="elsewhere")
    shapes = [["K", CHANNELS, 8, 8, 8], ["K", 3, 8, 8, 8]]
    path = write_network(tmp_path / "odd.onnx", [node], shapes)
    with pytest.raises(OperatorError, match=r"odd\.onnx because of Transmogrify") as caught:
        open_backend(name, path, channels=CHANNELS)
    assert caught.value.operators == ("Transmogrify",)
    if name:
        assert "No backend that is installed here has what it needs" in str(caught.value)


def test_arrays_of_the_gpu_are_refused_on_the_cpu(stand_in_gpu: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    backend = open_backend("onnxruntime", network(tmp_path), channels=CHANNELS)
    with pytest.raises(TypeError, match="takes NumPy arrays, got a CuPy array"):
        backend.infer(stand_in_gpu.asarray(regions()))
    with pytest.raises(TypeError, match="expected a NumPy or a CuPy array, got list"):
        backend.infer([regions()])  # type: ignore[arg-type]
    backend.close()


def test_options_of_the_gpu_are_refused_on_the_cpu(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(BackendError, match="runs on the CPU and takes no CudaOptions"):
        open_backend("onnxruntime", network(tmp_path), channels=CHANNELS, options=CudaOptions())


@pytest.mark.parametrize("canvas", [(), (0, 16)])
def test_canvas_of_nothing(canvas: tuple[int, ...], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="canvas: expected sizes of at least 1 cell"):
        open_backend("onnxruntime", network(tmp_path), channels=CHANNELS, canvas=canvas)


def test_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="openvino, onnxruntime, got 'abacus'"):
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
        for entry in REGISTRY.values():
            module = entry.home.partition(":")[0]
            monkeypatch.delitem(sys.modules, module, raising=False)

    return hide


def test_missing_library_is_said(without: Callable[..., None], tmp_path: Path) -> None:
    without("openvino")
    entry = next(entry for entry in availability() if entry.name == "openvino")
    assert (entry.version, entry.usable) == (None, False)
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
    without("openvino", "onnxruntime", "tensorrt", "tensorrt_rtx")
    assert not any(entry.usable for entry in availability())
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
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    for key, entry in REGISTRY.items():
        module, _, attribute = entry.home.partition(":")
        backend = getattr(importlib.import_module(module), attribute)
        assert issubclass(backend, Backend)
        assert (backend.name, backend.device) == (key, entry.device)
