"""Automatic segmentation: an image in, a label map on its grid out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import nibabel.orientations as axes
import numpy as np
from numpy.typing import NDArray

from segreg.engine.backends import Backend, CudaOptions, open_backend
from segreg.engine.body import BodyFinder
from segreg.engine.compatibility import choose_backend
from segreg.engine.components import keep_largest
from segreg.engine.errors import InputError, PackageError
from segreg.engine.expectation import GIVEN, Curve
from segreg.engine.machine import processor_flags
from segreg.engine.package import SEGMENTATION, Package
from segreg.engine.precision import AUTO, FULL, checked_precision, choose_precision
from segreg.engine.timing import Stopwatch
from segreg.engine.views import average_mirrored
from segreg.engine.volume import Volume, check_labels
from segreg.engine.windows import FloatArray, run_windows
from segreg.kernels import warp

# Cells along each axis that a backend builds for, where the network leaves the size open.
ANY_WINDOW = (1, 160, 320)


class Segmenter:
    """The segmentation network of a package; loaded when the first image comes.

    Parameters
    ----------
    backend : name of a backend; None takes the first that can run the network.
    precision : "auto" takes the fastest that the exporter proved and that the machine has;
        "float32" the network as it is stored. See ``segreg.engine.precision``.
    threads, options : as for ``open_backend``.

    Raises
    ------
    PackageError : the package has no segmentation network.
    InputError : a precision that is not known.
    """

    def __init__(
        self,
        package: Package,
        *,
        backend: str | None = None,
        precision: str = AUTO,
        threads: int | None = None,
        options: CudaOptions | None = None,
    ) -> None:
        if not package.segments:
            raise PackageError(
                f"package {package.name}: expected one that segments images, but it has no "
                f"{SEGMENTATION}. Give label maps, or a package such as cardiac."
            )
        self.settings: dict[str, Any] = package.settings["segmentation"]
        self.source = f"automatic by {package.name} {package.version}"
        self._package, self._lock = package, threading.Lock()
        self._facts: dict[str, Any] = {"threads": threads, "options": options}
        self._asked, self._precision = backend, checked_precision(precision)
        self._backend: Backend | None = None

    @property
    def names(self) -> dict[str, int]:
        """Label number of every structure the network knows, by name."""
        return {entry["name"]: entry["label"] for entry in self.settings["classes"]}

    @property
    def curve(self) -> Curve | None:
        """What the package says its labels are worth."""
        return self._package.curve

    @property
    def backend(self) -> Backend:
        """The backend, with the network loaded."""
        with self._lock:
            if self._backend is None:
                self._backend = self._open()
            return self._backend

    def segment(self, images: Sequence[Volume]) -> list[Volume]:
        """A label map on the grid of each of ``images``; equal shapes run as one batch.

        Raises
        ------
        InputError : an image in which the network finds nothing it knows.
        BackendError : the network failed.
        PrecisionError : it was not proved in the precision asked for, or that cannot run here.
        """
        infer = average_mirrored(self.backend.infer, self.settings.get("mirrored", ()))
        prepared = [self.prepare(image) for image in images]
        order = sorted(range(len(images)), key=lambda k: prepared[k].shape)
        label_maps: dict[int, Volume] = {}
        for _, group in groupby(order, key=lambda k: prepared[k].shape):
            members = list(group)
            scores = run_windows(
                infer,
                np.stack([prepared[k] for k in members]),
                self.settings["patch"],
                self.settings["stride"],
                float(self.settings["overlap"]),
            )
            for k, one in zip(members, scores, strict=True):
                label_maps[k] = self._finish(one, images[k])
        return [label_maps[k] for k in range(len(images))]

    def close(self) -> None:
        """Free the network."""
        with self._lock:
            if self._backend is not None:
                self._backend.close()

    def _open(self) -> Backend:
        refused = self.settings.get("refused_by", {})
        patch = [n for n in self.settings["patch"] if n is not None]
        # A backend that builds for shapes builds for the patch, where that is fixed.
        canvas = patch if len(patch) == len(self.settings["patch"]) else ANY_WINDOW
        flags = processor_flags()

        def find(backend: str) -> tuple[Path, str | None]:
            chosen = choose_precision(self.settings, backend, flags, self._precision).precision
            # In float32 a backend runs the file as it is, whose weights may be of another type.
            return self._package.folder / SEGMENTATION, None if chosen == FULL else chosen

        return open_backend(
            choose_backend(self._package, self._asked, refused),
            find,
            channels=1,
            outputs=1 + len(self.settings["classes"]),
            canvas=canvas,
            **self._facts,
        )

    def prepare(self, image: Volume) -> FloatArray:
        """Intensities, axes and spacing (D, H, W) as the network was trained on."""
        turned = _reorient(normalise(image.array, self.settings["intensity"]), self._turn(image))
        spacing = _reorient_values(image.spacing, self._turn(image))
        wanted = self.settings["spacing"]
        shape = tuple(
            n if cell is None else max(1, round(n * mm / cell))
            for n, mm, cell in zip(turned.shape, spacing, wanted, strict=True)
        )
        return resample(turned, shape)

    def _turn(self, image: Volume) -> NDArray[np.float64]:
        """Orientation change, in nibabel's terms, from the stored axes (x, y, z)."""
        own = axes.io_orientation(image.affine)
        wanted = self.settings.get("orientation")
        target = own if wanted is None else axes.axcodes2ornt(tuple(wanted))
        return np.asarray(axes.ornt_transform(own, target))

    def _finish(self, scores: FloatArray, image: Volume) -> Volume:
        """The label map of ``image`` from the network's ``scores`` (C, d, h, w)."""
        turn = self._turn(image)
        shape = _reorient(np.empty(image.shape, np.bool_), turn).shape
        classes = largest_class(scores, shape)
        numbers = np.array([0, *self.names.values()])
        numbers = numbers.astype(np.uint8 if numbers.max() < 256 else np.int32)
        label_map = _turn_back(numbers[classes], turn)
        label_map = keep_largest(label_map, self.settings.get("largest_component", []))
        if not label_map.any():
            raise InputError(
                f"{image.name}: {self._package.name} finds none of what it knows in it "
                f"({', '.join(self.names)}). Give a label map, or check that the image is of the "
                "kind that the package is made for."
            )
        return check_labels(Volume(label_map, image.affine, f"labels of {image.name}"))


def complete_labels(
    volumes: dict[str, Volume], segmenter: Segmenter | BodyFinder | None, watch: Stopwatch
) -> dict[str, str]:
    """Segment the sides of ``volumes`` that came without labels, and add what is found.

    Returns where the labels of each side are from.

    Raises
    ------
    InputError : labels are missing, and there is nothing to segment with.
    """
    sides = [side for side in ("moving", "fixed") if f"{side} labels" not in volumes]
    if sides and segmenter is None:
        raise InputError(
            f"{' and '.join(sides)} labels: expected a label map, as the package does not segment. "
            "Give one, or a package that segments such images (segreg packages list), or register "
            "the body as one region (--segmenter body)."
        )
    if sides and segmenter is not None:
        with watch.stage("segment"):
            found = segmenter.segment([volumes[side] for side in sides])
        volumes |= {f"{side} labels": labels for side, labels in zip(sides, found, strict=True)}
        return {s: segmenter.source if s in sides else GIVEN for s in ("moving", "fixed")}
    return dict.fromkeys(("moving", "fixed"), GIVEN)


def normalise(image: NDArray[Any], rule: dict[str, Any]) -> FloatArray:
    """Intensities as the rule of a segmentation network wants them.

    ``zscore``: mean 0 and SD 1 over the whole image. ``window``: clipped to [low, high], minus
    ``mean``, over ``std``.
    """
    values = image.astype(np.float32, copy=False)
    if rule["rule"] == "window":
        clipped = np.clip(values, rule["low"], rule["high"])
        return np.asarray((clipped - rule["mean"]) / rule["std"], np.float32)
    mean, spread = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    scaled: FloatArray = ((values - mean) / (spread or 1.0)).astype(np.float32)
    return scaled


def resample(volume: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """``volume`` (D, H, W) on a grid of ``shape`` over the same box, linear."""
    if volume.shape == shape:
        return np.ascontiguousarray(volume)
    still = np.zeros((1, 3, *shape), np.float32)
    scale = np.array(volume.shape) / np.array(shape)
    to_volume = np.column_stack([np.diag(scale), scale / 2 - 0.5])
    contiguous = np.ascontiguousarray(volume)[None, None]
    resampled: FloatArray = warp(contiguous, still, affine=to_volume)[0, 0]
    return resampled


def largest_class(scores: FloatArray, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Class (D, H, W) of the largest score, ``scores`` (C, d, h, w) carried to ``shape`` linearly.

    One class at a time: hundreds of classes at full resolution would not fit into memory.
    """
    best = resample(scores[0], shape)
    classes = np.zeros(shape, np.intp)
    for number, score in enumerate(scores[1:], start=1):
        found = resample(score, shape)
        classes[found > best] = number
        np.maximum(best, found, out=best)
    return classes


def _reorient(array: NDArray[Any], turn: NDArray[np.float64]) -> NDArray[Any]:
    """``array`` (z, y, x) after an orientation change of its axes (x, y, z)."""
    turned: NDArray[Any] = np.asarray(axes.apply_orientation(array.T, turn)).T
    return turned


def _turn_back(array: NDArray[Any], turn: NDArray[np.float64]) -> NDArray[Any]:
    back = np.empty_like(turn)
    for axis, (target, flip) in enumerate(turn):
        back[int(target)] = axis, flip
    return np.ascontiguousarray(_reorient(array, back))


def _reorient_values(values: Sequence[float], turn: NDArray[np.float64]) -> tuple[float, ...]:
    """Values along (z, y, x) after the same change."""
    moved = [0.0, 0.0, 0.0]
    for value, (target, _) in zip(values[::-1], turn, strict=True):
        moved[int(target)] = value
    return tuple(moved[::-1])
