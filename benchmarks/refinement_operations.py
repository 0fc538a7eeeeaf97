"""The operations of a refinement that are timed."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.operation import Arguments, Buffers, Operation, Shape
from benchmarks.volumes import displacement, image, near, regions
from segreg.kernels import reference
from segreg.kernels.blocks import blocks_of

FARTHEST = 2.5
FACTORS = (2, 2, 2)  # voxels of a cell


def _sides(shape: Shape) -> Arguments:
    """What ``match_sides`` takes: the moving side is the fixed one, two voxels further on."""
    texture = image(shape)
    distances = (0.5 + FARTHEST * (np.abs(texture) % 1)).astype(np.float32)
    sides = []
    for numbers in (np.roll(regions(shape), 2, axis=2), regions(shape)):
        others = np.where(numbers, 0, 1 + np.arange(numbers.shape[2]) % 2)
        sides.append((texture, (numbers | others << 16).astype(np.int32), distances))
    return {"moving": sides[0], "fixed": sides[1], "displacement": displacement(shape)[0]}


def _edges(shape: Shape) -> Any:
    return reference.couple(regions(shape), displacement(shape)[0], slip=1.0).astype(np.float32)


def _cells(shape: Shape) -> Arguments:
    """What ``cell_windows`` takes: cells of the regions that their first voxels belong to."""
    first = tuple(slice(0, -(-n // f) * f, f) for n, f in zip(shape, FACTORS, strict=True))
    return {**_sides(shape), "regions": np.ascontiguousarray(regions(shape)[first])}


def _cells_and_windows(shape: Shape) -> Arguments:
    given = _cells(shape)
    windows = np.random.default_rng(3).uniform(0.5, 1, (6, *given["regions"].shape))
    windows[[2, 4]] += 1  # squares, well above those of the means
    return {**given, "windows": windows.astype(np.float32)}


def _cell_buffer(channels: int) -> Any:
    def buffers(shape: Shape) -> Buffers:
        cells = (-(-n // f) for n, f in zip(shape, FACTORS, strict=True))
        return {"out": ((channels, *cells), "float32")}

    return buffers


REFINEMENT = (
    Operation(
        "find_borders",
        "find_borders",
        lambda shape: {"regions": regions(shape)},
        options={"farthest": FARTHEST},
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
            "edges": _edges(shape),
        },
        lambda shape: {"out": ((3, *shape), "float32"), "scratch": ((3, *shape), "float32")},
        {"sigma": 1.5},
        margin=lambda shape: 3,
    ),
    Operation(
        "match_sides",
        "match_sides",
        _sides,
        lambda shape: {"out": ((10, *shape), "float32")},
        margin=near,
        ties=1e-2,
    ),
    Operation(
        "outline_pulls",
        "outline_pulls",
        _sides,
        lambda shape: {"out": ((4, *shape), "float32")},
        margin=near,
        ties=1e-2,
    ),
    Operation(
        "mark_blocks",
        "mark_blocks",
        lambda shape: {"errors": np.abs(image(shape))},
        lambda shape: {"out": (blocks_of(shape), "uint8")},
        {"rim": 3, "bound": 2.0},
    ),
    Operation(
        "cell_windows",
        "cell_windows",
        _cells,
        _cell_buffer(6),
        {"factors": FACTORS},
        ties=1e-2,
    ),
    Operation(
        "cell_normals",
        "cell_normals",
        _cells_and_windows,
        _cell_buffer(9),
        {"factors": FACTORS},
        tolerance=5e-3,
        ties=1e-2,
    ),
)
