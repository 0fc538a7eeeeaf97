"""Two records of one kind side by side: what got faster or slower by more than noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from benchmarks.samples import noise

BEYOND = 2.0  # standard deviations of a single run, of both records together
FEWEST = 3  # samples that tell anything about noise


@dataclass(frozen=True)
class Change:
    """``ratio`` of the medians, new over old; ``noise`` of that ratio, None where unknown."""

    id: str
    old: float
    new: float
    unit: str
    noise: float | None

    @property
    def ratio(self) -> float:
        return self.new / self.old if self.old else math.inf

    @property
    def verdict(self) -> str:
        """``slower`` or ``faster`` beyond noise, or nothing."""
        if self.noise is None or abs(math.log(max(self.ratio, 1e-9))) <= BEYOND * self.noise:
            return ""
        return "slower" if self.ratio > 1 else "faster"


def compare_records(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[Change], list[str]]:
    """Changes of all times that both records have, and sentences about all others.

    Raises
    ------
    ValueError : records of two kinds.
    """
    if old["kind"] != new["kind"]:
        raise ValueError(
            f"compare: expected two records of one kind, got {old['kind']} and {new['kind']}."
        )
    before, after = _times(old), _times(new)
    changes = [
        Change(id, before[id]["median"], times["median"], times["unit"], _noise(before[id], times))
        for id, times in after.items()
        if id in before and before[id]["unit"] == times["unit"]
    ]
    notes = []
    if old["machine"] != new["machine"]:
        notes.append("The machines differ: ratios compare them as well.")
    for word, record in (("old", old), ("new", new)):
        wrong = [case["id"] for case in record["cases"] if not case.get("correct", True)]
        notes += [f"wrong in the {word} record, so without a time: {id}" for id in wrong]
    known = {change.id for change in changes}
    notes += [f"only in the old record: {id}" for id in before if id not in known]
    notes += [f"only in the new record: {id}" for id in after if id not in known]
    return changes, notes


def describe_changes(changes: list[Change]) -> list[str]:
    """One line each for the terminal."""
    width = max((len(change.id) for change in changes), default=0)
    lines = []
    for change in changes:
        noise = "noise unknown" if change.noise is None else f"+- {100 * change.noise:.0f} %"
        lines.append(
            f"{change.id:{width}}  {change.old:10.4g} {change.new:10.4g} {change.unit:2}  "
            f"{change.ratio:6.3f} {noise:13}  {change.verdict}".rstrip()
        )
    return lines


def _times(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every timed thing of a record: its cases, and the stages of a case."""
    found = {}
    for case in record["cases"]:
        if "samples" in case:
            found[case["id"]] = case
        for stage, summary in case.get("stages", {}).items():
            found[f"{case['id']}: {stage}"] = {**summary, "unit": case["unit"]}
    return found


def _noise(old: dict[str, Any], new: dict[str, Any]) -> float | None:
    if min(len(old["samples"]), len(new["samples"])) < FEWEST:
        return None
    return math.hypot(noise(old["samples"]), noise(new["samples"]))
