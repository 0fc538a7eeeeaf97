"""``segreg``: the commands joined, and what an error looks like to the person at the terminal.

Exit codes: 0 good; 1 the registration failed its quality thresholds; 2 bad input or wrong usage;
3 backend or device; 4 package; 70 a bug in segreg; 130 interrupted. An error is one sentence on
stderr; ``--debug`` (or ``SEGREG_DEBUG=1``) adds the traceback.
"""

from __future__ import annotations

import traceback
from typing import Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from segreg.cli.application import apply
from segreg.cli.assessment import quality
from segreg.cli.demonstration import demo
from segreg.cli.diagnosis import doctor
from segreg.cli.exporting import export
from segreg.cli.packages import packages
from segreg.cli.registration import register
from segreg.cli.reporting import report
from segreg.cli.segmentation import segment
from segreg.engine.errors import SegregError
from segreg.engine.version import __version__

BAD_INPUT, NO_DEVICE, BUG = 2, 3, 70

# Base of usage errors, which typer does not name.
_ClickException = cast("type[Exception]", typer.BadParameter.__mro__[2])
_TYPER_OWN = (typer.Exit, typer.Abort, _ClickException, BrokenPipeError)


class CommandGroup(TyperGroup):
    """Turns what a command raises into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _TYPER_OWN:
            raise
        except SegregError as error:
            _leave(ctx, str(error), error.exit_code)
        except MemoryError:
            _leave(ctx, "not enough memory for volumes of this size on this machine.", NO_DEVICE)
        except (OSError, ValueError, TypeError) as error:
            _leave(ctx, str(error) or type(error).__name__, BAD_INPUT)
        except Exception as error:
            sentence = f"{type(error).__name__}: {error}. This is a bug in segreg; please report it"
            _leave(ctx, f"{sentence} with the output of segreg --debug.", BUG)


def _leave(ctx: Any, sentence: str, code: int) -> NoReturn:
    if ctx.params.get("debug"):
        typer.echo(traceback.format_exc(), err=True)
    typer.echo(f"segreg: {' '.join(sentence.split())}", err=True)
    raise typer.Exit(code)


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 good, 1 quality verdict failed, 2 bad input, 3 backend or device, "
    "4 package, 70 a bug in segreg.",
)
for command in (register, segment, apply, quality, report, doctor, demo, export):
    app.command()(command)
app.add_typer(packages, name="packages")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"segreg {__version__}")
        raise typer.Exit()


@app.callback()
def start(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and leave."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="SEGREG_DEBUG", help="Show tracebacks of errors.")
    ] = False,
) -> None:
    """Register medical images by their segmentations."""


def main() -> None:
    """Entry point of the ``segreg`` script."""
    app(prog_name="segreg")
