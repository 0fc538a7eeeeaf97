"""The operations that are timed: inputs, buffers and the bytes that must move, one entry each.

The same table serves NumPy and CuPy, so every operation has the same inputs on both machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import refinement_operations
from segreg import kernels
from segreg.kernels import reference

Shape = tuple[int, int, int]
Arguments = dict[str, Any]
Buffers = dict[str, tuple[tuple[int, ...], str]]

OCTANTS = 8


@dataclass(frozen=True)
class Operation:
    """One function of ``segreg.kernels`` with one set of options, for volumes of any shape."""

    id: str
    function: str
    inputs: Callable[[Shape], Arguments]
    """Keyword arguments for a volume of this shape; arrays in NumPy."""
    buffers: Callable[[Shape], Buffers] = lambda shape: {}
    """Shape and dtype of what the operation writes to, by keyword; "scratch" moves no byte that
    must move."""
    options: Mapping[str, Any] = field(default_factory=dict)
    prepared: Callable[[Arguments], Arguments] = lambda arguments: arguments
    """What is made of the inputs where they lie, before the operation."""
    rounds: Callable[[Arguments], int] = lambda arguments: 1
    """How often everything must be read and written."""
    margin: Callable[[Shape], int] | None = None
    """How far away the voxels lie that one voxel depends on; None where it may depend on all."""
    waits: bool = False
    """Whether it counts on the host or has no buffers, so that no graph can hold it."""
    tolerance: float = 1e-3
    """Largest absolute difference to the reference that counts as right."""
    ties: float = 0.0
    """Share of the values in which rounding may turn a choice between two."""

    def arguments(self, xp: Any, shape: Shape) -> Arguments:
        """Keyword arguments with their arrays, tables and buffers in ``xp``: NumPy or CuPy."""
        given = self.prepared({n: _moved(xp, value) for n, value in self.inputs(shape).items()})
        return {**given, **self.options, **self.empty_buffers(xp, shape)}

    def empty_buffers(self, xp: Any, shape: Shape) -> Arguments:
        return {name: xp.empty(*form) for name, form in self.buffers(shape).items()}

    def call(self, arguments: Arguments) -> Any:
        """The result: an array, a tuple of arrays or, on the host, a table."""
        return getattr(kernels, self.function)(**arguments)

    def expected(self, arguments: Arguments) -> Any:
        """What ``segreg.kernels.reference`` makes of the unprepared arguments, all in NumPy."""
        written = ("out", "scratch", "residual")
        given = {name: value for name, value in arguments.items() if name not in written}
        return getattr(reference, self.function)(**given)

    def compare(self, ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[float, bool]:
        """Largest difference, ties aside, and whether it is small enough."""
        difference = np.abs(ours.astype(np.float64) - theirs)
        wrong = ~(difference <= self.tolerance)  # NaN is wrong
        right = np.count_nonzero(wrong) <= self.ties * difference.size
        if right:
            difference = difference[~wrong]
        return float(difference.max(initial=0.0)), bool(right)

    def moved_bytes(self, arguments: Arguments) -> int:
        """Bytes that must move: every input read once and every result written once a round."""
        given = {name: value for name, value in arguments.items() if name != "scratch"}
        return self.rounds(arguments) * sum(int(a.nbytes) for a in _arrays(given.values()))


def parts(result: Any) -> list[Any]:
    """The arrays of a result, whatever holds them."""
    if is_dataclass(result):
        return [getattr(result, f.name) for f in fields(result)]
    if isinstance(result, tuple):
        return [array for entry in result for array in parts(entry)]
    return [result if hasattr(result, "dtype") else np.asarray(result)]


def _moved(xp: Any, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(xp, part) for part in value)
    return xp.asarray(value) if isinstance(value, np.ndarray) else value


def _arrays(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple):
            yield from _arrays(value)
        elif isinstance(value, kernels.RegionShapes):
            yield value.bytes
        elif hasattr(value, "nbytes"):
            yield value


def image(shape: Shape) -> NDArray[np.float32]:
    """(D, H, W) noise: nothing about it is easy to guess."""
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def reach(shape: Shape) -> float:
    """Voxels that a field moves at most: the same share of a volume of any size."""
    return 0.02 * min(shape)


def displacement(shape: Shape, size: float = 1.0, batch: int = 1) -> NDArray[np.float32]:
    """(batch, 3, D, H, W) slow waves, as a registration yields them, of ``size`` times reach."""
    turns = [np.linspace(0, 6, n, dtype=np.float32) for n in shape]
    z, y, x = (turn.reshape(_along(axis)) for axis, turn in enumerate(turns))
    waves = (np.sin(z + 0.3) * np.cos(y) * np.cos(x), np.cos(z) * np.sin(y) * np.cos(x + 0.7),
             np.cos(z + 0.5) * np.cos(y) * np.sin(x))  # fmt: skip
    stacked = np.stack([size * reach(shape) * wave for wave in waves])
    return np.ascontiguousarray(np.broadcast_to(stacked, (batch, *stacked.shape)))


def _half(shape: Shape) -> Shape:
    depth, height, width = (max(1, n // 2) for n in shape)
    return depth, height, width


def _along(axis: int) -> tuple[int, ...]:
    return tuple(-1 if a == axis else 1 for a in range(3))


def _corner(k: int, shape: Shape) -> NDArray[np.intp]:
    """First voxel of octant k."""
    return np.array([(k >> (2 - axis) & 1) * (n // 2) for axis, n in enumerate(shape)])


def _box(k: int, shape: Shape) -> tuple[slice, ...]:
    """Octant k."""
    pairs = zip(_corner(k, shape), _half(shape), strict=True)
    return tuple(slice(first, first + length) for first, length in pairs)


def regions(shape: Shape) -> NDArray[np.int32]:
    """(D, H, W) an ellipsoid in each octant, numbered 1 to 8, in a background of 0."""
    numbers = np.zeros(shape, np.int32)
    half = _half(shape)
    ball = sum(((np.arange(n) + 0.5) / n - 0.5).reshape(_along(a)) ** 2 for a, n in enumerate(half))
    for k in range(OCTANTS):
        numbers[_box(k, shape)][ball < 0.16] = k + 1
    return numbers


def _cells(shape: Shape) -> int:
    """Cells per axis of a region's field."""
    return max(2, min(shape) // 4)


def _canvases(shape: Shape, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(K, 3, 4) voxel -> cell and cell -> voxel, one canvas over each octant."""
    scale = 2 * side / np.array(shape, float)
    to_cell, to_voxel = np.zeros((2, OCTANTS, 3, 4), np.float32)
    for k in range(OCTANTS):
        offset = (0.5 - _corner(k, shape)) * scale - 0.5
        to_cell[k] = np.column_stack([np.diag(scale), offset])
        to_voxel[k] = np.column_stack([np.diag(1 / scale), -offset / scale])
    return to_cell, to_voxel


def _masks(shape: Shape) -> NDArray[np.uint8]:
    """(8, D/2, H/2, W/2) the ellipsoid of each octant, on its own canvas."""
    numbers = regions(shape)
    masks = [numbers[_box(k, shape)] == k + 1 for k in range(OCTANTS)]
    return np.stack(masks).astype(np.uint8)


def _mask_inputs(shape: Shape) -> Arguments:
    return {"mask": _masks(shape), "spacing": np.ones((OCTANTS, 3), np.float32)}


def _fusion(shape: Shape) -> Arguments:
    side = _cells(shape)
    to_field, to_voxel = _canvases(shape, side)
    spacing = to_voxel[:, (0, 1, 2), (0, 1, 2)].copy()
    cells = (side, side, side)
    # The ellipsoids again, as the distance from a ball of cells: cheap at any size.
    steps = np.arange(side) + 0.5 - side / 2
    away = np.sqrt(sum(steps.reshape(_along(axis)) ** 2 for axis in range(3)))
    distances = np.maximum(0, away - 0.4 * side) * spacing.mean()
    ratio = np.array([side / n for n in shape], np.float32)
    coarse = np.column_stack([np.diag(ratio), 0.5 * ratio - 0.5])
    back = np.column_stack([np.diag(1 / ratio), 0.5 / ratio - 0.5])
    return {
        "regions": regions(shape),
        "fields": displacement(cells, 1.0, OCTANTS),
        "distances": np.repeat(distances[None].astype(np.float32), OCTANTS, axis=0),
        "to_field": to_field,
        "to_voxel": to_voxel,
        "spacing": spacing,
        "background": (displacement(cells)[0], coarse, back),
        "reach": 0.05 * min(shape),
    }  # fmt: skip


def _gather(shape: Shape) -> Arguments:
    side = max(1, min(shape) // 2)
    return {
        "image": image(shape),
        "regions": regions(shape),
        "indices": np.arange(1, OCTANTS + 1, dtype=np.int32),
        "affines": _canvases(shape, side)[1],
        "intensity": np.tile(np.array([0.0, 0.3], np.float32), (OCTANTS, 1)),
        "canvas": side,
    }


def _shaped(arguments: Arguments) -> Arguments:
    """With the shapes of the regions in place of their map."""
    shapes = kernels.region_shapes(arguments["regions"], arguments["indices"])
    others = {n: value for n, value in arguments.items() if n not in ("regions", "indices")}
    return {**others, "shapes": shapes}


def _field_buffer(shape: Shape) -> Buffers:
    return {"out": ((1, 3, *shape), "float32")}


def _image_buffer(shape: Shape) -> Buffers:
    return {"out": ((1, 1, *shape), "float32")}


def _filter_buffers(shape: Shape) -> Buffers:
    return {**_image_buffer(shape), "scratch": ((1, 1, *shape), "float32")}


def _fusion_buffers(shape: Shape) -> Buffers:
    side = _cells(shape)
    rows = OCTANTS * side**2 + shape[0] * shape[1]
    return {**_field_buffer(shape), "scratch": ((rows,), "int32")}


def _folded(shape: Shape) -> NDArray[np.float32]:
    """(1, 3, D, H, W) slow waves that fold in one slice out of sixteen."""
    folded: NDArray[np.float32] = displacement(shape).copy()
    folded[:, 0, shape[0] // 2 :: 16] -= 2.6
    return folded


def _warp_inputs(shape: Shape) -> Arguments:
    return {"moving": image(shape)[None, None], "displacement": displacement(shape)}


def _pair(shape: Shape) -> Arguments:
    fixed = regions(shape)
    moving = np.roll(fixed, 2, axis=2)
    return {"moving": moving, "fixed": fixed, "displacement": displacement(shape)}


def _canvas_buffer(shape: Shape) -> Buffers:
    side = max(1, min(shape) // 2)
    return {"out": ((OCTANTS, 2, side, side, side), "float32")}


def _mask_buffers(shape: Shape) -> Buffers:
    form = ((OCTANTS, *_half(shape)), "float32")
    return {"out": form, "scratch": form}


def _near(shape: Shape) -> int:
    return int(reach(shape)) + 2


OPERATIONS = (
    Operation("warp/linear", "warp", _warp_inputs, _image_buffer, margin=_near),
    Operation(
        "warp/nearest",
        "warp",
        _warp_inputs,
        _image_buffer,
        {"mode": "nearest"},
        margin=_near,
        ties=1e-4,
    ),
    Operation(
        "warp_labels",
        "warp_labels",
        lambda shape: {"labels": regions(shape), "displacement": displacement(shape)},
        lambda shape: {"out": (shape, "int32")},
        margin=_near,
        ties=1e-4,
    ),
    Operation("overlap", "overlap", _pair, options={"count": OCTANTS}, ties=1e-4, waits=True),
    Operation(
        "compose",
        "compose",
        lambda shape: {"first": displacement(shape), "second": displacement(shape, 0.5)},
        _field_buffer,
        margin=_near,
    ),
    Operation(
        "integrate/7",
        "integrate",
        lambda shape: {"velocity": displacement(shape)},
        lambda shape: {**_field_buffer(shape), "scratch": ((1, 3, *shape), "float32")},
        {"steps": 7},
        rounds=lambda arguments: int(arguments["steps"]),
        margin=lambda shape: 2 * _near(shape),
    ),
    Operation(
        "jacobian_determinant",
        "jacobian_determinant",
        lambda shape: {"displacement": displacement(shape)},
        lambda shape: {"out": ((1, *shape), "float32")},
        margin=lambda shape: 1,
    ),
    Operation(
        "invert",
        "invert",
        lambda shape: {"displacement": displacement(shape)},
        lambda shape: {**_field_buffer(shape), "residual": (shape, "float32")},
        margin=_near,
    ),
    Operation(
        "resample_field",
        "resample_field",
        lambda shape: {
            "field": displacement(_half(shape)),
            "shape": shape,
        },
        _field_buffer,
    ),
    Operation(
        "region_stats",
        "region_stats",
        lambda shape: {"regions": regions(shape), "image": image(shape)},
        options={"count": OCTANTS},
        waits=True,
    ),
    Operation(
        "gather_regions", "gather_regions", _gather, _canvas_buffer, prepared=_shaped
    ),
    Operation(
        "jacobian_sums",
        "jacobian_sums",
        lambda shape: {"jacobian": 1 + image(shape) / 4, "regions": regions(shape)},
        options={"count": OCTANTS},
        waits=True,
    ),
    Operation(
        "relabel",
        "relabel",
        lambda shape: {"labels": regions(shape), "table": np.arange(OCTANTS + 1)[::-1].copy()},
        rounds=lambda arguments: 2,  # the result is as large as what is read
        waits=True,
    ),
    Operation("distance_to_mask", "distance_to_mask", _mask_inputs, _mask_buffers),
    Operation(
        "distance_to_mask/5",
        "distance_to_mask",
        _mask_inputs,
        _mask_buffers,
        {"farthest": 5.0},
    ),
    Operation("fuse_fields", "fuse_fields", _fusion, _fusion_buffers),
    Operation(
        "repair_folds",
        "repair_folds",
        lambda shape: {"displacement": _folded(shape)},
        _field_buffer,
        {"iterations": 4},
        waits=True,  # and no margin: the order of the work depends on where a block lies
    ),
    Operation(
        "smooth",
        "smooth",
        lambda shape: {"volume": image(shape)[None, None]},
        _filter_buffers,
        {"sigma": 2.0},
        margin=lambda shape: 9,
    ),
    Operation(
        "spline_coefficients",
        "spline_coefficients",
        lambda shape: {"volume": image(shape)[None, None]},
        _filter_buffers,
        margin=lambda shape: 14,
    ),
    Operation(
        "warp/cubic",
        "warp",
        _warp_inputs,
        _image_buffer,
        {"mode": "cubic", "prefiltered": True},
        margin=lambda shape: _near(shape) + 2,
    ),
    Operation(
        "find_borders",
        "find_borders",
        lambda shape: {"regions": regions(shape)},
        options={"farthest": refinement_operations.FARTHEST},
        margin=lambda shape: 3,
        waits=True,
        ties=0.3,  # of two borders at one distance either may be named
    ),
    Operation(
        "couple",
        "couple",
        lambda shape: {"regions": regions(shape), "displacement": displacement(shape)[0]},
        lambda shape: {"out": ((3, *shape), "float32")},
        {"slip": 1.0},
        margin=lambda shape: 1,
    ),
    Operation(
        "smooth_within",
        "smooth_within",
        lambda shape: {
            "volume": displacement(shape)[0],
            "edges": refinement_operations.edges_of(regions(shape), displacement(shape)),
        },
        lambda shape: {"out": ((3, *shape), "float32"), "scratch": ((3, *shape), "float32")},
        {"sigma": 1.5},
        margin=lambda shape: 3,
    ),
    Operation(
        "match_sides",
        "match_sides",
        lambda shape: refinement_operations.matching_inputs(
            regions(shape), image(shape), displacement(shape)
        ),
        lambda shape: {"out": ((10, *shape), "float32")},
        margin=_near,
        ties=1e-2,
    ),
    Operation(
        "form_normals",
        "form_normals",
        lambda shape: refinement_operations.normal_inputs(shape, image(shape)),
        lambda shape: {"out": ((9, *shape), "float32")},
        margin=lambda shape: 0,
        tolerance=5e-3,
    ),
)
