"""Which regions blend, and the repair of what folds where they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.engine.errors import InputError
from segreg.engine.geometry import make_affine
from segreg.engine.labels import LabelScheme
from segreg.engine.regions import plan_regions
from segreg.engine.runtime import Engine
from segreg.engine.seams import Blending, plan_blending, repair_seams
from segreg.kernels import jacobian_determinant
from tests.engine.pairs import cubes, pair_of
from tests.engine.stand_ins import boxes, side

SCHEME = LabelScheme(("liver", "spleen", "label 7"), ((1,), (2, 5), (7,)))


class TestBlending:
    @pytest.mark.parametrize(
        ("pairs", "expected"),
        [
            (None, ()),
            ([], ()),
            ("all", ((1, 2), (1, 3), (2, 3))),
            ([("liver", "spleen")], ((1, 2),)),
            ([("spleen", "liver"), (1, 5)], ((1, 2),)),
            ([("label 7", "background"), ("7", 2)], ((0, 3), (2, 3))),
        ],
        ids=str,
    )
    def test_pairs_by_name_or_label(self, pairs: Any, expected: tuple[Any, ...]) -> None:
        assert plan_blending(SCHEME, pairs).pairs == expected

    def test_a_region_may_be_called_background(self) -> None:
        scheme = LabelScheme(("background", "liver"), ((3,), (1,)))
        assert plan_blending(scheme, [("background", "liver")]).pairs == ((1, 2),)

    def test_table(self) -> None:
        reach = Blending(((0, 3), (1, 2)), 2.5).reach(3, 1.5)
        expected = [[0, 1.5, 1.5, 2.5], [1.5, 0, 2.5, 0], [1.5, 2.5, 0, 0], [2.5, 0, 0, 0]]
        np.testing.assert_array_equal(reach - np.diag(np.diag(reach)), expected)  # no diagonal
        assert Blending().reach(3, 1.5) == 1.5

    @pytest.mark.parametrize(
        ("pairs", "length", "message"),
        [
            ([("liver", "heart")], 2.0, "'heart'. There are background, liver, spleen, label 7"),
            ([("liver", 4)], 2.0, "no region 4"),
            ([("liver", "0")], 2.0, "no region '0'"),
            ([(2, 5)], 2.0, "two different regions, got 2 and 5"),
            ([("liver",)], 2.0, "pairs of two regions"),
            (["ab"], 2.0, "pairs of two regions"),
            ("some", 2.0, '"all" or pairs'),
            ("all", 0.0, "mm above 0"),
            (None, float("nan"), "mm above 0"),
            ("all", "2", "mm above 0"),
        ],
        ids=str,
    )
    def test_mistakes(self, pairs: Any, length: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            plan_blending(SCHEME, pairs, length)


def test_a_mistake_does_not_list_hundreds_of_regions() -> None:
    names = tuple(f"label {n}" for n in range(1, 101))
    scheme = LabelScheme(names, tuple((n,) for n in range(1, 101)))
    with pytest.raises(InputError, match=r"label 19 \(81 more\), and their") as caught:
        plan_blending(scheme, [("label 1", "heart")])
    assert len(str(caught.value)) < 400


TOUCHING = (np.s_[4:16, 4:20, 4:14], np.s_[4:16, 4:20, 14:24])
# The first one's middle stays where it is, the second one's moves by three voxels towards it.
NEARER = (np.s_[4:16, 4:20, 7:11], np.s_[4:16, 4:20, 11:21])


@pytest.fixture
def shifting(build_package: Callable[..., Path]) -> Iterator[Engine]:
    """Moves every region as a whole."""
    with Engine(build_package((0.0, 0.0, 0.0), initial_map="translation")) as engine:
        yield engine


def jump(engine: Engine, **options: Any) -> float:
    """Difference of the field across the border of two touching regions."""
    pair = pair_of(cubes(*NEARER), cubes(*TOUCHING))
    field = engine.register(*pair, repair=False, **options).displacement.displacement
    return float(np.abs(field[2, 5:15, 5:19, 14] - field[2, 5:15, 5:19, 13]).mean())


def test_blended_regions_do_not_slide(shifting: Engine) -> None:
    assert jump(shifting) == pytest.approx(3, abs=0.01)
    assert jump(shifting, blend=[(1, 2)], blend_mm=9.0) < 1
    assert jump(shifting, blend="all", blend_mm=9.0) < 1
    # A region and the background have another border.
    assert jump(shifting, blend=[(1, "background")]) == jump(shifting)


@pytest.mark.parametrize("repair", [True, False])
def test_overlapping_maps_are_repaired(shifting: Engine, repair: bool) -> None:
    result = shifting.register(*pair_of(cubes(*NEARER), cubes(*TOUCHING)), repair=repair)
    folds = int((result.jacobian <= 0).sum())
    assert result.provenance.repair is repair
    assert (result.folds_repaired > 20, folds > 20) == (repair, not repair)
    assert folds == 0 or not repair
    assert ("repair" in result.timings) is repair
    assert result.summary()["folds_repaired"] == result.folds_repaired


class TestRepair:
    def scene(self) -> tuple[np.ndarray, Any]:
        affine = make_affine((1.0, 1.0, 1.0))
        fixed = boxes(np.s_[4:16, 4:20, 4:14], np.s_[4:16, 4:20, 14:26])
        field = np.zeros((1, 3, *fixed.shape), np.float32)
        field[0, 2, ..., 14:] = -3
        return field, plan_regions(side(fixed, affine), side(fixed, affine))

    def test_in_place_and_counted(self) -> None:
        field, plan = self.scene()
        before = int((jacobian_determinant(field) <= 0).sum())
        assert repair_seams(field, plan, np.eye(3, 4), (1.0, 1.0, 1.0)) == before > 0
        assert (jacobian_determinant(field) > 0).all()

    def test_voxels_that_match_move_least(self) -> None:
        """The first region is right where it is; the other one gives way."""
        field, plan = self.scene()
        start = field.copy()
        repair_seams(field, plan, np.eye(3, 4), (1.0, 1.0, 1.0))
        moved = np.abs(field - start)[0].sum(0)[5:15, 5:19]
        assert moved[..., :14].sum() < 0.5 * moved[..., 14:].sum()

    def test_nothing_folds_nothing_changes(self) -> None:
        field, plan = self.scene()
        field[:] = 0
        assert repair_seams(field, plan, np.eye(3, 4), (1.0, 1.0, 1.0)) == 0
        assert not field.any()
