"""Where regions part: means that stop there, and how far away it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels._checks import check_array, check_out, check_parameters, check_spacing
from segreg.kernels._machines import Array, machine_of
from segreg.kernels._streams import on_stream
from segreg.kernels.filters import gaussian_taps

MOST_REGIONS = 2**16 - 1
"""Region numbers are kept in 16 bits."""


@on_stream
def find_borders(
    regions: Array,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    *,
    farthest: float,
    stream: Any = None,
) -> tuple[Array, Array]:
    """How far each voxel's centre is from the nearest voxel, a box, of another region.

    Parameters
    ----------
    regions : (D, H, W) int32, from 0 to ``MOST_REGIONS``
    spacing : (3,) mm per voxel, (z, y, x)
    farthest : float
        mm, above 0, at which looking ends.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    words : (D, H, W) int32
        The voxel's own region in the lower 16 bits, the nearest other region in the upper ones;
        its own once more where there is no other within reach.
    distances : (D, H, W) float32
        mm; ``farthest`` where there is no other region within reach.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, numbers of regions out of range, or distances not above 0.
    """
    machine = machine_of(regions=regions)
    words = check_array(machine, "regions", regions, "D H W", ("int32",))
    if int(words.min()) < 0 or int(words.max()) > MOST_REGIONS:
        raise ValueError(
            f"regions: expected numbers from 0 to {MOST_REGIONS}, got {int(words.min())} to "
            f"{int(words.max())}. Renumber them with relabel."
        )
    steps = check_spacing(spacing)
    if not (math.isfinite(farthest) and farthest > 0):
        raise ValueError(f"farthest: expected mm above 0, got {farthest}.")
    squares = None
    for axis, (step, length) in enumerate(zip(steps, words.shape, strict=True)):
        found, nearest = machine.empty(words.shape, "int32"), machine.empty(words.shape, "float32")
        radius = min(int(farthest / step + 0.5), length - 1)
        machine.launch(
            "border_axis", words.shape, words, squares, *words.shape, axis, float(step), radius,
            float(farthest), int(axis == 2), found, nearest,
        )  # fmt: skip
        words, squares = found, nearest
    return words, squares


@on_stream
def couple(
    regions: Array,
    displacement: Array,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    *,
    slip: float,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """How far each voxel moves as one with the next on each axis, from 0 to 1.

    Within a region wholly. Across a border by 1 / (1 + (jump / slip)^4), jump being how far the
    displacement takes the two apart: regions that slide are let go, regions that do not are held.

    Parameters
    ----------
    regions : (D, H, W) int32
        Region numbers in the lower 16 bits, as in the words of ``find_borders``.
    displacement : (3, D, H, W) float32, voxels
    spacing : (3,) mm per voxel, (z, y, x)
    slip : float
        mm at which two regions are coupled by half.
    out : (3, D, H, W) float32, optional
        Where to write; must not overlap ``displacement``.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (3, D, H, W) float32
        Entry [a, z, y, x]: of the voxel with its next neighbour on axis a; 0 at the end.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, a ``slip`` that is not above 0, or an ``out`` that does not fit.
    """
    machine = machine_of(regions=regions, displacement=displacement, out=out)
    regions = check_array(machine, "regions", regions, "D H W", ("int32",))
    grid = regions.shape
    field = check_array(machine, "displacement", displacement, "3 D H W", shape=(3, *grid))
    steps = check_parameters("spacing", spacing, (3,))
    if not (math.isfinite(slip) and slip > 0):
        raise ValueError(f"slip: expected mm above 0, got {slip}.")
    out = check_out(machine, "out", out, (3, *grid), "float32", field)
    machine.launch("couple", grid, regions, field, *grid, *map(float, steps), float(slip), out)
    return out


@on_stream
def smooth_within(
    volume: Array,
    edges: Array | None,
    sigma: ArrayLike,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    *,
    paired: bool = False,
    truncate: float = 2.0,
    out: Array | None = None,
    scratch: Array | None = None,
    stream: Any = None,
) -> Array:
    """Gaussian means, axis by axis, over neighbours as far as they are coupled.

    A neighbour k voxels away on an axis has the Gaussian's weight times the coupling of each pair
    of voxels on the way to it; the weights of a mean sum to one. With ``edges`` of 1 and 0 it is a
    smoothing that leaves regions apart, and the volume's own end is one more border.

    Parameters
    ----------
    volume : (C, D, H, W) float32
    edges : (3, D, H, W) float32, optional
        What ``couple`` gives; None couples all.
    sigma : float or (z, y, x)
        Standard deviation, mm. An axis with 0 is left as it is.
    spacing : float or (z, y, x)
        mm per voxel.
    paired : bool
        Count a neighbour only as far as its opposite counts: what is linear then stays as it is
        up to the border, and a border is no place where fields become flat.
    truncate : float
        Where the Gaussian ends, in standard deviations.
    out : (C, D, H, W) float32, optional
        Where to write; must not overlap ``volume``.
    scratch : of the shape of ``volume``, float32, optional
        Room for the axes in between; allocated if left out. The CPU needs none.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (C, D, H, W) float32

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, a negative ``sigma``, a ``spacing`` or ``truncate`` that is not
        positive, or an ``out`` that does not fit.
    """
    machine = machine_of(volume=volume, edges=edges, out=out, scratch=scratch)
    volume = check_array(machine, "volume", volume, "C D H W")
    grid = volume.shape[1:]
    if edges is not None:
        edges = check_array(machine, "edges", edges, "3 D H W", shape=(3, *grid))
    taps = gaussian_taps(sigma, spacing, truncate)
    apart = [array for array in (volume, edges) if array is not None]
    out = check_out(machine, "out", out, volume.shape, "float32", *apart)
    axes = [axis for axis, weights in enumerate(taps) if len(weights) > 1]
    if not axes:
        out[...] = volume
        return out
    launches = [tuple(axes)] if machine.window else [(axis,) for axis in axes]
    spare = out
    if len(launches) > 1:
        spare = check_out(machine, "scratch", scratch, volume.shape, "float32", volume, out)
    source = volume
    size = (volume.shape[0] * grid[0], *grid[1:])
    for left, now in zip(range(len(launches), 0, -1), launches, strict=True):
        chosen = [taps[axis] if axis in now else np.ones(1) for axis in range(3)]
        weights = machine.constant(np.concatenate(chosen).astype(np.float32))
        target = out if left % 2 else spare
        machine.launch(
            "smooth_within", size, source, edges, *grid, weights,
            *(len(w) - 1 for w in chosen), int(paired), target,
        )  # fmt: skip
        source = target
    return out
