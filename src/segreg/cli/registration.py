"""``segreg register``: two images and two label maps in, a field and everything else out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segreg.cli import console, options


def register(
    fixed: options.FixedImage,
    moving: options.MovingImage,
    fixed_labels: options.FixedLabels,
    moving_labels: options.MovingLabels,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    package: Annotated[
        str, typer.Option(help="Name of a shipped model package, or path of a folder or zip.")
    ] = "shapes",
    backend: Annotated[
        str | None,
        typer.Option(
            help="Inference backend, one that `segreg doctor` lists; without it the first that can "
            "run the network here."
        ),
    ] = None,
    keyring: options.Keyring = None,
    passes: Annotated[
        int | None, typer.Option(help="How often the network is asked per region.")
    ] = None,
    groups: options.GroupsFile = None,
    labels: options.LabelList = None,
    geometry: options.GeometryChoice = None,
    interpolation: Annotated[
        options.Interpolation, typer.Option(help="How the warped image is sampled.")
    ] = "linear",
    blend: Annotated[
        list[str] | None,
        typer.Option(
            help="Two regions whose fields blend instead of sliding, such as liver:spleen, 3:4 or "
            "3:background, or all; may be repeated.",
        ),
    ] = None,
    blend_mm: Annotated[
        float | None, typer.Option(help="How far from their border regions blend (2 mm).")
    ] = None,
    refine: Annotated[
        str,
        typer.Option(
            metavar="off|auto|N",
            help="Refine the field by texture and outlines: off, auto, or N iterations a level.",
        ),
    ] = "auto",
    repair: Annotated[
        bool,
        typer.Option(
            "--repair-folds/--keep-folds",
            help="Open folds of the field by the least change, or leave them in it.",
        ),
    ] = True,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Write the inverse field, too.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write report.html.")] = True,
    min_dice: options.MinDice = None,
    max_distance: options.MaxDistance = None,
    max_folding: options.MaxFolding = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Register a moving image to a fixed one by their label maps."""
    from segreg.engine.files import OutputFolder
    from segreg.engine.labels import read_groups
    from segreg.engine.runtime import Engine
    from segreg.engine.seams import BLEND_MM
    from segreg.kernels import set_threads

    thresholds = options.make_thresholds(min_dice, max_distance, max_folding)
    selected = options.parse_labels(labels)
    refinement = options.parse_refine(refine)
    blended = options.parse_pairs(blend)
    grouped = read_groups(groups) if groups else None
    if threads is not None:
        set_threads(threads)
    # Entered first: a folder that refuses is found before the work, not after it.
    with (
        OutputFolder(output),
        Engine(
            package, backend=backend, passes=passes, threads=threads, keyring=keyring
        ) as engine,
    ):
        if engine.package.intended_use:
            console.say(f"Intended use: {engine.package.intended_use}", quiet=quiet)
        with console.show_progress("Registering regions", quiet=quiet) as progress:
            result = engine.register(
                moving,
                fixed,
                moving_labels,
                fixed_labels,
                groups=grouped,
                labels=selected,
                geometry=geometry,
                interpolation=interpolation,
                blend=blended,
                blend_mm=BLEND_MM if blend_mm is None else blend_mm,
                refine=refinement,
                repair=repair,
                thresholds=thresholds,
                progress=progress,
            )
        paths = result.save(output, inverse=inverse, report=report)
    for note in result.notes:
        console.say(f"Note: {note}", quiet=quiet)
    if as_json:
        typer.echo(paths["result"].read_text(encoding="utf-8"), nl=False)
    elif not quiet:
        console.print_quality(result.quality)
        console.print_timings(result.watch)
        typer.echo(f"Written: {', '.join(str(path) for path in paths.values())}")
    if not result.quality.passed:
        raise typer.Exit(1)
