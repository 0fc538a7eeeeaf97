"""Names of labels, as other tools write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segreg.engine.errors import InputError
from segreg.engine.label_names import read_label_names, resolve_groups, resolve_labels
from segreg.engine.labels import make_scheme, read_groups

FILES = {
    "plain.json": '{"liver": 1, "left kidney": 2}',
    "totalsegmentator.json": '{"1": "liver", "2": "left kidney"}',
    "dataset.json": '{"labels": {"background": 0, "liver": 1, "left kidney": 2}, "name": "x"}',
    "old/dataset.json": '{"labels": {"0": "background", "1": "liver", "2": "left kidney"}}',
    "snap.txt": '# ITK-SNAP\n  0  0 0 0 0 0 0 "Clear Label"\n'
    '  1  255 0 0  1 1 1 "liver"\n  2  0 255 0  0.5 1 1 "left kidney"\n',
}


@pytest.mark.parametrize("file", FILES)
def test_formats(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(FILES[file])
    assert read_label_names(path) == {"liver": 1, "left kidney": 2}


def test_freesurfer(tmp_path: Path) -> None:
    path = tmp_path / "FreeSurferColorLUT.txt"
    path.write_text(
        "#$Id: FreeSurferColorLUT.txt\n#No. Label Name:  R G B A\n\n0   Unknown  0 0 0 0\n"
        "17  Left-Hippocampus           220 216 20  0\n53  Right-Hippocampus 220 216 20 0"
    )
    assert read_label_names(path) == {"Left-Hippocampus": 17, "Right-Hippocampus": 53}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "JSON object"),
        ("{", "could not read"),
        ('{"liver": "x"}', "label number for 'liver'"),
        ('{"labels": {"whole": [1, 2]}}', "label number for 'whole'"),
        ('{"1": "liver", "2": "liver"}', "both label 1 and 2"),
        ("{}", "found none"),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_label_names(path)


def test_unknown_names_offer_similar_ones() -> None:
    with pytest.raises(InputError, match=r"known: liver. Did you mean"):
        resolve_labels(["livr"], {"liver": 1, "spleen": 2})
    with pytest.raises(InputError, match="--label-names"):
        resolve_labels(["liver"], {})
    assert resolve_labels([3, "liver", "2"], {"liver": 1}) == [3, 1, 2]


def test_regions_are_called_and_chosen_by_name(tmp_path: Path) -> None:
    labels = np.arange(5, dtype=np.uint8).reshape(1, 1, 5)
    names = {"liver": 1, "left kidney": 2, "right kidney": 3}
    assert make_scheme(labels, labels, label_names=names).names == (
        "liver", "left kidney", "right kidney", "label 4",
    )
    chosen = make_scheme(labels, labels, select=["right kidney", 4], label_names=names)
    assert chosen.labels == ((3,), (4,))
    groups = {"kidneys": ["left kidney", 3], "liver": "liver"}
    assert resolve_groups(groups, names) == {"kidneys": [2, 3], "liver": [1]}
    assert make_scheme(labels, labels, groups=groups, label_names=names).labels == ((2, 3), (1,))
    (tmp_path / "groups.json").write_text('{"kidneys": ["left kidney", 3]}')
    assert read_groups(tmp_path / "groups.json", names) == {"kidneys": (2, 3)}
