"""The fastest precision that was proved, on any machine; what is asked for, or why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segreg.engine import compatibility
from segreg.engine.backends import REGISTRY, availability, open_backend
from segreg.engine.errors import BackendError, InputError, PrecisionError
from segreg.engine.machine import processor_flags
from segreg.engine.package import PackageError, load_package, metadata_faults, write_checksums
from segreg.engine.phantom import Phantom
from segreg.engine.precision import (
    FILES,
    FLOAT32_FILE,
    REDUCED,
    can_run,
    capability,
    choose_precision,
)
from segreg.engine.runtime import Engine
from tests.conftest import BuildPackage
from tests.engine.networks import CHANNELS, network
from tests.engine.pairs import volumes


def variant(**speed: float) -> dict[str, Any]:
    gains = {name.replace("_", "-"): gain for name, gain in speed.items()}
    return {
        "worst": 0.05,
        "percentile_99_9": 0.02,
        "speed": {n: {"speed_up": g, "capability": "measured"} for n, g in gains.items()},
    }


BF16 = {"bfloat16": variant(openvino=5.0)}
INT8 = {"int8": {**variant(openvino=7.0), "file": FILES["int8"]}}
FP16 = {"float16": {**variant(onnxruntime_cuda=3.0), "file": FILES["float16"]}}
ALL = {**BF16, **INT8, **FP16}

MACHINES = {
    "AMX": {"avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"},
    "Cooper Lake": {"avx512f", "avx512_vnni", "avx512_bf16"},
    "Ice Lake": {"avx512f", "avx512_vnni"},
    "laptop": {"avx2", "avx_vnni"},
    "old": {"avx2", "fma"},
}


@pytest.mark.parametrize(
    ("machine", "variants", "backend", "expected"),
    [
        ("AMX", ALL, "openvino", "int8"),
        ("AMX", BF16, "openvino", "bfloat16"),
        ("Cooper Lake", BF16, "openvino", "bfloat16"),
        ("Ice Lake", ALL, "openvino", "int8"),
        ("Ice Lake", BF16, "openvino", "float32"),
        ("laptop", ALL, "openvino", "int8"),
        ("old", ALL, "openvino", "float32"),
        ("old", ALL, "onnxruntime-cuda", "float16"),  # the GPU has it, whatever the processor
        ("AMX", ALL, "onnxruntime-cuda", "float16"),
        ("AMX", ALL, "tensorrt", "float32"),  # computes float16, but nobody timed it there
        ("AMX", ALL, "onnxruntime", "float32"),
        ("AMX", {}, "openvino", "float32"),  # nothing proved, nothing reduced
    ],
)
def test_automatic(
    machine: str, variants: dict[str, Any], backend: str, expected: str
) -> None:
    choice = choose_precision({"variants": variants}, backend, MACHINES[machine])
    assert choice.precision == expected
    assert choice.file == FILES.get(expected, FLOAT32_FILE)


def test_the_faster_of_two_is_taken() -> None:
    slower = {**BF16, "int8": {**INT8["int8"], **variant(openvino=4.0)}}
    assert choose_precision({"variants": slower}, "openvino", MACHINES["AMX"]).precision == (
        "bfloat16"
    )


def test_silent_system_runs_in_float32_unless_asked() -> None:
    settings = {"variants": ALL}
    assert choose_precision(settings, "openvino", None).precision == "float32"
    assert choose_precision(settings, "openvino", None, "bfloat16").precision == "bfloat16"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_asked_for(precision: str) -> None:
    choice = choose_precision({"variants": ALL}, "openvino", MACHINES["AMX"], precision)
    assert choice.precision == precision


def test_float32_is_always_there() -> None:
    for backend in ("openvino", "onnxruntime", "tensorrt"):
        assert choose_precision({}, backend, MACHINES["old"], "float32").file == FLOAT32_FILE


@pytest.mark.parametrize(
    ("machine", "variants", "backend", "asked", "sentence"),
    [
        ("AMX", BF16, "openvino", "int8", r"proved in float32, bfloat16 only.*--precisions int8"),
        ("AMX", {}, "openvino", "bfloat16", r"proved in float32 only"),
        ("AMX", ALL, "openvino", "float16", r"openvino does not.*onnxruntime-cuda and tensorrt"),
        ("AMX", ALL, "tensorrt", "bfloat16", r"tensorrt does not compute in it, openvino would"),
        ("Ice Lake", ALL, "openvino", "bfloat16", r"no instructions .*amx_bf16, avx512_bf16"),
        ("old", ALL, "openvino", "int8", r"no instructions .*avx512_vnni.*ask for float32"),
    ],
)
def test_refusals(
    machine: str, variants: dict[str, Any], backend: str, asked: str, sentence: str
) -> None:
    with pytest.raises(PrecisionError, match=sentence):
        choose_precision({"variants": variants}, backend, MACHINES[machine], asked)


def test_every_backend_is_in_the_table() -> None:
    assert set(REDUCED) == set(REGISTRY)


def test_capabilities() -> None:
    assert capability("int8", MACHINES["AMX"]) == "amx_int8"
    assert capability("int8", MACHINES["laptop"]) == "avx_vnni"
    assert capability("bfloat16", MACHINES["Ice Lake"]) is None
    assert can_run("float16", "tensorrt", frozenset())
    assert not can_run("bfloat16", "openvino", None)


class TestEngine:
    @pytest.fixture
    def package(self, build_package: BuildPackage) -> Path:
        return build_package((0.3, -0.2, 0.1), variants=BF16)

    def test_without_variants_in_float32(self, looking: Engine, small_phantom: Phantom) -> None:
        assert looking.register(*volumes(small_phantom)).provenance.precision == "float32"

    def test_automatic_choice_is_in_the_provenance(
        self, package: Path, small_phantom: Phantom
    ) -> None:
        pytest.importorskip("openvino")
        has = can_run("bfloat16", "openvino", processor_flags())
        with Engine(package, backend="openvino") as engine:
            result = engine.register(*volumes(small_phantom))
        assert result.provenance.precision == ("bfloat16" if has else "float32")
        with Engine(package, backend="openvino", precision="float32") as engine:
            assert engine.register(*volumes(small_phantom)).provenance.precision == "float32"

    def test_processor_that_lacks_it(
        self, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("openvino")
        monkeypatch.setattr(compatibility, "processor_flags", lambda: frozenset(MACHINES["old"]))
        with Engine(package, backend="openvino") as engine:
            assert engine.backend.precision == "float32"
        with pytest.raises(PrecisionError, match="no instructions"):
            Engine(package, backend="openvino", precision="bfloat16")

    def test_without_a_name_the_backend_that_has_it_is_taken(
        self, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = {entry.name for entry in availability() if entry.usable}
        if "onnxruntime" not in names:
            pytest.skip("onnxruntime is not installed")
        monkeypatch.setattr(compatibility, "processor_flags", lambda: None)
        with pytest.raises(PrecisionError, match="float16"):
            Engine(package, precision="float16")

    def test_unknown_precision(self, package: Path) -> None:
        with pytest.raises(InputError, match=r"expected auto or one of float32, .*got 'fp8'"):
            Engine(package, precision="fp8")

    def test_open_backend_keeps_its_own(self, package: Path) -> None:
        backend = open_backend(None, package / FLOAT32_FILE, channels=CHANNELS)
        with pytest.raises(InputError, match="an open backend runs in float32"):
            Engine(package, backend=backend, precision="float32")
        backend.close()


def test_backend_that_would_run_in_another_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(BackendError, match=r"asked to run .* in bfloat16, it would in float32"):
        open_backend("onnxruntime", network(tmp_path), channels=CHANNELS, precision="bfloat16")


class TestMetadata:
    def test_a_variant_without_its_file(self, build_package: BuildPackage) -> None:
        folder = build_package(variants=INT8)
        with pytest.raises(PackageError, match=r"its int8 variant, .*\.int8\.onnx, is missing"):
            load_package(folder)
        (folder / FILES["int8"]).write_bytes((folder / FLOAT32_FILE).read_bytes())
        write_checksums(folder)
        assert "int8" in load_package(folder).settings["variants"]

    @pytest.mark.parametrize(
        "variants",
        [
            {},
            {"float8": variant(openvino=2)},
            {"int8": variant(openvino=2)},
            {"bfloat16": {**variant(openvino=2), "file": FLOAT32_FILE}},
            {"bfloat16": variant()},
            {"bfloat16": variant(openvino=0.9)},
            {"float16": {**variant(openvino=2), "file": "models/other.onnx"}},
        ],
    )
    def test_schema_refuses(self, tiny_package: Path, variants: dict[str, Any]) -> None:
        metadata = load_package(tiny_package).metadata
        assert metadata_faults(metadata) == []
        altered = {**metadata, "segreg": {**metadata["segreg"], "variants": variants}}
        assert any("segreg/variants" in fault for fault in metadata_faults(altered))


@pytest.mark.parametrize(("gain", "expected"), [(5.0, "bfloat16"), (5.5, "bfloat16"), (6, "int8")])
def test_of_two_about_as_fast_the_more_accurate_is_taken(gain: float, expected: str) -> None:
    near = {**BF16, "int8": {**INT8["int8"], **variant(openvino=gain)}}
    choice = choose_precision({"variants": near}, "openvino", MACHINES["AMX"])
    assert choice.precision == expected
