"""The network that comes with segreg, on a pair it was never trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from segreg.engine.backends import availability
from segreg.engine.phantom import Phantom, endpoint_error, make_phantom
from segreg.engine.result import Result
from segreg.engine.runtime import Engine
from tests.engine.pairs import volumes


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom((36, 45, 40), (3.6, 2.9, 2.9), seed=2)


@pytest.fixture(scope="module")
def shapes() -> Iterator[Engine]:
    with Engine("shapes") as engine:
        yield engine


@pytest.fixture(scope="module")
def result(shapes: Engine, phantom: Phantom) -> Result:
    return shapes.register(*volumes(phantom))


def test_aligns_every_organ(result: Result, phantom: Phantom) -> None:
    assert result.quality.passed, result.quality.faults
    assert result.quality.dice > 0.98
    assert min(region.dice for region in result.quality.regions) > 0.96
    assert result.quality.hd95_mm < phantom.fixed.spacing[0]


def test_does_not_fold(result: Result) -> None:
    assert result.quality.folding_inside_percent == 0
    assert result.quality.folding_seams_percent < 0.5
    assert result.quality.folding_background_percent < 0.1


def test_is_near_the_truth(result: Result, phantom: Phantom) -> None:
    """Not only at the outlines: within a voxel everywhere inside the organs."""
    assert endpoint_error(result.displacement, phantom).mean_voxels < 0.6


def test_is_better_than_moment_matching(shapes: Engine, phantom: Phantom) -> None:
    with Engine("shapes", passes=0) as still:
        without = still.register(*volumes(phantom), refine="off").quality
    network = shapes.register(*volumes(phantom), refine="off").quality
    assert network.dice > without.dice + 0.02
    assert network.hd95_mm < without.hd95_mm


def test_refinement_brings_the_rest(shapes: Engine, result: Result, phantom: Phantom) -> None:
    plain = shapes.register(*volumes(phantom), refine="off")
    errors = [endpoint_error(r.displacement, phantom).mean_voxels for r in (result, plain)]
    assert errors[0] < 0.7 * errors[1]
    assert result.quality.dice > plain.quality.dice


def test_identical_sides_stay(shapes: Engine, phantom: Phantom) -> None:
    one, labels = phantom.fixed, phantom.fixed_labels
    result = shapes.register(one, one, labels, labels)
    assert result.quality.dice > 0.995
    assert np.abs(result.displacement.displacement[:, labels.array > 0]).mean() < 0.1


def test_backends_agree(result: Result, phantom: Phantom) -> None:
    """Reduced precision and early stops included."""
    usable = {entry.name for entry in availability() if entry.usable}
    others = sorted(usable - {result.provenance.backend})
    if not others:
        pytest.skip("one backend alone has nobody to agree with")
    for backend in others:
        with Engine("shapes", backend=backend) as engine:
            other = engine.register(*volumes(phantom))
        difference = other.displacement.displacement - result.displacement.displacement
        inside = np.abs(difference[:, phantom.fixed_labels.array > 0])
        assert inside.mean() < 0.05  # voxels
        assert other.quality.dice == pytest.approx(result.quality.dice, abs=0.005)


def test_card_and_parity_are_there(shapes: Engine) -> None:
    assert (shapes.package.folder / "docs/README.md").stat().st_size > 500
    assert "worst" in (shapes.package.folder / "docs/parity.json").read_text()
    proved = shapes.package.settings["variants"]["bfloat16"]
    assert proved["worst"] <= 0.1
    assert abs(proved["dice_change"]) <= 0.002
    assert "Research" in shapes.package.intended_use
