"""resample_field: the same vectors on another grid over the same box."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from segreg.kernels import resample_field

GRIDS = [((4, 5, 6), (8, 15, 3)), ((9, 1, 7), (4, 4, 4)), ((6, 6, 6), (7, 5, 1))]


@pytest.mark.parametrize(("old", "new"), GRIDS, ids=str)
def test_agrees_with_scipy(machine, random_field, old, new):
    field = random_field(old, 2)
    result = machine.get(resample_field(machine.put(field), new))
    ratio = np.reshape(np.array(old) / np.array(new), (3, 1, 1, 1))
    points = (np.indices(new) + 0.5) * ratio - 0.5
    assert result.shape == (2, 3, *new)
    for batch in range(2):
        for axis in range(3):
            values = map_coordinates(field[batch, axis], points, order=1, mode="nearest")
            expected = values * new[axis] / old[axis]
            np.testing.assert_allclose(result[batch, axis], expected, atol=1e-5)


def test_same_grid_changes_nothing(machine, random_field):
    field = random_field((3, 4, 5))
    np.testing.assert_array_equal(machine.get(resample_field(machine.put(field), (3, 4, 5))), field)


def test_a_shift_is_the_same_share_of_the_box(machine):
    field = np.ones((1, 3, 4, 4, 4), np.float32)
    result = machine.get(resample_field(machine.put(field), (8, 4, 2)))
    for axis, cells in enumerate((2.0, 1.0, 0.5)):
        np.testing.assert_allclose(result[0, axis], cells, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4), (4, 0, 4)])
def test_refuses_a_grid_of_no_cells(shape):
    with pytest.raises(ValueError, match="shape: expected three positive numbers"):
        resample_field(np.zeros((1, 3, 4, 4, 4), np.float32), shape)
