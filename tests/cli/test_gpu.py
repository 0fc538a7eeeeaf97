"""Options of the GPU on the command line, and what is shown of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from segreg.cli import console, gpu
from segreg.engine import gpu_path
from segreg.engine.backends import Availability, CudaOptions
from segreg.engine.machine import describe_cupy

Segreg = Callable[..., Any]


def tell(phase: str, done: int, total: int) -> None:
    pass


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((None, None, False, None, None), None),
        (("openvino", None, False, None, tell), None),
        (("nonsense", None, False, None, tell), CudaOptions(progress=tell)),
        ((None, None, False, None, tell), CudaOptions(progress=tell)),
        (("tensorrt", 1, True, Path("kept"), None), CudaOptions(
            device=1, record=True, cache=Path("kept"))),
        (("openvino", 0, False, None, None), CudaOptions(device=0)),
    ],
)  # fmt: skip
def test_options_that_were_asked_for(words: Any, expected: CudaOptions | None) -> None:
    assert gpu.cuda_options(*words) == expected


@pytest.mark.parametrize(
    "words", [("--gpu", 0), ("--gpu-memory", "4GiB"), ("--cuda-graph",), ("--engine-cache", "x")]
)
def test_a_backend_of_the_cpu_takes_none_of_them(register: Segreg, words: Any) -> None:
    ran = register(*words, backend="onnxruntime")
    assert ran.exit_code == 3
    assert "runs on the CPU and takes no CudaOptions" in ran.stderr
    assert words[0] in ran.stderr


@pytest.mark.skipif(describe_cupy()[1] is None, reason="a GPU takes them")
def test_a_chosen_backend_of_the_cpu_says_that_they_change_nothing(register: Segreg) -> None:
    sentence = "options of the GPU (--gpu, --cuda-graph, --engine-cache) change nothing: backend"
    assert sentence in register("--gpu", 7).stderr
    assert sentence not in register().stderr


def test_a_size_that_is_none(register: Segreg) -> None:
    ran = register("--gpu-memory", "much")
    assert ran.exit_code == 2
    assert "gpu_memory: expected a size such as 4GiB or 500MB, got 'much'" in ran.stderr


def test_options_reach_the_engine(register: Segreg, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class SeenError(Exception):
        pass

    def engine(package: str, **options: Any) -> None:
        seen.update(options)
        raise SeenError

    monkeypatch.setattr("segreg.engine.runtime.Engine", engine)
    register("--gpu-memory", "4GiB", "--gpu", 2, "--cuda-graph", "--engine-cache", "kept")
    assert seen["gpu_memory"] == "4GiB"
    assert seen["options"] == CudaOptions(device=2, record=True, cache=Path("kept"))


def test_a_bar_for_each_phase_of_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "_stderr", Console(file=screen, force_terminal=True, width=80))
    with console.show_phases(quiet=False) as update:
        assert update is not None
        for phase, done in (("Building", 0), ("Timing", 0), ("Timing", 2), ("Building", 1)):
            update(phase, done, 2)
    assert "Building" in screen.getvalue()
    with console.show_phases(quiet=True) as update:
        assert update is None


class TestDoctor:
    @pytest.fixture
    def cupy(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        module: Any = ModuleType("cupy")
        module.cuda = SimpleNamespace(
            Device=lambda: SimpleNamespace(id=0),
            runtime=SimpleNamespace(
                memGetInfo=lambda: (3 << 30, 8 << 30),
                getDeviceProperties=lambda number: {"name": b"Some GPU", "major": 9, "minor": 0},
            ),
        )
        monkeypatch.setattr(gpu_path, "describe_cupy", lambda: ("14", None))
        monkeypatch.setattr(gpu_path.importlib, "import_module", lambda name: module)
        return module

    def test_without_a_gpu(self, segreg: Segreg) -> None:
        ran = segreg("doctor")
        assert "GPU path" in ran.stdout
        path = json.loads(segreg("doctor", "--json").stdout)["gpu_path"]
        assert path["backend"] is None
        assert path["reason"]

    @pytest.mark.parametrize("usable", [False, True])
    def test_with_one(self, cupy: Any, monkeypatch: pytest.MonkeyPatch, usable: bool) -> None:
        reason = None if usable else "no CUDA provider"
        found = [
            Availability("onnxruntime-cuda", "1.32", reason),
            Availability("tensorrt", None, "not there"),
            Availability("openvino", "2026", None),
        ]
        monkeypatch.setattr(gpu_path, "availability", lambda: found)
        monkeypatch.setenv("SEGREG_CACHE", "/kept/here")
        path = gpu_path.describe_gpu_path()
        assert (path.device, path.memory_gib, path.free_memory_gib) == ("Some GPU", 8, 3)
        assert path.backend == ("onnxruntime-cuda" if usable else None)
        if not usable:
            assert path.reason == "onnxruntime-cuda: no CUDA provider; tensorrt: not there"
        from segreg.cli.diagnosis import _gpu_path

        line = _gpu_path(vars(path))
        assert "Some GPU, 3.0 of 8.0 GiB free" in line
        assert ("engines are kept in /kept/here" in line) == usable
