"""``segreg doctor``: what runs on this machine, and why something does not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from segreg.cli import console, options

NO_BACKEND = 3


def doctor(as_json: options.AsJson = False) -> None:
    """Show what segreg finds here: processor, GPU, backends, packages.

    Ends with exit code 3 if no backend can run.
    """
    findings = _examine()
    if as_json:
        console.print_json(findings)
    else:
        _print_findings(findings)
    if not any(backend["usable"] for backend in findings["backends"]):
        raise typer.Exit(NO_BACKEND)


def _examine() -> dict[str, Any]:
    from segreg.engine.backends import availability
    from segreg.engine.errors import PackageError
    from segreg.engine.gpu_path import describe_gpu_path
    from segreg.engine.machine import describe_cupy, describe_machine
    from segreg.engine.package import load_package, shipped_packages
    from segreg.engine.version import __version__
    from segreg.kernels import get_threads

    packages = []
    for name, folder in shipped_packages().items():
        try:
            packages.append({"name": name, "version": load_package(folder).version, "fault": None})
        except PackageError as error:
            packages.append({"name": name, "version": None, "fault": str(error)})
    return {
        "segreg": __version__,
        "machine": asdict(describe_machine()),
        "kernel_threads": get_threads(),
        "backends": [
            {"name": b.name, "usable": b.usable, "version": b.version, "reason": b.reason}
            for b in availability()
        ],
        "cupy": dict(zip(("version", "reason"), describe_cupy(), strict=True)),
        "gpu_path": asdict(describe_gpu_path()),
        "packages": packages,
    }


def _print_findings(findings: dict[str, Any]) -> None:
    machine = findings["machine"]
    table = console.make_table(f"segreg {findings['segreg']}", ("What", "Found"), numbers=False)
    table.add_row("system", f"{machine['system']}, Python {machine['python']}")
    table.add_row("processor", machine["cpu"])
    table.add_row("instruction sets", _list_features(machine["features"]))
    table.add_row("threads", f"{machine['threads']}, kernels use {findings['kernel_threads']}")
    total, free = machine["memory_gib"], machine["free_memory_gib"]
    table.add_row(
        "memory", f"{console.number(total, 1)} GiB, {console.number(free, 1)} GiB of it free"
    )
    for gpu in machine["gpus"]:
        table.add_row("GPU", gpu)
    if machine["gpu_reason"]:
        table.add_row("GPU", f"none: {machine['gpu_reason']}")
    table.add_section()
    for backend in findings["backends"]:
        table.add_row(f"backend {backend['name']}", _join(backend))
    table.add_row("CuPy", _join(findings["cupy"]))
    table.add_row("GPU path", _gpu_path(findings["gpu_path"]))
    table.add_section()
    for package in findings["packages"]:
        table.add_row(f"package {package['name']}", package["version"] or package["fault"])
    if not findings["packages"]:
        table.add_row("packages", "none comes with this build")
    console.print_table(table)


def _join(found: dict[str, Any]) -> str:
    """Version and what stands in the way, as far as there are any."""
    return ", but ".join(part for part in (found["version"], found["reason"]) if part)


def _gpu_path(path: dict[str, Any]) -> str:
    """What a registration would use of a GPU, and what stands in the way."""
    if path["device"] is None:
        return f"none: {path['reason']}"
    free, total = (console.number(path[name], 1) for name in ("free_memory_gib", "memory_gib"))
    where = f"{path['device']}, {free} of {total} GiB free"
    if path["backend"] is None:
        return f"no network runs on the {where}: {path['reason']}"
    return f"{path['backend']} on the {where}; engines are kept in {path['engine_cache']}"


def _list_features(features: list[str] | tuple[str, ...] | None) -> str:
    if features is None:
        return "not told by this system"
    return ", ".join(features) or "none of those that speed up inference"
