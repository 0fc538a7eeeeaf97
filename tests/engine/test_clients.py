"""Other registration tools read our field as we mean it, where they are installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segreg.engine.field import apply_to_image
from segreg.engine.phantom import Phantom, make_phantom
from segreg.engine.volume import Volume


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """A pair whose fixed grid is oblique and anisotropic, with its true field."""
    return make_phantom(shape=(24, 30, 28), spacing=(4.0, 3.2, 3.2))


@pytest.fixture(scope="module")
def files(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients")
    phantom.moving.write(folder / "moving.nii.gz")
    phantom.fixed.write(folder / "fixed.nii.gz")
    phantom.truth.write(folder / "field.nii.gz")
    return folder


def assert_agrees(phantom: Phantom, warped: np.ndarray) -> None:
    expected = apply_to_image(phantom.truth, phantom.moving).array
    assert np.abs(warped - expected).mean() < 1e-3 * np.ptp(expected)


@pytest.mark.filterwarnings("ignore")  # of the tool's own imports
def test_ants(phantom: Phantom, files: Path) -> None:
    ants = pytest.importorskip("ants", reason="ANTs (antspyx) is not installed")
    warped = ants.apply_transforms(
        ants.image_read(str(files / "fixed.nii.gz")),
        ants.image_read(str(files / "moving.nii.gz")),
        [str(files / "field.nii.gz")],
        interpolator="linear",
    )
    assert_agrees(phantom, warped.numpy().T)


@pytest.mark.filterwarnings("ignore")  # of the tool's own imports
def test_greedy(phantom: Phantom, files: Path) -> None:
    greedy = pytest.importorskip("picsl_greedy", reason="greedy (picsl_greedy) is not installed")
    greedy.Greedy3D().execute(
        f"-d 3 -rf {files}/fixed.nii.gz -rm {files}/moving.nii.gz {files}/warped.nii.gz "
        f"-r {files}/field.nii.gz"
    )
    assert_agrees(phantom, Volume.read(files / "warped.nii.gz").array)
