"""Pairs of volumes, and results to compare: helpers of the tests of whole registrations."""

from __future__ import annotations

from typing import Any

import numpy as np

from segreg.engine.geometry import make_affine
from segreg.engine.phantom import Phantom
from segreg.engine.result import Result
from segreg.engine.volume import Volume

SIDES = ("moving", "fixed", "moving_labels", "fixed_labels")


def volumes(phantom: Phantom) -> tuple[Volume, Volume, Volume, Volume]:
    return phantom.moving, phantom.fixed, phantom.moving_labels, phantom.fixed_labels


def same(one: Result, other: Result) -> None:
    """Bit for bit."""
    for name in ("warped", "warped_labels"):
        np.testing.assert_array_equal(getattr(one, name).array, getattr(other, name).array)
    np.testing.assert_array_equal(one.displacement.displacement, other.displacement.displacement)
    # NaN are equal to themselves only as text.
    assert str(one.quality) == str(other.quality)


def cubes(*places: tuple[slice, ...], shape: tuple[int, ...] = (20, 24, 28)) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    for number, place in enumerate(places, 1):
        labels[place] = number
    return labels


def pair_of(
    moving: np.ndarray, fixed: np.ndarray, affine: Any = None, moving_affine: Any = None
) -> tuple[Volume, Volume, Volume, Volume]:
    """Volumes of two label maps; the images show the labels, and noise."""
    affine = make_affine((2.0, 1.0, 1.5)) if affine is None else affine
    moving_affine = affine if moving_affine is None else moving_affine
    rng = np.random.default_rng(0)
    images = [
        (100 * labels + rng.normal(0, 5, labels.shape)).astype(np.float32)
        for labels in (moving, fixed)
    ]
    return (
        Volume(images[0], moving_affine, "moving"),
        Volume(images[1], affine, "fixed"),
        Volume(moving, moving_affine, "moving labels"),
        Volume(fixed, affine, "fixed labels"),
    )


BOXES = (np.s_[4:9, 4:12, 3:10], np.s_[10:17, 10:20, 8:17], np.s_[3:12, 12:22, 19:26])
SHIFTED = (np.s_[5:10, 5:12, 2:9], np.s_[11:17, 9:19, 9:18], np.s_[4:14, 11:20, 18:26])
