from __future__ import annotations

from benchmarks.tables import MARKERS, README, accuracy_table, newest_record


def test_readme_shows_the_newest_record() -> None:
    text = README.read_text(encoding="utf-8")
    assert accuracy_table(newest_record("accuracy")) in text
    assert all(text.count(marker) == 1 for marker in MARKERS)


def test_table_has_a_row_per_data_set() -> None:
    record = newest_record("accuracy")
    table = accuracy_table(record).splitlines()
    assert len(table) == 2 + len({case["dataset"] for case in record["cases"]})
    assert len({line.count("|") for line in table}) == 1
