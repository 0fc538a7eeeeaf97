"""What a segmentation network says of mirror images, averaged with what it says of the image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Ask = Callable[[FloatArray], FloatArray]

AXES = {"z": -3, "y": -2, "x": -1}


def average_mirrored(ask: Ask, axes: Sequence[str]) -> Ask:
    """``ask`` over an image and its mirror images along all subsets of ``axes``, averaged.

    Parameters
    ----------
    ask : images (B, 1, D, H, W) -> scores (B, C, D, H, W).
    axes : some of "z", "y" and "x", as the network sees them; none gives ``ask`` back.
    """
    if not axes:
        return ask
    views = list(_subsets([AXES[name] for name in axes]))

    def ask_all(images: FloatArray) -> FloatArray:
        total: FloatArray = ask(images).copy()
        for view in views[1:]:
            total += np.flip(ask(np.ascontiguousarray(np.flip(images, view))), view)
        total /= len(views)
        return total

    return ask_all


def _subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All of them, the empty one first."""
    for count in range(len(axes) + 1):
        yield from itertools.combinations(axes, count)
