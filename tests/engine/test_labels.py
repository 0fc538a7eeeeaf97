from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segreg.engine.errors import InputError
from segreg.engine.labels import make_scheme, read_groups


def maps(moving: list[int], fixed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[moving]]), np.array([[fixed]])


def test_labels_on_both_sides_become_regions_in_order() -> None:
    scheme = make_scheme(*maps([0, 7, 3, 5], [3, 0, 7, 9]))
    assert scheme.labels == ((3,), (7,))
    assert scheme.notes == (
        "label 5 is only in the moving label map and is not registered",
        "label 9 is only in the fixed label map and is not registered",
    )
    np.testing.assert_array_equal(scheme.region_map(np.array([0, 3, 5, 7, 200])), [0, 1, 0, 2, 0])


def test_large_label_numbers_need_no_large_table() -> None:
    far = 1 << 30
    scheme = make_scheme(*maps([0, far, 2], [2, far, 0]))
    assert scheme.labels == ((2,), (far,))
    np.testing.assert_array_equal(scheme.region_map(np.array([far, 0, 2, far + 1])), [2, 0, 1, 0])


def test_groups_join_labels_and_leave_out_the_rest() -> None:
    scheme = make_scheme(*maps([1, 2, 3], [1, 2, 3]), groups={"pair": [1, 2]})
    assert scheme.names == ("pair",)
    assert scheme.notes == ("labels not registered, as asked: 3",)
    np.testing.assert_array_equal(scheme.region_map(np.array([1, 2, 3])), [1, 1, 0])


def test_selection() -> None:
    scheme = make_scheme(*maps([1, 2, 3], [1, 2, 3]), select=[2, 8])
    assert scheme.labels == ((2,),)
    assert "label 8 is in neither label map" in scheme.notes


def test_no_common_label_says_what_both_sides_have() -> None:
    with pytest.raises(InputError, match=r"labels 1, 2 on the moving and labels 3 on the fixed"):
        make_scheme(*maps([1, 2], [3, 0]))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": [1, 2], "b": [2]}, "label 2 is in both 'a' and 'b'"),
        ({"a": ["x"]}, "positive label numbers"),
        ({"a": [0]}, "positive label numbers"),
        ({"a": []}, "positive label numbers"),
        ({"a": True}, "positive label numbers"),
    ],
)
def test_groups_that_make_no_sense(groups: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_scheme(*maps([1, 2], [1, 2]), groups=groups)


def test_read_groups(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    path.write_text(json.dumps({"lungs": [1, 2], "heart": 5}))
    assert read_groups(path) == {"lungs": (1, 2), "heart": (5,)}
    path.write_text("[1]")
    with pytest.raises(InputError, match="got list"):
        read_groups(path)
    path.write_text("{")
    with pytest.raises(InputError, match="could not read"):
        read_groups(path)
