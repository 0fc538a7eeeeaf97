"""Sums of a radial function over its centres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels._checks import check_array, check_parameters
from segreg.kernels._machines import Array, machine_of
from segreg.kernels._streams import on_stream


@on_stream
def sum_distances(
    points: Array, centres: ArrayLike, weights: ArrayLike, *, stream: Any = None
) -> Array:
    """sum_i weights_i |p - centres_i| at every point p.

    Parameters
    ----------
    points : (3, N) float32
        Components apart.
    centres, weights : (n, 3), n at least 1
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (3, N) float32

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype or shape.
    """
    machine = machine_of(points=points)
    points = check_array(machine, "points", points, "3 N")
    count = int(np.shape(centres)[0]) if np.ndim(centres) else 0
    middle = check_parameters("centres", centres, (max(count, 1), 3))
    factors = check_parameters("weights", weights, middle.shape)
    sums = machine.empty(points.shape, "float32")
    machine.launch(
        "sum_distances", points.shape[1], points, machine.move(middle), machine.move(factors),
        len(middle), sums,
    )  # fmt: skip
    return sums
