"""A tiny pair on disk."""

from __future__ import annotations

import pytest

from benchmarks.datasets import Pair
from segreg.engine.phantom import make_phantom


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    phantom = make_phantom((18, 22, 20), (6.0, 5.0, 5.0))
    paths = []
    for side in ("moving", "fixed", "moving_labels", "fixed_labels"):
        paths.append(folder / f"{side}.nii.gz")
        getattr(phantom, side).write(paths[-1])
    return Pair("phantom", *paths)
