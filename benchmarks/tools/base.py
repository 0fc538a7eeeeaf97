"""What a registration tool must do to be measured beside segreg."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segreg.engine.field import Field
from segreg.engine.volume import Volume

DrivenBy = Literal["affine", "image", "labels"]


@dataclass(frozen=True)
class Task:
    """Paths of one pair, an empty folder to work in, and the CPU threads allowed."""

    moving: Path
    fixed: Path
    moving_labels: Path
    fixed_labels: Path
    folder: Path
    threads: int


@dataclass(frozen=True)
class Outcome:
    """What a tool found.

    Attributes
    ----------
    field : affine and warp composed into one dense displacement on the fixed grid.
    warped : the moving image as the tool's own code resamples it, linearly, through its own
        transforms: the proof that ``field`` says the same. NaN where the tool did not look.
    """

    field: Field
    warped: Volume


class Tool(ABC):
    """One tool in one setting; an instance registers one pair, in a process of its own.

    ``prepare`` reads, ``register`` is timed, ``export`` turns the outcome into our terms.

    Attributes
    ----------
    id : as given on the command line.
    name : as the tables call it.
    driven_by : what the warp follows: "image", "labels", or "affine" for no warp at all.
    settings : a sentence for the record.
    distributions : what must be installed.
    """

    distributions: ClassVar[tuple[str, ...]]

    def __init__(self, id: str, name: str, driven_by: DrivenBy, settings: str) -> None:
        self.id = id
        self.name = name
        self.driven_by = driven_by
        self.settings = settings

    def available(self) -> str | None:
        """None, or why the tool cannot run here."""
        missing = [name for name in self.distributions if not _is_installed(name)]
        return f"not installed: {', '.join(missing)}" if missing else None

    @abstractmethod
    def prepare(self, task: Task) -> None:
        """Load libraries and read what is needed."""

    @abstractmethod
    def register(self) -> float | None:
        """Register; the seconds, where the tool knows better than the clock around this call."""

    @abstractmethod
    def export(self) -> Outcome:
        """The field in our terms, and the tool's own warped image."""


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
