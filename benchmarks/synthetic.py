"""Generated pairs of any size with any number of regions: bumpy, textured blobs on a lattice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import Pair
from segreg.engine.nifti import write_nifti

Array = NDArray[np.float32]

FIELD_OF_VIEW = 192.0  # mm along the longest axis, whatever the number of voxels
RADIUS = 0.30  # of a blob, share of a lattice cell
BUMPS = 0.16  # height of the surface's waves, share of the radius
NOISE = 6.0  # standard deviation; tissue lies between 300 and 800


@dataclass(frozen=True)
class Blob:
    """One region: where it lies on each side, how it is bumpy there, and its texture."""

    label: int
    centres: Array  # (2, 3) voxels, moving and fixed
    radii: Array  # (2, 3) voxels
    phases: Array  # (2, 3) of the surface's waves: no affine map takes one side to the other
    waves: Array  # (4, 3) of the texture, radians per radius
    intensity: float

    def paint(self, side: int, image: Array, labels: NDArray[np.uint8]) -> None:
        centre, radii = self.centres[side], self.radii[side]
        reach = radii * (1 + 3 * BUMPS) + 1
        low = np.maximum(np.floor(centre - reach), 0).astype(int)
        high = np.minimum(np.ceil(centre + reach) + 1, image.shape).astype(int)
        box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
        unit = [
            (np.arange(first, last, dtype=np.float32) - middle) / radius
            for first, last, middle, radius in zip(low, high, centre, radii, strict=True)
        ]
        z, y, x = np.meshgrid(*unit, indexing="ij", sparse=True)
        bumps = sum(
            np.cos(4 * axis + phase)
            for axis, phase in zip((z, y, x), self.phases[side], strict=True)
        )
        inside = np.sqrt(z * z + y * y + x * x) < 1 + BUMPS * bumps
        texture = sum(np.cos(a * z + b * y + c * x) for a, b, c in self.waves)
        image[box][inside] = (self.intensity + 40 * texture)[inside]
        labels[box][inside] = self.label


def write_pair(
    folder: Path, shape: tuple[int, int, int], count: int, lattice: int, first: int = 0
) -> Pair:
    """Write a pair of 16-bit images and label maps with ``count`` regions, as .nii.gz.

    Parameters
    ----------
    shape : (z, y, x) voxels; the field of view does not depend on it.
    lattice : cells per axis that blobs are placed in, one each, in an order that is the same for
        every ``count``: more regions never change those before.
    first : how many of them to leave out before.
    """
    most = min(lattice**3, 255) - first
    if not 1 <= count <= most:
        raise ValueError(f"count: expected 1 to {most} regions, got {count}.")
    random = np.random.default_rng(lattice)
    blobs = _place(random, shape, lattice)[first : first + count]
    affine = np.diag([FIELD_OF_VIEW / max(shape)] * 3 + [1.0])
    paths = []
    for side, name in enumerate(("moving", "fixed")):
        image = np.full(shape, 100, np.float32)
        labels = np.zeros(shape, np.uint8)
        for blob in blobs:
            blob.paint(side, image, labels)
        image += NOISE * random.standard_normal(shape, np.float32)
        for suffix, array in (("", image.astype(np.int16)), ("_labels", labels)):
            paths.append(folder / f"{name}{suffix}.nii.gz")
            write_nifti(paths[-1], array, affine)
    moving, moving_labels, fixed, fixed_labels = paths
    voxels = "x".join(map(str, shape))
    return Pair(f"{count} regions, {voxels}", moving, fixed, moving_labels, fixed_labels)


def _place(random: np.random.Generator, shape: tuple[int, int, int], lattice: int) -> list[Blob]:
    cell = np.array(shape) / lattice
    places = random.permutation(np.argwhere(np.ones((lattice,) * 3)))
    blobs = []
    for label, place in enumerate(places, 1):
        shift = random.uniform(-0.04, 0.04, (2, 3)) * cell
        blobs.append(
            Blob(
                label,
                ((place + 0.5) * cell - 0.5 + shift).astype(np.float32),
                (RADIUS * cell * random.uniform(0.9, 1.1, (2, 3))).astype(np.float32),
                random.uniform(0, 2 * np.pi, (2, 3)).astype(np.float32),
                random.normal(0, 3, (4, 3)).astype(np.float32),
                float(random.uniform(400, 700)),
            )
        )
    return blobs
