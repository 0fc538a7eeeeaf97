"""From one displacement field per region to one field for the whole image."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segreg.kernels._checks import check_affine, check_array, check_out, check_parameters
from segreg.kernels._machines import Array, Machine, machine_of, on_device
from segreg.kernels._streams import on_stream

FloatTable: TypeAlias = NDArray[np.float32]

_FAR = 1e6  # mm; its square is SEGREG_FAR


@on_stream
def distance_to_mask(
    mask: Array,
    spacing: ArrayLike,
    out: Array | None = None,
    *,
    farthest: float = _FAR,
    scratch: Array | None = None,
    stream: Any = None,
) -> Array:
    """Euclidean distance of every cell to the nearest cell of a mask, for K masks at once.

    Exact: one axis after the other takes the minimum over f(q) + (spacing (p - q))^2
    (Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions, Theory of Computing
    8, 2012). The minimum is searched outwards from p and stops when distance alone exceeds it,
    which on canvases outruns the lower envelope and vectorises.

    Parameters
    ----------
    mask : (K, D, H, W) uint8 or bool
    spacing : (K, 3)
        mm per cell.
    out : (K, D, H, W) float32, optional
    farthest : float
        mm at which distances are cut off. The shorter, the quicker.
    scratch : (K, D, H, W) float32, optional
        Memory to work in.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (K, D, H, W) float32
        mm; 0 inside the mask, ``farthest`` everywhere if the mask is empty.

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype or shape, a spacing or ``farthest`` that is not positive, or an ``out`` or
        ``scratch`` that does not fit.
    """
    machine = machine_of(mask=mask, out=out, scratch=scratch)
    mask = check_array(machine, "mask", mask, "K D H W", ("uint8", "bool")).view("uint8")
    k, depth, height, width = mask.shape
    table = machine.move(_spacing(spacing, k))
    if not 0 < farthest <= _FAR:
        raise ValueError(f"farthest: expected mm above 0 and at most 1e6, got {farthest}.")
    out = check_out(machine, "out", out, mask.shape, "float32", mask)
    spare = check_out(machine, "scratch", scratch, mask.shape, "float32", mask, out)
    rows = depth * height
    machine.launch("distance_rows", k * rows, mask, width, table, rows, out)
    grid = (depth, height, width)
    slices = (k * depth, height, width)
    cut = float(farthest) ** 2
    machine.launch("distance_axis", slices, out, *grid, table, cut, 1, 0, spare)
    machine.launch("distance_axis", slices, spare, *grid, table, cut, 0, 1, out)
    return out


@on_stream
def fuse_fields(
    regions: Array,
    fields: Array,
    distances: Array,
    to_field: ArrayLike,
    to_voxel: ArrayLike,
    spacing: ArrayLike,
    background: tuple[Array, ArrayLike, ArrayLike],
    reach: ArrayLike,
    out: Array | None = None,
    *,
    scratch: Array | None = None,
    stream: Any = None,
) -> Array:
    """One displacement field of the fixed grid, made of a field per region.

    Region k maps a fixed voxel x to m_k(x) = to_voxel_k (q + u_k(q)), q = to_field_k x, with u_k
    trilinear and its border held. d_k is the distance to the region; beyond the canvas the way
    back to it is added. Regions blend with the partners that ``reach`` gives them,

        M_k(x) = (m_k(x) + sum_j s(d_j / reach_jk) m_j(x)) / (1 + sum_j s(d_j / reach_jk)),
        s(t) = 1 - 3 t^2 + 2 t^3 up to t = 1, and 0 beyond,

    and a voxel of region k gets M_k(x). At the border of two partners both sides meet in the mean
    of their maps; regions that are no partners slide along theirs. Where three regions meet, the
    result is continuous if all three are partners over one distance. A voxel of the background
    gets

        T(x) = (m_0(x) + sum_k w_k M_k(x)) / (1 + sum_k w_k),   w_k = ((r_k - d_k) / d_k)^2

    over the regions nearer than r_k = reach_0k: modified Shepard weights (Franke and Little;
    Renka, ACM TOMS 14, 1988), multiplied by r_k^2, with d_k at least 1 % of r_k. So T meets the
    regions' maps at their borders, which the background does not change, and runs into the
    background's own map m_0 without a step.

    Parameters
    ----------
    regions : (D, H, W) int32
        Fixed region map: 0 background, k for entry k - 1. Other numbers count as background.
    fields : (K, 3, d, h, w) float32
        u_k in field cells.
    distances : (K, d, h, w) float32
        mm to the region, on the field's grid (``distance_to_mask``).
    to_field : (K, 3, 4)
        Fixed voxel -> field cell; scales and offsets only.
    to_voxel : (K, 3, 4)
        Field cell -> mapped position, voxels of the fixed grid.
    spacing : (K, 3)
        mm per field cell.
    background : (field, to_field, to_voxel)
        The same three for the background's map m_0: (3, d', h', w') float32 on a grid of its own,
        (3, 4) and (3, 4).
    reach : float or (K + 1, K + 1)
        mm within which the maps of two regions blend, symmetric; row and column 0 are the
        background's. 0 lets them slide. The diagonal has no meaning. One number is the reach of
        every region into the background, no two regions being partners.
    out : (1, 3, D, H, W) float32, optional
    scratch : (K d h + D H ceil(K / 32),) int32, optional
        Memory for the search of the regions that reach into each row.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (1, 3, D, H, W) float32
        T(x) - x, voxels of the fixed grid.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, a ``to_field`` that is not a scale and an offset, a ``reach``
        that is negative or not symmetric, or an ``out`` that does not fit.
    """
    machine = machine_of(
        regions=regions, fields=fields, distances=distances, background=background[0], out=out
    )
    regions = check_array(machine, "regions", regions, "D H W", ("int32",))
    fields = check_array(machine, "fields", fields, "K 3 d h w")
    k, cells = fields.shape[0], fields.shape[2:]
    distances = check_array(machine, "distances", distances, "K d h w", shape=(k, *cells))
    scales = _scales("to_field", to_field, k)
    positions = check_parameters("to_voxel", to_voxel, (k, 3, 4))
    falloff, pairs = _reaches(reach, k)
    elsewhere = check_array(machine, "background field", background[0], "3 d h w")
    to_cell: Array = background[1] if on_device(background[1]) else np.asarray(background[1])
    elsewhere_scale = _scales("background to_field", to_cell[None], 1)
    elsewhere_position: Array = background[2]
    if not on_device(elsewhere_position):
        elsewhere_position = check_affine("background to_voxel", elsewhere_position)
    elsewhere_position = check_parameters("background to_voxel", elsewhere_position, (3, 4))
    shape = (1, 3, *regions.shape)
    out = check_out(machine, "out", out, shape, "float32", regions, fields, distances)
    maps = [machine.move(part) for part in (scales, positions, _spacing(spacing, k))]
    farthest = falloff if pairs is None else np.maximum(falloff, pairs.max(axis=0))
    words = -(-k // 32)
    length = math.prod(distances.shape[:3]) + math.prod(regions.shape[:2]) * words
    scratch = check_out(machine, "scratch", scratch, (length,), "int32", regions, fields, out)
    candidates = _find_candidates(machine, distances, maps, farthest, regions.shape, scratch)
    machine.launch(
        "fuse_fields", regions.shape, regions, *regions.shape, fields, distances, k, *cells, *maps,
        elsewhere, *elsewhere.shape[1:], machine.move(elsewhere_scale),
        machine.move(elsewhere_position), machine.constant(falloff),
        None if pairs is None else machine.constant(pairs), words, candidates, out,
    )  # fmt: skip
    return out


def _find_candidates(
    machine: Machine,
    distances: Array,
    maps: list[Array],
    farthest: FloatTable,
    shape: tuple[int, ...],
    scratch: Array,
) -> Array:
    """For each row (z, y) the regions that reach into it, a bit each, in words of 32."""
    k, depth, height, width = distances.shape
    words = -(-k // 32)
    rows = k * depth * height
    least, candidates = scratch[:rows].view("float32"), scratch[rows:]
    machine.launch("least_of_rows", rows, distances, width, least)
    machine.launch(
        "find_candidates", shape[0] * shape[1], shape[1], least, k, depth, height, *maps,
        machine.constant(farthest), words, candidates,
    )  # fmt: skip
    return candidates


def _reaches(reach: ArrayLike, k: int) -> tuple[FloatTable, FloatTable | None]:
    """Reach into the background (K,), and of the regions into each other (K, K) or None."""
    one = np.ndim(reach) == 0
    values: Any = [reach] if one else reach
    table = check_parameters("reach", values, (1,) if one else (k + 1, k + 1))
    if not (table >= 0).all():
        raise ValueError(f"reach: expected distances in mm, 0 or more, got {table.min()}.")
    if one:
        return np.full(k, table[0]), None
    if not np.array_equal(table, table.T):
        raise ValueError(
            "reach: expected a symmetric table, got reach[j, k] other than reach[k, j]. Two "
            "regions blend over one distance: take np.maximum(reach, reach.T)."
        )
    pairs = table[1:, 1:].copy()
    np.fill_diagonal(pairs, 0)
    return table[0, 1:].copy(), pairs if pairs.any() else None


def _scales(name: str, to_field: ArrayLike, k: int) -> Array:
    scales = check_parameters(name, to_field, (k, 3, 4))
    if on_device(scales):
        return scales
    off_diagonal = scales[:, :, :3] * (1 - np.eye(3, dtype=np.float32))
    if off_diagonal.any() or not np.diagonal(scales, axis1=1, axis2=2).all():
        raise ValueError(
            f"{name}: expected a nonzero scale per axis and an offset, got other entries. "
            "Field grids lie along the axes of the fixed grid."
        )
    return scales


def _spacing(spacing: ArrayLike, k: int) -> Array:
    table = check_parameters("spacing", spacing, (k, 3))
    if not on_device(table) and not (table > 0).all():
        raise ValueError(f"spacing: expected positive mm per cell, got {table.min()} among them.")
    return table
