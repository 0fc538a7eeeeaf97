"""Landmark errors of our tool and of others, by files that the columns of a table name."""

from __future__ import annotations

import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.__main__ import main
from benchmarks.datasets import Pair
from benchmarks.landmarks import print_table, summarise, try_marked
from benchmarks.marked_pairs import MarkedPair, find_pairs, liver_pairs, table_pairs
from benchmarks.trial import landmark_errors
from segreg.engine.field import Field
from segreg.engine.geometry import make_affine
from segreg.engine.landmarks import read_points
from segreg.engine.volume import Volume
from tests.benchmarks.stand_in_tools import TOOLS

STAND_INS = {tool.id: tool for tool in TOOLS}


def write_points(path: Path, points: np.ndarray) -> Path:
    lines = ["x_ras_mm,y_ras_mm,z_ras_mm", *[",".join(map(str, point)) for point in points]]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform(-20, 20, (5, 3))


def test_error_is_what_the_field_leaves(tmp_path: Path, points: np.ndarray) -> None:
    """A shift of (1, -2, 0.5) voxels (x, y, z) on a grid of 2, 3 and 4 mm."""
    affine = make_affine((4.0, 3.0, 2.0))
    affine[:3, 3] = -30
    vectors = np.broadcast_to(np.reshape([0.5, -2, 1], (3, 1, 1, 1)), (3, 15, 20, 30))
    field = Field(vectors.astype(np.float32), affine)
    fixed = write_points(tmp_path / "fixed.csv", points)
    there = points + [2.0, -6.0, 2.0] * np.sign(np.diagonal(affine)[:3])
    moving = write_points(tmp_path / "moving.csv", there)
    assert landmark_errors(field, moving, fixed) == pytest.approx([0] * 5, abs=1e-4)
    farther = write_points(tmp_path / "farther.csv", there + np.array([0, 3, 4]))
    assert landmark_errors(field, farther, fixed) == pytest.approx([5] * 5, abs=1e-4)


def test_rows_and_case_of_a_tool(tmp_path: Path, pair: Pair, points: np.ndarray) -> None:
    """The stand-in shifts by the millimetre (1, -0.5, 0.25) in LPS, (-1, 0.5, 0.25) in RAS."""
    fixed = write_points(tmp_path / "fixed.csv", points)
    moving = write_points(tmp_path / "moving.csv", points + np.array([-1, 0.5, 2.25]))
    marked = MarkedPair(pair, {"liver": (moving, fixed), "outside": (fixed, fixed)})
    assert marked.before["outside"] == 0
    rows = [try_marked(STAND_INS[id], marked, 1, 120) for id in ("still", "broken")]
    case = summarise(STAND_INS["still"], "phantom", rows[:1])
    assert case["parts"]["liver"]["mean_mm"] == pytest.approx(2, abs=0.01)
    assert case["parts"]["outside"]["p95_mm"] == pytest.approx(np.hypot(np.hypot(1, 0.5), 0.25))
    failed = summarise(STAND_INS["broken"], "phantom", rows[1:])
    assert not failed["correct"]
    assert "the optimiser diverged" in failed["failed"][0]["reason"]
    out = StringIO()
    print_table([case, failed], Console(file=out, width=160))
    assert "2.00" in out.getvalue()


def test_pairs_of_a_folder(tmp_path: Path, points: np.ndarray) -> None:
    """Exhaled to each phase, and back if asked; the labels are the bodies."""
    subject = tmp_path / "data/liver_4dmri/dataset01"
    subject.mkdir(parents=True)
    _, y, x = np.indices((12, 40, 40))
    image = np.where(np.hypot(y - 20, x - 20) < 14, 300, 5).astype(np.float32)
    for name in ("exhMaster", "cyc_1_2", "cyc_1_4"):
        Volume(image, make_affine((4.0, 3.0, 3.0))).write(subject / f"{name}.nii.gz")
        for part in ("liver", "outside"):
            write_points(subject / f"{name}_{part}.csv", points)
    pairs = list(liver_pairs(tmp_path / "data", tmp_path, back=False))
    assert [p.pair.id for p in pairs] == [
        "dataset01 exhMaster cyc_1_2", "dataset01 exhMaster cyc_1_4"
    ]  # fmt: skip
    both = list(liver_pairs(tmp_path / "data", tmp_path, back=True))
    assert [p.pair.moving.name for p in both[:2]] == ["exhMaster.nii.gz", "cyc_1_2.nii.gz"]
    labels = Volume.read(pairs[0].pair.moving_labels).array
    assert 0.3 < labels.mean() < 0.6
    assert pairs[0].landmarks["liver"][1] == subject / "cyc_1_2_liver.csv"


@pytest.fixture
def table(tmp_path: Path, points: np.ndarray) -> Path:
    """A folder with a pair and five landmarks a side; the last fixed one lies beyond the image."""
    folder = tmp_path / "own"
    folder.mkdir()
    _, y, x = np.indices((12, 40, 40))
    image = np.where(np.hypot(y - 20, x - 20) < 14, 300, 5).astype(np.float32)
    affine = make_affine((4.0, 3.0, 3.0))
    affine[:3, 3] = -60, -60, -24
    for name in ("one", "two"):
        Volume(image, affine).write(folder / f"{name}.nii.gz")
    write_points(folder / "one.csv", points * 0.9)
    write_points(folder / "two.csv", np.vstack([points[:4] * 0.9, [0.0, 0, 40]]))
    (folder / "pairs.csv").write_text(
        "id,moving,fixed,moving_landmarks,fixed_landmarks\n"
        "p 1,one.nii.gz,two.nii.gz,one.csv,two.csv\n"
    )
    return folder


def test_pairs_of_a_table(table: Path, tmp_path: Path) -> None:
    """Landmarks that an image does not show are left out; the way back swaps all."""
    work = tmp_path / "work"
    work.mkdir()
    there, back = table_pairs(table, work, back=True)
    assert (there.pair.id, back.pair.id) == ("p 1", "p 1 back")
    assert there.pair.moving == back.pair.fixed == table / "one.nii.gz"
    assert there.landmarks["landmarks"] == back.landmarks["landmarks"][::-1]
    assert [len(read_points(path)) for path in there.landmarks["landmarks"]] == [4, 4]
    assert there.before["landmarks"] == pytest.approx(0, abs=1e-5)
    assert (there.left_out, back.left_out) == (1, 1)
    assert Volume.read(there.pair.fixed_labels).array.any()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("x_ras_mm,y_ras_mm,z_ras_mm\n1,2,3\n", "as many moving landmarks as fixed ones"),
        ("x_ras_mm,y_ras_mm,z_ras_mm\n" + 5 * "900,0,0\n", "none of 5"),
    ],
)
def test_landmarks_of_a_table_that_do_not_fit(
    table: Path, tmp_path: Path, rows: str, expected: str
) -> None:
    (table / "two.csv").write_text(rows)
    with pytest.raises(ValueError, match=expected):
        list(table_pairs(table, tmp_path, back=False))


def test_pairs_of_one_name_do_not_meet(table: Path, tmp_path: Path) -> None:
    """Equal names of two folders, and one with a slash; of one table they are refused."""
    other = tmp_path / "other"
    shutil.copytree(table, other)
    write_points(other / "two.csv", read_points(other / "one.csv") + np.array([0, 3, 4]))
    for folder in (table, other):
        rows = (folder / "pairs.csv").read_text()
        (folder / "pairs.csv").write_text(rows.replace("p 1", "p/1"))
    found = find_pairs(tmp_path, [table, other], tmp_path, back=False)
    befores = [pairs[0].before["landmarks"] for pairs in found.values()]
    assert befores == pytest.approx([0, 5], abs=1e-5)
    row = rows.splitlines()[1]
    (other / "pairs.csv").write_text("\n".join([rows.splitlines()[0], row, row]))
    with pytest.raises(ValueError, match="'p 1' twice"):
        find_pairs(tmp_path, [other], tmp_path, back=False)


def test_nothing_to_measure(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two folders of one name, no data, an empty data set: a sentence and exit code 2."""
    empty = tmp_path / "empty"
    (empty / "liver_4dmri").mkdir(parents=True)
    for arguments, expected in (
        (["--data", tmp_path, "--pairs", table, table], "two own"),
        (["--data", tmp_path], "expected liver_4dmri"),
        (["--data", empty], "got none"),
        (["--pairs", empty], "expected a table pairs.csv"),
    ):
        command = ["landmarks", "--no-record", "--tools", "segreg-body", *map(str, arguments)]
        assert main(command) == 2
        assert expected in capsys.readouterr().err
