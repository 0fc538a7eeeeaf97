"""ACDC as the recipes read it: patients 001-080 to train on, 081-100 to validate with.

O. Bernard, A. Lalande, C. Zotti, F. Cervenansky, et al., "Deep Learning Techniques for Automatic
MRI Cardiac Multi-structures Segmentation and Diagnosis: Is the Problem Solved?", IEEE Transactions
on Medical Imaging 37 (11), 2018.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch

TRAINING = range(1, 81)
VALIDATION = range(81, 101)
NAMES = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}


@dataclass(frozen=True)
class Frame:
    """One labelled image on its own grid.

    Attributes
    ----------
    image : (D, H, W) float32, mean 0 and SD 1.
    labels : (D, H, W) uint8, 0 background, else a number of ``NAMES``.
    spacing : mm along (z, y, x).
    """

    image: torch.Tensor
    labels: torch.Tensor
    spacing: tuple[float, float, float]


def frame_files(root: Path, number: int) -> list[tuple[Path, Path]]:
    """Image and label map at end-diastole, then at end-systole, of patient ``number``."""
    folder = root / f"patient{number:03d}"
    info = dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())
    stems = [f"{folder.name}_frame{int(info[end]):02d}" for end in ("ED", "ES")]
    return [(folder / f"{stem}.nii.gz", folder / f"{stem}_gt.nii.gz") for stem in stems]


def read_frame(image: Path, labels: Path) -> Frame:
    loaded = nibabel.load(image)
    voxels = np.asarray(loaded.dataobj, np.float32).T
    numbers = np.asarray(nibabel.load(labels).dataobj).astype(np.uint8).T
    x, y, z = (float(mm) for mm in loaded.header.get_zooms()[:3])
    normalised = (voxels - voxels.mean()) / voxels.std()
    return Frame(torch.from_numpy(normalised), torch.from_numpy(numbers.copy()), (z, y, x))


def read_frames(root: Path, numbers: Iterable[int]) -> list[Frame]:
    """All labelled frames of the patients in ``root`` (the folder ``acdc``)."""
    return [read_frame(*files) for number in numbers for files in frame_files(root, number)]
