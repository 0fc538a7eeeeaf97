"""Distances between outlines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segreg.kernels import distance_to_mask

Mask = NDArray[np.bool_]


def surface_distances(
    first: Mask, second: Mask, spacing: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Distances in mm from every surface voxel of each mask (D, H, W) to the other's surface.

    A surface voxel is inside with a face neighbour outside. Empty if either mask is.

    Parameters
    ----------
    spacing : (3,) mm, (z, y, x).
    """
    outlines = [_outline(first), _outline(second)]
    if not (outlines[0].any() and outlines[1].any()):
        return np.empty(0, np.float32)
    reach = distance_to_mask(
        np.stack(outlines).view(np.uint8), np.tile(spacing, (2, 1)).astype(np.float32)
    )
    return np.concatenate([reach[1][outlines[0]], reach[0][outlines[1]]])


def _outline(mask: Mask) -> Mask:
    """Voxels of ``mask`` with a face neighbour outside it; the volume's border is no outside
    along axes of one slice."""
    interior = mask.copy()
    for axis, size in enumerate(mask.shape):
        if size == 1:
            continue
        head = [slice(None)] * 3
        tail = [slice(None)] * 3
        head[axis], tail[axis] = slice(1, None), slice(None, -1)
        interior[tuple(tail)] &= mask[tuple(head)]
        interior[tuple(head)] &= mask[tuple(tail)]
        first = [slice(None)] * 3
        first[axis] = slice(0, 1)
        interior[tuple(first)] = False
        first[axis] = slice(size - 1, None)
        interior[tuple(first)] = False
    return np.asarray(mask & ~interior)
