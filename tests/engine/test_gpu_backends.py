"""Backends of the GPU: what crosses the bus, whose stream, what is recorded, what is kept.

Here they run on a stand-in for CuPy; tests marked ``gpu`` run on the device itself.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segreg.engine.backends import Backend, CudaOptions, availability, open_backend
from segreg.engine.errors import BackendError, OperatorError
from segreg.engine.phantom import Phantom
from segreg.engine.runtime import Engine
from tests.engine.gpu_stand_ins import Stream
from tests.engine.networks import CHANNELS, by_hand, network, regions
from tests.engine.pairs import volumes

NAMES = ["onnxruntime-cuda", "tensorrt", "tensorrt-rtx"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    if request.param.startswith("tensorrt"):
        pytest.importorskip("tensorrt_rtx", reason="the stand-in builds with TensorRT for RTX")
    pytest.importorskip("onnxruntime")
    return str(request.param)


def opened(name: str, folder: Path, **options: Any) -> Any:
    return open_backend(
        name, network(folder), channels=CHANNELS, canvas=(8, 16, 24), options=CudaOptions(**options)
    )


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

    def test_chosen_before_backends_of_the_cpu(self, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime")
        backend = open_backend(None, network(tmp_path), channels=CHANNELS)
        assert backend.name == "onnxruntime-cuda"
        backend.close()

    def test_pair_is_registered_as_on_the_cpu(
        self, name: str, looking_package: Path, small_phantom: Phantom
    ) -> None:
        results = []
        for backend, options in (("onnxruntime", None), (name, CudaOptions(batch=2))):
            with Engine(looking_package, backend=backend, options=options) as engine:
                assert engine.backend.canvas == (16, 16, 16)  # the package's
                engine.backend.notes.append("a sentence")
                results.append(engine.register(*volumes(small_phantom)))
        expected, found = (result.displacement.displacement for result in results)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert results[1].provenance.backend == name
        assert "a sentence" in results[1].notes


class TestOnnxRuntime:
    @pytest.fixture(autouse=True)
    def module(self) -> Any:
        pytest.importorskip("onnxruntime")
        return importlib.import_module("segreg.engine.backends.onnxruntime_cuda")

    def session(
        self, monkeypatch: pytest.MonkeyPatch, providers: list[str], placed: dict[str, str]
    ) -> list[Any]:
        """A session that says it runs on ``providers``, with operators ``placed`` on them."""
        asked: list[Any] = []

        class Fake:
            def __init__(self, path: str, options: Any, providers: Any) -> None:
                asked.extend(providers)

            def get_providers(self) -> list[str]:
                return providers

            def get_provider_graph_assignment_info(self) -> Any:
                return [
                    SimpleNamespace(
                        ep_name=provider,
                        get_nodes=lambda operator=operator: [SimpleNamespace(op_type=operator)],
                    )
                    for operator, provider in placed.items()
                ]

        onnxruntime = importlib.import_module("onnxruntime")
        monkeypatch.setattr(onnxruntime, "InferenceSession", Fake)
        monkeypatch.setattr(
            onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"]
        )
        return asked

    @pytest.fixture
    def real_settings(self, module: Any) -> Any:
        return module.OnnxRuntimeCudaBackend._settings

    @pytest.fixture
    def cuda(
        self, real_settings: Any, stand_in_gpu: Any, monkeypatch: pytest.MonkeyPatch, module: Any
    ) -> None:
        """The provider's own name and settings again."""
        monkeypatch.setattr(module, "PROVIDER", "CUDAExecutionProvider")
        monkeypatch.setattr(module.OnnxRuntimeCudaBackend, "_settings", real_settings)

    @pytest.mark.usefixtures("cuda")
    def test_silent_fallback_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """onnxruntime gives a CPU session, without a word, where it cannot load CUDA."""
        asked = self.session(monkeypatch, ["CPUExecutionProvider"], {})
        with pytest.raises(BackendError, match="asked for CUDAExecutionProvider, got CPUExec"):
            opened("onnxruntime-cuda", tmp_path)
        assert [provider for provider, _ in asked] == ["CUDAExecutionProvider"]

    @pytest.mark.usefixtures("cuda")
    def test_silent_fallback_of_a_node_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
        placed = {"Conv": cuda, "Shape": cpu, "Gather": cpu, "GridSample": cpu}
        self.session(monkeypatch, [cuda, cpu], placed)
        with pytest.raises(OperatorError, match="because of GridSample: onnxruntime") as caught:
            opened("onnxruntime-cuda", tmp_path)
        assert caught.value.operators == ("GridSample",)

    @pytest.mark.usefixtures("cuda")
    def test_settings(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        asked = self.session(monkeypatch, ["CPUExecutionProvider"], {})
        for options in ({}, {"record": True, "tf32": True, "memory": 1 << 30}):
            with pytest.raises(BackendError, match="asked for CUDA"):
                opened("onnxruntime-cuda", tmp_path, search="exhaustive", **options)
        plain, told = (settings for _, settings in asked)
        assert plain["device_id"] == "0"
        assert int(plain["user_compute_stream"]) > 0
        assert plain["cudnn_conv_algo_search"] == "EXHAUSTIVE"
        assert plain["arena_extend_strategy"] == "kSameAsRequested"
        assert (plain["use_tf32"], plain["enable_cuda_graph"]) == ("0", "0")
        assert (told["use_tf32"], told["enable_cuda_graph"]) == ("1", "1")
        assert "gpu_mem_limit" not in plain
        assert told["gpu_mem_limit"] == str(1 << 30)

    @pytest.mark.usefixtures("stand_in_gpu")
    def test_graphs_have_numbers_of_their_own(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: Any
    ) -> None:
        """One number a batch shape; none for the first run, which finds the field's shape."""
        numbers: list[str] = []
        real = importlib.import_module("onnxruntime").RunOptions

        class Spy:
            def __new__(cls) -> Any:
                options = real()
                told = SimpleNamespace(options=options)
                told.add_run_config_entry = lambda key, value: (
                    numbers.append(value) if key == "gpu_graph_id" else None
                )
                return told

        backend = opened("onnxruntime-cuda", tmp_path, record=True)
        run = backend._session.run_with_iobinding
        monkeypatch.setattr(
            backend._session, "run_with_iobinding", lambda binding, options: run(binding)
        )
        monkeypatch.setattr(module.onnxruntime, "RunOptions", Spy)
        for count in (1, 2, 1, 2, 2):
            backend.infer(regions(count))
        assert numbers == ["-1", "-1", "1", "2", "2"]
        backend.close()

    @pytest.mark.usefixtures("cuda")
    def test_build_without_cuda_is_said(
        self, module: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            module.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"]
        )
        (found,) = module.OnnxRuntimeCudaBackend.obstacles()
        assert "has no CUDAExecutionProvider; pip uninstall onnxruntime, then pip" in found


class TestTensorRT:
    @pytest.fixture(autouse=True)
    def library(self, stand_in_gpu: Any) -> Any:
        pytest.importorskip("onnxruntime")
        return pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")

    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("SEGREG_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    @pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_builds_once(
        self, name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = opened(name, tmp_path)
        first.close()
        module = importlib.import_module("segreg.engine.backends.tensorrt")
        monkeypatch.setattr(module, "build_engine", None)  # not called again
        second = opened(name, tmp_path)
        np.testing.assert_allclose(second.infer(regions()), by_hand(regions()), atol=1e-4)
        second.close()
        assert first.notes == second.notes == []
        assert len(list(cache.glob("*.engine"))) == 1

    def test_other_shapes_are_other_engines(self, name: str, tmp_path: Path, cache: Path) -> None:
        for batch in (4, 8):
            opened(name, tmp_path, batch=batch).close()
        assert len(list(cache.glob("*.engine"))) == 2

    def test_damaged_engine_is_built_again_with_a_note(
        self, name: str, tmp_path: Path, cache: Path
    ) -> None:
        opened(name, tmp_path).close()
        (path,) = cache.glob("*.engine")
        path.write_bytes(path.read_bytes()[:-100])
        backend = opened(name, tmp_path)
        assert "is damaged: its hash does not hold" in backend.notes[0]
        np.testing.assert_allclose(backend.infer(regions()), by_hand(regions()), atol=1e-4)
        backend.close()

    def test_engine_that_the_driver_does_not_take_is_built_again(
        self, name: str, tmp_path: Path, cache: Path
    ) -> None:
        backend = opened(name, tmp_path)
        key = backend._key(
            backend._file, importlib.import_module(backend.library), backend._gpu
        )
        backend._cache.store(key, b"torn by an update of the driver")
        backend.close()
        again = opened(name, tmp_path)
        (note,) = again.notes
        assert "is not taken by" in note
        assert again.infer(regions()).shape == (3, 3, 8, 8, 8)
        again.close()

    def test_engine_that_is_never_taken(
        self, tmp_path: Path, cache: Path, library: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(library.Runtime, "deserialize_cuda_engine", lambda self, content: None)
        with pytest.raises(BackendError, match="not taken by the Stand-in GPU; its driver may be"):
            opened("tensorrt-rtx", tmp_path)

    def test_timings_are_kept_for_the_next_build(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = importlib.import_module("segreg.engine.backends.tensorrt")
        real, given = module.build_engine, []

        def spy(*arguments: Any, timing: bytes, **options: Any) -> Any:
            given.append(timing)
            return real(*arguments, timing=timing, **options)

        monkeypatch.setattr(module, "build_engine", spy)
        for batch in (1, 2):
            opened("tensorrt", tmp_path, batch=batch).close()
        (kept,) = cache.glob("*.timings")
        assert kept.name == "tensorrt-11.2.1-stand-in-gpu.timings"
        assert given == [b"", kept.read_bytes()]

    def test_kernels_compiled_by_rtx_are_kept(self, tmp_path: Path, cache: Path) -> None:
        opened("tensorrt-rtx", tmp_path).close()
        (kept,) = cache.glob("*.kernels")
        assert kept.read_bytes() == b"compiled kernels"
        backend = opened("tensorrt-rtx", tmp_path)
        assert backend._runner._engine.given == b"compiled kernels"
        backend.close()

    def test_graph_is_replayed(self, tmp_path: Path, cache: Path) -> None:
        """The engine runs once to set things up and is then launched as a graph."""
        backend = opened("tensorrt", tmp_path, record=True)
        for seed in range(5):
            backend.infer(regions(2, seed))
        assert list(backend._runner._recordings) == [(2, CHANNELS, 16, 16, 16)]
        assert backend._runner._engine.runs == 1 + 5
        backend.close()

    def test_rtx_records_by_itself(self, tmp_path: Path, cache: Path, library: Any) -> None:
        for record in (False, True):
            backend = opened("tensorrt-rtx", tmp_path, record=record)
            strategy = backend._runner._engine.settings.cuda_graph_strategy
            assert strategy == (library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE if record else None)
            backend.close()

    def test_canvas_out_of_range(self, name: str, tmp_path: Path, cache: Path) -> None:
        backend = opened(name, tmp_path)
        with pytest.raises(BackendError, match=r"takes \(1, 4, 8, 8, 8\) to \(16, 4, 24, 24, 24\)"):
            backend.infer(np.zeros((1, CHANNELS, 32, 32, 32), np.float32))
        backend.close()

    def test_gpu_that_rtx_does_not_build_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cupy = sys.modules["cupy"]
        monkeypatch.setattr(
            cupy.cuda.runtime,  # type: ignore[attr-defined]
            "getDeviceProperties",
            lambda number: {"name": b"NVIDIA H200", "major": 9, "minor": 0},
        )
        found = {entry.name: entry for entry in availability()}["tensorrt-rtx"]
        assert "does not build for the NVIDIA H200 (compute capability 9.0)" in str(found.reason)
        assert found.version

    def test_too_old(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "8.6.1")
        found = {entry.name: entry for entry in availability()}["tensorrt"]
        assert found.reason == "TensorRT 8.6.1 is too old; pip install 'tensorrt>=11.2'"


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
