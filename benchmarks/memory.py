"""How much memory this process holds, as Linux counts it."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def peak_mib() -> float:
    """Most memory this process has held, MiB.

    A child inherits its parent's peak in ``ru_maxrss``; VmHWM is its own.
    """
    if STATUS.exists():
        return _status_mib("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def growth_mib(run: Callable[[], Any]) -> float | None:
    """Most memory that one call of ``run`` adds, MiB; None where the system cannot tell."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None or not CLEAR.exists():
        return None
    run()  # what stays allocated after a first call is no cost of the next
    trim(0)  # the C library keeps what was freed, and would hand it out again unseen
    CLEAR.write_text(RESET_PEAK)
    before = _status_mib("VmRSS")
    run()
    return max(0.0, _status_mib("VmHWM") - before)


def _status_mib(name: str) -> float:
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) / 1024
