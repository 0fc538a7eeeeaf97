"""``segreg segment``: an image in, a label map out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segreg.cli import console, options


def segment(
    image: Annotated[Path, typer.Argument(help="Image to segment (NIfTI).")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Label map to write (.nii, .nii.gz).")
    ],
    package: Annotated[
        str, typer.Option(help="Package that segments: its name, or path of a folder or zip.")
    ],
    backend: Annotated[
        str | None, typer.Option(help="Inference backend; without it the first that can.")
    ] = None,
    keyring: options.Keyring = None,
    geometry: options.GeometryChoice = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Segment an image with a package that can."""
    from segreg.engine.package import open_package
    from segreg.engine.segmentation import Segmenter
    from segreg.engine.timing import Stopwatch
    from segreg.engine.volume import as_volume, check_image
    from segreg.kernels import set_threads

    if threads is not None:
        set_threads(threads)
    watch = Stopwatch()
    with open_package(package, keyring=keyring) as opened:
        segmenter = Segmenter(opened, backend=backend, threads=threads)
        if opened.intended_use:
            console.say(f"Intended use: {opened.intended_use}", quiet=quiet)
        try:
            with watch.stage("read"):
                volume = check_image(as_volume(image, geometry=geometry))
            with watch.stage("segment"):
                labels = segmenter.segment([volume])[0]
            with watch.stage("write"):
                labels.write(output)
        finally:
            segmenter.close()
    rows = [
        {"name": name, "label": number, "voxels": int((labels.array == number).sum())}
        for name, number in segmenter.names.items()
    ]
    if as_json:
        console.print_json({"source": segmenter.source, "labels": rows})
    elif not quiet:
        voxel_ml = abs(volume.spacing[0] * volume.spacing[1] * volume.spacing[2]) / 1000
        table = console.make_table(f"Labels, {segmenter.source}", ("Name", "Label", "Volume ml"))
        for row in rows:
            millilitres = console.number(float(str(row["voxels"])) * voxel_ml, 1)
            table.add_row(str(row["name"]), str(row["label"]), millilitres)
        console.print_table(table)
        console.print_timings(watch)
        typer.echo(f"Written: {output}")
