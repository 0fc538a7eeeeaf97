"""What the libraries of arrays and images offer: NumPy, SciPy and SimpleITK."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.outside.base import Arguments, Array, Run, looked_at


def scipy_warp(order: int) -> Callable[[Arguments, int], Run]:
    def prepare(arguments: Arguments, threads: int) -> Run:
        from scipy.ndimage import map_coordinates

        moving = arguments["moving"][0, 0]
        positions = looked_at(arguments["displacement"])
        options = {"order": order, "mode": "mirror"}
        options["prefilter"] = not arguments.get("prefiltered", False)
        return lambda: np.asarray(map_coordinates(moving, positions, **options)[None, None])

    return prepare


def numpy_jacobian(arguments: Arguments, threads: int) -> Run:
    displacement = arguments["displacement"][0]

    def run() -> Array:
        (zz, zy, zx), (yz, yy, yx), (xz, xy, xx) = (np.gradient(u) for u in displacement)
        zz, yy, xx = zz + 1, yy + 1, xx + 1
        determinant = zz * (yy * xx - yx * xy) - zy * (yz * xx - yx * xz) + zx * (yz * xy - yy * xz)
        return np.asarray(determinant[None])

    return run


def itk_invert(arguments: Arguments, threads: int) -> Run:
    itk: Any = importlib.import_module("SimpleITK")  # untyped functions in a typed package

    itk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    vectors = np.ascontiguousarray(np.moveaxis(arguments["displacement"][0][::-1], 0, -1))
    image = itk.GetImageFromArray(vectors, isVector=True)

    def run() -> Array:
        inverse = itk.InvertDisplacementField(
            image,
            maximumNumberOfIterations=arguments.get("steps", 30),
            maxErrorToleranceThreshold=1e-2,
            meanErrorToleranceThreshold=1e-4,
        )
        return np.asarray(np.moveaxis(itk.GetArrayFromImage(inverse), -1, 0)[::-1][None])

    return run


def scipy_zoom(arguments: Arguments, threads: int) -> Run:
    from scipy.ndimage import zoom

    field, shape = arguments["field"], arguments["shape"]
    factors = [after / before for before, after in zip(field.shape[2:], shape, strict=True)]

    def run() -> Array:
        parts = [
            zoom(component, factors, order=1, mode="nearest", grid_mode=True) * factor
            for component, factor in zip(field[0], factors, strict=True)
        ]
        return np.stack(parts)[None]

    return run


def numpy_region_stats(arguments: Arguments, threads: int) -> Run:
    """Boxes from scipy, everything else as weighted counts."""
    from scipy.ndimage import find_objects

    regions, image, count = (arguments[name] for name in ("regions", "image", "count"))

    def run() -> Array:
        flat = regions.ravel()
        index = [i.ravel() for i in np.indices(regions.shape, dtype=np.float32)]
        voxels = np.bincount(flat, minlength=count + 1).astype(float)
        n = np.maximum(voxels, 1)

        def average(weights: Array) -> Array:
            return np.asarray(np.bincount(flat, weights.ravel(), minlength=count + 1) / n)

        mean = np.stack([average(i) for i in index], axis=1)
        products = np.stack([average(a * b) for a in index for b in index], axis=1)
        covariance = products - (mean[:, :, None] * mean[:, None, :]).reshape(count + 1, 9)
        intensity = average(image)
        deviation = np.sqrt(np.maximum(average(image * image) - intensity**2, 0))
        boxes = np.zeros((count + 1, 6))
        for label, box in enumerate(find_objects(regions, count), 1):
            if box is not None:
                boxes[label] = [*(s.start for s in box), *(s.stop for s in box)]
        rest = np.column_stack([boxes, mean, covariance, intensity, deviation])
        rest[0] = 0  # of the background, only the voxels are asked for
        return np.column_stack([voxels, rest])

    return run


def numpy_relabel(arguments: Arguments, threads: int) -> Run:
    labels, table = arguments["labels"], arguments["table"].astype(np.int32)
    return lambda: np.asarray(table[labels])


def numpy_jacobian_sums(arguments: Arguments, threads: int) -> Run:
    """A histogram a sum, the voxels beside another region set apart."""
    jacobian, regions, count = (arguments[n] for n in ("jacobian", "regions", "count"))

    def run() -> Array:
        seam = np.zeros(regions.shape, bool)
        for axis in range(3):
            ahead = np.swapaxes(regions, 0, axis)
            differs = ahead[1:] != ahead[:-1]
            marked = np.swapaxes(seam, 0, axis)
            marked[1:] |= differs
            marked[:-1] |= differs
        rows = np.where(seam, count + 1, regions).ravel()
        flat = jacobian.ravel().astype(float)
        positive = flat > 0
        log = np.log(flat[positive])
        where = rows[positive]
        sums = [
            np.bincount(rows, minlength=count + 2),
            np.bincount(where, minlength=count + 2),
            np.bincount(rows, flat, count + 2),
            np.bincount(where, log, count + 2),
            np.bincount(where, log**2, count + 2),
        ]
        table = np.stack(sums, axis=1).astype(float)
        table[[0, -1], 2:] = 0  # sums are of regions only
        return table

    return run


def scipy_gather(arguments: Arguments, threads: int) -> Run:
    """One region after the other, image and mask."""
    from scipy.ndimage import map_coordinates

    image, regions, side = (arguments[name] for name in ("image", "regions", "canvas"))
    cells = np.indices((side, side, side), dtype=np.float32).reshape(3, -1)

    def run() -> Array:
        canvases = []
        for number, affine, (centre, scale) in zip(
            arguments["indices"], arguments["affines"], arguments["intensity"], strict=True
        ):
            positions = affine[:, :3] @ cells + affine[:, 3:]
            sample = map_coordinates(image, positions, order=1, mode="nearest")
            mask = (regions == number).astype(np.float32)
            covered = map_coordinates(mask, positions, order=1, mode="grid-constant")
            grey = np.clip((sample - centre) * scale, -1, 1)
            canvases.append(np.stack([grey * covered, covered]).reshape(2, side, side, side))
        return np.stack(canvases)

    return run


def scipy_distance(arguments: Arguments, threads: int) -> Run:
    from scipy.ndimage import distance_transform_edt

    masks, spacing = arguments["mask"], arguments["spacing"]
    farthest = arguments.get("farthest", np.inf)

    def run() -> Array:
        pairs = zip(masks, spacing, strict=True)
        away = [distance_transform_edt(mask == 0, sampling=steps) for mask, steps in pairs]
        return np.asarray(np.minimum(np.stack(away), farthest))

    return run


def scipy_smooth(arguments: Arguments, threads: int) -> Run:
    from scipy.ndimage import gaussian_filter

    volume = arguments["volume"]
    spacing = np.asarray(arguments.get("spacing", (1.0, 1.0, 1.0)))
    sigma = (0, 0, *np.broadcast_to(np.asarray(arguments["sigma"]) / spacing, (3,)))
    return lambda: np.asarray(gaussian_filter(volume, sigma, mode="nearest"))


def scipy_spline(arguments: Arguments, threads: int) -> Run:
    from scipy.ndimage import spline_filter

    volumes = arguments["volume"]

    def run() -> Array:
        flat = volumes.reshape(-1, *volumes.shape[2:])
        filtered = [spline_filter(volume, 3, np.float32, mode="mirror") for volume in flat]
        return np.asarray(np.stack(filtered).reshape(volumes.shape))

    return run
