"""``python -m benchmarks COMMAND``: every measurement of this project, and its report.

A command's module is imported when it is chosen: a machine needs only what that command needs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

# Command -> what it does. The module of the same name has add_arguments(parser) and run(options).
COMMANDS = {
    "kernels": "speed of each kernel on the CPU, beside outside implementations",
    "latency": "where the milliseconds of a registration go, and how they grow",
    "accuracy": "overlap, distance and folding on real data",
    "curve": "registration Dice against segmentation Dice, for any package and pairs",
    "inside": "error against known fields inside the outlines",
    "background": "agreement of the images outside the labels",
    "landmarks": "landmark error by the body region alone, beside other tools",
    "peers": "the same pairs with other registration tools",
    "resources": "registers and spills of the CUDA kernels, read from the compiler",
    "gpu": "tests, memory checks and bandwidth of the kernels on a GPU",
    "report": "tables and pictures of the newest records; compare two records",
}

WITHOUT_RECORD = ("report", "curve")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    listing = "\n".join(f"  {name:11}{purpose}" for name, purpose in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure segreg and keep a record of it.\n\ncommands:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND")
    command = parser.parse_args(words[:1]).command
    module = importlib.import_module(f"benchmarks.{command}")
    program = f"python -m benchmarks {command}"
    own = argparse.ArgumentParser(prog=program, description=module.__doc__)
    own.add_argument(
        "--results", type=Path, metavar="FOLDER", help="where records lie; benchmarks/results"
    )
    if command not in WITHOUT_RECORD:
        own.add_argument("--no-record", action="store_true", help="print only")
    module.add_arguments(own)
    code: int = module.run(own.parse_args(words[1:]))
    return code


if __name__ == "__main__":
    sys.exit(main())
