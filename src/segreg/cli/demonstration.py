"""``segreg demo``: a generated pair with a known field, registered with the default package."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segreg.cli import console, options

if TYPE_CHECKING:
    from segreg.engine.phantom import EndpointError, Phantom

SIDES = ("moving", "fixed", "moving_labels", "fixed_labels")


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the pair and the results.")
    ] = Path("segreg-demo"),
    package: Annotated[str, typer.Option(help="Model package, by name or path.")] = "shapes",
    backend: Annotated[str | None, typer.Option(help="Inference backend.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes another pair.")] = 0,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Register a generated pair whose true field is known, and compare with the truth."""
    import numpy as np

    from segreg.engine.field import Field
    from segreg.engine.files import OutputFolder
    from segreg.engine.phantom import endpoint_error, make_phantom
    from segreg.engine.runtime import Engine

    with OutputFolder(output), Engine(package, backend=backend) as engine:
        console.say("Generating the pair ...", quiet=quiet)
        phantom = make_phantom(seed=seed)
        pair = _write_pair(phantom, output / "pair")
        if engine.package.intended_use:
            console.say(f"Intended use: {engine.package.intended_use}", quiet=quiet)
        with console.show_progress("Registering regions", quiet=quiet) as progress:
            # From the files, so that the demo does what any pair on a disk goes through.
            result = engine.register(*(pair[side] for side in SIDES), progress=progress)
        paths = result.save(output)
    error = endpoint_error(result.displacement, phantom)
    truth = phantom.truth
    still = endpoint_error(Field(np.zeros_like(truth.displacement), truth.affine), phantom)
    if as_json:
        summary = json.loads(paths["result"].read_text(encoding="utf-8"))
        console.print_json({**summary, "endpoint_error": asdict(error)})
    elif not quiet:
        console.print_quality(result.quality)
        _print_error(still, error)
        console.print_timings(result.watch)
        typer.echo(f"Pair:   {output / 'pair'}")
        typer.echo(f"Report: {paths['report']}")
    if not result.quality.passed:
        raise typer.Exit(1)


def _write_pair(phantom: Phantom, folder: Path) -> dict[str, Path]:
    """The pair and its true field as files, by the names of ``SIDES``."""
    from segreg.engine.files import OutputFolder

    with OutputFolder(folder) as files:
        for side in SIDES:
            getattr(phantom, side).write(files.path(f"{side}.nii.gz"))
        phantom.truth.write(files.path("true_displacement.nii.gz"))
    return {side: folder / f"{side}.nii.gz" for side in SIDES}


def _print_error(before: EndpointError, after: EndpointError) -> None:
    table = console.make_table(
        "Distance from the known field, inside regions",
        ("", "Mean mm", "Mean voxels", "95 % mm", "95 % voxels"),
    )
    for name, error in (("before", before), ("after", after)):
        table.add_row(
            name,
            console.number(error.mean_mm, 2),
            console.number(error.mean_voxels, 2),
            console.number(error.p95_mm, 2),
            console.number(error.p95_voxels, 2),
        )
    console.print_table(table)
