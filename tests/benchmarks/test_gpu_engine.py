"""Whole registrations in the GPU's benchmark, on a stand-in for the GPU."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import gpu_engine
from benchmarks.flops import count_flops
from benchmarks.gpu_engine import judge, measure_engine
from tests.engine.strict_cupy import StrictGpu

COPY = {"gb_per_s": 1000.0}


@pytest.fixture
def options(looking_package: Path, tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(
        repeats=2, engine_side=24, package=str(looking_package), data=tmp_path
    )


def measured(gpu: StrictGpu, options: argparse.Namespace) -> tuple[dict[str, Any], Any, list[str]]:
    watch = SimpleNamespace(time=lambda run, repeats: [2.0] * repeats)
    cases, bars, left_out = measure_engine(gpu.module, watch, COPY, options)
    return {case["id"]: case for case in cases}, bars, left_out


def test_every_stage_stands_beside_its_floor(
    gpu: StrictGpu, options: argparse.Namespace, looking_package: Path
) -> None:
    cases, bars, left_out = measured(gpu, options)
    assert sum(line.startswith("engine on tensorrt") for line in left_out) == 2
    for backend in ("onnxruntime-cuda", "borrowed"):
        base = f"gpu/engine/{backend}"
        whole, host = cases[f"{base}/device"], cases[f"{base}/host"]
        assert len(whole["samples"]) == len(host["samples"]) == 2
        assert whole["median"] < host["median"]
        assert (whole["shape"], whole["regions"]) == ([24, 24, 24], 8)
        stages = {key.rpartition("/")[2]: c for key, c in cases.items() if f"{base}/stage/" in key}
        assert set(stages) == {
            "plan", "gather", "infer", "integrate", "background", "fuse", "repair", "warp", "judge",
            "upload", "download",
        }  # fmt: skip
        for stage in ("gather", "integrate", "fuse", "warp", "judge"):
            assert stages[stage]["launches"] > 0
            assert stages[stage]["floor_ms"] == pytest.approx(stages[stage]["bytes"] / 1e12 * 1e3)
        inside = sum(c["median"] for s, c in stages.items() if s not in ("upload", "download"))
        assert inside <= whole["median"] * 1.01
        # The warp at least reads and writes an image, a label map and a field.
        assert stages["warp"]["bytes"] > 24**3 * (4 + 4 + 4 + 4 + 12)
        flops = stages["infer"]["flops"]
        network = looking_package / "models/registration.onnx"
        assert flops % count_flops(network, (1, 4, 16, 16, 16)) == 0
        # 2 ms for a product of matrices of 4096.
        assert stages["infer"]["floor_ms"] == pytest.approx(2 * flops / (2 * 4096**3))
    assert len(bars) == 3
    assert [bar["met"] for bar in bars[2:]] == [True]


def test_a_field_that_differs_has_no_time(
    gpu: StrictGpu, options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_engine, "WORST", 0.0)
    cases, bars, _ = measured(gpu, options)
    assert set(cases) == {
        f"gpu/engine/{name}/parity/generated" for name in ("onnxruntime-cuda", "borrowed")
    }
    for case in cases.values():
        assert case["correct"] is (case["max_abs_err"] == 0)
        assert "median" not in case
    assert [bar["found"] for bar in bars[:2]] == [None, None]


def test_one_backend_that_falls_over_is_said_and_the_next_is_measured(
    gpu: StrictGpu, options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = gpu_engine.measure_backend

    def fail(cupy: Any, name: str, *others: Any) -> Any:
        if name == "onnxruntime-cuda":
            raise RuntimeError("no kernel image is available")
        return measure(cupy, name, *others)

    monkeypatch.setattr(gpu_engine, "measure_backend", fail)
    cases, bars, left_out = measured(gpu, options)
    assert "gpu/engine/borrowed/device" in cases
    assert any("onnxruntime-cuda: no kernel image" in line for line in left_out)
    # The processor's network says nothing about a GPU's latency.
    assert [bar["found"] for bar in bars[:2]] == [None, None]


def test_without_the_extension_there_is_no_comparison(
    gpu: StrictGpu, options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "segreg.kernels._cpu", None)
    monkeypatch.delattr("segreg.kernels._cpu", raising=False)
    monkeypatch.setattr(gpu_engine, "backends", lambda left_out: ["borrowed"])
    cases, bars, left_out = measured(gpu, options)
    assert left_out == []
    assert cases["gpu/engine/borrowed/parity"]["problem"] == "the CPU's extension is not built"
    assert "gpu/engine/borrowed/device" in cases
    assert bars[2]["met"] is None


def test_bars_take_the_fastest_backend_of_the_gpu() -> None:
    cases = [
        {"id": "gpu/engine/tensorrt/device", "median": 7.0},
        {"id": "gpu/engine/onnxruntime-cuda/device", "median": 12.0},
        {"id": "gpu/engine/borrowed/device", "median": 1.0},
        {"id": "gpu/engine/tensorrt/host", "median": 31.0},
        {"id": "gpu/engine/tensorrt/parity/generated", "max_abs_err": 0.02},
    ]
    found = [(bar["found"], bar["met"]) for bar in judge(cases)]
    assert found == [(7.0, True), (31.0, False), (0.02, False)]


def test_operations_of_convolutions(tmp_path: Path) -> None:
    weights = {
        "w": np.zeros((8, 4, 3, 3, 3), np.float32), "t": np.zeros((8, 2, 2, 2, 2), np.float32)
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2, 2], pads=[1] * 6),
            helper.make_node("Relu", ["y"], ["r"]),
            helper.make_node("ConvTranspose", ["r", "t"], ["z"], strides=[2, 2, 2]),
        ],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["K", 4, "D", "H", "W"])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["K", 2, "d", "h", "w"])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, ir_version=9), tmp_path / "two.onnx")
    places = math.prod((5, 6, 7))
    expected = 2 * 3 * places * (8 * 4 * 27 + 8 * 2 * 8)
    assert count_flops(tmp_path / "two.onnx", (3, 4, 10, 12, 14)) == expected
