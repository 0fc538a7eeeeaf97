"""What every section of the README is made of."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def describe_run(record: Record) -> str:
    """Machine, backend and commit in a few words."""
    machine, backend = record["machine"], record.get("backend")
    words = [f"{machine['cores']} cores of {machine['cpu']}"]
    if backend:
        words.append(f"{backend['name']} in {backend['precision']}")
    changed = " and changes" if record.get("dirty") else ""
    return ", ".join([*words, f"commit {(record['commit'] or 'unknown')[:7]}{changed}"])
