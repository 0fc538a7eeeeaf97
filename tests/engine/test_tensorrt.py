"""TensorRT and TensorRT for RTX: engines that are kept, graphs, GPUs that do not fit."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.engine.backends import availability
from segreg.engine.errors import BackendError
from tests.engine.networks import CHANNELS, by_hand, opened, regions


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
        last = opened(name, tmp_path)
        assert last.notes == []  # the new one was kept
        last.close()

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
