"""What a network's vectors mean is measured; a spec that says otherwise is refused."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from models.shapes.network import RegionNetwork
from segreg.engine.package import shipped_packages
from segreg.export import conventions, export
from segreg.export.adapter import Adapter
from segreg.export.conventions import Conventions, measure_conventions
from segreg.export.exporter import ConventionError
from segreg.export.spec import parse_spec
from tests.export.conftest import IMAGES, MakeSpec, make_network
from tests.export.networks import Follower, gradient


def measure(network: Any, content: dict[str, Any], canvas: int = 24) -> Conventions:
    content = copy.deepcopy(content)
    content["segreg"]["canvas"] = [canvas]
    return measure_conventions(Adapter(network, parse_spec(content)))


def half(cells: int = 24) -> float:
    return 2 / cells


SOUND = {
    "cells": (Follower(), {}),
    "velocity": (Follower(), {"kind": "velocity"}),
    "xyz": (Follower("xyz"), {"order": "xyz"}),
    "negative": (Follower(scale=(-1, -1, -1)), {"sign": -1}),
    "field cells": (
        Follower(scale=(0.5, 0.5, 0.5), stride=2),
        {"unit": "field_voxel", "stride": 2},
    ),
    "strided": (Follower(stride=2), {"stride": 2}),
    "normalized to the faces": (
        Follower(scale=(half(),) * 3),
        {"unit": "normalized", "align_corners": False},
    ),
    "normalized to the centres": (
        Follower(scale=(2 / 23,) * 3),
        {"unit": "normalized", "align_corners": True},
    ),
    "unit interval": (
        Follower(scale=(1 / 23,) * 3),
        {"unit": "unit_interval", "align_corners": True},
    ),
}


@pytest.mark.parametrize("case", SOUND.values(), ids=SOUND.keys())
def test_sound_specs_pass(case: tuple[Any, dict[str, Any]], make_spec: MakeSpec) -> None:
    network, output = case
    found = measure(network, make_spec(output, inputs=IMAGES))
    assert found.measurable
    assert found.contradictions == found.doubts == ()
    np.testing.assert_allclose(np.diag(found.response), 1, atol=0.2)


@pytest.mark.parametrize(
    ("network", "output", "inputs", "sentence"),
    [
        (Follower("xyz"), {}, IMAGES, r'order: stated zyx, measured xyz; set .* to "xyz"'),
        (Follower(), {"order": "xyz"}, IMAGES, r'order: stated xyz, measured zyx; set .* to "zyx"'),
        (Follower("yxz"), {}, IMAGES, r"measured yxz; .* reorder them in forward"),
        (Follower("yzx"), {"order": "xyz"}, IMAGES, r"stated xyz, measured yzx"),
        (Follower(), {"sign": -1}, IMAGES, r"sign has the wrong sign"),
        (Follower(), {}, IMAGES[::-1], r"moving and fixed are swapped in network/inputs"),
        (Follower(scale=(1, 1, -1)), {}, IMAGES, r"points backwards along x only"),
        (
            Follower(),
            {"unit": "normalized", "align_corners": False},
            IMAGES,
            r"unit: stated normalized, .* covers 1\d; the vectors fit canvas_voxel",
        ),
        (
            Follower(scale=(half(),) * 3),
            {},
            IMAGES,
            r"unit: stated canvas_voxel, .* covers 0\.0\d+; the vectors fit normalized",
        ),
        (
            Follower(stride=2),
            {"unit": "field_voxel", "stride": 2},
            IMAGES,
            r"unit: stated field_voxel, .* covers 2\.\d; the vectors fit canvas_voxel",
        ),
        (Follower(scale=(500,) * 3), {}, IMAGES, r"no unit of a spec fits; scale the field"),
    ],
)
def test_contradictions(
    network: Any, output: dict[str, Any], inputs: Any, sentence: str, make_spec: MakeSpec
) -> None:
    found = measure(network, make_spec(output, inputs=inputs))
    assert found.measurable
    assert len(found.contradictions) == 1
    assert re.search(sentence, found.contradictions[0])


def test_all_contradictions_are_listed(make_spec: MakeSpec) -> None:
    found = measure(Follower("xyz", scale=(-9, -9, -9)), make_spec(inputs=IMAGES))
    kinds = [text.partition(":")[0] for text in found.contradictions]
    assert kinds == ["component order", "direction", "unit"]


def test_smaller_unit_is_doubted_not_refused(make_spec: MakeSpec) -> None:
    """Half of the shift may be a network that is cautious, or one that speaks in field cells."""
    network = Follower(scale=(0.5, 0.5, 0.5), stride=2)
    found = measure(network, make_spec({"stride": 2}, inputs=IMAGES))
    assert found.contradictions == ()
    assert len(found.doubts) == 1
    assert "make sure of the stated canvas_voxel" in found.doubts[0]


@pytest.mark.parametrize("seed", range(4))
def test_untrained_networks_prove_nothing(material: Any, seed: int) -> None:
    network = make_network()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    found = measure(network, material.spec, 16)
    assert not found.measurable
    assert found.as_dict()["conventions"].startswith("not measurable")


def test_silent_network_proves_nothing(make_spec: MakeSpec) -> None:
    found = measure(Follower(scale=(0, 0, 0)), make_spec(inputs=IMAGES))
    assert not found.measurable
    # After the first axis nothing more needs to be asked.
    assert found.as_dict()["response_per_cell_zyx"] == [[0.0] * 3, [None] * 3, [None] * 3]


def test_export_refuses(tmp_path: Path, make_spec: MakeSpec) -> None:
    with pytest.raises(ConventionError, match=r"^spec: component order: .*; unit: "):
        export(
            Follower("xyz", scale=(9, 9, 9)), make_spec(inputs=IMAGES), tmp_path / "refused"
        )
    assert list(tmp_path.iterdir()) == []


class Asked(Follower):
    """Keeps the shapes (K, D, H, W) it was shown; takes only those of ``size``, if there is one."""

    def __init__(self, size: int | None = None, **convention: Any) -> None:
        super().__init__(**convention)
        self.size = size
        self.seen: list[tuple[int, ...]] = []

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        self.seen.append((len(fixed), *fixed.shape[2:]))
        if self.size not in (None, fixed.shape[2]):
            raise RuntimeError(f"trained on {self.size}")
        # All axes together: a shift along all of them is followed, too.
        slope = (gradient(fixed) + gradient(moving)).flatten(2) / 2
        change = (fixed - moving).flatten(1)[..., None]
        shift = torch.linalg.solve(slope @ slope.mT, slope @ change)[..., None, None]
        field = shift * self.get_buffer("scale").reshape(1, 3, 1, 1, 1)
        field = field[:, ["zyx".index(axis) for axis in self.order]]
        return field.expand(-1, -1, *fixed.shape[2:])


class TestLargeCanvases:
    """What takes long is measured in small, and only what holds on the whole canvas counts."""

    @pytest.fixture(autouse=True)
    @staticmethod
    def small_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conventions, "MOST_CELLS", 32**3)

    @pytest.mark.parametrize(
        ("network", "output", "sentences"),
        [
            (Asked(), {}, []),
            (Asked(order="xyz"), {}, ["component order: stated zyx, measured xyz"]),
            (Asked(), {"sign": -1}, ["direction: the field leads away"]),
            (Asked(scale=(9, 9, 9)), {}, ["unit: stated canvas_voxel"]),
        ],
    )
    def test_smaller_canvas(
        self, network: Any, output: dict[str, Any], sentences: list[str], make_spec: MakeSpec
    ) -> None:
        found = measure(network, make_spec(output, inputs=IMAGES), 64)
        assert found.canvas == (32, 32, 32)
        said = zip(found.contradictions, sentences, strict=True)
        assert all(text.startswith(sentence) for text, sentence in said)
        assert [count for count, *size in network.seen if size == [64] * 3] == [2]

    def test_unit_of_one_size(self, make_spec: MakeSpec) -> None:
        """Shares of half of 64 cells; on 32 cells they would pass for shares of the whole."""
        network = Asked(scale=(2 / 64,) * 3)
        right = {"unit": "normalized", "align_corners": False}
        wrong = {"unit": "unit_interval", "align_corners": False}
        small = measure(network, make_spec(wrong, inputs=IMAGES), 32)
        assert small.contradictions == small.doubts == ()
        assert measure(network, make_spec(right, inputs=IMAGES), 64).contradictions == ()
        (contradiction,) = measure(network, make_spec(wrong, inputs=IMAGES), 64).contradictions
        assert "the vectors fit normalized" in contradiction

    def test_network_of_one_size(self, make_spec: MakeSpec) -> None:
        network = Asked(64, order="xyz")
        found = measure(network, make_spec(inputs=IMAGES), 64)
        assert found.canvas == (64, 64, 64)
        assert "measured xyz" in found.contradictions[0]

    def test_proportions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        assert conventions.smaller_canvas((160, 192, 224)) == (96, 96, 128)
        assert conventions.smaller_canvas((16, 512, 512)) == (16, 320, 320)
        assert conventions.smaller_canvas((96, 96, 96)) == (96, 96, 96)


class TestTrained:
    """The network that comes with segreg: it follows a shift as trained networks do, in part."""

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls) -> Any:
        graph = onnx.load(shipped_packages()["shapes"] / "models/registration.onnx").graph
        network = RegionNetwork()
        state = {
            t.name.removeprefix("network."): torch.from_numpy(numpy_helper.to_array(t).copy())
            for t in graph.initializer
        }
        network.load_state_dict({name: state[name] for name in network.state_dict()})
        return network

    def test_spec_is_sound(self, network: Any, material: Any) -> None:
        found = measure(network, material.spec, 48)
        assert found.measurable
        assert found.contradictions == found.doubts == ()

    @pytest.mark.parametrize(
        ("output", "sentence"),
        [
            ({"order": "xyz"}, "stated xyz, measured zyx"),
            ({"sign": -1}, "network/output/sign has the wrong sign"),
            ({"unit": "field_voxel"}, "stated field_voxel, .* the vectors fit canvas_voxel"),
            (
                {"unit": "unit_interval", "align_corners": False},
                "stated unit_interval, .* the vectors fit canvas_voxel",
            ),
        ],
    )
    def test_wrong_specs(
        self, network: Any, material: Any, output: dict[str, Any], sentence: str
    ) -> None:
        spec = copy.deepcopy(material.spec)
        spec["network"]["output"].update(output)
        found = measure(network, spec, 48)
        assert len(found.contradictions) == 1
        assert re.search(sentence, found.contradictions[0])

    def test_swapped_sides(self, network: Any, material: Any) -> None:
        spec = copy.deepcopy(material.spec)
        (inputs,) = spec["network"]["inputs"]
        spec["network"]["inputs"] = [inputs[2:] + inputs[:2]]
        (contradiction,) = measure(network, spec, 48).contradictions
        assert "moving and fixed are swapped in network/inputs" in contradiction
