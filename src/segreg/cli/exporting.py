"""``segreg export``: a trained network in, a verified model package out."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from segreg.cli import console, options


def export(
    spec: Annotated[Path, typer.Option(help="What the network takes and gives (JSON).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Package folder.")],
    network: Annotated[
        str | None,
        typer.Option(metavar="MODULE:CLASS", help="Class of the network, a torch Module."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="State dict or checkpoint (.pt, .pth) or .safetensors.")
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(help="A segmentation network that is ONNX already, instead of those two."),
    ] = None,
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
    image: Annotated[
        Path | None, typer.Option(help="Prove a segmentation network on this image, too.")
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
    """Export a trained network as a model package, proved to compute the same.

    A spec with a segmentation block and no placement adds a segmentation network to the package.
    """
    if find_spec("torch") is None:
        from segreg.engine.errors import BackendError

        raise BackendError("export needs PyTorch; pip install 'segreg[export]' brings it.")
    from segreg.engine.errors import InputError
    from segreg.export import add_segmentation, load_network
    from segreg.export import export as write_package
    from segreg.export.segmentation import is_segmentation

    if "" not in sys.path:
        sys.path.insert(0, "")  # the network's module lies where the user is
    segments = is_segmentation(spec)
    trained: Any = onnx
    if network is not None and weights is not None:
        trained = load_network(network, weights, config=config, key=weights_key)
    elif onnx is None or not segments:
        raise InputError(
            "export: expected --network and --weights; --onnx is for segmentation networks."
        )

    def progress(stage: str) -> None:
        console.say(stage, quiet=quiet)

    if segments:
        package = add_segmentation(
            trained, spec, output, image=image, card=card, licence=licence,
            allow_failed_parity=allow_failed_parity, progress=progress,
        )
    else:
        package = write_package(
            trained, spec, output, card=card, licence=licence, pair=pair,
            allow_failed_parity=allow_failed_parity, progress=progress,
        )
    for note in package.notes:
        console.say(f"Note: {note}", quiet=quiet)
    parity = "segmentation_parity.json" if segments else "parity.md"
    typer.echo(f"{package.name} {package.version} written, parity in {output}/docs/{parity}")
