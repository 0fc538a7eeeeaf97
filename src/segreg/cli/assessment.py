"""``segreg quality``: the verdict on a field, whoever computed it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segreg.cli import console, options


def quality(
    field: Annotated[
        Path, typer.Option(help="Displacement field on the fixed grid, as ITK writes it.")
    ],
    fixed_labels: options.FixedLabels,
    moving_labels: options.MovingLabels,
    fixed: Annotated[
        Path | None, typer.Option(help="Fixed image, to correlate intensities, too.")
    ] = None,
    moving: Annotated[Path | None, typer.Option(help="Moving image, likewise.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the measures as JSON here.")
    ] = None,
    groups: options.GroupsFile = None,
    labels: options.LabelList = None,
    label_names: options.LabelNamesFile = None,
    geometry: options.GeometryChoice = None,
    min_dice: options.MinDice = None,
    max_distance: options.MaxDistance = None,
    max_folding: options.MaxFolding = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Judge a field: overlap, distances, folding. Exit code 1 if the verdict is fail."""
    from segreg.engine.assessment import assess
    from segreg.engine.files import replace_file
    from segreg.engine.label_names import read_label_names
    from segreg.engine.labels import read_groups
    from segreg.engine.result import without_nan

    names = read_label_names(label_names) if label_names else None
    found = assess(
        field,
        moving_labels,
        fixed_labels,
        moving=moving,
        fixed=fixed,
        groups=read_groups(groups, names) if groups else None,
        labels=options.parse_labels(labels),
        label_names=names,
        geometry=geometry,
        thresholds=options.make_thresholds(min_dice, max_distance, max_folding),
    )
    content = without_nan(found.as_dict())
    if output is not None:
        text = json.dumps(content, indent=2, allow_nan=False)
        with replace_file(output) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    for note in found.notes:
        console.say(f"Note: {note}", quiet=quiet)
    if as_json:
        console.print_json(content)
    elif not quiet:
        console.print_quality(found.quality)
        if found.similarity is not None:
            before, after = found.similarity.before, found.similarity.after
            typer.echo(
                f"Correlation of intensities in labelled voxels: {console.number(before, 3)} "
                f"before, {console.number(after, 3)} after."
            )
    if not found.quality.passed:
        raise typer.Exit(1)
