"""What a list of timed runs says: middle, tail, noise, and how time grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

TAIL = (50, 95, 99)
NORMAL = 1.4826  # standard deviation of normal samples over their median absolute deviation


def summarise(samples: Sequence[float]) -> dict[str, Any]:
    """The samples with their median and their 95th and 99th percentile, as records keep them."""
    p50, p95, p99 = (float(value) for value in np.percentile(samples, TAIL))
    return {"samples": list(samples), "median": p50, "p95": p95, "p99": p99}


def noise(samples: Sequence[float]) -> float:
    """Standard deviation of one sample over the median, from the median absolute deviation."""
    middle = np.median(samples)
    spread = np.median(np.abs(np.asarray(samples) - middle))
    return float(NORMAL * spread / middle) if middle > 0 else 0.0


def growth(sizes: Sequence[float], times: Sequence[float]) -> dict[str, float]:
    """How ``times`` grow with ``sizes``, by least squares.

    Returns
    -------
    exponent : b of ``time = a size^b``, a line through the logarithms.
    base, per_unit : of ``time = base + per_unit size``.
    """
    exponent = np.polyfit(np.log(sizes), np.log(times), 1)[0]
    per_unit, base = np.polyfit(sizes, times, 1)
    return {"exponent": float(exponent), "base": float(base), "per_unit": float(per_unit)}


def judge_bar(what: str, limit: float, found: float | None, *, least: bool) -> dict[str, Any]:
    """A promise beside what was found: at ``least`` the limit, or else at most.

    ``found`` is None where this run could not measure it; whether it is met is then None, too.
    """
    met = None if found is None else bool(found >= limit if least else found <= limit)
    return {"what": what, "limit": limit, "found": found, "met": met}


def describe_bar(bar: dict[str, Any]) -> str:
    """One line for the terminal."""
    if bar["found"] is None:
        return f"not measured  {bar['what']} (limit {bar['limit']:g})"
    word = "met" if bar["met"] else "MISSED"
    return f"{word:12}  {bar['what']}: {bar['found']:.3g} (limit {bar['limit']:g})"
