"""Where a displacement folds, and how to mend it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segreg.kernels._checks import Shape, check_array, check_count, check_out, check_spacing
from segreg.kernels._machines import Array, Machine, machine_of
from segreg.kernels._streams import on_stream

_PHASES = 7  # SEGREG_PHASES
_TARGET = 0.1  # determinant, above `least`, that a fold is opened to
_OVERSTEP = 1.8  # folds share voxels: overrelaxing saves rounds, as in any such sweep
_LONGEST = 2.0  # voxels a voxel may move at once: where a fold is deep, first order is not enough


@on_stream
def repair_folds(
    displacement: Array,
    *,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    freedom: Array | None = None,
    least: float = 0.0,
    iterations: int = 150,
    out: Array | None = None,
    stream: Any = None,
) -> tuple[Array, tuple[int, ...]]:
    """The field changed as little as it takes for no voxel to fold.

    A voxel folds where the determinant of ``jacobian_determinant`` is ``least`` or less. It depends
    on the face neighbours' displacements only, so each fold in turn is projected onto the nearest
    field that does not fold there, to first order (Kaczmarz' projections, overrelaxed; Karacali
    and Davatzikos, Estimating topology preserving and smooth displacement fields, IEEE TMI 23,
    2004, mend the same determinants by the same neighbours). Near is measured in mm. What has no
    fold within two voxels keeps its value, bit for bit; a field without folds comes back as it is.

    Smoothing would open folds too, but takes an average of what lies on the two sides of a seam.
    Here slip along a seam stays: shear does not change the determinant. What is given up is the
    overlap of the two sides, the part of the sliding that would map two voxels to one place, or
    turn space between them inside out.

    Folds are visited in seven groups whose members share no voxel: the result does not depend on
    the machine's order.

    Parameters
    ----------
    displacement : (B, 3, D, H, W) float32
        Voxels.
    spacing : (3,)
        mm per voxel.
    freedom : (B, D, H, W) float32, optional
        How readily a voxel moves, 0 or more: 0.1 against 1 takes a tenth of the change. 0 holds it.
    least : float
        Determinant that still counts as a fold.
    iterations : int
        Rounds over all folds, at most.
    out : (B, 3, D, H, W) float32, optional
        Where to write; may be ``displacement`` itself.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out. After every few rounds what
        is left is counted on the host.

    Returns
    -------
    repaired : (B, 3, D, H, W) float32
    folds : tuple of int
        Voxels that folded at the beginning and after every round; the last is what is left.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes, shapes, spacings or numbers, or an ``out`` that does not fit.
    """
    machine = machine_of(displacement=displacement, freedom=freedom, out=out)
    field = check_array(machine, "displacement", displacement, "B 3 D H W")
    shape = (field.shape[0], *field.shape[2:])
    if freedom is not None:
        freedom = check_array(machine, "freedom", freedom, "B D H W", shape=shape)
        if not bool((freedom >= 0).all()):
            raise ValueError("freedom: expected 0 or more in every voxel, got less or NaN.")
    steps = check_spacing(spacing)
    if not math.isfinite(least):
        raise ValueError(f"least: expected a finite determinant, got {least}.")
    iterations = check_count("iterations", iterations, 0)
    if out is None or out is not displacement:
        out = check_out(machine, "out", out, field.shape, "float32", field, freedom)
        out[...] = field
    else:
        out = check_out(machine, "out", out, field.shape, "float32", freedom)

    ease = machine.move((steps.min() / steps).astype(np.float32) ** 2)
    numbers = float(least), float(least) + _TARGET, _OVERSTEP, _LONGEST
    grid = shape[1:]
    size = (shape[0] * shape[1], shape[2], -(-shape[3] // _PHASES))
    # Two sets of marks in turn: the new one is looked for around the old one.
    marks, worked = (_Marks(machine, shape) for _ in range(2))
    folds = machine.fetch_numbers([marks.find(out, float(least), None)])
    while folds[-1] and len(folds) <= iterations:
        counts = []
        for _ in range(min(machine.rounds, iterations + 1 - len(folds))):
            for phase in range(_PHASES):
                machine.launch(
                    "open_folds", size, marks.voxels, marks.rows, *grid, freedom, ease, *numbers,
                    phase, out,
                )  # fmt: skip
            marks, worked = worked, marks
            counts.append(marks.find(out, float(least), worked))
        folds += machine.fetch_numbers(counts)
    # Rounds after the last fold was opened changed nothing.
    return out, tuple(folds[: folds.index(0) + 1] if 0 in folds else folds)


class _Marks:
    """Voxels that fold, and a flag for each row that has any; other rows hold nothing."""

    def __init__(self, machine: Machine, shape: Shape) -> None:
        self._machine = machine
        self.voxels = machine.empty(shape, "uint8")
        self.rows = machine.empty(shape[:3], "uint8")

    def find(self, field: Array, least: float, worked: _Marks | None) -> Array:
        """Mark the folds of a field, near the marks of ``worked`` only; how many there are."""
        self.rows[...] = 0
        batch, depth, height, width = self.voxels.shape
        self._machine.launch(
            "mark_folds", (batch * depth, height, width), field, depth, height, width,
            None if worked is None else worked.voxels, None if worked is None else worked.rows,
            least, self.voxels, self.rows,
        )  # fmt: skip
        return self._machine.count_marks(self.voxels, self.rows)
