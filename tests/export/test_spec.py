"""A spec is checked before any work; every fault is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from segreg.engine.errors import PackageError
from segreg.engine.package import metadata_faults
from segreg.export.spec import parse_spec, read_spec

ROOT = Path(__file__).resolve().parents[2]


def test_fills_in_what_the_package_says() -> None:
    spec = read_spec(ROOT / "models/shapes/spec.json")
    assert spec.metadata["segreg"]["channels"] == spec.channels
    assert spec.metadata["segreg"]["output"] == {
        "kind": "velocity", "unit": "canvas_voxel", "order": "zyx", "stride": 2,
    }
    assert "network" not in spec.metadata
    assert metadata_faults(spec.metadata) == []
    assert spec.shapes == [(48,) * 3, (80,) * 3, (128,) * 3]
    assert spec.tolerance.of("float32") == 1e-3
    assert spec.tolerance.of("bfloat16") == 0.1


def test_two_arguments(shapes_spec: dict[str, Any]) -> None:
    content = copy.deepcopy(shapes_spec)
    content["network"]["inputs"] = [["moving_image", "moving_mask"], ["fixed_image"]]
    spec = parse_spec(content)
    assert spec.inputs == (("moving_image", "moving_mask"), ("fixed_image",))
    assert spec.channels == ["moving_image", "moving_mask", "fixed_image"]


def test_whole_grids(shapes_spec: dict[str, Any]) -> None:
    content = copy.deepcopy(shapes_spec)
    del content["segreg"]["canvas"]
    content["segreg"].update(placement="grid", shape=[32, 40, 48], spacing=[1, 1, 1])
    assert parse_spec(content).shapes == [(32, 40, 48)]


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("name",), "Not A Name", "name: 'Not A Name' does not match"),
        (("surprise",), 1, "'surprise' was unexpected"),
        (("segreg",), {}, "'schema' is a required property"),
        (("segreg",), None, "None is not of type 'object'"),
        (("segreg", "channels"), [], "segreg/channels: the exporter writes it"),
        (("segreg", "shape"), [16, 16, 16], "segreg/shape: does not go"),
        (("segreg", "placement"), "grid", "'shape' is a required property"),
        (("network",), [], "network: .* is not of type 'object'"),
        (("network", "inputs"), [["image"]], "network/inputs/0/0: 'image' is not one of"),
        (("network", "inputs"), [["moving_mask"]], "is shown the moving side only"),
        (("network", "output", "unit"), "mm", "network/output/unit: 'mm' is not one of"),
        (("network", "output", "unit"), "normalized", "'align_corners' is a required property"),
        (("network", "output", "align_corners"), True, "network/output/align_corners: does not go"),
        (("network", "output", "order"), "zxy", "'zxy' is not one of"),
        (("network", "output", "sign"), 2, "2 is not one of"),
        (("network", "tolerance"), {"float64": 1}, "'float64' was unexpected"),
        (("network", "surprise"), 1, "'surprise' was unexpected"),
    ],
)
def test_faults(
    shapes_spec: dict[str, Any], place: tuple[str, ...], value: Any, sentence: str
) -> None:
    content = copy.deepcopy(shapes_spec)
    target = content
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    with pytest.raises(PackageError, match=f"spec: .*{sentence}"):
        parse_spec(content)


def test_every_fault_is_listed(shapes_spec: dict[str, Any]) -> None:
    content = copy.deepcopy(shapes_spec)
    content["name"] = "Not A Name"
    content["segreg"]["passes"] = 0
    content["network"]["output"]["unit"] = "mm"
    with pytest.raises(PackageError) as caught:
        parse_spec(content)
    for fault in ("network/output/unit", "name: ", "segreg/passes"):
        assert fault in str(caught.value)


def test_fixed_axes_have_one_size(shapes_spec: dict[str, Any]) -> None:
    content = copy.deepcopy(shapes_spec)
    content["segreg"]["canvas"] = [16, 32]
    content["network"]["free_space"] = False
    with pytest.raises(PackageError, match=r"takes one size, segreg/canvas lists \[16, 32\]"):
        parse_spec(content)


def test_metadata_alone_is_not_enough(shapes_spec: dict[str, Any]) -> None:
    content = {key: value for key, value in shapes_spec.items() if key != "network"}
    with pytest.raises(PackageError, match="the network block is missing"):
        parse_spec(content)
    with pytest.raises(PackageError, match="expected a JSON object, got list"):
        parse_spec([])


def test_files(tmp_path: Path, shapes_spec: dict[str, Any]) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(shapes_spec))
    assert read_spec(path) == parse_spec(shapes_spec)
    path.write_text("{")
    with pytest.raises(PackageError, match=r"expected JSON in spec\.json"):
        read_spec(path)
    with pytest.raises(PackageError, match=r"nowhere\.json cannot be read \(No such file"):
        read_spec(tmp_path / "nowhere.json")
