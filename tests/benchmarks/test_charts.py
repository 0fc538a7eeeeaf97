"""Pictures hold what the records say, and the same record gives the same file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")

from benchmarks.charts import draw_pictures
from tests.benchmarks.records import gpu_record, kernels_record, latency_record


def write(folder: Path, *records: dict[str, Any]) -> Path:
    (folder / "machine").mkdir(parents=True)
    for record in records:
        path = folder / "machine" / f"20300102T030405-{record['kind']}.json"
        path.write_text(json.dumps(record))
    return folder


def words(path: Path) -> list[str]:
    texts = ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()).strip() for text in texts]


def test_pictures(tmp_path: Path) -> None:
    results = write(tmp_path / "results", latency_record(), kernels_record())
    growth, stages, bandwidth = draw_pictures(tmp_path / "a", results)
    assert {"More regions, same image: power 1.00", "64\u00b3", "4"} <= set(words(growth))
    assert {"brain, 43 regions", "infer", "808", "1040 ms"} <= set(words(stages))
    assert {"warp/linear", "copy 20", "CPU, 2 threads"} <= set(words(bandwidth))
    assert "broken" not in words(bandwidth)
    for first, again in zip(
        (growth, stages, bandwidth), draw_pictures(tmp_path / "b", results), strict=True
    ):
        assert first.read_bytes() == again.read_bytes()


def test_gpu_stands_beside_the_cpu(tmp_path: Path) -> None:
    results = write(tmp_path / "results", kernels_record(), gpu_record())
    (bandwidth,) = draw_pictures(tmp_path / "a", results)
    assert {"Fast One", "3000", "copy 4000", "CPU, 2 threads", "copy 20"} <= set(words(bandwidth))


def test_one_series_is_enough(tmp_path: Path) -> None:
    record = latency_record()
    record["cases"] = [c for c in record["cases"] if c["id"].startswith("latency/regions/")][:2]
    record["growth"] = {"regions": record["growth"]["regions"]}
    growth, stages = draw_pictures(tmp_path / "a", write(tmp_path / "r", record))
    assert "Same regions" not in " ".join(words(growth))
    names = [word for word in words(stages) if "region" in word]
    assert names == ["1 region, 96x96x96", "2 regions, 96x96x96"]


def test_without_records_there_is_nothing_to_draw(tmp_path: Path) -> None:
    assert draw_pictures(tmp_path / "pictures", tmp_path) == []
