"""``segreg report``: the report of a saved result, rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segreg.cli import options


def report(
    folder: Annotated[Path, typer.Argument(help="Folder that segreg register wrote.")],
    fixed: options.FixedImage,
    moving: options.MovingImage,
    fixed_labels: options.FixedLabels,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="HTML file; without it report.html in the folder."),
    ] = None,
    geometry: options.GeometryChoice = None,
    quiet: options.Quiet = False,
) -> None:
    """Render the report of a saved result again, from its folder and the inputs."""
    from segreg.engine.files import replace_file
    from segreg.engine.report import render_report
    from segreg.engine.saved import read_report_data

    data = read_report_data(
        folder, fixed=fixed, moving=moving, fixed_labels=fixed_labels, geometry=geometry
    )
    target = output or folder / "report.html"
    with replace_file(target) as temporary:
        temporary.write_text(render_report(data), encoding="utf-8")
    if not quiet:
        typer.echo(f"Written: {target}")
