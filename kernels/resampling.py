"""Vector fields on finer or coarser grids over the same box."""

from __future__ import annotations

from typing import Any

from segreg.kernels._checks import check_array, check_out, check_volume
from segreg.kernels._machines import Array, machine_of
from segreg.kernels._streams import on_stream


@on_stream
def resample_field(
    field: Array,
    shape: tuple[int, int, int],
    out: Array | None = None,
    *,
    stream: Any = None,
) -> Array:
    """A displacement on a grid of ``shape`` cells that covers the same box.

    Linear between cell centres, held at the border.

    Parameters
    ----------
    field : (B, 3, D, H, W) float32
        Displacement in its own cells.
    shape : cells of the result.
    out : (B, 3, *shape) float32, optional
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    (B, 3, *shape) float32
        The same displacement in cells of the new grid.

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype or shape, or an ``out`` that does not fit.
    """
    machine = machine_of(field=field, out=out)
    field = check_array(machine, "field", field, "B 3 D H W")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape: expected three positive numbers of cells, got {shape}.")
    depth, height, width = map(int, shape)
    check_volume("shape", (depth, height, width))
    batch = field.shape[0]
    form = (batch, 3, depth, height, width)
    out = check_out(machine, "out", out, form, "float32", field)
    machine.launch(
        "resample_field", (batch * depth, height, width), field, *field.shape[2:],
        depth, height, width, out,
    )  # fmt: skip
    return out
