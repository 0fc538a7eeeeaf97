"""Images and label maps seen through a displacement field.

Pull-back: the voxel x of the fixed grid looks at affine (x + u(x)) in the moving grid. A position
more than half a voxel outside the outermost centres, i.e. not in [-0.5, n - 0.5), is outside;
within, the border's value holds (the rule of ITK's resampler); cubic splines run on, mirrored
about the border's voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segreg.kernels._checks import (
    check_affine,
    check_array,
    check_choice,
    check_count,
    check_out,
)
from segreg.kernels._machines import Array, Machine, by_value, machine_of
from segreg.kernels._streams import on_stream
from segreg.kernels.filters import spline_coefficients

# Memory that the counters of one `overlap` or `region_stats` may take.
TABLE_BYTES = 64 * 2**20


@on_stream
def warp(
    moving: Array,
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    mode: str = "linear",
    outside: float = 0.0,
    prefiltered: bool = False,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """Sample ``moving`` at affine (x + displacement(x)).

    "cubic" is the B-spline through the voxels: sharper than "linear", and like every spline it
    overshoots beside edges. Its coefficients can be made once for many warps:
    ``warp(spline_coefficients(moving), displacement, mode="cubic", prefiltered=True)``.

    Parameters
    ----------
    moving : (B, C, D, H, W) float32
    displacement : (B, 3, D', H', W') float32
        On the fixed grid, in its voxels; components in axis order (z, y, x).
    affine : (3, 4) or (4, 4), optional
        Fixed voxels -> moving voxels. Identity if left out.
    mode : {"linear", "nearest", "cubic"}
    outside : float
        Value of what lies outside ``moving``.
    prefiltered : bool
        ``moving`` is what ``spline_coefficients`` made; for "cubic" only.
    out : (B, C, D', H', W') float32, optional
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (B, C, D', H', W') float32

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, an unknown mode, coefficients for another mode than "cubic",
        or an ``out`` that does not fit.
    """
    machine = machine_of(moving=moving, displacement=displacement, out=out)
    check_choice("mode", mode, ("linear", "nearest", "cubic"))
    if prefiltered and mode != "cubic":
        raise ValueError(
            f'prefiltered: expected mode="cubic" with spline coefficients, got {mode!r}. '
            "Warp the volume itself."
        )
    moving = check_array(machine, "moving", moving, "B C D H W")
    displacement = check_array(machine, "displacement", displacement, "B 3 D H W")
    if displacement.shape[0] != moving.shape[0]:
        raise ValueError(
            f"displacement: expected one field per image, {moving.shape[0]}, "
            f"got {displacement.shape[0]}. Repeat it along axis 0."
        )
    to_moving = by_value(check_affine("affine", affine))
    batch, channels = moving.shape[:2]
    grid = displacement.shape[2:]
    out = check_out(machine, "out", out, (batch, channels, *grid), "float32", moving, displacement)
    if mode == "cubic" and not prefiltered:
        moving = spline_coefficients(moving)
    kernel, kind = ("warp_cubic", []) if mode == "cubic" else ("warp", [int(mode == "nearest")])
    machine.launch(
        kernel, (batch * grid[0], *grid[1:]), moving, channels, *moving.shape[2:],
        displacement, *grid, to_moving, *kind, float(outside), out,
    )  # fmt: skip
    return out


@on_stream
def warp_labels(
    labels: Array,
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    mode: str = "vote",
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """Carry a label map through a displacement field.

    "vote" gives each voxel the label with the largest trilinear weight, of equals the smaller:
    what warping one volume per label linearly and taking the largest would give.

    Parameters
    ----------
    labels : (D, H, W) int32, int16, uint8 or uint16
    displacement : (1, 3, D', H', W') float32
        On the fixed grid, in its voxels.
    affine : (3, 4) or (4, 4), optional
        Fixed voxels -> moving voxels. Identity if left out.
    mode : {"vote", "nearest"}
    out : (D', H', W'), optional
        Of the dtype of ``labels``.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (D', H', W') of the dtype of ``labels``
        0 outside ``labels``.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, an unknown mode, or an ``out`` that does not fit.
    """
    machine = machine_of(labels=labels, displacement=displacement, out=out)
    kinds = ("int32", "int16", "uint8", "uint16")
    labels = check_array(machine, "labels", labels, "D H W", kinds)
    displacement = check_array(machine, "displacement", displacement, "1 3 D H W")
    to_moving = by_value(check_affine("affine", affine))
    nearest = int(check_choice("mode", mode, ("vote", "nearest")) == "nearest")
    grid = displacement.shape[2:]
    dtype = labels.dtype.name
    out = check_out(machine, "out", out, grid, dtype, labels, displacement)
    # One kernel for all dtypes: processors gather 32-bit values, none gathers shorter ones.
    warped = out if dtype == "int32" else machine.empty(grid, "int32")
    machine.launch(
        "warp_labels", grid, labels.astype("int32", copy=False), *labels.shape,
        displacement, *grid, to_moving, nearest, warped,
    )  # fmt: skip
    if warped is not out:
        out[...] = warped
    return out


@on_stream
def overlap(
    moving: Array,
    fixed: Array,
    displacement: Array | None,
    count: int,
    *,
    affine: ArrayLike | None = None,
    mode: str = "vote",
    stream: Any = None,
) -> NDArray[np.int64]:
    """Confusion table of the warped and the fixed label map, without storing the warped one.

    Parameters
    ----------
    moving : (D, H, W) int32
        Labels 0..count.
    fixed : (D', H', W') int32
        Labels 0..count.
    displacement : (1, 3, D', H', W') float32 or None
        On the fixed grid, in its voxels. None compares the maps as they lie; without an
        ``affine`` their grids must then agree.
    count : int
        Largest label.
    affine : (3, 4) or (4, 4), optional
        Fixed voxels -> moving voxels. Identity if left out.
    mode : {"vote", "nearest"}
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (count + 1, count + 1) int64, on the host
        Voxels with label [fixed, warped].

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, an unknown mode, or labels that are not in 0..count.
    """
    machine = machine_of(moving=moving, fixed=fixed, displacement=displacement)
    count = check_count("count", count, 0, 32767)
    moving = check_array(machine, "moving", moving, "D H W", ("int32",))
    fixed = check_array(machine, "fixed", fixed, "D H W", ("int32",))
    if displacement is not None:
        wanted = (1, 3, *fixed.shape)
        displacement = check_array(machine, "displacement", displacement, "1 3 D H W", shape=wanted)
    elif affine is None and moving.shape != fixed.shape:
        raise ValueError(
            f"moving: expected the grid of fixed, {fixed.shape}, got {moving.shape}. "
            "Give a displacement or an affine."
        )
    to_moving = by_value(check_affine("affine", affine))
    nearest = int(check_choice("mode", mode, ("vote", "nearest")) == "nearest")
    rows = fixed.shape[0] * fixed.shape[1]
    entries = (count + 1) ** 2 + 1
    tables = table_count(machine, rows, 8 * entries)
    counters = machine.zeros((tables, entries), "int64")
    machine.launch(
        "overlap", rows, moving, *moving.shape, fixed, displacement, *fixed.shape, to_moving,
        nearest, count, tables, counters,
    )  # fmt: skip
    total = machine.fetch(counters.sum(axis=0))
    if total[-1]:
        raise ValueError(
            f"moving, fixed: expected labels 0 to {count}, got others in {total[-1]} voxels. "
            "Renumber the labels or raise count."
        )
    table: NDArray[Any] = total[:-1].reshape(count + 1, count + 1)
    return table


def table_count(machine: Machine, rows: int, table_bytes: int) -> int:
    """Tables to count into: enough for the machine, within the memory for them."""
    return max(1, min(rows, machine.lanes, TABLE_BYTES // table_bytes))
