"""``segreg doctor``: what runs on this machine, and why something does not."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from importlib.util import find_spec
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
    from segreg.engine.machine import describe_machine
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
        "cupy": _find_cupy(),
        "packages": packages,
    }


def _find_cupy() -> dict[str, str | None]:
    """Version of CuPy, which runs the kernels on a GPU, or why it is missing."""
    if find_spec("cupy") is None:
        return {"version": None, "reason": "not installed; pip install 'segreg[gpu]' brings it"}
    try:
        cupy = importlib.import_module("cupy")
        devices = int(cupy.cuda.runtime.getDeviceCount())
    except ImportError as error:
        return {"version": None, "reason": f"cannot be imported ({error})"}
    except RuntimeError as error:  # CuPy's CUDA errors
        return {"version": str(cupy.__version__), "reason": f"finds no GPU ({error})"}
    return {
        "version": str(cupy.__version__),
        "reason": None if devices else "finds no GPU",
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
        table.add_row(f"backend {backend['name']}", backend["version"] or backend["reason"])
    cupy = findings["cupy"]
    table.add_row("CuPy", ", ".join(part for part in (cupy["version"], cupy["reason"]) if part))
    table.add_section()
    for package in findings["packages"]:
        table.add_row(f"package {package['name']}", package["version"] or package["fault"])
    if not findings["packages"]:
        table.add_row("packages", "none comes with this build")
    console.print_table(table)


def _list_features(features: list[str] | tuple[str, ...] | None) -> str:
    if features is None:
        return "not told by this system"
    return ", ".join(features) or "none of those that speed up inference"
