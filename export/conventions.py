"""Measure what a network's vectors mean, instead of believing it.

A region is shown with its moving side shifted by a known number of cells along each axis, both
ways. A network that follows the shift betrays which component moves, with which sign and how far.
``R[a, c]`` is the mean of component c where the outline crosses axis a (only there a shift along it
is seen), for a shift of one cell along that axis: the odd part of the answers to both ways. A sound
package gives ``R`` near a positive multiple of the identity. A velocity is taken for the
displacement, which it is as far as it is uniform. A network that does not follow (untrained
weights) proves nothing, and the report says so.

Whole images take long, so a canvas of many cells is first measured in small, as far as the network
takes another size; what is found there counts if it covers the same part of one shift on the whole
canvas. Otherwise the whole canvas is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segreg.engine.errors import PackageError
from segreg.engine.probes import shifted_batch, structured_batch
from segreg.export.adapter import Adapter, check_answer
from segreg.export.spec import Shape, Spec

Array = NDArray[np.float64]
AXES = "zyx"

SHIFTS = (1 / 72, 1 / 24)  # of the canvas; two thirds of a cell, or two, of 48
DOMINANCE = 2.0  # the component that moves, against any other
EVEN = 0.6  # part of the answer that ignores the shift's direction, against the part that does not
SPREAD = 3.0  # gain of the best against that of the worst axis
# A trained network covers half to all of a small shift in one pass. Far beyond, the unit is wrong.
LEAST_GAIN, MOST_GAIN = 0.15, 1.35
SURE_GAIN = 0.6  # below it, a larger unit may fit as well

MOST_CELLS = 1_000_000  # of a canvas that is measured at once
SIDE_STEP = 32  # of a smaller one, in cells: what the strides of most networks divide
AGREEMENT = 1.5  # between the gains there and on the whole canvas

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Conventions:
    """What was measured.

    Attributes
    ----------
    measurable : whether the network follows a shift at all.
    response : (3, 3) R above, of the package's vectors (after translation from the spec); NaN where
        it was already clear that the network does not follow.
    canvas : cells that it was measured on.
    contradictions : sentences that refuse the spec; empty where it is consistent.
    doubts : what the measurement leaves open.
    """

    measurable: bool
    response: Array
    canvas: Shape
    contradictions: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        if self.measurable:
            return "measured"
        return "not measurable, the network does not follow a shift"

    def as_dict(self) -> dict[str, Any]:
        return {
            "conventions": self.verdict,
            "canvas": list(self.canvas),
            "response_per_cell_zyx": [
                [None if np.isnan(r) else round(float(r), 4) for r in row] for row in self.response
            ],
            "contradictions": list(self.contradictions),
            "doubts": list(self.doubts),
        }


def measure_conventions(
    adapter: Adapter, progress: Progress = lambda said: None
) -> Conventions:
    """Compare the conventions in the adapter's spec with how its network answers known shifts."""
    shape = adapter.spec.shapes[0]
    smaller = smaller_canvas(shape)
    if smaller != shape and _takes(adapter, smaller):
        progress(f"measuring conventions on {_times(smaller)} cells")
        found = _measure(adapter, smaller)
        if found.measurable and _holds(adapter, shape, found):
            return found
    progress(f"measuring conventions on {_times(shape)} cells")
    return _measure(adapter, shape)


def smaller_canvas(shape: Shape) -> Shape:
    """A canvas of about ``shape``'s proportions and at most about ``MOST_CELLS``."""
    cells = int(np.prod(shape))
    if cells <= MOST_CELLS:
        return shape
    sides = np.array(shape) * (MOST_CELLS / cells) ** (1 / 3)
    sides = np.maximum(np.rint(sides / SIDE_STEP), 1) * SIDE_STEP
    depth, height, width = (int(side) for side in np.minimum(sides, shape))
    return depth, height, width


def _takes(adapter: Adapter, shape: Shape) -> bool:
    """Whether the trained network runs on a canvas of ``shape``."""
    try:
        check_answer(adapter, torch.from_numpy(structured_batch(shape, adapter.spec.channels, 1)))
    except PackageError:  # all that the network's own code raises; its own size is asked next
        return False
    return True


def _measure(adapter: Adapter, shape: Shape) -> Conventions:
    spec, steps = adapter.spec, np.outer(SHIFTS, shape)
    odd, even = np.full((2, len(SHIFTS), 3, 3), np.nan)
    for step, axis in product(range(len(SHIFTS)), range(3)):
        cells = steps[step, axis]
        there, back = _answers(adapter, shape, cells * np.eye(3)[axis])
        odd[step, axis] = (there[axis] - back[axis]) / (2 * cells)
        even[step, axis] = (there[axis] + back[axis]) / (2 * cells)
        if not _stands_out(odd[step, axis]):
            return Conventions(False, odd[0], shape)
    response = odd[0]  # small shifts are followed best
    moving = np.abs(response).argmax(1)
    if not _follows(odd, even, moving):
        return Conventions(False, response, shape)
    gains = response[np.arange(3), moving]
    contradictions = [
        *_order_faults(moving, spec),
        *_sign_faults(gains),
        *_unit_faults(np.abs(gains), shape, spec),
    ]
    doubts = [] if contradictions else _doubts(np.abs(gains), shape, spec)
    return Conventions(True, response, shape, tuple(contradictions), tuple(doubts))


def _holds(adapter: Adapter, shape: Shape, found: Conventions) -> bool:
    """Whether ``found``, measured on a smaller canvas, has the gains of one on ``shape``.

    One shift along all axes shows them: two regions instead of twelve. A unit that holds for one
    size only, such as a number written into ``forward``, shows in them.
    """
    cells = SHIFTS[0] * np.array(found.canvas)
    there, back = _answers(adapter, shape, cells)
    moving = np.abs(found.response).argmax(1)
    places = np.arange(3), moving
    ratios = (there - back)[places] / (2 * cells) / found.response[places]
    return bool(((ratios > 1 / AGREEMENT) & (ratios < AGREEMENT)).all())


def _answers(adapter: Adapter, shape: Shape, shift: Array) -> tuple[Array, Array]:
    """Mean vector where the outline crosses each axis, [axis, component].

    Once for the moving side ``shift`` (3,) cells away, once for it as far the other way.
    """
    regions = shifted_batch(shape, adapter.spec.channels, np.stack([shift, -shift]))
    with torch.inference_mode():
        vectors = adapter(torch.from_numpy(regions)).numpy()
    mask = shifted_batch(vectors.shape[2:], ["fixed_mask"], np.zeros((1, 3)))[0, 0]
    outline = np.abs(np.gradient(mask.astype(np.float64)))
    outline /= outline.sum((1, 2, 3), keepdims=True)
    there, back = np.einsum("sczyx,azyx->sac", vectors, outline)
    return there, back


def _stands_out(row: Array) -> bool:
    """Whether one component (3,) is far ahead of the others: without that nothing is followed."""
    _, middle, most = np.sort(np.abs(row))
    return bool(most > 0 and middle * DOMINANCE <= most)


def _follows(odd: Array, even: Array, moving: NDArray[np.intp]) -> bool:
    """Whether every step moves one component per axis, each its own, and turns with the shift.

    Each row of ``odd`` stands out already.
    """
    if sorted(moving) != [0, 1, 2]:
        return False
    for step in np.abs(odd):
        gains = step[np.arange(3), moving]
        if (gains < step.max(1)).any() or gains.max() > SPREAD * gains.min():
            return False
    return bool(min(np.abs(even).max((1, 2)) / np.abs(odd).max((1, 2))) < EVEN)


def _order_faults(moving: NDArray[np.intp], spec: Spec) -> list[str]:
    if list(moving) == [0, 1, 2]:
        return []
    stated = spec.output.order
    # The adapter has already turned the stated order into zyx.
    native = list(moving if stated == "zyx" else 2 - moving)
    measured = "".join(AXES[native.index(component)] for component in range(3))
    mend = (
        f'set network/output/order to "{measured}"'
        if measured in ("zyx", "xyz")
        else "a package holds zyx or xyz; reorder them in forward"
    )
    return [f"component order: stated {stated}, measured {measured}; {mend}"]


def _sign_faults(gains: Array) -> list[str]:
    if (gains > 0).all():
        return []
    if (gains < 0).all():
        return [
            "direction: the field leads away from the moving side: stated warped(x) = "
            "moving(x + sign u(x)), measured the opposite; either moving and fixed are swapped in "
            "network/inputs, or network/output/sign has the wrong sign"
        ]
    wrong = ", ".join(axis for axis, gain in zip(AXES, gains, strict=True) if gain < 0)
    return [f"direction: the field points backwards along {wrong} only; mend the sign in forward"]


def _unit_faults(gains: Array, shape: Shape, spec: Spec) -> list[str]:
    gain = float(gains.mean())
    if LEAST_GAIN <= gain <= MOST_GAIN:
        return []
    output = spec.output
    cells = _cells_per_unit(shape, output.stride)
    stated = cells[output.unit]
    fitting = [
        unit
        for unit, size in cells.items()
        if unit != output.unit and LEAST_GAIN <= gain * size / stated <= MOST_GAIN
    ]
    best = min(fitting, key=lambda u: abs(np.log(gain * cells[u] / stated)), default=None)
    mend = (
        f"the vectors fit {best}, where it would be {gain * cells[best] / stated:.2g}"
        if best
        else "no unit of a spec fits; scale the field in forward"
    )
    return [f"unit: stated {output.unit}, of a known shift the field covers {gain:.2g}; {mend}"]


def _cells_per_unit(shape: Shape, stride: int) -> dict[str, float]:
    size = float(np.mean(shape))
    return {
        "canvas_voxel": 1.0,
        "field_voxel": float(stride),
        "normalized": size / 2,
        "unit_interval": size,
    }


def _doubts(gains: Array, shape: Shape, spec: Spec) -> list[str]:
    """Larger units that would explain a network which covers little of a shift just as well."""
    gain, output = float(gains.mean()), spec.output
    cells = _cells_per_unit(shape, output.stride)
    if gain >= SURE_GAIN:
        return []
    return [
        f"unit: one pass covers {gain:.2f} of a shift, in {unit} it would be "
        f"{gain * size / cells[output.unit]:.2f}; make sure of the stated {output.unit}"
        for unit, size in cells.items()
        if cells[output.unit] < size and gain * size / cells[output.unit] <= MOST_GAIN
    ]


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))
