"""How many regions go together, so that a batch fits the memory it may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import Array
from segreg.engine.device import HOST, Device
from segreg.engine.errors import BackendError
from segreg.engine.memory import format_bytes, is_out_of_memory

Numbers = NDArray[np.intp]

FLOAT = 4  # bytes
CANVASES = 2  # batches of canvases alive at once: one of them for regions that go on alone
FIELDS = 9  # fields of a region alive at once: vectors, before, after, shorter ones, scratch ...


def region_bytes(channels: int, canvas_cells: int, field_cells: int, result_cells: int) -> int:
    """Memory of one region on its way through the passes, the network's own left out.

    Parameters
    ----------
    canvas_cells, field_cells, result_cells : cells of its canvas, of the field there, and of the
        field that is kept.
    """
    floats = CANVASES * channels * canvas_cells + 3 * FIELDS * field_cells + 3 * result_cells
    return FLOAT * floats


@dataclass
class RegionBatches:
    """Batches of one pair; ``notes`` says what was done about memory that ran out.

    Attributes
    ----------
    most_bytes : of a batch, once memory has run out: half of what it ran out with.
    """

    device: Device = HOST
    notes: list[str] = field(default_factory=list)
    most_bytes: int | None = None

    def run(
        self, numbers: Numbers, cells: int, bytes_each: int, work: Callable[[Numbers], Array]
    ) -> Iterator[tuple[Numbers, Array]]:
        """``work`` done on all the regions ``numbers``, part by part: the part and its result.

        Raises
        ------
        BackendError : memory ran out again after the batch was halved.
        """
        first = 0
        while first < len(numbers):
            most = self.device.most_regions(cells, bytes_each)
            if self.most_bytes is not None:
                most = max(1, min(most, self.most_bytes // bytes_each))
            part = numbers[first : first + most]
            result, failure = None, ""
            try:
                result = work(part)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.most_bytes is not None or len(part) == 1:
                    raise self._too_small(len(part), bytes_each) from error
                failure = " ".join(str(error).split())
            if result is None:  # outside of the handler: the error holds on to what was computed
                self.device.tidy()
                self.most_bytes = len(part) * bytes_each // 2
                self._note(len(part), failure)
                continue
            first += len(part)
            yield part, result

    def _note(self, count: int, failure: str) -> None:
        said = f"memory ran out with {count} regions in one batch ({failure}); it was halved."
        if self.device is not HOST:
            said += " Give a memory budget (--gpu-memory) that fits to be spared the attempt."
        self.notes.append(said)

    def _too_small(self, count: int, bytes_each: int) -> BackendError:
        budget = self.device.budget
        bound = "all that is free" if budget is None else f"the budget of {format_bytes(budget)}"
        needed = f"{count} {'region needs' if count == 1 else 'regions need'}"
        if self.device is HOST:
            mend = "Free memory, or use a package with smaller canvases."
        else:
            first = "Raise the budget (--gpu-memory)" if budget else "Free memory of the GPU"
            mend = f"{first}, use a package with smaller canvases, or a backend of the CPU."
        return BackendError(
            f"out of memory on {self.device.name}: {needed} about "
            f"{format_bytes(count * bytes_each)} beside the network and the volumes, which is more "
            f"than is left of {bound}. {mend}"
        )
