"""Backends are compared on this machine, and packages that cannot run are told before loading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from segreg.engine import backends, compatibility, verification
from segreg.engine.backends import Availability, Backend
from segreg.engine.errors import BackendError, InputError, PackageError
from segreg.engine.package import METADATA, Package, load_package, write_checksums
from segreg.engine.phantom import Phantom
from segreg.engine.precision import FILES
from segreg.engine.runtime import Engine
from segreg.engine.verification import check_backends, compare, displacement_cells
from tests.conftest import SEGMENTATION, BuildPackage, tiny_network, write_tiny_package
from tests.engine.pairs import volumes

SETTINGS: dict[str, Any] = {
    "output": {"kind": "displacement", "unit": "canvas_voxel", "order": "zyx", "stride": 2},
    "integration_steps": 6,
}


def fields(*vector: float) -> np.ndarray:
    return np.broadcast_to(np.reshape(np.float32(vector), (1, 3, 1, 1, 1)), (2, 3, 6, 6, 6))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({}, (1, 2, 3)),
        ({"order": "xyz"}, (3, 2, 1)),
        ({"unit": "field_voxel"}, (2, 4, 6)),
        ({"kind": "velocity"}, (1, 2, 3)),  # a constant velocity is its own flow
        ({"kind": "velocity", "unit": "field_voxel"}, (2, 4, 6)),
    ],
)
def test_displacement_in_canvas_cells(output: dict[str, str], expected: Any) -> None:
    settings = {**SETTINGS, "output": {**SETTINGS["output"], **output}}
    found = displacement_cells(fields(1, 2, 3), settings)
    np.testing.assert_allclose(found[1, :, 3, 3, 3], expected, rtol=1e-5)


def test_compares_lengths() -> None:
    expected = fields(0, 3, 4).copy()
    found = expected.copy()
    found[1, :, 2, 2, 2] += (2, 1, 2)
    difference = compare(expected, found, SETTINGS)
    assert difference.largest_displacement == pytest.approx(5)
    assert difference.worst == pytest.approx(3)
    assert difference.percentile_99_9 < 3


def test_backends_agree(looking_package: Path) -> None:
    pytest.importorskip("onnxruntime")
    checks = check_backends(load_package(looking_package))
    usable = {entry.name for entry in backends.availability() if entry.usable}
    assert {check.backend for check in checks} == usable - {"onnxruntime"}
    for check in checks:
        assert check.sound
        assert check.difference is not None
        assert check.difference.largest_displacement > 0.1


def test_answer_on_another_grid(tiny_package: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "package"
    shutil.copytree(tiny_package, folder)
    metadata = json.loads((folder / METADATA).read_text())
    metadata["segreg"]["output"]["stride"] = 4
    (folder / METADATA).write_text(json.dumps(metadata))
    write_checksums(folder)
    with pytest.raises(PackageError, match=r"promise vectors .* its network gives"):
        check_backends(load_package(folder))


def test_nothing_to_compare(tiny_package: Path) -> None:
    whole = load_package(tiny_package)
    metadata = {**whole.metadata, "segreg": {"schema": 1, "segmentation": SEGMENTATION}}
    assert check_backends(Package(whole.folder, metadata, "")) == []


def quantised(network: onnx.ModelProto) -> onnx.ModelProto:
    """The tiny network with its input rounded to bytes."""
    copied = onnx.ModelProto()
    copied.CopyFrom(network)
    graph = copied.graph
    graph.initializer.append(numpy_helper.from_array(np.float32(1 / 127), "scale"))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    graph.node[0].input[0] = "rounded"
    graph.node.insert(0, helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["rounded"]))
    graph.node.insert(0, helper.make_node("QuantizeLinear", ["regions", "scale", "zero"], ["q"]))
    return copied


@pytest.mark.parametrize("altered", [False, True])
def test_altered_variant_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, altered: bool
) -> None:
    """Even with checksums that hold: every variant that the machine can run is run."""
    pytest.importorskip("onnxruntime")
    weights = np.random.default_rng(0).normal(0, 0.2, (3, 4, 2, 2, 2))
    speed = {"openvino": {"speed_up": 2.0, "capability": "avx_vnni"}}
    proved = {"worst": 0.05, "percentile_99_9": 0.01, "speed": speed}
    variants = {"bfloat16": proved, "int8": {"file": FILES["int8"], **proved}}
    folder = write_tiny_package(
        tmp_path / "package", tiny_network((0.3, -0.2, 0.1), weights), variants=variants
    )
    other = tiny_network((0.3, 0.2, 0.1) if altered else (0.3, -0.2, 0.1), weights)
    (folder / FILES["int8"]).write_bytes(quantised(other).SerializeToString())
    write_checksums(folder)
    monkeypatch.setattr(verification, "processor_flags", lambda: frozenset({"avx_vnni"}))
    found = {(c.backend, c.precision): c.sound for c in check_backends(load_package(folder))}
    assert found["onnxruntime", "int8"] is not altered
    if "openvino" in {entry.name for entry in backends.availability() if entry.usable}:
        assert found["openvino", "int8"] is not altered
        assert found["openvino", "float32"]
    assert "bfloat16" not in {precision for _, precision in found}  # this machine cannot


class Wrong(Backend):
    """Computes next to what it should."""

    name = "wrong"

    @classmethod
    def library_version(cls) -> str:
        return "1"

    def _load(self, network: Path, threads: int | None) -> None:
        pass

    def _run(self, regions: Any) -> Any:
        cells = regions.shape[-1] // 2
        return np.full((len(regions), 3, cells, cells, cells), 0.5, np.float32)

    def _close(self) -> None:
        pass


class Refusing(Wrong):
    name = "refusing"

    def _load(self, network: Path, threads: int | None) -> None:
        raise RuntimeError("no operator Warp")


def test_a_backend_that_differs_or_refuses(
    tiny_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = verification.open_backend
    own = {"wrong": Wrong, "refusing": Refusing}

    def opened(name: str, network: Path, **options: Any) -> Backend:
        return own[name](network, **options) if name in own else real(name, network, **options)

    listed = [Availability(name, "1", None) for name in (*own, "onnxruntime")]
    monkeypatch.setattr(verification, "availability", lambda: listed)
    monkeypatch.setattr(verification, "open_backend", opened)
    wrong, refusing = check_backends(load_package(tiny_package))
    assert not wrong.sound
    assert wrong.difference is not None
    assert wrong.difference.worst == pytest.approx(0.5 * 3**0.5, rel=1e-3)
    assert refusing.sound
    assert "no operator Warp" in str(refusing.refusal)


@pytest.mark.parametrize("placement", ["crop", "grid"])
class TestSpacedPlacements:
    """Packages whose network knows a spacing: here it takes 16 cells along each axis, no others."""

    def package(self, folder: Path, tiny: Path, placement: str, spacing: float) -> Path:
        write_tiny_package(folder / placement, onnx.load(tiny / "models/registration.onnx"))
        path = folder / placement / "configs/metadata.json"
        metadata = json.loads(path.read_text())
        del metadata["segreg"]["canvas"]
        metadata["segreg"].update(
            placement=placement, shape=[16] * 3, spacing=[spacing] * 3, free_axes=["batch"]
        )
        path.write_text(json.dumps(metadata))
        write_checksums(folder / placement)
        return folder / placement

    def test_registers(
        self, tiny_package: Path, tmp_path: Path, small_phantom: Phantom, placement: str
    ) -> None:
        package = self.package(tmp_path, tiny_package, placement, 8.0)
        with Engine(package) as spaced, Engine(tiny_package) as usual:
            found, expected = (one.register(*volumes(small_phantom)) for one in (spaced, usual))
        assert found.quality.dice > found.quality.dice_before
        # Their network has nothing to add, so both match moments.
        assert found.quality.dice == pytest.approx(expected.quality.dice, abs=0.02)

    def test_says_what_does_not_fit(
        self, tiny_package: Path, tmp_path: Path, small_phantom: Phantom, placement: str
    ) -> None:
        package = self.package(tmp_path, tiny_package, placement, 2.0)
        sentence = "at the package's spacing of 2x2x2 mm, and the network takes 16x16x16 only"
        with Engine(package) as engine, pytest.raises(InputError, match=sentence):
            engine.register(*volumes(small_phantom))

    def test_notes_are_in_the_result(
        self, tiny_package: Path, tmp_path: Path, small_phantom: Phantom, placement: str
    ) -> None:
        spacing, sentence = {
            "crop": (5.0, "all regions together: larger than the network's 16x16x16 cells"),
            "grid": (6.0, "fixed image: 20x20x18 cells at the package's spacing of 6x6x6 mm"),
        }[placement]
        with Engine(self.package(tmp_path, tiny_package, placement, spacing)) as engine:
            (note,) = engine.register(*volumes(small_phantom)).notes
        assert note.startswith(sentence)


class TestRefusedBy:
    @pytest.fixture
    def package(self, build_package: BuildPackage) -> Path:
        return build_package(refused_by={"openvino": "lacks GridSample"})

    def test_another_backend_is_taken(self, package: Path) -> None:
        pytest.importorskip("onnxruntime")
        with Engine(package) as engine:
            assert engine.backend.name == "onnxruntime"

    def test_asked_for_by_name(self, package: Path) -> None:
        with pytest.raises(BackendError, match=r"openvino lacks GridSample\. .*: onnxruntime"):
            Engine(package, backend="openvino")

    def test_no_other_is_there(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            compatibility, "availability", lambda: [Availability("openvino", "1", None)]
        )
        with pytest.raises(BackendError, match="are installed: none; pip install"):
            Engine(package)


def test_open_backend_is_used_and_left_open(tiny_package: Path) -> None:
    backend = Wrong(tiny_package, channels=4)
    with Engine(tiny_package, backend=backend) as engine:
        assert engine.backend is backend
    assert backend.infer(np.zeros((1, 4, 16, 16, 16), np.float32)).shape == (1, 3, 8, 8, 8)
