"""Separable filters of volumes: Gaussian smoothing, and the coefficients of a cubic B-spline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segreg.kernels._checks import check_array, check_out
from segreg.kernels._machines import Array, Machine, machine_of
from segreg.kernels._streams import on_stream

Taps = NDArray[np.float64]
"""Weights of a symmetric filter: the centre's, then those of the two samples 1, 2, ... away."""

IDENTITY: Taps = np.ones(1)

# Pole of the cubic B-spline's inverse filter. Its 13th power is below float32's rounding.
_POLE = math.sqrt(3) - 2
_SPLINE: Taps = math.sqrt(3) * np.array([_POLE**k for k in range(13)])

_LARGEST_RADIUS = 2**15


@on_stream
def smooth(
    volume: Array,
    sigma: ArrayLike,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    *,
    truncate: float = 4.0,
    out: Array | None = None,
    scratch: Array | None = None,
    stream: Any = None,
) -> Array:
    """Gaussian smoothing, the border's value held beyond it.

    The kernel ends ``int(truncate * sigma / spacing + 0.5)`` voxels from its centre and sums to
    one, as that of ``scipy.ndimage.gaussian_filter(mode="nearest")``.

    Parameters
    ----------
    volume : (B, C, D, H, W) float32
    sigma : float or (z, y, x)
        Standard deviation, mm. An axis with 0 is left as it is.
    spacing : float or (z, y, x)
        mm per voxel.
    truncate : float
        Where the kernel ends, in standard deviations.
    out : (B, C, D, H, W) float32, optional
        Where to write; must not overlap ``volume``.
    scratch : of the shape of ``volume``, float32, optional
        Room for the axes in between; allocated if left out.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (B, C, D, H, W) float32

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype or shape, a negative ``sigma``, a ``spacing`` or ``truncate`` that is
        not positive, or an ``out`` that does not fit.
    """
    machine = machine_of(volume=volume, out=out, scratch=scratch)
    volume = check_array(machine, "volume", volume, "B C D H W")
    taps = gaussian_taps(sigma, spacing, truncate)
    out = check_out(machine, "out", out, volume.shape, "float32", volume)
    return _filter(machine, volume, taps, 0, out, scratch)


@on_stream
def spline_coefficients(
    volume: Array,
    out: Array | None = None,
    *,
    scratch: Array | None = None,
    stream: Any = None,
) -> Array:
    """Coefficients of the cubic B-spline through the voxels, mirrored about the outermost ones.

    They are what ``warp(mode="cubic")`` samples; made once they serve any number of warps with
    ``prefiltered=True``. The inverse filter (Unser, Aldroubi, Eden, B-spline signal processing,
    IEEE TSP 41, 1993) has the impulse response sqrt(3) (sqrt(3) - 2)^|k|. It falls so fast that
    12 samples to either side are all that float32 sees of its recursion, and unlike that they
    are computed for all voxels at once.

    Parameters
    ----------
    volume : (B, C, D, H, W) float32
    out : (B, C, D, H, W) float32, optional
        Where to write; must not overlap ``volume``.
    scratch : of the shape of ``volume``, float32, optional
        Room for the axes in between; allocated if left out.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (B, C, D, H, W) float32

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype or shape, or an ``out`` that does not fit.
    """
    machine = machine_of(volume=volume, out=out, scratch=scratch)
    volume = check_array(machine, "volume", volume, "B C D H W")
    out = check_out(machine, "out", out, volume.shape, "float32", volume)
    # A single voxel is its own coefficient.
    taps = [_SPLINE if length > 1 else IDENTITY for length in volume.shape[2:]]
    return _filter(machine, volume, taps, 1, out, scratch)


def gaussian_taps(sigma: ArrayLike, spacing: ArrayLike, truncate: float) -> list[Taps]:
    """Gaussian weights of each axis (z, y, x); raises ValueError as ``smooth`` does."""
    deviations, steps = _per_axis("sigma", sigma), _per_axis("spacing", spacing)
    if (deviations < 0).any():
        raise ValueError(f"sigma: expected mm, 0 or more, got {deviations.min()} among them.")
    if not (steps > 0).all():
        raise ValueError(f"spacing: expected positive mm per voxel, got {steps.min()} among them.")
    if not (math.isfinite(truncate) and truncate > 0):
        raise ValueError(f"truncate: expected standard deviations above 0, got {truncate}.")
    return [_gaussian(deviation, truncate) for deviation in deviations / steps]


def _per_axis(name: str, values: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(values, np.float64)
    if table.shape not in ((), (3,)) or not np.isfinite(table).all():
        raise ValueError(f"{name}: expected a finite number or three, (z, y, x), got {values!r}.")
    return np.broadcast_to(table, (3,))


def _gaussian(deviation: float, truncate: float) -> Taps:
    """Half of a Gaussian kernel with this standard deviation in voxels."""
    if deviation == 0:
        return IDENTITY
    if truncate * deviation > _LARGEST_RADIUS:
        raise ValueError(
            f"sigma: expected a kernel of at most {_LARGEST_RADIUS} voxels to either side, "
            f"got {truncate * deviation:.6g}. Work at a coarser spacing."
        )
    offsets = np.arange(int(truncate * deviation + 0.5) + 1)
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    return np.asarray(weights / (2 * weights.sum() - weights[0]))


def _filter(
    machine: Machine,
    volume: Array,
    taps: list[Taps],
    mirror: int,
    out: Array,
    scratch: Array | None,
) -> Array:
    """Launches over all axes whose filter does something; ``mirror`` or the border held."""
    launches = _launches(machine, taps, volume.shape[-1])
    if not launches:
        out[...] = volume
        return out
    spare = out
    if len(launches) > 1:
        spare = check_out(machine, "scratch", scratch, volume.shape, "float32", volume, out)
    source = volume
    size = (math.prod(volume.shape[:3]), *volume.shape[3:])
    for left, axes in zip(range(len(launches), 0, -1), launches, strict=True):
        now = [taps[axis] if axis in axes else IDENTITY for axis in range(3)]
        weights = machine.constant(np.concatenate(now).astype(np.float32))
        target = out if left % 2 else spare
        machine.launch(
            "filter", size, source, *volume.shape[2:], weights,
            *(len(weights_of) - 1 for weights_of in now), mirror, target,
        )  # fmt: skip
        source = target
    return out


def _launches(machine: Machine, taps: list[Taps], width: int) -> list[tuple[int, ...]]:
    """Axes of each launch: together as long as the rows around one stay in the cache.

    Together they save passes over memory and the volume between them. But rows beside a block
    are filtered along z for both its neighbours: where hardly more than these fit, z goes alone.
    """
    radius_z, radius_y, _ = (len(weights) - 1 for weights in taps)
    row = 4 * width
    if (2 * radius_z + 1) * max(3 * radius_y, 1) * row <= machine.window:
        together: list[tuple[int, ...]] = [(0, 1, 2)]
    elif (2 * radius_y + 1) * row <= machine.window:
        together = [(0,), (1, 2)]
    else:
        together = [(0,), (1,), (2,)]
    return [axes for axes in together if any(len(taps[axis]) > 1 for axis in axes)]
