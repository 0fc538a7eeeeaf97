"""The newest record of each kind as tables in the README and pictures; two records compared."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.comparison import compare_records, describe_changes
from benchmarks.record import read_record
from benchmarks.tables import README, update_sections


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("OLD", "NEW"),
        help="print how the times of two records differ, and write nothing",
    )
    parser.add_argument("--readme", type=Path, default=README)


def run(options: argparse.Namespace) -> int:
    if options.compare:
        old, new = map(read_record, options.compare)
        changes, notes = compare_records(old, new)
        for line in [*describe_changes(changes), *notes]:
            print(line)
        return 0
    for kind in update_sections(options.readme, options.results):
        print(f"{options.readme.name}: {kind}")
    from benchmarks.charts import draw_pictures  # comparing records needs no matplotlib

    for path in draw_pictures(options.readme.parent / "benchmarks" / "pictures", options.results):
        print(path)
    return 0
