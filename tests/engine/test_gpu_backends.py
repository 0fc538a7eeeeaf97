"""Backends of the GPU: what crosses the bus, whose stream, what is recorded, what is kept.

Here they run on a stand-in for CuPy; tests marked ``gpu`` run on the device itself.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from segreg.engine.backends import Backend, CudaOptions, availability, open_backend
from segreg.engine.errors import BackendError
from tests.engine.gpu_stand_ins import Stream
from tests.engine.networks import CHANNELS, by_hand, network, opened, regions

NAMES = ["onnxruntime-cuda", "tensorrt", "tensorrt-rtx"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    if request.param.startswith("tensorrt"):
        pytest.importorskip("tensorrt_rtx", reason="the stand-in builds with TensorRT for RTX")
    pytest.importorskip("onnxruntime")
    return str(request.param)


class TestOnStandIn:
    @pytest.fixture(autouse=True)
    def gpu(self, stand_in_gpu: Any) -> Any:
        self.cupy = stand_in_gpu
        return stand_in_gpu

    def test_arrays_of_the_gpu_stay_there(self, name: str, tmp_path: Path) -> None:
        backend = opened(name, tmp_path)
        batch = self.cupy.asarray(regions())
        self.cupy.copies.clear()
        fields = [backend.infer(batch) for _ in range(3)]
        assert self.cupy.copies == []
        for field in fields:
            assert isinstance(field, self.cupy.ndarray)
            np.testing.assert_allclose(field.host, by_hand(regions()), atol=1e-4)
        backend.close()

    def test_arrays_of_the_host_are_copied_once_each_way(self, name: str, tmp_path: Path) -> None:
        backend = opened(name, tmp_path, batch=2)
        assert isinstance(backend.infer(regions(5)), np.ndarray)
        assert self.cupy.copies == ["up", "down"]
        backend.close()

    @pytest.mark.parametrize("batch", [1, 2, 5, 16])
    def test_large_batches_run_in_parts(self, name: str, tmp_path: Path, batch: int) -> None:
        backend = opened(name, tmp_path, batch=batch)
        for _ in range(2):
            np.testing.assert_allclose(
                backend.infer(regions(5)), by_hand(regions(5)), atol=1e-4
            )
        backend.close()

    def test_recorded_graph_sees_each_batch(self, name: str, tmp_path: Path) -> None:
        backend = opened(name, tmp_path, record=True)
        for seed in range(4):
            batch = regions(2, seed)
            field = backend.infer(batch)
            np.testing.assert_allclose(field, by_hand(batch), atol=1e-4)
        assert backend.infer(regions(3)).shape == (3, 3, 8, 8, 8)
        backend.close()

    def test_recorded_fields_are_not_overwritten(self, name: str, tmp_path: Path) -> None:
        backend = opened(name, tmp_path, record=True)
        fields = [backend.infer(self.cupy.asarray(regions(2, seed))) for seed in range(4)]
        for seed, field in enumerate(fields):
            np.testing.assert_allclose(field.host, by_hand(regions(2, seed)), atol=1e-4)
        backend.close()

    def test_caller_on_another_stream(self, name: str, tmp_path: Path) -> None:
        """The second stream waits for what the first one started."""
        backend = opened(name, tmp_path)
        first, second = Stream(), Stream()
        for stream in (first, second):
            with stream:
                backend.infer(self.cupy.asarray(regions()))
        if name == "onnxruntime-cuda":
            own = backend._stream
            assert {first, second} <= set(own.waited)
            assert own in first.waited
            assert own in second.waited
        else:
            assert first in second.waited
        backend.close()

    def test_other_device_is_refused(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = opened(name, tmp_path)
        monkeypatch.setattr(self.cupy.cuda, "Device", lambda: SimpleNamespace(id=1))
        with pytest.raises(BackendError, match=r"loaded on GPU 0, the current one is 1; call ins"):
            backend.infer(regions())
        backend.close()

    def test_half_precision_at_the_ends_is_refused(self, name: str, tmp_path: Path) -> None:
        """Their memory is bound as float32: inside, a network may cast as it likes."""
        model = onnx.load(network(tmp_path))
        model.graph.output[0].name = "halves"
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        cast = onnx.helper.make_node("Cast", ["vectors"], ["halves"], to=onnx.TensorProto.FLOAT16)
        model.graph.node.append(cast)
        onnx.save(model, tmp_path / "half.onnx")
        with pytest.raises(BackendError, match=r"refuses half\.onnx: expected .*float32"):
            open_backend(name, tmp_path / "half.onnx", channels=CHANNELS)

    def test_chosen_before_backends_of_the_cpu(self, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime")
        backend = open_backend(None, network(tmp_path), channels=CHANNELS)
        assert backend.name == "onnxruntime-cuda"
        backend.close()


class TestWithoutGpu:
    def test_without_cupy(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("segreg.engine.machine.find_spec", lambda library: None)
        with pytest.raises(BackendError, match=r"not installed|cannot be imported") as caught:
            opened(name, tmp_path)
        assert caught.value.exit_code == 3

    def test_without_a_driver(
        self, name: str, tmp_path: Path, stand_in_gpu: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> int:
            raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

        monkeypatch.setattr(stand_in_gpu.cuda.runtime, "getDeviceCount", fail)
        with pytest.raises(BackendError, match="cannot run here: CuPy finds no GPU") as caught:
            opened(name, tmp_path)
        assert caught.value.exit_code == 3
        assert open_backend(None, network(tmp_path), channels=CHANNELS).device == "cpu"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 0}, "batch: expected at least 1 region, got 0"),
        ({"memory": 0}, "memory: expected bytes"),
        ({"search": "fast"}, "search: expected one of heuristic, exhaustive, default"),
    ],
)
def test_wrong_options(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CudaOptions(**wrong)


@pytest.mark.gpu
class TestOnDevice:
    """What only a device can show."""

    @pytest.fixture(params=NAMES)
    def backend(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        name = request.param
        known = {entry.name: entry for entry in availability()}
        if not known[name].usable:
            pytest.skip(str(known[name].reason))
        backend: Backend = opened(name, tmp_path, record=True)
        yield backend
        backend.close()

    def test_recorded_on_streams(self, backend: Backend) -> None:
        """Batches of the device, on two streams, recorded: each gets its own field."""
        cupy = importlib.import_module("cupy")
        streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
        fields = []
        for seed in range(12):
            with streams[seed % 2]:
                fields.append(backend.infer(cupy.asarray(regions(2, seed))))
        cupy.cuda.Device().synchronize()
        for seed, field in enumerate(fields):
            assert isinstance(field, cupy.ndarray)
            np.testing.assert_allclose(cupy.asnumpy(field), by_hand(regions(2, seed)), atol=1e-3)
