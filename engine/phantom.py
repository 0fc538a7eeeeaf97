"""A generated pair with a known field: what a registration gives can be compared with the truth.

The moving anatomy is a formula of moving millimetres, and the fixed side is the same formula behind
a known map ``T`` (fixed mm -> moving mm): ``fixed(x) = moving(T(x))``. Neither side is a resampled
copy of the other, so no interpolation flatters the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segreg.engine.errors import InputError
from segreg.engine.field import Field
from segreg.engine.geometry import apply_map, index_to_world, spacing_of, world_to_index
from segreg.engine.volume import Volume

Array = NDArray[np.float64]

CENTRE = np.array([12.0, -18.0, 25.0])  # mm; of the anatomy, away from the origin as in a scanner
EDGE = 1.2  # mm over which one tissue turns into the next, as partial volume does
NOISE = 6.0  # standard deviation; tissues lie between 100 and 1000

# Label, centre and radii (x, y, z) in units of half the field of view, mean intensity.
ORGANS = (
    (1, (-0.40, 0.00, -0.24), (0.34, 0.46, 0.40), 620.0),
    (2, (0.40, 0.16, 0.42), (0.28, 0.38, 0.33), 240.0),
    (3, (0.38, 0.14, -0.34), (0.33, 0.34, 0.32), 450.0),  # a shell around label 4
    (5, (-0.34, 0.22, 0.50), (0.23, 0.27, 0.25), 760.0),
    (6, (0.06, -0.58, 0.04), (0.18, 0.15, 0.24), 880.0),
)
SHELL, CAVITY, INNER_WALL = 3, 4, 0.58  # the cavity fills this share of the shell's radius
CAVITY_INTENSITY = 930.0
BODY_RADIUS, BODY_INTENSITY = 0.90, 360.0


@dataclass(frozen=True)
class Phantom:
    """A pair with its known field; ``truth`` lies on the fixed grid."""

    moving: Volume
    fixed: Volume
    moving_labels: Volume
    fixed_labels: Volume
    truth: Field


@dataclass(frozen=True)
class EndpointError:
    """Distance between a field and the truth, over the voxels inside regions of the fixed side."""

    mean_mm: float
    p95_mm: float
    mean_voxels: float
    p95_voxels: float


def make_phantom(
    shape: Sequence[int] = (64, 80, 72),
    spacing: Sequence[float] = (2.0, 1.6, 1.6),
    seed: int = 0,
    *,
    peak: float = 8.0,
) -> Phantom:
    """Six textured organs, one of them a shell around another, deformed by a known smooth map.

    The fixed grid is oblique and anisotropic; the moving one is isotropic, with x and y flipped.

    Parameters
    ----------
    shape, spacing : (z, y, x) voxels and mm of the fixed grid; at least 16 voxels an axis.
    seed : the same seed gives the same pair.
    peak : mm, largest length of the displacement beyond its affine part.

    Raises
    ------
    InputError : fewer than 16 voxels along an axis, or a spacing that is not positive.
    """
    size = np.asarray(shape, int)
    steps = np.asarray(spacing, np.float64)
    if size.shape != (3,) or size.min() < 16 or steps.shape != (3,) or not (steps > 0).all():
        raise InputError(
            "phantom: expected three sizes of at least 16 voxels and three positive spacings, "
            f"got {tuple(shape)} and {tuple(spacing)}."
        )
    half = (size * steps / 2)[::-1]  # mm, (x, y, z)
    streams = [np.random.default_rng([seed, stream]) for stream in range(3)]
    anatomy = _Anatomy(half, streams[0])
    fixed_affine = _centred_affine(size, steps, _rotation((0.3, -0.5, 0.8), 14.0))
    isotropic = np.full(3, float(np.cbrt(steps.prod())))
    moving_size = np.ceil(1.15 * size * steps / isotropic).astype(int)
    moving_affine = _centred_affine(moving_size, isotropic, np.diag([-1.0, -1.0, 1.0]))

    moving_points = _grid_points(moving_size, moving_affine)
    fixed_points = _grid_points(size, fixed_affine)
    mapped = _known_map(half, fixed_points, streams[1], peak)(fixed_points)

    def volumes(
        points: Array, grid: NDArray[np.int_], affine: Array, name: str
    ) -> tuple[Volume, Volume]:
        image, labels = anatomy.sample(points)
        image += streams[2].normal(0, NOISE, len(image))
        return (
            Volume(image.reshape(grid).astype(np.float32), affine, name),
            Volume(labels.reshape(grid), affine, f"{name} labels"),
        )

    moving, moving_labels = volumes(moving_points, moving_size, moving_affine, "moving")
    fixed, fixed_labels = volumes(mapped, size, fixed_affine, "fixed")
    start = apply_map(world_to_index(fixed_affine), fixed_points)
    end = apply_map(world_to_index(fixed_affine), mapped)
    truth = (end - start).T.reshape(3, *size)
    return Phantom(
        moving,
        fixed,
        moving_labels,
        fixed_labels,
        Field(np.ascontiguousarray(truth, np.float32), fixed_affine),
    )


def endpoint_error(field: Field, phantom: Phantom) -> EndpointError:
    """How far ``field`` is from the phantom's truth inside the labelled regions.

    Raises
    ------
    InputError : the field is not on the phantom's fixed grid.
    """
    if field.displacement.shape != phantom.truth.displacement.shape:
        raise InputError(
            f"field: expected displacement {phantom.truth.displacement.shape} on the phantom's "
            f"fixed grid, got {field.displacement.shape}."
        )
    inside = phantom.fixed_labels.array > 0
    miss = (field.displacement - phantom.truth.displacement)[:, inside].T.astype(np.float64)
    voxels = np.linalg.norm(miss, axis=1)
    mm = np.linalg.norm(miss * spacing_of(phantom.fixed.affine), axis=1)
    return EndpointError(
        mean_mm=float(mm.mean()),
        p95_mm=float(np.percentile(mm, 95)),
        mean_voxels=float(voxels.mean()),
        p95_voxels=float(np.percentile(voxels, 95)),
    )


class _Texture:
    """A few plane waves of random direction: smooth, and different everywhere."""

    def __init__(self, random: np.random.Generator, amplitude: float, shortest: float) -> None:
        directions = random.normal(size=(6, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        wavelengths = shortest * random.uniform(1.0, 2.5, (6, 1))
        self._waves = 2 * np.pi * directions / wavelengths
        self._phases = random.uniform(0, 2 * np.pi, 6)
        self._amplitude = amplitude

    def __call__(self, points: Array) -> Array:
        waves = np.cos(points @ self._waves.T + self._phases)
        return np.asarray(self._amplitude * waves.sum(axis=1) / np.sqrt(3))


class _Organ:
    """A star-shaped blob: ``level`` is 0 at its centre and 1 on its surface."""

    def __init__(
        self,
        random: np.random.Generator,
        centre: Array,
        radii: Array,
        intensity: float,
        wobble: float = 0.15,
    ) -> None:
        self._centre = centre
        self._reach = 1.6 * float(radii.max()) + 5 * EDGE  # nothing of the organ lies beyond
        turned = _rotation(random.normal(size=3), random.uniform(-25, 25))
        self._to_unit = (turned / radii).T
        quadratic = random.normal(size=(3, 3))
        self._quadratic = wobble * (quadratic + quadratic.T) / np.linalg.norm(quadratic)
        self._cubic = random.normal(size=3)
        self._cubic *= np.cbrt(wobble) / np.linalg.norm(self._cubic)
        self.radius = float(np.cbrt(radii.prod()))
        self._intensity = intensity
        self._texture = _Texture(random, 0.12 * intensity, 0.45 * self.radius)

    def find_near(self, points: Array) -> NDArray[np.intp]:
        """Numbers of the points (N, 3) that the organ or its soft edge may reach."""
        away = points - self._centre
        return np.flatnonzero((away * away).sum(axis=1) < self._reach**2)

    def level(self, points: Array) -> Array:
        unit = (points - self._centre) @ self._to_unit.T
        length = np.sqrt((unit * unit).sum(axis=1))
        direction = unit / np.maximum(length, 1e-9)[:, None]
        bulge = ((direction @ self._quadratic) * direction).sum(axis=1)
        along = direction @ self._cubic
        bulge += along * along * along
        return np.asarray(length / (1 + bulge))

    def intensity(self, points: Array) -> Array:
        return self._intensity + self._texture(points)


class _Anatomy:
    """The moving side as a formula: intensity and label of any point in moving mm."""

    def __init__(self, half: Array, random: np.random.Generator) -> None:
        self._body = _Organ(random, CENTRE, BODY_RADIUS * half, BODY_INTENSITY, wobble=0.03)
        self._organs = {
            label: _Organ(
                random,
                CENTRE + np.array(centre) * half,
                np.array(radii) * half * random.uniform(0.95, 1.05),
                intensity,
            )
            for label, centre, radii, intensity in ORGANS
        }
        self._cavity_texture = _Texture(random, 60.0, 0.4 * self._organs[SHELL].radius)

    def sample(self, points: Array) -> tuple[Array, NDArray[np.uint8]]:
        """Intensity (N,) and label (N,) at ``points`` (N, 3)."""
        image = np.zeros(len(points))
        _blend(image, self._body, 1.0, self._body.intensity, points)
        labels = np.zeros(len(points), np.uint8)
        nearest = np.ones(len(points))
        for label, organ in self._organs.items():
            near, level = _blend(image, organ, 1.0, organ.intensity, points)
            # Overlaps cannot be: a point belongs to the organ it lies relatively deepest in.
            mine = near[level < nearest[near]]
            labels[mine] = label
            nearest[near] = np.minimum(level, nearest[near])
            if label == SHELL:
                near, level = _blend(image, organ, INNER_WALL, self._cavity, points)
                deep = near[level < INNER_WALL]
                labels[deep[labels[deep] == SHELL]] = CAVITY
        return image, labels

    def _cavity(self, points: Array) -> Array:
        return CAVITY_INTENSITY + self._cavity_texture(points)


def _blend(
    image: Array,
    organ: _Organ,
    surface: float,
    intensity: Callable[[Array], Array],
    points: Array,
) -> tuple[NDArray[np.intp], Array]:
    """Paint what lies within ``surface`` of ``organ`` over ``image`` (N,), with a soft edge.

    Returns the numbers of the points near the organ, and their levels.
    """
    near = organ.find_near(points)
    level = organ.level(points[near])
    away = (level - surface) * organ.radius / EDGE
    touched = away < 8  # beyond, less than a millionth of the tissue is left
    where = near[touched]
    share = 1 / (1 + np.exp(2 * away[touched]))
    image[where] += share * (intensity(points[where]) - image[where])
    return near, level


def _known_map(
    half: Array, fixed_points: Array, random: np.random.Generator, peak: float
) -> Callable[[Array], Array]:
    """``T``: an affine about the centre plus Gaussian bumps of at most ``peak`` mm together."""
    stretch = np.diag([1.05, 0.97, 1.02])
    affine = _rotation((0.6, 0.3, -0.7), 5.0) @ stretch
    shift = 0.07 * half * np.array([1.0, -0.8, 0.9])
    centres = CENTRE + random.uniform(-0.6, 0.6, (8, 3)) * half
    pushes = random.normal(size=(8, 3))
    width = 0.35 * float(half.min())

    def bumps(points: Array) -> Array:
        moved = np.zeros_like(points)
        for centre, push in zip(centres, pushes, strict=True):
            distance = ((points - centre) ** 2).sum(axis=1)
            moved += np.exp(-distance / (2 * width**2))[:, None] * push
        return moved

    scale = peak / float(np.linalg.norm(bumps(fixed_points), axis=1).max())

    def known_map(points: Array) -> Array:
        return np.asarray((points - CENTRE) @ affine.T + CENTRE + shift + scale * bumps(points))

    return known_map


def _rotation(axis: Sequence[float] | Array, degrees: float) -> Array:
    """Rotation (3, 3) about ``axis`` (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _centred_affine(size: NDArray[np.int_], spacing: Array, directions: Array) -> Array:
    """Affine (4, 4) of a grid, ``size`` and ``spacing`` (z, y, x), centred on the anatomy."""
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing[::-1]
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((size[::-1] - 1) / 2)
    return affine


def _grid_points(size: NDArray[np.int_], affine: Array) -> Array:
    """World position (N, 3) in mm of every voxel, in array order."""
    indices = np.indices(tuple(size)).reshape(3, -1).T
    return apply_map(index_to_world(affine), indices)
