"""Displacement fields: integrate, compose, invert, and how they change volume.

A field is (B, 3, D, H, W) float32 in voxels of its own grid, components in axis order (z, y, x),
pull-back: it takes x to x + u(x). Between voxels it is trilinear, beyond its border the border's
value holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels._checks import (
    Shape,
    check_affine,
    check_array,
    check_count,
    check_out,
    check_volume,
)
from segreg.kernels._machines import Array, Machine, by_value, machine_of
from segreg.kernels._streams import on_stream

# An inverse nearer than this (voxels) is not improved: float32 positions are no finer.
_TOLERANCE = 1e-4


@on_stream
def integrate(
    velocity: Array,
    steps: int,
    out: Array | None = None,
    *,
    scale: float = 1.0,
    scratch: Array | None = None,
    stream: Any = None,
) -> Array:
    """Displacement at the end of a stationary velocity field, by scaling and squaring.

    The velocity is divided by 2^steps and the result composed with itself ``steps`` times
    (Arsigny et al., A Log-Euclidean Framework for Statistics on Diffeomorphisms, MICCAI 2006).

    Parameters
    ----------
    velocity : (B, 3, D, H, W) float32
        Voxels per unit of time.
    steps : int
        0 to 30. 0 returns the scaled velocity as the displacement.
    out : (B, 3, D, H, W) float32, optional
        Where to write; must not overlap ``velocity``.
    scale : float
        Factor of the velocity.
    scratch : (B, 3, D, H, W) float32, optional
        Memory to work in, from two steps on.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (B, 3, D, H, W) float32

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype, shape, number of steps, ``out`` or ``scratch``.
    """
    machine = machine_of(velocity=velocity, out=out, scratch=scratch)
    velocity = check_array(machine, "velocity", velocity, "B 3 D H W")
    steps = check_count("steps", steps, 0, 30)
    out = check_out(machine, "out", out, velocity.shape, "float32", velocity)
    if steps == 0:
        out[...] = velocity * np.float32(scale)
        return out
    # Two buffers in turn, begun so that the last squaring writes to `out`.
    spare = out
    if steps > 1:
        spare = check_out(
            machine, "scratch", scratch, velocity.shape, "float32", velocity, out
        )
    source, target = velocity, out if steps % 2 else spare
    scale *= 2.0**-steps
    for _ in range(steps):
        _compose(machine, source, source, scale, target)
        source, target = target, spare if target is out else out
        scale = 1.0
    return out


@on_stream
def compose(
    first: Array, second: Array, out: Array | None = None, *, stream: Any = None
) -> Array:
    """Displacement of x -> first(second(x)): second(x) + first(x + second(x)).

    Parameters
    ----------
    first, second : (B, 3, D, H, W) float32
        Fields of one shape, voxels.
    out : (B, 3, D, H, W) float32, optional
        Where to write; must overlap neither field.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (B, 3, D, H, W) float32

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes, shapes that differ, or an ``out`` that does not fit.
    """
    machine = machine_of(first=first, second=second, out=out)
    second = check_array(machine, "second", second, "B 3 D H W")
    first = check_array(machine, "first", first, "B 3 D H W", shape=second.shape)
    out = check_out(machine, "out", out, second.shape, "float32", first, second)
    _compose(machine, first, second, 1.0, out)
    return out


def _compose(machine: Machine, first: Array, second: Array, scale: float, out: Array) -> None:
    grid = second.shape[2:]
    machine.launch("compose", rows_of(second), first, second, *grid, scale, out)


def rows_of(field: Array) -> tuple[int, int, int]:
    """Slices, height and width of a batch of fields: what a kernel over its rows runs over."""
    batch, _, depth, height, width = field.shape
    return batch * depth, height, width


@on_stream
def jacobian_determinant(
    displacement: Array, out: Array | None = None, *, stream: Any = None
) -> Array:
    """det(I + grad u): the local change of volume; at 0 and below the field folds.

    Differences are central, one-sided at the border (those of ``numpy.gradient``); along an axis
    of one voxel the field does not change.

    Parameters
    ----------
    displacement : (B, 3, D, H, W) float32
        Voxels.
    out : (B, D, H, W) float32, optional
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (B, D, H, W) float32

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype or shape, or an ``out`` that does not fit.
    """
    machine = machine_of(displacement=displacement, out=out)
    displacement = check_array(machine, "displacement", displacement, "B 3 D H W")
    shape = (displacement.shape[0], *displacement.shape[2:])
    out = check_out(machine, "out", out, shape, "float32", displacement)
    machine.launch("jacobian_determinant", rows_of(displacement), displacement, *shape[1:], out)
    return out


@on_stream
def invert(
    displacement: Array,
    *,
    affine: ArrayLike | None = None,
    shape: Shape | None = None,
    guess: ArrayLike | None = None,
    steps: int = 30,
    out: Array | None = None,
    residual: Array | None = None,
    stream: Any = None,
) -> tuple[Array, Array]:
    """Inverse of T(x) = x + u(x), on a grid of one's choice.

    For each voxel y of the grid the point x with T(x) = t = affine y is found by the fixed point
    x <- x + G (t - T(x)), begun at guess(t), G the guess's linear part. A step that makes the
    residual grow is not taken but halved.

    Parameters
    ----------
    displacement : (1, 3, D, H, W) float32
        u, voxels of the fixed grid.
    affine : (3, 4) or (4, 4), optional
        Voxels of the grid of the inverse -> voxels of the fixed grid. Identity if left out.
    shape : (int, int, int), optional
        Grid of the inverse; that of ``displacement`` if left out.
    guess : (3, 4) or (4, 4), optional
        T's inverse, roughly, on fixed voxels. Identity if left out.
    steps : int
        Most steps a voxel takes.
    out : (1, 3, *shape) float32, optional
    residual : shape float32, optional
        Where to write the residual.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    inverse : (1, 3, *shape) float32
        x - t, voxels of the fixed grid.
    residual : shape float32
        |T(x) - t|, voxels: large where T is not invertible or ``steps`` were too few.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes, shapes, numbers of steps, or an ``out`` that does not fit.
    """
    machine = machine_of(displacement=displacement, out=out, residual=residual)
    displacement = check_array(machine, "displacement", displacement, "1 3 D H W")
    grid = displacement.shape[2:]
    if shape is None:
        shape = grid
    if len(shape) != 3:
        raise ValueError(f"shape: expected (depth, height, width), got {tuple(shape)}.")
    depth, height, width = (check_count("shape", length, 1) for length in shape)
    shape = (depth, height, width)
    check_volume("shape", shape)
    to_fixed = by_value(check_affine("affine", affine))
    begin = by_value(check_affine("guess", guess))
    steps = check_count("steps", steps, 0)
    out = check_out(machine, "out", out, (1, 3, *shape), "float32", displacement)
    residual = check_out(machine, "residual", residual, shape, "float32", displacement, out)
    machine.launch(
        "invert", (depth, height, width), displacement, *grid, to_fixed, begin,
        depth, height, width, steps, _TOLERANCE, out, residual,
    )  # fmt: skip
    return out, residual
