"""A network trained on whole, affinely aligned images, as most released ones are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segreg.engine.runtime import Engine
from segreg.export import export
from tests.export.conftest import MakeSpec
from tests.export.foreign import released


@pytest.mark.data
def test_brains(research_data: Path, make_spec: MakeSpec, tmp_path: Path) -> None:
    """VoxelMorph's network, moving image first, voxels of displacement; 4 mm for speed."""
    brain = research_data / "brain"
    names = ("subj1_t1", "subj2_t1", "subj1_fsaseg", "subj2_fsaseg")
    pair = [brain / f"{name}.nii.gz" for name in names]
    spec = make_spec(
        inputs=[["moving_image"], ["fixed_image"]], intensity_range=[0, 1], free_space=False
    )
    del spec["segreg"]["canvas"], spec["segreg"]["margin"]
    spec["segreg"].update(
        placement="grid", shape=[56, 48, 40], spacing=[4] * 3, initial_map="identity"
    )
    package = export(released.voxelmorph(), spec, tmp_path / "brains", pair=pair)
    report = json.loads((package.folder / "docs/parity.json").read_text())
    assert report["verdict"] == "passed"
    real = [case for case in report["cases"] if case["input"] == "real"]
    assert {(case["regions"], *case["shape"]) for case in real} == {(1, 56, 48, 40)}
    assert max(case["largest_displacement"] for case in real) > 0.3
    with Engine(package.folder) as engine, Engine(package.folder, passes=0) as still:
        moved, aligned = engine.register(*pair, repair=False), still.register(*pair, repair=False)
    # The images are aligned: without the network nothing moves.
    assert np.abs(aligned.displacement.displacement).max() < 1e-3
    assert aligned.quality.dice == pytest.approx(aligned.quality.dice_before, abs=1e-3)
    # The field is the network's everywhere, in voxels of 4 mm.
    lengths = np.linalg.norm(moved.displacement.displacement, axis=0)
    assert lengths.max() == pytest.approx(
        4 * max(case["largest_displacement"] for case in real), rel=0.1
    )
