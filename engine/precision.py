"""Which arithmetic a package's network runs in: what its exporter proved, and what the machine has.

A package states under ``segreg.variants`` the reduced precisions that passed its exporter's bars,
and how much faster each was, by backend. Nothing else is ever chosen by itself: a package that
states none runs in float32.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from segreg.engine.errors import InputError, PrecisionError

FULL = "float32"
PRECISIONS = (FULL, "bfloat16", "float16", "int8")
AUTO = "auto"

FLOAT32_FILE = "models/registration.onnx"
# Files of the variants; bfloat16 needs none: OpenVINO executes the float32 graph in it.
FILES = {"float16": "models/registration.fp16.onnx", "int8": "models/registration.int8.onnx"}

# Share of the fastest variant's gain from which a more accurate one is taken instead: timings of an
# exporter on a busy machine repeat no better.
AS_FAST = 0.85

# What each backend can compute in besides float32.
REDUCED = {
    "openvino": ("bfloat16", "int8"),
    "onnxruntime": ("int8",),
    "onnxruntime-cuda": ("float16",),
    "tensorrt": ("float16",),
    "tensorrt-rtx": ("float16",),
}
# Flags of a processor that multiplies natively in a precision, the fastest first. Every GPU that
# the backends support has float16.
CAPABILITIES = {
    "bfloat16": ("amx_bf16", "avx512_bf16"),
    "int8": ("amx_int8", "avx512_vnni", "avx_vnni"),
}


@dataclass(frozen=True)
class Choice:
    """A precision, and the file of the package that holds the network in it."""

    precision: str
    file: str

    @classmethod
    def of(cls, precision: str) -> Choice:
        return cls(precision, FILES.get(precision, FLOAT32_FILE))


def checked_precision(asked: object) -> str:
    """``asked`` if it is one of ``PRECISIONS`` or "auto"; raises InputError."""
    if asked in (AUTO, *PRECISIONS):
        return str(asked)
    names = ", ".join(PRECISIONS)
    raise InputError(f"precision: expected {AUTO} or one of {names}, got {asked!r}.")


def choose_precision(
    settings: dict[str, Any], backend: str, flags: Collection[str] | None, asked: str = AUTO
) -> Choice:
    """The precision to run a package in, and its file.

    Parameters
    ----------
    settings : the package's ``segreg`` block.
    backend : name of the backend that shall run it.
    flags : of the processor, as Linux lists them; None where the system does not tell. Then only
        what is asked for by name leaves float32, and the backend refuses what it cannot do.
    asked : "auto" takes the fastest variant that was faster than float32 in this backend and that
        the processor has, or the most accurate that is about as fast; else a precision by name.

    Raises
    ------
    PrecisionError : package, backend or processor lacks the precision that was asked for.
    """
    variants: dict[str, Any] = settings.get("variants", {})
    if asked == FULL:
        return Choice.of(FULL)
    if asked != AUTO:
        return Choice.of(_checked(asked, variants, backend, flags))
    gains = {
        name: float(variant["speed"][backend]["speed_up"])
        for name, variant in variants.items()
        if backend in variant["speed"] and flags is not None and can_run(name, backend, flags)
    }
    enough = AS_FAST * max(gains.values(), default=0.0)
    return Choice.of(next((p for p in PRECISIONS if gains.get(p, 0.0) >= enough > 0), FULL))


def computes(precision: str, backend: str) -> bool:
    """Whether ``backend`` computes in ``precision`` on some machine."""
    return precision == FULL or precision in REDUCED.get(backend, ())


def can_run(precision: str, backend: str, flags: Collection[str] | None) -> bool:
    """Whether ``backend`` computes in ``precision`` on a processor with ``flags``."""
    needs_flags = precision in CAPABILITIES
    return computes(precision, backend) and (
        not needs_flags or capability(precision, flags) is not None
    )


def capability(precision: str, flags: Collection[str] | None) -> str | None:
    """The best flag that a processor has for ``precision``; None where it has none."""
    return next((flag for flag in CAPABILITIES.get(precision, ()) if flag in (flags or ())), None)


def _checked(
    precision: str, variants: dict[str, Any], backend: str, flags: Collection[str] | None
) -> str:
    if precision not in variants:
        has = ", ".join((FULL, *variants))
        raise PrecisionError(
            f"precision {precision}: the package was proved in {has} only. Take one of these, or "
            f"export it again with --precisions {precision}; docs/parity.md says what was tried."
        )
    if not computes(precision, backend):
        able = [name for name, reduced in REDUCED.items() if precision in reduced]
        raise PrecisionError(
            f"precision {precision}: backend {backend} does not compute in it, "
            f"{' and '.join(able)} would; name one of them, or leave the precision to segreg."
        )
    if flags is not None and not can_run(precision, backend, flags):
        raise PrecisionError(
            f"precision {precision}: this processor has no instructions for it (one of "
            f"{', '.join(CAPABILITIES[precision])}); leave the precision to segreg, or ask for "
            f"{FULL}."
        )
    return precision
