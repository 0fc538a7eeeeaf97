"""A network's answer in any convention becomes the same displacement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segreg.engine.vectors import LINEAR, displacement_of, steps_needed
from segreg.kernels import integrate

OUTPUT = {"kind": "velocity", "unit": "field_voxel", "order": "zyx", "stride": 2}
CUBE = (9, 9, 9)


def smooth_vectors(sizes: list[float]) -> Any:
    """Velocities (k, 3, 8, 8, 8) whose longest component is as given."""
    waves = np.sin(np.arange(8) * 0.7)
    one = np.stack([
        waves[:, None, None] * waves[None, :, None] * np.ones(8),
        np.broadcast_to(waves[None, :, None], (8, 8, 8)),
        waves[None, None, :] * waves[:, None, None] * np.ones((8, 8, 8)),
    ])  # fmt: skip
    one = one / np.abs(one).max()
    return np.stack([size * one for size in sizes]).astype(np.float32)


def test_every_region_takes_the_steps_its_velocity_needs() -> None:
    vectors = smooth_vectors([0.0, LINEAR, 1.01 * LINEAR, -4.0 * LINEAR, 1000.0])
    np.testing.assert_array_equal(steps_needed(vectors, 1.0, 6), [0, 0, 1, 2, 6])
    np.testing.assert_array_equal(steps_needed(vectors, -0.5, 6), [0, 0, 0, 1, 6])


def test_a_region_does_not_depend_on_those_beside_it() -> None:
    vectors = smooth_vectors([0.1, 3.0, 0.4, 3.0])
    together = displacement_of(vectors, OUTPUT, 6, CUBE)
    for k in range(4):
        alone = displacement_of(vectors[k : k + 1], OUTPUT, 6, CUBE)
        np.testing.assert_array_equal(together[k : k + 1], alone)


def test_fewer_steps_stay_near_all_of_them() -> None:
    vectors = smooth_vectors([0.3, 1.0, 2.0])
    fewer = displacement_of(vectors, OUTPUT, 7, CUBE)
    np.testing.assert_allclose(fewer, integrate(vectors, 7), atol=0.1)


def test_unit_order_and_kind_are_the_package_s() -> None:
    vectors = smooth_vectors([1.0])
    output = {**OUTPUT, "kind": "displacement", "unit": "canvas_voxel", "order": "xyz"}
    expected = vectors[:, ::-1] / 2
    np.testing.assert_allclose(displacement_of(vectors, output, 6, CUBE), expected)
    np.testing.assert_allclose(displacement_of(vectors, output, 6, CUBE, 0.5), expected / 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_has_nowhere_to_go(axis: int) -> None:
    shape = tuple(1 if i == axis else 9 for i in range(3))
    vectors = smooth_vectors([1.0])
    kept = vectors.copy()
    moved = displacement_of(vectors, OUTPUT, 6, shape)
    assert not moved[:, axis].any()
    assert moved[:, (axis + 1) % 3].any()
    np.testing.assert_array_equal(vectors, kept)
