"""segreg itself, measured like the others but warm; its cold start counts as preparation."""

from __future__ import annotations

from benchmarks.tools.base import Outcome, Task, Tool


class Ours(Tool):
    """``Engine.register`` with the shipped package."""

    distributions = ("segreg",)

    def prepare(self, task: Task) -> None:
        from segreg.engine.runtime import Engine

        self._pair = task.moving, task.fixed, task.moving_labels, task.fixed_labels
        self._engine = Engine("shapes", threads=task.threads)
        self._engine.register(*self._pair)

    def register(self) -> float:
        """Seconds of everything but reading: planning to warping and judging."""
        self._result = self._engine.register(*self._pair)
        return self._result.watch.compute

    def export(self) -> Outcome:
        return Outcome(self._result.displacement, self._result.warped)


TOOLS = [
    Ours(
        "segreg", "segreg", "labels",
        "Engine('shapes') as it comes, a second registration in one process, judging included.",
    )
]  # fmt: skip
