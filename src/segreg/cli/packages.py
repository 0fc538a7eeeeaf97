"""``segreg packages``: which there are, what they say of themselves, whether to trust them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segreg.cli import console, options

if TYPE_CHECKING:
    from segreg.engine.scores import ScoreCheck
    from segreg.engine.verification import BackendCheck

packages = typer.Typer(
    no_args_is_help=True, help="List, show, verify and sign model packages."
)

NameOrPath = Annotated[
    str, typer.Argument(help="Name of a shipped package, or path of a package folder or zip.")
]


@packages.command("list")
def list_packages(as_json: options.AsJson = False) -> None:
    """List the packages that come with segreg."""
    from segreg.engine.errors import PackageError
    from segreg.engine.package import load_package, shipped_packages

    rows: list[dict[str, Any]] = []
    for name, folder in shipped_packages().items():
        try:
            package = load_package(folder)
        except PackageError as error:
            rows.append({"name": name, "fault": str(error)})
        else:
            rows.append(
                {
                    "name": name,
                    "version": package.version,
                    "license": package.licence,
                    "description": package.metadata["description"],
                }
            )
    if as_json:
        console.print_json(rows)
        return
    columns = ("Package", "Version", "License", "Description")
    table = console.make_table("Shipped packages", columns, numbers=False)
    for row in rows:
        if "fault" in row:
            table.add_row(row["name"], "-", "-", f"damaged: {row['fault']}")
        else:
            table.add_row(*(str(row[key]) for key in ("name", "version", "license", "description")))
    if rows:
        console.print_table(table)
    else:
        typer.echo("No package comes with this build of segreg; give --package a path.")


@packages.command("show")
def show_package(package: NameOrPath, as_json: options.AsJson = False) -> None:
    """Show what a package says of itself: authors, licence, intended use, settings."""
    from segreg.engine.package import open_package

    with open_package(package) as opened:
        metadata, digest = opened.metadata, opened.digest
    if as_json:
        console.print_json({**metadata, "digest": digest})
        return
    settings = dict(metadata["segreg"])
    variants = settings.pop("variants", {})
    table = console.make_table(f"Package {metadata['name']}", ("Key", "Value"), numbers=False)
    for key, value in _flatten({**metadata, "segreg": settings}):
        table.add_row(key, value)
    table.add_row("digest", digest)
    console.print_table(table)
    if variants:
        _print_variants(variants)
    else:
        typer.echo("Proved in float32 alone.")


def _print_variants(variants: dict[str, Any]) -> None:
    columns = ("Precision", "Worst", "99.9 %", "Dice change", "Times float32's speed")
    table = console.make_table("Reduced precisions, voxels apart from the trained network", columns)
    for precision, variant in variants.items():
        speed = (
            f"{gain['speed_up']:.2g} in {backend} ({gain['capability']})"
            for backend, gain in variant["speed"].items()
        )
        change = variant.get("dice_change")
        table.add_row(
            precision,
            f"{variant['worst']:.2g}",
            f"{variant['percentile_99_9']:.2g}",
            "-" if change is None else f"{change:+.4f}",
            ", ".join(speed),
        )
    console.print_table(table)


@packages.command("verify")
def verify_package(
    package: NameOrPath,
    keyring: options.Keyring = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Check a package's checksums, metadata and signature, and its networks on this machine.

    Every installed backend, in every precision of the package that it and this machine have, is
    compared with onnxruntime on generated regions and images. Exit code 4 where something does
    not hold.
    """
    from segreg.engine.errors import PackageError
    from segreg.engine.package import open_package
    from segreg.engine.scores import check_segmentation
    from segreg.engine.verification import check_backends

    with open_package(package, keyring=keyring) as opened:
        notes, name = opened.notes, f"{opened.name} {opened.version}"
        if not (quiet or as_json):
            typer.echo(f"{name}: whole and valid, digest {opened.digest}")
        checks, scores = check_backends(opened), check_segmentation(opened)
        if as_json:
            console.print_json(
                {
                    "name": opened.name,
                    "version": opened.version,
                    "digest": opened.digest,
                    "notes": notes,
                    "backends": [check.as_dict() for check in checks],
                    "segmentation": [check.as_dict() for check in scores],
                }
            )
        elif not quiet:
            _print_checks(checks)
            _print_scores(scores)
    for note in notes:
        console.say(f"Note: {note}", quiet=quiet)
    every: list[BackendCheck | ScoreCheck] = [*checks, *scores]
    if wrong := [check for check in every if not check.sound]:
        raise PackageError(
            f"package {name}: {', '.join(f'{c.backend} in {c.precision}' for c in wrong)} computes "
            "something else than onnxruntime on this machine; use another backend or precision by "
            "name."
        )


def _print_checks(checks: list[BackendCheck]) -> None:
    columns = ("Backend", "Precision", "Worst", "99.9 %", "Allowed")
    table = console.make_table("Voxels apart from onnxruntime in float32", columns)
    for check in checks:
        if check.difference is None:
            refusal = f"{check.precision}, cannot run it: {check.refusal}"
            table.add_row(check.backend, refusal, "-", "-", "-")
            continue
        table.add_row(
            check.backend,
            check.precision,
            f"{check.difference.worst:.2g}",
            f"{check.difference.percentile_99_9:.2g}",
            f"{check.allowed:g}",
        )
    if checks:
        console.print_table(table)
    else:
        typer.echo("No registration network, or no backend but onnxruntime: nothing to compare.")


def _print_scores(checks: list[ScoreCheck]) -> None:
    if not checks:
        return
    columns = ("Backend", "Precision", "Probability", "Score", "Allowed", "Labels", "Allowed")
    title = "Segmentation apart from onnxruntime in float32; scores by their spread"
    table = console.make_table(title, columns)
    for check in checks:
        if check.refusal is not None:
            table.add_row(check.backend, f"cannot run it: {check.refusal}", *"-----")
            continue
        table.add_row(
            check.backend,
            check.precision,
            f"{check.worst_probability:.2g}",
            f"{check.worst_score:.2g}",
            f"{check.allowed:g}",
            f"{check.labels_changed:.2%}",
            f"{check.allowed_labels:.2%}",
        )
    console.print_table(table)


@packages.command("sign")
def sign(
    package: Annotated[Path, typer.Argument(help="Package folder.")],
    key: Annotated[Path, typer.Option(help="Ed25519 private key (PEM).")],
) -> None:
    """Sign a package; segreg register --require-signature then knows whose it is."""
    from segreg.engine.signature import sign_package

    def ask() -> str:
        return str(typer.prompt("Password of the key", hide_input=True, err=True))

    typer.echo(f"{package.name}: signed with key {sign_package(package, key, password=ask)}")


@packages.command("sbom")
def write_bill(
    package: NameOrPath,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; without it on stdout.")
    ] = None,
) -> None:
    """List what is inside a package and what it was made with (CycloneDX JSON)."""
    from segreg.engine.bill import make_bill
    from segreg.engine.files import replace_file
    from segreg.engine.package import open_package

    with open_package(package) as opened:
        bill = make_bill(opened)
    if output is None:
        console.print_json(bill)
    else:
        with replace_file(output) as temporary:
            temporary.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
        console.say(f"Written: {output}")


def _flatten(metadata: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested keys as ``segreg.output.kind``, values as text."""
    rows = []
    for key, value in metadata.items():
        if isinstance(value, dict):
            rows += _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            rows.append((f"{prefix}{key}", ", ".join(map(str, value))))
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return rows
