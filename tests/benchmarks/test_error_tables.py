"""Tables of errors inside regions and at landmarks."""

from __future__ import annotations

from typing import Any

from benchmarks.error_tables import inside_section, landmarks_section
from tests.benchmarks.records import head


def inside_case(image: str, field: int, tool: str, **figures: float) -> dict[str, Any]:
    return {"id": f"inside/{image}/{field}/{tool}", **figures}


def table_of(section: str) -> list[list[str]]:
    lines = section.split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_inside_is_the_mean_over_fields() -> None:
    ours = [
        inside_case("ct", n, "auto", mean_voxels=0.2 * n, p95_voxels=1.0 * n, median=3.0)
        for n in (1, 2)
    ]
    other = inside_case("ct", 1, "greedy", mean_voxels=0.66, p95_voxels=1.64, median=8.0)
    section = inside_section(
        head("inside") | {"cases": [*ours, other, inside_case("ct", 2, "greedy")]}
    )
    names, _, row = table_of(section)
    assert names == ["image", "fields", "segreg", "Greedy"]
    assert row == ["ct", "2", "0.30 / 1.50, 3.0 s", "0.66 / 1.64, 8.0 s (1 of 2)"]


def test_landmarks_by_part_and_tool() -> None:
    def case(name: str, **parts: float) -> dict[str, Any]:
        errors = {
            part: {"landmarks": 51, "before_mm": 35.27, "mean_mm": mm}
            for part, mm in parts.items()
        }
        return {
            "dataset": "lung", "name": name, "pairs": 2, "median": 2.0, "parts": errors,
            "failed": [],
        }  # fmt: skip

    half = case("Half", upper=1.0)
    half["failed"] = [{"pair": "second"}]
    half["parts"]["upper"] |= {"landmarks": 20, "before_mm": 12.0}
    broken = {"dataset": "lung", "name": "Broken", "pairs": 2, "failed": [{}, {}]}
    cases = [case("segreg", upper=1.25, lower=1.5), case("Greedy", upper=1.75), half, broken]
    section = landmarks_section(head("landmarks") | {"threads": 2, "cases": cases})
    names, _, upper, lower = table_of(section)
    assert names[:5] == ["data", "where", "pairs", "landmarks", "before"]
    assert names[5:] == ["segreg", "Greedy", "Half", "Broken"]
    assert upper[:5] == ["lung", "upper", "2", "51", "35.27"]
    assert upper[5:] == ["1.25, 2.0 s", "1.75, 2.0 s", "1.00, 2.0 s (1 of 2)", "-"]
    assert lower == ["lung", "lower", "2", "51", "35.27", "1.50, 2.0 s", "-", "-", "-"]
