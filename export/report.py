"""What people read of an export: the table of its proof, and a card where none was written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from segreg.export.spec import Spec


def write_table(metadata: dict[str, Any], report: dict[str, Any]) -> str:
    """``docs/parity.md`` of a parity report."""
    parts = [
        f"# Parity of {metadata['name']} {metadata['version']}",
        f"Verdict: **{report['verdict']}**. The trained network in PyTorch against the exported "
        "one, as displacement in canvas cells.",
    ]
    if report["faults"]:
        parts.append("\n".join(f"- {fault}" for fault in report["faults"]))
    cases = ("backend", "precision", "regions", "size", "largest", "worst", "99.9 %", "allowed")
    parts.append(_table(cases, [_case(case) for case in report["cases"]]))
    if "torch" in report["pair"]:
        parts.append(f"Whole registration, {report['pair']['source']}:")
        whole = ("backend", "precision", "Dice", "change", "folded inside", "change")
        parts.append(_table(whole, _registrations(report["pair"])))
    if report["variants"]:
        parts.append("## Reduced precisions\n\n" + _variants(report["variants"]))
    if report["refused_by"]:
        refusals = [f"- {name}: {why}" for name, why in report["refused_by"].items()]
        parts.append("Backends that cannot run it:\n\n" + "\n".join(refusals))
    parts.append(_conventions(report["conventions"]))
    tools = ", ".join(f"{name} {version}" for name, version in report["made_with"].items())
    parts.append(f"Made with {tools}.")
    return "\n\n".join(parts) + "\n"


def write_card(spec: Spec, report: dict[str, Any]) -> str:
    """A model card from what the spec says; its author knows more and should write one."""
    metadata, settings = spec.metadata, spec.settings
    rows = [
        ("input", ", ".join(spec.channels)),
        ("placement", str(settings["placement"])),
        ("output", f"{spec.output.kind}, one vector for {spec.output.stride} canvas cells an axis"),
        ("authors", metadata["authors"]),
        ("licence", metadata["license"]),
        ("parity", f"{report['verdict']}, see parity.md"),
    ]
    use = metadata.get("intended_use", "Not stated by the authors.")
    return "\n\n".join(
        (f"# {metadata['name']}", metadata["description"], _table(("", ""), rows), "## Use", use)
    ) + "\n"


def _case(case: dict[str, Any]) -> Sequence[str]:
    return (
        case["backend"],
        case["precision"],
        f"{case['regions']} {case['input']}",
        "x".join(map(str, case["shape"])),
        f"{case['largest_displacement']:.3g}",
        f"{case['worst']:.2g}",
        f"{case['percentile_99_9']:.2g}",
        f"{case['allowed']:g}",
    )


def _registrations(pair: dict[str, Any]) -> Iterable[Sequence[str]]:
    torch = pair["torch"]
    yield "torch", "float32", f"{torch['dice']:.4f}", "", f"{torch['folding_percent']:.3f} %", ""
    for entry in pair["backends"]:
        yield (
            entry["backend"],
            entry["precision"],
            f"{entry['dice']:.4f}",
            f"{entry['dice_change']:+.4f}",
            f"{entry['folding_percent']:.3f} %",
            f"{entry['folding_change']:+.3f}",
        )


def _variants(variants: dict[str, Any]) -> str:
    """What was tried, what was kept, and why the rest was not."""
    columns = ("precision", "worst", "99.9 %", "Dice", "folded", "speed over float32", "verdict")
    rows, said = [], []
    for precision, variant in variants.items():
        speed = (
            f"{gain['speed_up']:.2f} in {backend} ({gain['capability']})"
            for backend, gain in variant["speed"].items()
        )
        figures = [
            "" if name not in variant else f"{variant[name]:{form}}"
            for name, form in (
                ("worst", ".2g"), ("percentile_99_9", ".2g"),
                ("dice_change", "+.4f"), ("folding_change", "+.3f"),
            )
        ]
        rows.append((precision, *figures, "; ".join(speed), variant["verdict"]))
        said += [f"- {precision} {variant['verdict']}: {reason}" for reason in variant["reasons"]]
        said += [f"- {precision}: {note}" for note in variant["notes"]]
    return "\n\n".join(part for part in (_table(columns, rows), "\n".join(said)) if part)


def _conventions(found: dict[str, Any]) -> str:
    said = [f"Conventions: {found['conventions']}."]
    said += [f"Doubt: {doubt}." for doubt in found["doubts"]]
    return " ".join(said)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
