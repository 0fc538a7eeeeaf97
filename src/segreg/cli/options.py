"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segreg.engine.errors import InputError

if TYPE_CHECKING:
    from segreg.engine.quality import Thresholds

Geometry = Literal["sform", "qform"]
Interpolation = Literal["linear", "nearest", "cubic"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]

FixedImage = Annotated[Path, typer.Option("--fixed", help="Image that stays (NIfTI).")]
MovingImage = Annotated[Path, typer.Option("--moving", help="Image that is warped (NIfTI).")]
FixedLabels = Annotated[
    Path, typer.Option("--fixed-labels", help="Label map on the grid of the fixed image.")
]
MovingLabels = Annotated[
    Path, typer.Option("--moving-labels", help="Label map on the grid of the moving image.")
]
OptionalLabels = Annotated[
    Path | None,
    typer.Option(help="Label map on the grid of that image; left out, it is segmented."),
]
LabelNamesFile = Annotated[
    Path | None,
    typer.Option(
        "--label-names",
        help="Names of label numbers, so that labels and groups can be said by name: JSON "
        '{"liver": 1}, nnU-Net dataset.json, or a colour table of FreeSurfer or 3D Slicer.',
    ),
]
GroupsFile = Annotated[
    Path | None,
    typer.Option(
        "--groups",
        help='JSON of regions made of several labels: {"left lung": [1, 2], "heart": 5}.',
    ),
]
LabelList = Annotated[
    str | None,
    typer.Option("--labels", help="Use only these labels, such as 1,2,3, or their names."),
]
GeometryChoice = Annotated[
    Geometry | None,
    typer.Option(
        "--geometry",
        help="Which transform of a NIfTI header to believe; without it what ITK believes.",
    ),
]
PrecisionChoice = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="Arithmetic of the network; auto takes the fastest that the package was proved in and "
        "that this machine has.",
    ),
]
Keyring = Annotated[
    Path | None,
    typer.Option(
        "--require-signature",
        metavar="KEYRING",
        help="Refuse a package that none of the public keys in this file (PEM) signed.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")]
MinDice = Annotated[
    float | None,
    typer.Option(
        "--min-dice", min=0, max=1, help="Dice below which a region fails (0.80, AAPM TG-132)."
    ),
]
MaxDistance = Annotated[
    float | None,
    typer.Option(
        "--max-distance",
        min=0,
        help="Mean surface distance above which a region fails, in largest voxel dimensions (1).",
    ),
]
MaxFolding = Annotated[
    float | None,
    typer.Option(
        "--max-folding", min=0, max=100, help="Folded percent above which a region fails (0)."
    ),
]


def parse_labels(text: str | None) -> list[int | str] | None:
    """``"1,2,liver"`` as label numbers and names."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all((part.isdecimal() and int(part) > 0) or _is_name(part) for part in parts):
        raise InputError(
            f"--labels: expected positive numbers such as 1,2,3, or names, got {text!r}."
        )
    return [int(part) if part.isdecimal() else part for part in parts]


def _is_name(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return bool(text)
    return False


def parse_pairs(words: list[str] | None) -> str | list[tuple[str, str]] | None:
    """``["liver:spleen", "3:4"]`` as pairs; ``["all"]`` as it is."""
    if not words:
        return None
    if words == ["all"]:
        return "all"
    pairs = [tuple(part.strip() for part in word.split(":")) for word in words]
    for word, pair in zip(words, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            raise InputError(
                f"--blend: expected all alone, or two regions such as liver:spleen, got {word!r}."
            )
    return [(pair[0], pair[1]) for pair in pairs]


def parse_refine(text: str) -> str | int:
    """``"off"``, ``"auto"`` or a number of iterations."""
    return int(text) if text.isdecimal() else text


def make_thresholds(
    dice: float | None, distance: float | None, folding: float | None
) -> Thresholds:
    """The verdict's limits: what was asked for, defaults elsewhere."""
    from segreg.engine.quality import Thresholds

    asked = {
        "dice": dice,
        "surface_distance_voxels": distance,
        "folding_percent": folding,
    }
    return Thresholds(**{name: value for name, value in asked.items() if value is not None})
