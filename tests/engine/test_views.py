"""Scores averaged over mirror images."""

from __future__ import annotations

import numpy as np
import pytest

from segreg.engine.views import average_mirrored

SHAPE = (2, 1, 3, 5, 7)
RAMP = np.random.default_rng(1).normal(size=SHAPE[2:]).astype(np.float32)


def one_sided(images: np.ndarray) -> np.ndarray:
    """Two scores that depend on where a voxel lies, so that every view differs."""
    assert images.flags.c_contiguous
    return np.concatenate([images * RAMP, images + RAMP], 1)


@pytest.mark.parametrize(
    "views", [[], ["x"], ["yx"], ["y", "x", "yx"], ["z", "zx", "zyx"]], ids=",".join
)
def test_every_view_is_turned_back(views: list[str]) -> None:
    images = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    found = average_mirrored(one_sided, views)(images)
    # The network's weights are mirrored instead of the image: the same, seen from the other end.
    ramps = [np.flip(RAMP, ["zyx".index(name) for name in view]) for view in ["", *views]]
    ramp = np.mean(ramps, 0, np.float64)
    expected = np.concatenate([images * ramp, images + ramp], 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_answer_of_the_backend_is_left_alone() -> None:
    answer = np.ones((1, 2, 2, 2, 2), np.float32)
    average_mirrored(lambda _: answer, ["x"])(np.zeros((1, 1, 2, 2, 2), np.float32))
    assert (answer == 1).all()
    assert average_mirrored(one_sided, []) is one_sided
