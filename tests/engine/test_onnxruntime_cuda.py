"""onnxruntime on CUDA: what it is asked, what it may not do silently, its graphs."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segreg.engine.errors import BackendError, OperatorError
from tests.engine.networks import opened, regions


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
