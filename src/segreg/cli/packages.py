"""``segreg packages``: which there are, what they say of themselves, whether they are whole."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from segreg.cli import console, options

packages = typer.Typer(no_args_is_help=True, help="List, show and verify model packages.")

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
    table = console.make_table(f"Package {metadata['name']}", ("Key", "Value"), numbers=False)
    for key, value in _flatten(metadata):
        table.add_row(key, value)
    table.add_row("digest", digest)
    console.print_table(table)


@packages.command("verify")
def verify_package(package: NameOrPath, quiet: options.Quiet = False) -> None:
    """Check a package's checksums and metadata; exit code 4 where they do not hold."""
    from segreg.engine.package import open_package

    with open_package(package) as opened:
        if not quiet:
            typer.echo(f"{opened.name} {opened.version}: whole and valid, digest {opened.digest}")


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
