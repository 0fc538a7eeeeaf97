"""Pairs with landmarks: breathing phases of the research data, or a table of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
COLUMNS = (*IMAGES, "moving_landmarks", "fixed_landmarks")


@dataclass(frozen=True)
class MarkedPair:
    """A pair and, by part of the body, the files of its moving and fixed landmarks."""

    pair: Pair
    landmarks: Landmarks

    def before(self, part: str) -> float:
        """Mean distance in mm of the landmarks as the headers place them."""
        moving, fixed = (read_points(path) for path in self.landmarks[part])
        return float(np.linalg.norm(moving - fixed, axis=1).mean())


def find_pairs(
    data: Path, folders: Sequence[Path], work: Path, back: bool
) -> dict[str, list[MarkedPair]]:
    """Pairs by data set: breathing livers in ``data``, and those that tables in ``folders`` list.

    Without livers in ``data``, the tables alone; files that pairs need are written into ``work``.

    Raises
    ------
    ValueError : nothing to measure; as ``table_pairs``.
    """
    found = {}
    if (data / LIVER).is_dir():
        found[LIVER] = list(liver_pairs(data, work, back=back))
    elif not folders:
        raise ValueError(f"expected {LIVER} in {data.name}, got none. Give --data or --pairs.")
    for folder in folders:
        found[folder.resolve().name] = list(table_pairs(folder, work, back=back))
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
                yield mark(f"{subject.name} {moving} {fixed}", images, landmarks, work)


def table_pairs(folder: Path, work: Path, *, back: bool) -> Iterator[MarkedPair]:
    """The pairs that ``pairs.csv`` in ``folder`` lists, and ``back``.

    Only landmarks that lie in both images count: where an image shows nothing, nothing is found.
    The files of those are written into ``work``.

    Raises
    ------
    ValueError : no such table, columns or files; landmarks that are not each other's.
    """
    for id, files in read_table(folder, COLUMNS):
        images = [as_volume(files[name]) for name in IMAGES]
        points = [read_points(files[name]) for name in COLUMNS[2:]]
        if len(points[0]) != len(points[1]):
            raise ValueError(
                f"{TABLE}: {id}: expected as many moving landmarks as fixed ones, got "
                f"{len(points[0])} and {len(points[1])}. Row by row they are one place each."
            )
        seen = _lie_in(images[0], points[0]) & _lie_in(images[1], points[1])
        if not seen.any():
            raise ValueError(
                f"{TABLE}: {id}: expected landmarks in both images, got none of {len(seen)}. "
                "Check whether their axes are RAS or LPS."
            )
        sides = []
        for name, each in zip(IMAGES, points, strict=True):
            sides.append((files[name], work / f"{id} {name}.csv"))
            rows = [",".join(f"{v:.6f}" for v in point) for point in each[seen]]
            sides[-1][1].write_text("\n".join(["x_ras_mm,y_ras_mm,z_ras_mm", *rows]) + "\n")
        for way in (sides, sides[::-1])[: 1 + back]:
            name = id if way is sides else f"{id} back"
            landmarks = {ALL: (way[0][1], way[1][1])}
            yield mark(name, [image for image, _ in way], landmarks, work)


def mark(id: str, images: list[Path], landmarks: Landmarks, work: Path) -> MarkedPair:
    """The pair of ``images`` (moving, fixed); tools ask for label maps: bodies, put into
    ``work``."""
    labels = []
    bodies = BodyFinder().segment([as_volume(path) for path in images])
    for side, body in zip(IMAGES, bodies, strict=True):
        labels.append(work / f"{id} {side} body.nii.gz".replace(" ", "_"))
        body.write(labels[-1])
    return MarkedPair(Pair(id, *images, *labels), landmarks)


def _lie_in(image: Volume, points: Points) -> NDArray[np.bool_]:
    index = apply_map(world_to_index(image.affine), points)
    inside = (index >= -0.5) & (index <= np.array(image.shape) - 0.5)
    return np.asarray(inside.all(axis=1))
