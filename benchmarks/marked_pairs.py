"""Pairs with landmarks: breathing phases of the research data, or a table of one's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import Pair
from benchmarks.pairs import IMAGES, TABLE, read_table
from benchmarks.trial import Landmarks
from segreg.engine.body import BodyFinder
from segreg.engine.geometry import Points, apply_map, world_to_index
from segreg.engine.landmarks import read_points
from segreg.engine.volume import Volume, as_volume

LIVER = "liver_4dmri"
REFERENCE = "exhMaster"
PARTS = ("liver", "outside")
ALL = "landmarks"
MARKS = ("moving_landmarks", "fixed_landmarks")
TABLE_COLUMNS = (*IMAGES, *MARKS)


@dataclass(frozen=True)
class MarkedPair:
    """A pair and what landmarks it has.

    Attributes
    ----------
    landmarks : by part of the body, the files of the moving and of the fixed ones.
    before : mean distance in mm of the landmarks of a part, as the headers place them.
    left_out : landmarks that were given and do not lie in both images.
    """

    pair: Pair
    landmarks: Landmarks
    left_out: int = 0
    before: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        before = {}
        for part, files in self.landmarks.items():
            moving, fixed = map(read_points, files)
            before[part] = float(np.linalg.norm(moving - fixed, axis=1).mean())
        object.__setattr__(self, "before", before)


def find_pairs(
    data: Path, folders: Sequence[Path], work: Path, back: bool
) -> dict[str, list[MarkedPair]]:
    """Pairs by data set: breathing livers in ``data``, and those that tables in ``folders`` list.

    Without livers in ``data``, the tables alone; files that pairs need are written into ``work``.

    Raises
    ------
    ValueError : nothing to measure, or two data sets of one name; as ``table_pairs``.
    """
    found = {}
    if (data / LIVER).is_dir():
        found[LIVER] = list(liver_pairs(data, work, back=back))
    elif not folders:
        raise ValueError(f"expected {LIVER} in {data.name}, got none. Give --data or --pairs.")
    for folder in folders:
        name = folder.resolve().name
        if name in found:
            raise ValueError(f"expected data sets of different names, got two {name}. Rename one.")
        found[name] = list(table_pairs(folder, work, back=back))
    for name, pairs in found.items():
        if not pairs:
            raise ValueError(f"{name}: expected pairs with landmarks, got none. Check the folder.")
    return found


def liver_pairs(root: Path, work: Path, *, back: bool) -> Iterator[MarkedPair]:
    """Exhaled to each other phase of every subject, and ``back``; the liver slides along a nearly
    still wall, so its landmarks and those around it are told apart."""
    for subject in sorted((root / LIVER).iterdir()):
        if not subject.is_dir():
            continue
        for phase in sorted(subject.glob("cyc*.nii.gz")):
            names = (REFERENCE, phase.name.removesuffix(".nii.gz"))
            for moving, fixed in (names, names[::-1])[: 1 + back]:
                images = [subject / f"{name}.nii.gz" for name in (moving, fixed)]
                landmarks = {
                    part: (subject / f"{moving}_{part}.csv", subject / f"{fixed}_{part}.csv")
                    for part in PARTS
                }
                pair = with_bodies(f"{subject.name} {moving} {fixed}", images, work)
                yield MarkedPair(pair, landmarks)


def table_pairs(folder: Path, work: Path, *, back: bool) -> Iterator[MarkedPair]:
    """The pairs that ``pairs.csv`` in ``folder`` lists, and ``back``.

    Only landmarks that lie in both images count: where an image shows nothing, nothing is found.
    The files of those are written into ``work``.

    Raises
    ------
    ValueError : no such table, columns or files; landmarks that are not each other's.
    """
    for id, files in read_table(folder, TABLE_COLUMNS):
        points = [read_points(files[name]) for name in MARKS]
        if len(points[0]) != len(points[1]):
            raise ValueError(
                f"{TABLE}: {id}: expected as many moving landmarks as fixed ones, got "
                f"{len(points[0])} and {len(points[1])}. Row by row they are one place each."
            )
        images = [files[name] for name in IMAGES]
        seen = np.logical_and(*map(_lie_in, map(as_volume, images), points))
        if not seen.any():
            raise ValueError(
                f"{TABLE}: {id}: expected landmarks in both images, got none of {len(seen)}. "
                "Check whether their axes are RAS or LPS."
            )
        place = Path(tempfile.mkdtemp(dir=work))
        marks = []
        for side, each in zip(IMAGES, points, strict=True):
            rows = [",".join(f"{mm:.6f}" for mm in point) for point in each[seen]]
            marks.append(place / f"{side}.csv")
            marks[-1].write_text("\n".join(["x_ras_mm,y_ras_mm,z_ras_mm", *rows]) + "\n")
        left_out = int((~seen).sum())
        pair = with_bodies(id, images, place)
        yield MarkedPair(pair, {ALL: (marks[0], marks[1])}, left_out)
        if back:
            pair = with_bodies(f"{id} back", images[::-1], place)
            yield MarkedPair(pair, {ALL: (marks[1], marks[0])}, left_out)


def with_bodies(id: str, images: list[Path], work: Path) -> Pair:
    """The pair of ``images`` (moving, fixed). Tools ask for label maps: bodies, put into ``work``.
    """
    place = Path(tempfile.mkdtemp(dir=work))
    bodies = BodyFinder().segment([as_volume(path) for path in images])
    labels = [place / f"{side}_body.nii.gz" for side in IMAGES]
    for path, body in zip(labels, bodies, strict=True):
        body.write(path)
    return Pair(id, *images, *labels)


def _lie_in(image: Volume, points: Points) -> NDArray[np.bool_]:
    index = apply_map(world_to_index(image.affine), points)
    inside = (index >= -0.5) & (index <= np.array(image.shape) - 0.5)
    return np.asarray(inside.all(axis=1))
