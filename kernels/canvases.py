"""What a network sees of each region: one canvas a region, in one batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from segreg.kernels._machines import Array, Machine, machine_of
from segreg.kernels._streams import on_stream

_CHANNELS = ("masked_image", "mask", "image")
_PIECE = 4096  # SEGREG_PIECE of bodies/canvases.cuh


@dataclass(frozen=True)
class RegionShapes:
    """The voxels of some regions, each in its box, laid out for ``gather_regions``.

    Made by ``region_shapes``. To make it costs about as much as to gather once, so that it pays to
    keep it for gathering the same regions again.
    """

    grid: Shape
    boxes: NDArray[np.int32]
    """(K, 6) first index and one past the last."""
    begins: NDArray[np.int64]
    """(K,) first byte of each region."""
    bytes: Array

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, chosen: ArrayLike) -> RegionShapes:
        """Some of the regions, by their places; the bytes are shared."""
        places = np.asarray(chosen, np.intp)
        return replace(self, boxes=self.boxes[places], begins=self.begins[places])


@on_stream
def region_shapes(
    regions: Array,
    indices: ArrayLike,
    boxes: ArrayLike | None = None,
    *,
    stream: Any = None,
) -> RegionShapes:
    """Shapes of K regions of a region map.

    Parameters
    ----------
    regions : (D, H, W) int32
    indices : (K,) integers
        Region numbers; 0 takes all regions as one.
    boxes : (K, 6) integers, optional
        First index and one past the last (z, y, x, z, y, x) of a box that holds the region; where
        it does not, the region is cut off. The whole volume if left out.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, or boxes that reach out of the volume.
    """
    machine = machine_of(regions=regions)
    regions = check_array(machine, "regions", regions, "D H W", ("int32",))
    k = int(np.shape(indices)[0]) if np.ndim(indices) else 0
    check_count("indices", k, 1)
    numbers = check_integers("indices", indices, (k,))
    limits = _boxes(boxes, k, regions.shape)
    thick = np.array(regions.shape) > 1
    cells = np.where(thick, np.maximum(limits[:, 3:] - limits[:, :3], 0) + 1, 1)
    sizes = (cells.prod(axis=1, dtype=np.int64) + 3) // 4 * 4  # whole words
    ends = sizes.cumsum()
    begins = np.ascontiguousarray(ends - sizes)
    packed = machine.empty((int(ends[-1]),), "uint8")
    machine.launch(
        "shape_regions", int(ends[-1]), regions, *regions.shape, machine.move(numbers),
        machine.move(limits), machine.move(begins), k, packed,
    )  # fmt: skip
    return RegionShapes(regions.shape, limits, begins, packed)


@on_stream
def gather_regions(
    image: Array,
    shapes: RegionShapes,
    affines: ArrayLike,
    intensity: ArrayLike,
    canvas: int | Shape,
    *,
    channels: tuple[str, ...] = ("masked_image", "mask"),
    displacement: Array | None = None,
    out: Array | None = None,
    channel: int = 0,
    stream: Any = None,
) -> Array:
    """Write the batch of canvases that a network registers, one per region, in one pass.

    The canvas cell c of region k looks at p = affines[k] (c + u_k(c)) in the image, u_k in cells
    of the canvas. There

    - "mask" is the trilinear sample of the region, zero outside the volume (an axis of one voxel
      has no outside);
    - "image" is the trilinear sample of the image, border held, as (v - centre) * scale clamped
      to -1..1;
    - "masked_image" is their product.

    Parameters
    ----------
    image : (D, H, W) float32
    shapes : RegionShapes
        The K regions, of a region map on the image's grid.
    affines : (K, 3, 4)
        Canvas index -> image voxel.
    intensity : (K, 2)
        Centre and scale of the intensities.
    canvas : int or (int, int, int)
        Cells along each axis, (D, H, W); one number is a cube.
    channels : tuple of str
        What to write, in this order, from ``channel`` on.
    displacement : (K, 3, D / n, H / n, W / n) float32, optional
        u_k on a grid over the same canvas whose cells are n canvas cells wide, in these cells.
    out : (K, C, D, H, W) float32 or float16, optional
        A batch to write into, e.g. one that holds the other side of the pair as well. Numbers are
        rounded to the nearest float16, of equals to the even one.
    channel : int
        First channel to write.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (K, C, D, H, W)
        ``out``, or a new float32 batch of channel + len(channels) channels, those before
        ``channel`` zero.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, unknown channels, or an ``out`` that does not fit.
    """
    machine = machine_of(
        image=image, shapes=shapes.bytes, displacement=displacement, out=out
    )
    image = check_array(machine, "image", image, "D H W", shape=shapes.grid)
    cells = _canvas_shape(canvas)
    k = len(shapes)
    maps = check_parameters("affines", affines, (k, 3, 4))
    window = check_parameters("intensity", intensity, (k, 2))
    stride = _stride(displacement, k, cells)
    if displacement is not None:
        displacement = check_array(machine, "displacement", displacement, "K 3 d h w")
    places = _places(channels, check_count("channel", channel, 0))
    batch = _batch(machine, out, k, cells, channel + len(channels), image, displacement)
    targets = (None, batch.view("uint16")) if batch.dtype.name == "float16" else (batch, None)
    machine.launch(
        "gather_regions", (k * cells[0], *cells[1:]), image, *image.shape, shapes.bytes,
        machine.constant(shapes.begins), machine.constant(shapes.boxes), machine.move(maps),
        machine.move(window), displacement, stride, *cells,
        batch.shape[1], *places, *targets,
    )  # fmt: skip
    return batch


@on_stream
def soft_dice(
    batch: Array, first: int, second: int, *, stream: Any = None
) -> NDArray[np.float64]:
    """Dice (K,) of two channels of a batch as shares: 2 sum a b / (sum a a + sum b b).

    Two empty channels have 0. The order of adding depends on the shape alone.

    Parameters
    ----------
    batch : (K, C, D, H, W) float32
    first, second : int
        Channels.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (K,) float64
        On the host.

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype or shape, or channels that are not there.
    """
    machine = machine_of(batch=batch)
    batch = check_array(machine, "batch", batch, "K C D H W")
    k, channels = batch.shape[:2]
    first = check_count("first", first, 0, channels - 1)
    second = check_count("second", second, 0, channels - 1)
    voxels = int(np.prod(batch.shape[2:]))
    pieces = -(-voxels // _PIECE)
    sums = machine.zeros((k, pieces, 3), "float64")
    machine.launch(
        "mask_products", k * pieces, batch, channels, voxels, first, second, pieces, sums
    )
    both, one, other = machine.fetch(sums.sum(axis=1)).T
    return np.asarray(2 * both / np.maximum(one + other, 1e-6))


def _boxes(boxes: ArrayLike | None, k: int, shape: Shape) -> NDArray[np.int32]:
    """Boxes (k, 6) within the volume."""
    whole = np.array([0, 0, 0, *shape], np.int32)
    if boxes is None:
        return np.tile(whole, (k, 1))
    limits: NDArray[np.int32] = check_integers("boxes", boxes, (k, 6))
    if (limits < 0).any() or (limits > np.tile(whole[3:], 2)).any():
        raise ValueError(f"boxes: expected indices within the volume {shape}, got others.")
    return limits


def _canvas_shape(canvas: int | Shape) -> tuple[int, int, int]:
    lengths = canvas if isinstance(canvas, (tuple, list)) else (canvas,) * 3
    if len(lengths) != 3:
        raise ValueError(f"canvas: expected cells along three axes, or one number, got {canvas}.")
    depth, height, width = (check_count("canvas", length, 1) for length in lengths)
    check_volume("canvas", (depth, height, width))
    return depth, height, width


def _stride(displacement: Array | None, k: int, cells: Shape) -> int:
    """Canvas cells to a cell of the field, along every axis."""
    if displacement is None:
        return 1
    stride = cells[0] // max(displacement.shape[2], 1) if displacement.ndim == 5 else 0
    grid = tuple(stride * int(length) for length in displacement.shape[2:])
    if stride == 0 or grid != cells or displacement.shape[:2] != (k, 3):
        raise ValueError(
            f"displacement: expected ({k}, 3, d, h, w) with n times (d, h, w) the canvas {cells}, "
            f"got {displacement.shape}."
        )
    return int(stride)


def _places(channels: tuple[str, ...], first: int) -> tuple[int, ...]:
    """Channel number of each kind, in the order of ``_CHANNELS``; -1 for those not asked for."""
    if not channels or len(set(channels)) < len(channels) or set(channels) - set(_CHANNELS):
        raise ValueError(
            f"channels: expected each of {', '.join(_CHANNELS)} at most once and at least one of "
            f"them, got {tuple(channels)}."
        )
    return tuple(first + channels.index(c) if c in channels else -1 for c in _CHANNELS)


def _batch(
    machine: Machine, out: Array | None, k: int, cells: Shape, channels: int, *inputs: Array
) -> Array:
    if out is None:
        return machine.zeros((k, channels, *cells), "float32")
    if out.ndim != 5 or out.shape[1] < channels:
        grid = ", ".join(map(str, cells))
        raise ValueError(f"out: expected ({k}, {channels} or more, {grid}), got {out.shape}.")
    dtype = "float16" if out.dtype.name == "float16" else "float32"
    return check_out(machine, "out", out, (k, out.shape[1], *cells), dtype, *inputs)
