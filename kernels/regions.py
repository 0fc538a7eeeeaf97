"""Regions of a label map: where they lie, and what a network sees of each.

A *region map* numbers the regions of an image: (D, H, W) int32, 0 for the background and 1..count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segreg.kernels._checks import (
    Shape,
    check_array,
    check_count,
    check_integers,
    check_out,
    check_parameters,
    check_volume,
)
from segreg.kernels._machines import Array, Machine, machine_of, on_device
from segreg.kernels._streams import on_stream
from segreg.kernels.sampling import table_count

# Columns of the kernel's integer table (enum Moment in bodies/regions.cuh).
_MOMENTS = 16
_SUM, _PRODUCT, _LOW, _HIGH = slice(1, 4), slice(4, 10), slice(10, 13), slice(13, 16)
_OUT_OF_RANGE = 1

_CHANNELS = ("masked_image", "mask", "image")


@dataclass(frozen=True)
class RegionStats:
    """Size, place, shape and intensity of every region; entry 0 is the background.

    Of the background only ``voxels`` is counted. An empty region has zeros throughout.
    """

    voxels: NDArray[np.int64]
    """(count + 1,)"""
    low: NDArray[np.int32]
    """(count + 1, 3) first index of the bounding box."""
    high: NDArray[np.int32]
    """(count + 1, 3) last index of the bounding box, plus one."""
    mean: NDArray[np.float64]
    """(count + 1, 3) centroid, voxel index."""
    covariance: NDArray[np.float64]
    """(count + 1, 3, 3) of the voxel centres, voxels squared, divided by the voxel count."""
    intensity_mean: NDArray[np.float64]
    """(count + 1,)"""
    intensity_std: NDArray[np.float64]
    """(count + 1,) divided by the voxel count."""


@on_stream
def region_stats(
    regions: Array, image: Array, count: int, *, stream: Any = None
) -> RegionStats:
    """Count, bounding box, moments and intensity of all regions in one pass.

    Sums over indices are integers, so they are exact; intensities are added in an order that
    depends on the shape alone.

    Parameters
    ----------
    regions : (D, H, W) int32
        Region numbers 0..count.
    image : (D, H, W) float32
    count : int
        Largest region number.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    RegionStats
        On the host.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, or region numbers that are not in 0..count.
    """
    machine = machine_of(regions=regions, image=image)
    count = check_count("count", count, 0, 32767)
    regions = check_array(machine, "regions", regions, "D H W", ("int32",))
    image = check_array(machine, "image", image, "D H W", shape=regions.shape)
    rows = regions.shape[0] * regions.shape[1]
    tables = table_count(machine, rows, 8 * (_MOMENTS + 2) * (count + 1))
    moments = machine.empty((tables, count + 1, _MOMENTS), "int64")
    intensities = machine.empty((tables, count + 1, 2), "float64")
    machine.launch(
        "region_stats", tables, regions, image, *regions.shape, count, moments, intensities
    )
    sums = machine.fetch(moments[..., : _LOW.start].sum(axis=0))
    if sums[0, _OUT_OF_RANGE]:
        raise ValueError(
            f"regions: expected numbers 0 to {count}, got others in {sums[0, _OUT_OF_RANGE]} "
            "voxels. Renumber the regions or raise count."
        )
    return _summary(
        sums,
        machine.fetch(moments[..., _LOW].min(axis=0)),
        machine.fetch(moments[..., _HIGH].max(axis=0)),
        machine.fetch(intensities.sum(axis=0)),
        regions.size,
    )


def _summary(
    sums: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    intensities: NDArray[Any],
    total: int,
) -> RegionStats:
    voxels = sums[:, 0].copy()
    filled = voxels > 0
    low = np.where(filled[:, None], low, 0).astype(np.int32)
    n = np.maximum(voxels, 1)
    mean = sums[:, _SUM] / n[:, None]
    zz, zy, zx, yy, yx, xx = (sums[:, _PRODUCT] / n[:, None]).T
    squares = np.stack([zz, zy, zx, zy, yy, yx, zx, yx, xx], axis=-1).reshape(-1, 3, 3)
    covariance = squares - mean[:, :, None] * mean[:, None, :]
    intensity = intensities / n[:, None]
    variance = intensity[:, 1] - intensity[:, 0] ** 2
    voxels[0] = total - voxels[1:].sum()
    return RegionStats(
        voxels=voxels,
        low=low,
        high=high.astype(np.int32),
        mean=mean,
        covariance=covariance,
        intensity_mean=intensity[:, 0],
        # Rounding may push a constant region's variance below zero.
        intensity_std=np.sqrt(np.maximum(variance, 0.0)),
    )


@on_stream
def gather_regions(
    image: Array,
    regions: Array,
    indices: ArrayLike,
    affines: ArrayLike,
    intensity: ArrayLike,
    canvas: int,
    *,
    channels: tuple[str, ...] = ("masked_image", "mask"),
    displacement: Array | None = None,
    supersample: ArrayLike | None = None,
    out: Array | None = None,
    channel: int = 0,
    stream: Any = None,
) -> Array:
    """Write the batch of canvases that a network registers, one per region, in one pass.

    The canvas cell c of region k looks at p = affines[k] (c + u_k(c)) in the image. There

    - "mask" is the trilinear sample of [regions == indices[k]], zero outside the volume (an axis
      of one voxel has no outside);
    - "image" is the trilinear sample of the image, border held, as (v - centre) * scale clamped
      to -1..1;
    - "masked_image" is their product.

    Parameters
    ----------
    image : (D, H, W) float32
    regions : (D, H, W) int32
    indices : (K,) integers
        Region number of each canvas.
    affines : (K, 3, 4)
        Canvas index -> image voxel.
    intensity : (K, 2)
        Centre and scale of the intensities.
    canvas : int
        Cells per axis, S.
    channels : tuple of str
        What to write, in this order, from ``channel`` on.
    displacement : (K, 3, s, s, s) float32, optional
        u_k in canvas voxels on a grid of s cells per axis over the same canvas; s divides S.
    supersample : (K, 3) integers, optional
        Average over so many samples per axis inside each cell, against aliasing where the canvas
        is coarser than the image. One if left out.
    out : (K, C, S, S, S) float32, optional
        A batch to write into, e.g. one that holds the other side of the pair as well.
    channel : int
        First channel to write.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (K, C, S, S, S) float32
        ``out``, or a new batch of channel + len(channels) channels, those before ``channel`` zero.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, unknown channels, or an ``out`` that does not fit.
    """
    machine = machine_of(image=image, regions=regions, displacement=displacement, out=out)
    regions = check_array(machine, "regions", regions, "D H W", ("int32",))
    image = check_array(machine, "image", image, "D H W", shape=regions.shape)
    side = check_count("canvas", canvas, 1, 1290)  # the largest whose cube fits 32 bits
    k = int(np.shape(indices)[0]) if np.ndim(indices) else 0
    check_count("indices", k, 1)
    numbers = check_integers("indices", indices, (k,))
    maps = check_parameters("affines", affines, (k, 3, 4))
    window = check_parameters("intensity", intensity, (k, 2))
    samples = None
    if supersample is not None:
        samples = check_integers("supersample", supersample, (k, 3))
        if not on_device(samples):
            check_count("supersample", int(samples.min()), 1)
        samples = machine.move(samples)
    field_side = _field_side(displacement, k, side)
    if displacement is not None:
        shape = (k, 3, field_side, field_side, field_side)
        displacement = check_array(machine, "displacement", displacement, "K 3 s s s", shape=shape)
    places = _places(channels, check_count("channel", channel, 0))
    batch = _batch(machine, out, k, side, channel + len(channels), image, regions, displacement)
    machine.launch(
        "gather_regions", (k * side, side, side), regions, image, *regions.shape,
        machine.move(numbers), machine.move(maps), machine.move(window), displacement, field_side,
        samples, side, batch.shape[1], *places, batch,
    )  # fmt: skip
    return batch


def _field_side(displacement: Array | None, k: int, side: int) -> int:
    if displacement is None:
        return 1
    cells = displacement.shape[-1] if displacement.ndim == 5 else 0
    if displacement.shape != (k, 3, cells, cells, cells) or cells == 0 or side % cells:
        raise ValueError(
            f"displacement: expected ({k}, 3, s, s, s) with s a divisor of the canvas {side}, "
            f"got {displacement.shape}."
        )
    return int(cells)


def _places(channels: tuple[str, ...], first: int) -> tuple[int, ...]:
    """Channel number of each kind, in the order of ``_CHANNELS``; -1 for those not asked for."""
    if not channels or len(set(channels)) < len(channels) or set(channels) - set(_CHANNELS):
        raise ValueError(
            f"channels: expected each of {', '.join(_CHANNELS)} at most once and at least one of "
            f"them, got {tuple(channels)}."
        )
    return tuple(first + channels.index(c) if c in channels else -1 for c in _CHANNELS)


def _batch(
    machine: Machine, out: Array | None, k: int, side: int, channels: int, *inputs: Array
) -> Array:
    cube: Shape = (side, side, side)
    check_volume("canvas", cube)
    if out is None:
        return machine.zeros((k, channels, *cube), "float32")
    if out.ndim != 5 or out.shape[1] < channels:
        raise ValueError(
            f"out: expected ({k}, {channels} or more, {side}, {side}, {side}), got {out.shape}."
        )
    return check_out(machine, "out", out, (k, out.shape[1], *cube), "float32", *inputs)
