"""Change of volume, region by region."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segreg.kernels._checks import check_array, check_count
from segreg.kernels._machines import Array, machine_of
from segreg.kernels._streams import on_stream
from segreg.kernels.sampling import table_count

_COUNTS, _SUMS = 2, 3  # columns of the kernel's tables (bodies/jacobians.cuh)


@dataclass(frozen=True)
class JacobianSums:
    """Sums of a Jacobian determinant; row 0 is the background, the last row the seams.

    A voxel is at a seam if one of its face neighbours belongs to another region or, beside a
    region, to the background; seams belong to no region.
    """

    voxels: NDArray[np.int64]
    """(count + 2,)"""
    unfolded: NDArray[np.int64]
    """(count + 2,) voxels with a determinant above 0."""
    total: NDArray[np.float64]
    """(count + 2,) sum of the determinant; of regions only."""
    log: NDArray[np.float64]
    """(count + 2,) sum of its logarithm where unfolded; of regions only."""
    log_square: NDArray[np.float64]
    """(count + 2,) sum of the logarithm's square where unfolded; of regions only."""

    def joined(self, rows: slice) -> JacobianSums:
        """The sums of several rows as one row."""
        return JacobianSums(*(np.asarray(getattr(self, f.name)[rows].sum()) for f in fields(self)))

    @property
    def folding_percent(self) -> NDArray[np.float64]:
        """Voxels with a determinant of 0 or less; NaN where there are no voxels."""
        return 100 * (1 - _ratio(self.unfolded, self.voxels))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean determinant; NaN where there are no voxels."""
        return _ratio(self.total, self.voxels)

    @property
    def log_deviation(self) -> NDArray[np.float64]:
        """Standard deviation of the logarithm where unfolded; NaN where nothing is."""
        mean = _ratio(self.log, self.unfolded)
        # Rounding may push the variance of a constant below zero.
        return np.sqrt(np.maximum(_ratio(self.log_square, self.unfolded) - mean**2, 0))


def _ratio(sums: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # nothing over nothing is NaN
        return np.asarray(sums / numbers, np.float64)


@on_stream
def jacobian_sums(
    jacobian: Array, regions: Array, count: int, *, stream: Any = None
) -> JacobianSums:
    """Sums of a Jacobian determinant over the inside of each region, in one pass.

    The order of adding depends on the shape alone.

    Parameters
    ----------
    jacobian : (D, H, W) float32
    regions : (D, H, W) int32
        Region numbers 0..count; voxels with other numbers count as seams.
    count : int
        Largest region number.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    JacobianSums
        On the host.

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes.
    """
    machine = machine_of(jacobian=jacobian, regions=regions)
    count = check_count("count", count, 0, 32767)
    jacobian = check_array(machine, "jacobian", jacobian, "D H W")
    regions = check_array(machine, "regions", regions, "D H W", ("int32",), jacobian.shape)
    rows = regions.shape[0] * regions.shape[1]
    pieces = table_count(machine, rows, 8 * (_COUNTS + _SUMS) * (count + 2))
    counts = machine.zeros((pieces, count + 2, _COUNTS), "int64")
    sums = machine.zeros((pieces, count + 2, _SUMS), "float64")
    machine.launch(
        "jacobian_sums", pieces, regions, jacobian, *regions.shape, count, counts, sums
    )
    tables = machine.fetch_together(counts.sum(axis=0), sums.sum(axis=0))
    return JacobianSums(*(column for table in tables for column in table.T.copy()))


@on_stream
def count_folds(
    displacement: Array, batch: Array, channel: int, *, stream: Any = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells of K fields inside their regions, and how many of them fold (determinant <= 0).

    A field's cell is inside if the mask at the first of its canvas cells exceeds one half.

    Parameters
    ----------
    displacement : (K, 3, d, h, w) float32
        In its own cells.
    batch : (K, C, D, H, W) float32
        Each length the same multiple of the field's.
    channel : int
        Of the batch, the mask.
    stream : cupy.cuda.Stream, optional
        Where to run on the GPU; CuPy's current stream if left out.

    Returns
    -------
    inside, folded : (K,) int64, on the host

    Raises
    ------
    TypeError, ValueError
        For wrong dtypes or shapes, or a channel that is not there.
    """
    machine = machine_of(displacement=displacement, batch=batch)
    displacement = check_array(machine, "displacement", displacement, "K 3 d h w")
    batch = check_array(machine, "batch", batch, "K C D H W")
    k, cells = len(displacement), displacement.shape[2:]
    stride = batch.shape[2] // cells[0]
    if len(batch) != k or batch.shape[2:] != tuple(stride * n for n in cells):
        raise ValueError(
            f"batch: expected ({k}, C, D, H, W) with (D, H, W) a multiple of {cells}, "
            f"got {batch.shape}."
        )
    channel = check_count("channel", channel, 0, batch.shape[1] - 1)
    counts = machine.zeros((k, cells[0], 2), "int64")
    machine.launch(
        "count_folds", k * cells[0], displacement, *cells, batch, batch.shape[1], channel, stride,
        counts,
    )  # fmt: skip
    inside, folded = machine.fetch(counts.sum(axis=1)).T
    return inside, folded
