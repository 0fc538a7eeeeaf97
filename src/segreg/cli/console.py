"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from segreg.engine.quality import Quality
    from segreg.engine.timing import Stopwatch

MIN_WIDTH = 100  # of tables that go into a file or pipe

# Names and paths may hold brackets, which rich would read as markup.
_stderr = Console(markup=False, highlight=False, stderr=True)


def say(text: str, *, quiet: bool = False) -> None:
    """One line on stderr: notes, paths, progress."""
    if not quiet:
        typer.echo(text, err=True)


def print_json(content: Any) -> None:
    """``content`` on stdout, for programs."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def print_table(table: Table) -> None:
    """``table`` on stdout, never squeezed where no terminal limits it."""
    stdout = Console(markup=False, highlight=False)
    if not stdout.is_terminal:
        stdout.width = max(MIN_WIDTH, stdout.width)
    stdout.print(table)


def make_table(title: str, columns: Iterable[str], *, numbers: bool = True) -> Table:
    """A table whose first column is text and whose others are ``numbers``, to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if numbers and index else "left", overflow="fold")
    return table


@contextmanager
def show_progress(text: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A callback (done, in all) that draws a bar on stderr; None where nobody would see it."""
    if quiet or not _stderr.is_terminal:
        yield None
        return
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_stderr, transient=True) as bar:
        task = bar.add_task(text, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


@contextmanager
def show_phases(*, quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A callback (phase, done, in all) that draws a bar for each unfinished phase on stderr."""
    if quiet or not _stderr.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=_stderr, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def update(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=total)
            bar.update(tasks[phase], completed=done, total=total)
            if done >= total:
                bar.remove_task(tasks.pop(phase))

        yield update


def print_quality(quality: Quality) -> None:
    """Per-region table, summary and verdict on stdout."""
    table = make_table(
        "Quality per region",
        ("Region", "Dice before", "Dice", "HD95 mm", "Surface mm", "Mean Jac.", "Folded %"),
    )
    for region in quality.regions:
        table.add_row(
            region.name,
            number(region.dice_before, 3),
            number(region.dice, 3),
            number(region.hd95_mm, 2),
            number(region.surface_distance_mm, 2),
            number(region.mean_jacobian, 3),
            number(region.folding_percent, 3),
        )
    table.add_section()
    table.add_row(
        "mean",
        number(quality.dice_before, 3),
        number(quality.dice, 3),
        number(quality.hd95_mm, 2),
        "",
        "",
        number(quality.folding_inside_percent, 3),
    )
    print_table(table)
    typer.echo(
        f"Folded at seams {number(quality.folding_seams_percent, 3)} %, "
        f"in the background {number(quality.folding_background_percent, 3)} %; "
        f"SD of log Jacobian inside {number(quality.log_jacobian_sd, 3)}."
    )
    typer.echo(f"Verdict: {quality.verdict}")
    for fault in quality.faults:
        typer.echo(f"  {fault}")


def print_timings(watch: Stopwatch) -> None:
    """One line: seconds of computing, and of reading and writing."""
    seconds = watch.seconds
    typer.echo(
        f"Time: {watch.compute:.2f} s computing, {seconds.get('read', 0.0):.2f} s reading, "
        f"{seconds.get('write', 0.0):.2f} s writing."
    )


def number(value: float | None, digits: int) -> str:
    """``value`` with ``digits`` decimals; a dash where it is undefined."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
