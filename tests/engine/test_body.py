"""The body found in the image alone, and pairs registered by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from segreg.engine.body import BODY, CELL_MM, BodyFinder, find_body, find_threshold
from segreg.engine.errors import InputError
from segreg.engine.geometry import make_affine
from segreg.engine.runtime import Engine
from segreg.engine.volume import Volume
from segreg.kernels import smooth, warp

AIR, TISSUE, LUNG = 10.0, 400.0, 40.0


def distance(shape: tuple[int, ...], centre: Any, radii: Any) -> np.ndarray:
    """1 on an ellipsoid, less inside."""
    places = np.moveaxis(np.indices(shape), 0, -1)
    return np.asarray(np.linalg.norm((places - centre) / np.asarray(radii), axis=-1))


def trunk(shape: tuple[int, ...] = (40, 61, 75), noise: float = 20.0) -> tuple[Any, Any]:
    """Image and body: an ellipse in every slice, so cut by the ends, with two dark lungs that are
    open at the top, a bright spot in the air and noise."""
    centre = np.array(shape) / 2 - 0.5
    flat = distance(shape[1:], centre[1:], 0.38 * np.array(shape[1:]))
    body = np.broadcast_to(flat < 1, shape)
    image = np.where(body, TISSUE, AIR)
    for side in (-0.17, 0.17):
        place = centre + np.array([0.2 * shape[0], 0, side * shape[2]])
        image[distance(shape, place, np.array(shape) * [0.6, 0.2, 0.1]) < 1] = LUNG
    image[3:9, 2:7, 2:7] = TISSUE
    image += np.random.default_rng(0).normal(0, noise, shape)
    return np.abs(image).astype(np.float32), body


def farthest(one: np.ndarray, other: np.ndarray, spacing: Any) -> float:
    """mm from a voxel that is in one of both to the next one on which they agree."""
    return float(ndimage.distance_transform_edt(one != other, sampling=spacing).max())


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.3, 1.3), (2.0, 2.5, 4.0)])
@pytest.mark.parametrize("shape", [(40, 61, 75), (7, 90, 83), (1, 64, 70)])
def test_finds_the_body_with_its_lungs(shape: Any, spacing: Any) -> None:
    image, body = trunk(shape)
    found = find_body(image, spacing)
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    assert farthest(found > 0, body, spacing) < 1.2 * CELL_MM
    assert not found[:, :8, :8].any()  # the bright spot
    centre = tuple(n // 2 for n in shape)
    assert found[centre[0], centre[1], int(0.67 * shape[2])]  # a lung


def test_computed_tomography() -> None:
    """Hounsfield units; outside of its circle the scanner marks what it did not see."""
    image, body = trunk(noise=0)
    units = np.interp(image, [AIR, LUNG, TISSUE], [-1000, -850, 40])
    units += np.random.default_rng(1).normal(0, 25, image.shape)
    units[distance(image.shape[1:], (30, 37), (30, 37))[None].repeat(40, 0) > 1] = -3024
    found = find_body(units.astype(np.int16), (3.0, 2.0, 2.0))
    assert farthest(found > 0, body, (3.0, 2.0, 2.0)) < CELL_MM


def test_outline_is_finer_than_a_cell() -> None:
    """Cells of four voxels: off by the smoothing and no more, and as round as the ball."""
    ball = distance((60, 64, 67), (30, 31, 34), (22, 22, 22))
    image = np.where(ball < 1, TISSUE, 0.0).astype(np.float32)
    found = find_body(image, (1.0, 1.0, 1.0)) > 0
    assert found[ball < 1].all()
    rim = 22 * np.array([ball[found].max(), ball[~found].min()]) - 22
    assert 1 < rim[1] < rim[0] < 4
    assert rim[0] - rim[1] < 1.5


def test_all_inside_the_body() -> None:
    """Tissues of different brightness, and no air: the whole image, whatever is dark in it."""
    noise = np.random.default_rng(2).standard_normal((1, 1, 33, 40, 38)).astype(np.float32)
    tissue = smooth(noise, 4.0)[0, 0]
    image = 80 + 30 * tissue / tissue.std()
    assert find_body(image.astype(np.float32), (1.0, 1.0, 1.0)).all()


def test_same_on_views_and_other_types() -> None:
    image, _ = trunk()
    whole = np.rint(image).astype(np.int16)
    turned = whole[:, ::-1].transpose(0, 2, 1)
    found = find_body(turned, (2.0, 2.0, 2.0))
    np.testing.assert_array_equal(
        found, find_body(np.ascontiguousarray(turned, np.float32), (2.0, 2.0, 2.0))
    )


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.full((9, 20, 20), 7.0), "got 7 everywhere"),
        (np.where(np.indices((9, 20, 20))[1] == 4, np.nan, 1.0), "finite"),
        (np.where(np.indices((9, 20, 20))[1] == 4, -np.inf, 1.0), "finite"),
        (np.where(distance((80, 80, 80), (9, 9, 9), (3, 3, 3)) < 1, 1.0, 0.0), "stands out"),
    ],
    ids=["constant", "NaN", "infinite", "speck"],
)
def test_refuses_what_shows_no_body(image: np.ndarray, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        find_body(image.astype(np.float32), (1.0, 1.0, 1.0))


def test_threshold_lies_between_two_classes() -> None:
    random = np.random.default_rng(3)
    low, high = random.normal(0.2, 0.04, 700), random.normal(0.7, 0.06, 300)
    values = np.concatenate([low, high]).clip(0, 1).astype(np.float32)
    assert low.max() - 0.05 < find_threshold(values) < high.min() + 0.05
    # Nothing lies between: all that part them alike, and the middle is taken.
    assert find_threshold(np.float32([0.1] * 5 + [0.9] * 3)) == pytest.approx(0.5, abs=0.01)


def test_a_body_that_fills_one_image_fills_both() -> None:
    image, _ = trunk()
    filled = np.random.default_rng(4).normal(100, 15, (30, 30, 30)).astype(np.float32)
    affine = make_affine((2.0, 2.0, 2.0))
    first, second = BodyFinder().segment([Volume(image, affine, "one"), Volume(filled, affine, "")])
    assert first.array.all()
    assert second.array.all()


def textured(shape: tuple[int, int, int] = (40, 56, 60)) -> tuple[np.ndarray, np.ndarray]:
    """A textured ball in air, and a smooth field of some voxels."""
    random = np.random.default_rng(5)
    fine, wide = (
        smooth(random.standard_normal((1, n, *shape), np.float32), sigma)
        for n, sigma in ((1, 1.5), (3, 9.0))
    )
    centre = np.array(shape) / 2 - 0.5
    ball = distance(shape, centre, 0.42 * np.array(shape))
    moving = np.where(ball < 1, 400 + 60 * fine[0, 0] / fine.std(), 5.0)
    field = (1.5 * wide / wide[0][:, ball < 1].std()).astype(np.float32)
    return moving.astype(np.float32), field


def test_a_known_field_is_recovered_without_labels(engine_with_body: Engine) -> None:
    moving, truth = textured()
    fixed = warp(moving[None, None], truth)[0, 0]
    affine = make_affine((2.0, 2.0, 2.0))
    pair = Volume(moving, affine, "moving"), Volume(0.5 * fixed + 30, affine, "fixed")
    result = engine_with_body.register(*pair, refine="auto")
    inside = ndimage.binary_erosion(fixed > 200, iterations=3)  # air tells nothing
    off = np.linalg.norm(result.displacement.displacement - truth[0], axis=0)[inside]
    start = np.linalg.norm(truth[0], axis=0)[inside]
    assert start.mean() > 1.5
    assert off.mean() < 0.25 * start.mean()
    assert result.provenance.label_sources == (BodyFinder.source,) * 2
    assert [region.name for region in result.quality.regions] == [BODY]
    assert any("automatic body region" in note for note in result.notes)
    assert not any("--refine auto" in note for note in result.notes)


def test_says_that_the_outline_alone_was_matched(engine_with_body: Engine) -> None:
    image, _ = trunk()
    volume = Volume(image, make_affine((3.0, 3.0, 3.0)), "one")
    result = engine_with_body.register(volume, volume)
    assert any("only its outline is matched" in note for note in result.notes)


def test_a_body_that_fills_the_image_registers(engine_with_body: Engine) -> None:
    """No voxel is background then."""
    noise = np.random.default_rng(6).standard_normal((1, 1, 20, 32, 36)).astype(np.float32)
    moving = 200 + 20 * smooth(noise, 1.5)[0, 0] / 0.1
    affine = make_affine((2.0, 2.0, 2.0))
    fixed = np.roll(moving, 1, axis=2)
    result = engine_with_body.register(
        Volume(moving, affine, "moving"), Volume(fixed, affine, "fixed"), refine="auto"
    )
    assert result.fixed_labels.array.all()
    inner = result.displacement.displacement[:, 3:-3, 4:-4, 4:-4]
    np.testing.assert_allclose(inner.mean(axis=(1, 2, 3)), [0, 0, -1], atol=0.15)


def test_labels_of_one_side_beside_the_body_are_refused(engine_with_body: Engine) -> None:
    image, body = trunk()
    affine = make_affine((2.0, 2.0, 2.0))
    labels = Volume(body.astype(np.uint8), affine, "labels")
    volume = Volume(image, affine, "scan")
    with pytest.raises(InputError, match="those of one side and none for scan"):
        engine_with_body.register(volume, volume, labels)


def test_an_image_without_a_body_is_refused_by_name(engine_with_body: Engine) -> None:
    volume = Volume(np.full((8, 9, 10), 3.0, np.float32), make_affine((2.0, 2.0, 2.0)), "scan")
    with pytest.raises(InputError, match=r"scan: expected an image with a body"):
        engine_with_body.register(volume, volume)


@pytest.fixture(scope="module")
def engine_with_body(tiny_package: Path) -> Any:
    """Moment matching, with a network that has nothing to add."""
    with Engine(tiny_package, segmenter=BODY) as opened:
        yield opened
