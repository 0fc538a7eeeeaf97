"""``segreg register``: two images and two label maps in, a field and everything else out."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

from segreg.cli import console, gpu, options


def register(
    fixed: options.FixedImage,
    moving: options.MovingImage,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    fixed_labels: options.OptionalLabels = None,
    moving_labels: options.OptionalLabels = None,
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
    precision: options.PrecisionChoice = "auto",
    keyring: options.Keyring = None,
    segment: Annotated[
        bool,
        typer.Option("--segment", help="Segment both images, with the package or --segmenter."),
    ] = False,
    segmenter: Annotated[
        str | None,
        typer.Option(
            help="Package that segments what comes without labels; else --package. `body` takes "
            "the body as the one region, found in the images alone."
        ),
    ] = None,
    passes: Annotated[
        int | None, typer.Option(help="How often the network is asked per region.")
    ] = None,
    groups: options.GroupsFile = None,
    labels: options.LabelList = None,
    label_names: options.LabelNamesFile = None,
    labels_dice: Annotated[
        float | None,
        typer.Option(
            help="Dice that the given label maps have against true ones; the result then says what "
            "accuracy to expect, if the package's curve covers it."
        ),
    ] = None,
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
        str | None,
        typer.Option(
            metavar="off|auto|N",
            help="Refine the field by texture and outlines: off, auto, or N iterations a level; "
            "else what the package asks for.",
        ),
    ] = None,
    background: Annotated[
        Literal["body", "regions"],
        typer.Option(
            help="What carries the image far from the labels: the body, found in the images, or "
            "the labels' regions alone."
        ),
    ] = "body",
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
    gpu_memory: gpu.GpuMemory = None,
    gpu_number: gpu.GpuNumber = None,
    cuda_graph: gpu.CudaGraph = False,
    engine_cache: gpu.EngineCache = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Register a moving image to a fixed one by their label maps, given or segmented."""
    from segreg.engine.errors import InputError
    from segreg.engine.files import OutputFolder
    from segreg.engine.label_names import read_label_names
    from segreg.engine.labels import read_groups
    from segreg.engine.runtime import Engine
    from segreg.engine.seams import BLEND_MM
    from segreg.kernels import set_threads

    thresholds = options.make_thresholds(min_dice, max_distance, max_folding)
    selected = options.parse_labels(labels)
    refinement = None if refine is None else options.parse_refine(refine)
    blended = options.parse_pairs(blend)
    names = read_label_names(label_names) if label_names else None
    grouped = read_groups(groups, names) if groups else None
    if segment and (fixed_labels or moving_labels):
        raise InputError("--segment: expected no label maps beside it; leave one of them out.")
    if threads is not None:
        set_threads(threads)
    # Entered first: a folder that refuses is found before the work, not after it.
    with ExitStack() as opened:
        opened.enter_context(OutputFolder(output))
        with console.show_phases(quiet=quiet) as building:
            loading = gpu.cuda_options(backend, gpu_number, cuda_graph, engine_cache, building)
            engine = opened.enter_context(
                Engine(
                    package,
                    backend=backend,
                    precision=precision,
                    passes=passes,
                    threads=threads,
                    options=loading,
                    keyring=keyring,
                    gpu_memory=gpu_memory,
                    segmenter=segmenter,
                )
            )
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
                label_names=names,
                labels_dice=labels_dice,
                geometry=geometry,
                interpolation=interpolation,
                blend=blended,
                blend_mm=BLEND_MM if blend_mm is None else blend_mm,
                refine=refinement,
                background=background,
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
        if result.expectation is not None:
            typer.echo(f"Accuracy to expect, judged by true labels: {result.expectation}.")
        console.print_timings(result.watch)
        typer.echo(f"Written: {', '.join(str(path) for path in paths.values())}")
    if not result.quality.passed:
        raise typer.Exit(1)
