"""Bytes: as people write them, and when there were not enough."""

from __future__ import annotations

import re

from segreg.engine.errors import InputError

UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
# The words of CUDA, cuDNN, cuBLAS, onnxruntime and TensorRT for the same thing.
OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate memory|failed to allocate|memory allocation fail"
    r"|memoryallocation|alloc_failed|is smaller than requested bytes|bad_alloc|outofmemory",
    re.IGNORECASE,
)


def parse_bytes(value: int | str, name: str = "memory") -> int:
    """Bytes of a number, or of text such as ``"4GiB"``, ``"500 MB"``.

    Raises
    ------
    InputError : anything else, or less than one byte.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    unit = UNITS.get(found[2].upper()) if found and isinstance(value, str) else None
    size = 0 if found is None or unit is None else int(float(found[1]) * unit)
    if size < 1:
        raise InputError(f"{name}: expected a size such as 4GiB or 500MB, got {value!r}.")
    return size


def format_bytes(size: float) -> str:
    """``size`` for people: three digits or more, and a unit."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if size >= 100 else f"{size:.3g} {units[0]}"


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether ``error``, or what caused it, says that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
            return True
        error = error.__cause__
    return False
