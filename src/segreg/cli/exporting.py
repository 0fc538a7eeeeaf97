"""``segreg export``: a trained network in, a verified model package out."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from segreg.cli import console, options


def export(
    network: Annotated[
        str, typer.Option(metavar="MODULE:CLASS", help="Class of the network, a torch Module.")
    ],
    weights: Annotated[
        Path, typer.Option(help="State dict or checkpoint (.pt, .pth) or .safetensors.")
    ],
    spec: Annotated[Path, typer.Option(help="What the network takes and gives (JSON).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Package folder.")],
    config: Annotated[
        Path | None, typer.Option(help="Keyword arguments of the class (JSON).")
    ] = None,
    weights_key: Annotated[
        str | None, typer.Option(help="Where in a checkpoint the state dict is.")
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="Model card (Markdown); without it one from the spec.")
    ] = None,
    licence: Annotated[Path | None, typer.Option(help="Licence text of the weights.")] = None,
    pair: Annotated[
        tuple[Path, Path, Path, Path] | None,
        typer.Option(
            metavar="MOVING FIXED MOVING_LABELS FIXED_LABELS",
            help="Prove the package on this pair instead of a generated one.",
        ),
    ] = None,
    precisions: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Precisions to try, such as float32,bfloat16,float16,int8; without it those of "
            "the spec. Kept are those that stay within its tolerances and are faster here.",
        ),
    ] = None,
    allow_failed_parity: Annotated[
        bool,
        typer.Option(
            "--allow-failed-parity",
            help="Write a package that differs from its network, marked so for ever.",
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Export a trained PyTorch network as a model package, proved to compute the same."""
    if find_spec("torch") is None:
        from segreg.engine.errors import BackendError

        raise BackendError("export needs PyTorch; pip install 'segreg[export]' brings it.")
    from segreg.export import export as write_package
    from segreg.export import load_network

    if "" not in sys.path:
        sys.path.insert(0, "")  # the network's module lies where the user is
    trained = load_network(network, weights, config=config, key=weights_key)
    package = write_package(
        trained,
        spec,
        output,
        card=card,
        licence=licence,
        pair=pair,
        precisions=None if precisions is None else [p.strip() for p in precisions.split(",")],
        allow_failed_parity=allow_failed_parity,
        progress=lambda stage: console.say(stage, quiet=quiet),
    )
    for note in package.notes:
        console.say(f"Note: {note}", quiet=quiet)
    typer.echo(f"{package.name} {package.version} written, parity in {output}/docs/parity.md")
