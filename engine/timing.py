"""Where the milliseconds go: a stopwatch with one lap per stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = (
    "read", "segment", "body", "plan", "gather", "infer", "integrate", "background", "fuse",
    "refine", "repair", "warp", "judge", "write",
)


class Stopwatch:
    """Seconds per stage; entering a stage again adds to it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @property
    def compute(self) -> float:
        """Seconds of everything but reading and writing."""
        return sum(s for name, s in self.seconds.items() if name not in ("read", "write"))
