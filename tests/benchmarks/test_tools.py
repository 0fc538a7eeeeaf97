"""The tools' common ground: who they are, what they are given, and how fields come back."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from benchmarks.datasets import Pair
from benchmarks.tools.base import Task
from benchmarks.tools.convexadam import isotropic_grid
from benchmarks.tools.inputs import (
    field_of_map,
    grid_points,
    outcome_of_transform,
    read_channels,
    register_affine,
    split_channels,
    union_of,
)
from benchmarks.tools.registry import TOOLS
from benchmarks.trial import compare_warps
from segreg.engine.volume import Volume
from tests.benchmarks.stand_in_tools import TOOLS as STAND_INS

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture
def task(pair: Pair, tmp_path: Path) -> Task:
    return Task(pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels, tmp_path, 2)


def test_registry() -> None:
    assert "segreg" in TOOLS
    assert {tool.driven_by for tool in TOOLS.values()} == {"affine", "image", "labels"}
    for id, tool in TOOLS.items():
        assert id == tool.id
        assert tool.settings.endswith(".")
    labels = {(tool.name, tool.driven_by) for tool in TOOLS.values()}
    assert len(labels) == len(TOOLS), "two rows of the table would look the same"


def test_extra_installs_every_tool() -> None:
    text = PYPROJECT.read_text(encoding="utf-8")
    extras = "".join(re.findall(r"^(?:peers|bench) = \[.*?\]$", text, re.DOTALL | re.MULTILINE))
    wanted = {name for tool in TOOLS.values() for name in tool.distributions}
    assert all(f'"{name}' in extras for name in wanted)
    assert requires("segreg"), "the extras are part of the package"


def test_why_a_tool_is_not_available() -> None:
    absent = next(tool for tool in STAND_INS if tool.id == "absent")
    assert absent.available() == "not installed: segreg-tool-that-nobody-wrote"
    assert TOOLS["demons"].available() is None


def test_channels_are_the_common_labels(task: Task) -> None:
    moving, fixed = read_channels(task)
    labels = np.unique(Volume.read(task.fixed_labels).array)
    found = sitk.GetArrayFromImage(fixed)
    assert found.max() == len(labels) - 1
    assert np.array_equal(found > 0, Volume.read(task.fixed_labels).array > 0)
    pairs = split_channels(moving, fixed)
    assert len(pairs) == found.max()
    assert np.array_equal(sitk.GetArrayFromImage(pairs[2][1]), found == 3)


def test_many_labels_share_channels(task: Task) -> None:
    single = [sitk.GetArrayFromImage(side) for side in read_channels(task)]
    shared = [sitk.GetArrayFromImage(side) for side in read_channels(task, most=2)]
    for one, two in zip(single, shared, strict=True):
        assert set(np.unique(two)) == {0, 1, 2}
        assert np.array_equal(two[one > 0], (one[one > 0] - 1) % 2 + 1)


def test_field_of_a_map_on_an_oblique_grid() -> None:
    """Carried by an affine of RAS mm; the voxel it lands on says the same."""
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 2], [0, 0, 0, 1]])
    points = grid_points((4, 5, 6), affine)
    assert np.allclose(points[1, 2, 3], affine[:3] @ (3, 2, 1, 1))
    field = field_of_map(points + np.array([0, 1.5, 3.0]), affine)
    assert np.allclose(field.displacement.reshape(3, -1).T, (1.0, 0.0, 1.0), atol=1e-6)
    turned = field_of_map(points + np.array([-2.0, 0, 0]), affine).displacement
    assert np.allclose(turned.reshape(3, -1).T, (0.0, 1.0, 0.0), atol=1e-6)


def test_transform_and_field_warp_alike(task: Task) -> None:
    transform = sitk.Euler3DTransform((10.0, -20.0, 30.0), 0.1, -0.05, 0.2, (3.0, 2.0, -4.0))
    check = compare_warps(outcome_of_transform(transform, task), Volume.read(task.moving))
    assert check["correct"]
    assert check["max_abs_err"] < 1e-3


def test_affine_finds_a_known_shift(task: Task) -> None:
    """Squares on masks: the mask moved by a transform is carried back by it."""
    _, fixed = read_channels(task)
    union = union_of(fixed)
    shift = sitk.TranslationTransform(3, (7.0, -4.0, 5.0))
    moved = sitk.Resample(union, union, shift, sitk.sitkLinear, 0.0)
    found = register_affine(moved, union, similarity="squares")
    middle = [n / 2 for n in union.GetSize()]
    centre = np.array(union.TransformContinuousIndexToPhysicalPoint(middle))
    assert np.allclose(np.array(found.TransformPoint(centre)) - centre, (-7.0, 4.0, -5.0), atol=0.5)


def test_isotropic_grid_covers_the_same_field_of_view() -> None:
    image = sitk.Image([20, 30, 4], sitk.sitkFloat32)
    image.SetSpacing((2.0, 2.0, 8.0))
    image.SetOrigin((5.0, -3.0, 1.0))
    grid = isotropic_grid(image)
    assert grid.GetSpacing() == (2.0, 2.0, 2.0)
    assert grid.GetSize() == (20, 30, 16)
    for corner in ((-0.5, -0.5, -0.5), (19.5, 29.5, 3.5)):
        place = image.TransformContinuousIndexToPhysicalPoint(corner)
        index = np.array(grid.TransformPhysicalPointToContinuousIndex(place))
        wanted = np.where(np.array(corner) < 0, -0.5, np.array(grid.GetSize()) - 0.5)
        assert np.allclose(index, wanted)
