"""segreg itself, measured like the others but warm; its cold start counts as preparation."""

from __future__ import annotations

from benchmarks.tools.base import DrivenBy, Outcome, Task, Tool


class Ours(Tool):
    """``Engine.register`` with the shipped package; driven by the image, with the body alone."""

    distributions = ("segreg",)

    def __init__(
        self, id: str, name: str, driven_by: DrivenBy, settings: str, refine: str | None = None
    ) -> None:
        super().__init__(id, name, driven_by, settings)
        self._refine = refine

    def prepare(self, task: Task) -> None:
        from segreg.engine.runtime import Engine

        self._pair = [task.moving, task.fixed]
        if self.driven_by == "labels":
            self._pair += [task.moving_labels, task.fixed_labels]
            self._engine = Engine("shapes", threads=task.threads)
        else:
            self._engine = Engine("shapes", threads=task.threads, segmenter="body")
        self._engine.register(*self._pair, refine=self._refine)

    def register(self) -> float:
        """Seconds of everything but reading: planning to warping and judging."""
        self._result = self._engine.register(*self._pair, refine=self._refine)
        return self._result.watch.compute

    def export(self) -> Outcome:
        return Outcome(self._result.displacement, self._result.warped)


TOOLS = [
    Ours(
        "segreg", "segreg", "labels",
        "Engine('shapes') as it comes, a second registration in one process, judging included.",
    ),
    Ours(
        "segreg-network", "segreg, not refined", "labels", "The same with refine='off'.", "off",
    ),
    Ours(
        "segreg-body", "segreg, body alone", "image",
        "The same without labels: Engine(segmenter='body'), refine='auto'.", "auto",
    ),
]  # fmt: skip
