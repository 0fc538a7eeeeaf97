"""Pairs from the research data beside the checkout; fixed splits, both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """One registration task; paths of images and label maps."""

    id: str
    moving: Path
    fixed: Path
    moving_labels: Path
    fixed_labels: Path


@dataclass(frozen=True)
class Subject:
    id: str
    image: Path
    labels: Path


def cardiac(root: Path) -> Iterator[Pair]:
    """ED -> ES and ES -> ED of the validation patients 081-100."""
    for number in range(81, 101):
        folder = root / "acdc" / f"patient{number:03d}"
        info = dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())
        ends = [_frame(folder, int(info[end])) for end in ("ED", "ES")]
        yield from _both(*ends)


def _frame(folder: Path, frame: int) -> Subject:
    stem = f"{folder.name}_frame{frame:02d}"
    return Subject(stem, folder / f"{stem}.nii.gz", folder / f"{stem}_gt.nii.gz")


def abdomen(root: Path) -> Iterator[Pair]:
    """Each subject with the next, both ways."""
    yield from _ring(_labelled(root / "chaos_t2mr", "case??.nii.gz"))


def hippocampus(root: Path) -> Iterator[Pair]:
    """Each subject with the next, both ways."""
    yield from _ring(_labelled(root / "hippocampus", "hippocampus_???.nii.gz"))


def brain(root: Path) -> Iterator[Pair]:
    folder = root / "brain"
    one, two = (
        Subject(name, folder / f"{name}_t1.nii.gz", folder / f"{name}_fsaseg.nii.gz")
        for name in ("subj1", "subj2")
    )
    yield from _both(one, two)


def lung_lobes(root: Path) -> Iterator[Pair]:
    """Each subject with the next, both ways."""
    images = sorted((root / "lung_mr").glob("*H1.nii.gz"))
    yield from _ring(
        [
            Subject(p.name[:4], p, p.with_name(p.name.replace("H1", "Lobes")))
            for p in images
        ]
    )


DATASETS: dict[str, Callable[[Path], Iterator[Pair]]] = {
    "cardiac": cardiac,
    "abdomen": abdomen,
    "hippocampus": hippocampus,
    "brain": brain,
    "lung lobes": lung_lobes,
}


def _labelled(folder: Path, pattern: str) -> list[Subject]:
    return [
        Subject(p.name.split(".")[0], p, p.with_name(p.name.replace(".nii", "_label.nii")))
        for p in sorted(folder.glob(pattern))
    ]


def _ring(subjects: list[Subject]) -> Iterator[Pair]:
    for one, two in zip(subjects, [*subjects[1:], subjects[0]], strict=True):
        yield from _both(one, two)


def _both(one: Subject, two: Subject) -> Iterator[Pair]:
    for moving, fixed in ((one, two), (two, one)):
        yield Pair(
            f"{moving.id}-{fixed.id}", moving.image, fixed.image, moving.labels, fixed.labels
        )
