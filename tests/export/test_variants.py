"""A variant stays if it is near enough and faster; otherwise it goes, and the report says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.engine.backends import Availability, Backend, open_backend
from segreg.engine.package import Package, load_package
from segreg.engine.precision import FILES
from segreg.export import export, variants
from segreg.export.adapter import Adapter
from segreg.export.parity import Parity, measure_parity
from segreg.export.report import write_table
from segreg.export.spec import parse_spec
from segreg.export.variants import Trial, measure_speed_up, measure_variants

FLAGS = frozenset({"amx_bf16", "avx512_vnni"})


class Off(Backend):
    """The reference with ``error`` voxels added, said to be in another precision."""

    name = "openvino"
    error: float = 0.0
    said: str = "bfloat16"

    @classmethod
    def library_version(cls) -> str:
        return "1"

    @property
    def precision(self) -> str:
        return self.said

    def _load(self, network: Path, threads: int | None) -> None:
        self._inner = open_backend("onnxruntime", network, channels=self.channels)

    def _run(self, regions: Any) -> Any:
        return np.asarray(self._inner.infer(regions) + np.float32(self.error))

    def _close(self) -> None:
        self._inner.close()


@pytest.fixture(autouse=True)
def _reference_is_installed() -> None:
    pytest.importorskip("onnxruntime")


def lenient(spec: dict[str, Any]) -> dict[str, Any]:
    """``spec`` for a network that knows nothing: what it does to a Dice is chance."""
    return {**spec, "network": {**spec["network"], "tolerance": {"dice": 0.05}}}


@pytest.fixture(scope="module")
def adapter(material: Any) -> Adapter:
    return Adapter(material.network, parse_spec(lenient(material.spec)))


@pytest.fixture(scope="module")
def parity(adapter: Adapter, exported: Package, sides: Any) -> Parity:
    return measure_parity(adapter, exported, pair=sides)


@pytest.fixture
def package(exported: Package, tmp_path: Path) -> Package:
    return load_package(Path(shutil.copytree(exported.folder, tmp_path / "small")))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with the backends ``names``, whose reduced precisions are ``error`` voxels off."""

    def make(*names: str, error: float = 0.0) -> None:
        def opened(name: str, network: Path, *, channels: int, precision: str) -> Backend:
            if precision == "float32":
                return open_backend("onnxruntime", network, channels=channels)
            kind = type("Made", (Off,), {"name": name, "said": precision, "error": error})
            return kind(network, channels=channels, precision=precision)

        monkeypatch.setattr(variants, "open_backend", opened)
        monkeypatch.setattr(variants, "processor_flags", lambda: FLAGS)
        listed = [Availability(name, "1", None) for name in names]
        monkeypatch.setattr(variants, "availability", lambda: listed)

    return make


def tried(
    adapter: Adapter, package: Package, parity: Parity, *precisions: str, gain: float = 2.0
) -> list[Trial]:
    return measure_variants(
        adapter, package, parity, precisions, speed_up=lambda plain, reduced, regions: gain
    )


def test_near_and_fast_is_kept(
    adapter: Adapter, package: Package, parity: Parity, machine: Any
) -> None:
    machine("openvino", error=0.01)
    (trial,) = tried(adapter, package, parity, "float32", "bfloat16")
    assert trial.kept
    entry = trial.as_metadata()
    assert "file" not in entry
    assert 0.01 < entry["worst"] < 0.03
    assert entry["percentile_99_9"] <= entry["worst"]
    assert abs(entry["dice_change"]) <= 0.05
    assert entry["speed"] == {"openvino": {"speed_up": 2.0, "capability": "amx_bf16"}}
    assert {case["precision"] for case in trial.as_dict()["cases"]} == {"bfloat16"}


def test_inaccurate_is_dropped_and_named(
    adapter: Adapter, package: Package, parity: Parity, machine: Any
) -> None:
    machine("openvino", error=0.5)
    (trial,) = tried(adapter, package, parity, "bfloat16", gain=9.0)
    assert not trial.kept
    report = trial.as_dict()
    assert report["verdict"] == "dropped"
    assert report["worst"] > 0.5
    assert report["reasons"][0].startswith("openvino (bfloat16) on random regions of 16x16x16: ")
    assert "voxel apart, allowed 0.1" in report["reasons"][0]
    assert report["speed"]["openvino"]["speed_up"] == 9.0  # figures of what is dropped, too


@pytest.mark.parametrize("gain", [0.7, 1.0, 1.04])
def test_slower_is_dropped(
    adapter: Adapter, package: Package, parity: Parity, machine: Any, gain: float
) -> None:
    machine("openvino")
    (trial,) = tried(adapter, package, parity, "bfloat16", gain=gain)
    assert trial.faults == [f"openvino: {gain:.2f} times as fast as float32"]


def test_each_is_timed_against_float32(
    adapter: Adapter, package: Package, parity: Parity, machine: Any, monkeypatch: Any
) -> None:
    def copied(source: Path, target: Path, *_: Any) -> list[str]:
        shutil.copy(source, target)
        return ["a copy"]

    machine("openvino")
    monkeypatch.setattr(variants, "quantise", copied)
    monkeypatch.setattr(variants, "calibration_regions", lambda *_: [])
    bfloat16, int8 = tried(adapter, package, parity, "int8", "bfloat16", gain=3.0)
    assert [bfloat16.precision, int8.precision] == ["bfloat16", "int8"]
    assert bfloat16.kept
    assert int8.kept
    assert int8.as_dict()["notes"] == ["a copy"]


class TestFloat16:
    def test_file_is_written_and_listed(
        self, adapter: Adapter, package: Package, parity: Parity, machine: Any
    ) -> None:
        machine("onnxruntime-cuda")
        (trial,) = tried(adapter, package, parity, "float16")
        assert trial.kept
        assert trial.as_metadata()["file"] == FILES["float16"]
        assert FILES["float16"] in (package.folder / "SHA256SUMS").read_text()

    def test_dropped_one_leaves_no_file(
        self, adapter: Adapter, package: Package, parity: Parity, machine: Any
    ) -> None:
        machine("onnxruntime-cuda")
        (trial,) = tried(adapter, package, parity, "float16", gain=0.9)
        assert not trial.kept
        assert not (package.folder / FILES["float16"]).exists()
        load_package(package.folder)

    def test_needs_something_to_measure_on(
        self, adapter: Adapter, package: Package, parity: Parity, machine: Any
    ) -> None:
        machine("openvino", "onnxruntime")
        (trial,) = tried(adapter, package, parity, "float16")
        assert trial.faults == ["not measured: no backend that computes in it is known here"]


def test_processor_without_instructions(
    adapter: Adapter, package: Package, parity: Parity, machine: Any, monkeypatch: Any
) -> None:
    machine("openvino")
    monkeypatch.setattr(variants, "processor_flags", lambda: frozenset({"avx2"}))
    (trial,) = tried(adapter, package, parity, "bfloat16")
    assert trial.faults == [
        "not measured: openvino: the processor lacks amx_bf16 or avx512_bf16"
    ]


def test_speed_up_is_the_ratio_of_the_least_times(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    asked: list[Any] = []

    class Timed:
        def __init__(self, ticks: int) -> None:
            self.ticks = ticks

        def infer(self, regions: Any) -> None:
            asked.append(self)
            disturbed = 5 if len(asked) % 3 == 0 else 0
            for _ in range(self.ticks - 1 + disturbed):
                next(clock)

    monkeypatch.setattr(variants.time, "perf_counter", lambda: next(clock))
    plain, reduced = Timed(12), Timed(4)
    gain = measure_speed_up(plain, reduced, np.zeros(1))  # type: ignore[arg-type]
    assert gain == pytest.approx(3)
    assert asked[:6] == [plain, reduced] * 3  # in turn


def test_exported_with_its_variants(
    material: Any, sides: Any, tmp_path: Path, machine: Any, monkeypatch: Any
) -> None:
    """Metadata, report and table say the same; what was dropped is in them with its figures."""
    machine("openvino", "onnxruntime-cuda", error=0.01)
    monkeypatch.setattr(
        variants, "measure_speed_up", lambda plain, reduced, _: {"openvino": 2}.get(reduced.name, 1)
    )
    package = export(
        material.network, lenient(material.spec), tmp_path / "small", pair=sides,
        precisions=["bfloat16", "float16"],
    )
    assert set(package.settings["variants"]) == {"bfloat16"}
    report = json.loads((package.folder / "docs/parity.json").read_text())["variants"]
    assert [report[name]["verdict"] for name in ("bfloat16", "float16")] == ["kept", "dropped"]
    for name in ("worst", "percentile_99_9", "dice_change", "folding_change"):
        assert package.settings["variants"]["bfloat16"][name] == report["bfloat16"][name]
    table = (package.folder / "docs/parity.md").read_text()
    assert "2.00 in openvino (amx_bf16) | kept |" in table
    assert "- float16 dropped: onnxruntime-cuda: 1.00 times as fast as float32" in table
    assert not (package.folder / FILES["float16"]).exists()


def test_table_without_variants(exported: Package) -> None:
    report = json.loads((exported.folder / "docs/parity.json").read_text())
    assert report["variants"] == {}
    assert "Reduced precisions" not in write_table(exported.metadata, report)
