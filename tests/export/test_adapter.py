"""Every network is presented in the package's form, or refused with what to mend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segreg.engine.errors import PackageError
from segreg.engine.probes import structured_batch
from segreg.export.adapter import Adapter, check_answer
from segreg.export.spec import Spec, parse_spec
from tests.export.conftest import IMAGES, MakeSpec
from tests.export.networks import Follower, WarpingFollower


class Told(torch.nn.Module):
    """Answers with the same field whatever it is shown, and remembers that."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer, self.shown = answer, []

    def forward(self, *shown: torch.Tensor, **arguments: Any) -> Any:
        self.shown.append((shown, arguments))
        return self.answer


def field(*vector: float, cells: int = 8) -> torch.Tensor:
    return torch.tensor(vector).reshape(1, 3, 1, 1, 1).expand(2, 3, cells, cells, cells)


def regions(spec: Spec) -> torch.Tensor:
    return torch.from_numpy(structured_batch((16, 16, 16), spec.channels, 2))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"unit": "canvas_voxel"}, (1, 2, 3)),
        ({"unit": "canvas_voxel", "order": "xyz"}, (3, 2, 1)),
        ({"unit": "canvas_voxel", "sign": -1}, (-1, -2, -3)),
        ({"unit": "field_voxel"}, (2, 4, 6)),
        ({"unit": "field_voxel", "sign": -1, "order": "xyz"}, (-6, -4, -2)),
        # The grid's faces are 16 canvas cells apart, the outermost of its 8 centres 14.
        ({"unit": "normalized", "align_corners": False}, (8, 16, 24)),
        ({"unit": "normalized", "align_corners": True}, (7, 14, 21)),
        ({"unit": "unit_interval", "align_corners": True}, (14, 28, 42)),
    ],
)
def test_translates_vectors(
    output: dict[str, Any], expected: tuple[float, ...], make_spec: MakeSpec
) -> None:
    spec = parse_spec(make_spec({"stride": 2, **output}))
    vectors = check_answer(Adapter(Told(field(1.0, 2.0, 3.0)), spec), regions(spec))
    np.testing.assert_allclose(vectors[1, :, 3, 4, 5], expected, rtol=1e-6)


def test_shows_each_argument_its_channels(make_spec: MakeSpec) -> None:
    inputs = [["fixed_image"], ["moving_image", "moving_mask"]]
    spec = parse_spec(make_spec({"stride": 2}, inputs=inputs, arguments={"mode": "field"}))
    told, batch = Told(field(0.0, 0.0, 0.0)), regions(spec)
    check_answer(Adapter(told, spec), batch)
    ((fixed, moving), arguments) = told.shown[0]
    assert torch.equal(fixed, batch[:, :1])
    assert torch.equal(moving, batch[:, 1:])
    assert arguments == {"mode": "field"}


def test_brings_intensities_into_range(make_spec: MakeSpec) -> None:
    spec = parse_spec(make_spec({"stride": 2}, intensity_range=[0, 1]))
    told, batch = Told(field(0.0, 0.0, 0.0)), regions(spec)
    check_answer(Adapter(told, spec), batch)
    ((shown,), _) = told.shown[0]
    for k, name in enumerate(spec.channels):
        expected = batch[:, k] if name.endswith("mask") else (batch[:, k] + 1) / 2
        torch.testing.assert_close(shown[:, k], expected)


@pytest.mark.parametrize(("take", "named"), [(1, False), (-1, False), ("field", True)])
def test_takes_one_of_several(take: Any, named: bool, make_spec: MakeSpec) -> None:
    content = make_spec({"take": take}, inputs=IMAGES, arguments={"named": named})
    spec = parse_spec(content)
    batch = regions(spec)
    found = check_answer(Adapter(WarpingFollower(), spec), batch)
    plain = Adapter(Follower(), parse_spec(make_spec(inputs=IMAGES)))
    assert torch.equal(found, check_answer(plain, batch))


@pytest.mark.parametrize(
    ("answer", "output", "sentence"),
    [
        (
            (field(0, 0, 0), field(0, 0, 0)),
            {},
            r"the only output, got 2 outputs \(a tensor .*Say in network/output/take",
        ),
        ({"flow": field(0, 0, 0)}, {"take": "field"}, "output 'field', got outputs named flow"),
        ((field(0, 0, 0),), {"take": 3}, r"expected the field as output 3, got 1 outputs"),
        (7, {}, "got int"),
        (torch.zeros(2, 1, 8, 8, 8), {}, r"\(K, 3, D, H, W\), got \(2, 1, .*take says"),
        (torch.zeros(2, 8, 8, 8, 3), {}, r"Components belong on axis 1"),
        (field(0, 0, 0, cells=4), {}, "stride 2 promises .* that is stride 4"),
        (field(0, 0, 0)[:1], {}, "for each of 2 regions"),
        (field(0, float("nan"), 0), {}, "gives NaN or infinite vectors"),
    ],
)
def test_refuses(answer: Any, output: dict[str, Any], sentence: str, make_spec: MakeSpec) -> None:
    spec = parse_spec(make_spec({"stride": 2, **output}))
    with pytest.raises(PackageError, match=sentence):
        check_answer(Adapter(Told(answer), spec), regions(spec))


def test_network_that_fails_on_its_input(make_spec: MakeSpec) -> None:
    spec = parse_spec(make_spec({"stride": 2}))  # one batch of four channels; it takes two images
    with pytest.raises(PackageError, match=r"failed on input \(2, 4, 16, 16, 16\) \(TypeError"):
        check_answer(Adapter(Follower(), spec), regions(spec))


def test_puts_the_network_into_inference(make_spec: MakeSpec) -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(4, 3, 1), torch.nn.Dropout(0.5)).train()
    Adapter(network, parse_spec(make_spec()))
    assert not any(module.training for module in network.modules())
