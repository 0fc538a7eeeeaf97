"""``segreg apply``: carry an image, a label map or landmarks through a field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segreg.cli import console, options


def apply(
    field: Annotated[Path, typer.Option(help="Displacement field, as ITK writes it.")],
    moving: Annotated[
        Path, typer.Option(help="What to carry: a NIfTI volume, or landmarks as a CSV file.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    kind: Annotated[
        Literal["image", "labels", "points"] | None,
        typer.Option(help="What it is; without it .csv files are points and volumes are images."),
    ] = None,
    interpolation: Annotated[
        Literal["linear", "nearest", "cubic", "vote"] | None,
        typer.Option(help="linear, nearest or cubic for images, vote or nearest for labels."),
    ] = None,
    geometry: options.GeometryChoice = None,
    convention: Annotated[
        Literal["ras", "lps"] | None,
        typer.Option(help="Axes of the landmarks, where their column names do not say."),
    ] = None,
    to: Annotated[
        Literal["fixed", "moving"] | None,
        typer.Option(
            help="Points only: fixed carries landmarks of the moving image along with it (so "
            "without the option), moving carries landmarks of the fixed image to the moving one."
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Carry an image, a label map or landmarks of the moving side onto the fixed one."""
    from segreg.engine.application import apply as carry
    from segreg.engine.errors import InputError
    from segreg.engine.landmark_table import rewrite_points
    from segreg.engine.volume import Volume

    if output.resolve() in (moving.resolve(), field.resolve()):
        raise InputError(f"{output.name}: expected a new file to write, got one of the inputs.")
    if kind is None and moving.suffix.lower() == ".csv":
        kind = "points"
    carried = carry(
        field,
        moving,
        kind=kind,
        interpolation=interpolation,
        geometry=geometry,
        to=to,
        convention=convention,
    )
    if isinstance(carried, Volume):
        carried.write(output)
    else:
        rewrite_points(moving, output, carried, convention)
    for note in carried.notes:
        console.say(f"Note: {note}", quiet=quiet)
    if not quiet:
        typer.echo(f"Written: {output}")
