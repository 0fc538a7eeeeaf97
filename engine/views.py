"""What a segmentation network says of mirror images, averaged with what it says of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Ask = Callable[[FloatArray], FloatArray]

AXES = {"z": -3, "y": -2, "x": -1}


def average_mirrored(ask: Ask, views: Sequence[Sequence[str]]) -> Ask:
    """``ask`` of an image and of its mirror images, averaged.

    Parameters
    ----------
    ask : images (B, 1, D, H, W) -> scores (B, C, D, H, W).
    views : of each mirror image the axes that it is turned round along: some of "z", "y" and "x",
        as the network sees them. No views give ``ask`` back.
    """
    if not views:
        return ask
    mirrored = [tuple(AXES[name] for name in view) for view in views]

    def ask_all(images: FloatArray) -> FloatArray:
        total: FloatArray = ask(images).copy()
        for axes in mirrored:
            total += np.flip(ask(np.ascontiguousarray(np.flip(images, axes))), axes)
        total /= 1 + len(mirrored)
        return total

    return ask_all
