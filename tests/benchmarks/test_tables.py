"""The README shows the newest record of each kind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.record import newest_record
from benchmarks.tables import (
    README,
    SECTIONS,
    accuracy_table,
    bandwidths,
    gpu_table,
    kernels_table,
    latency_section,
    make_section,
    markers,
    peers_table,
    stage_table,
    update_sections,
)
from tests.benchmarks.records import (
    gpu_record,
    kernels_record,
    latency_record,
    peers_record,
)


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results/machine"
    folder.mkdir(parents=True)
    for kind, record in (("latency", latency_record()), ("kernels", kernels_record())):
        (folder / f"20300102T030405-{kind}.json").write_text(json.dumps(record))
    return folder.parent


@pytest.mark.parametrize("kind", list(SECTIONS))
def test_readme_shows_the_newest_record(kind: str) -> None:
    text = README.read_text(encoding="utf-8")
    begin, end = markers(kind)
    assert text.count(begin) == text.count(end) == 1
    section = text.split(begin)[1].split(end)[0].strip()
    record = newest_record(kind)
    assert section == ("" if record is None else make_section(record))


def test_pictures_of_the_readme_are_there() -> None:
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / path).is_file(), path


def test_accuracy_has_a_row_per_data_set() -> None:
    record = newest_record("accuracy")
    assert record is not None
    table = rows(accuracy_table(record))
    assert len(table) == 2 + len({case["dataset"] for case in record["cases"]})
    assert len({len(row) for row in table}) == 1


def test_stages() -> None:
    table = rows(stage_table(latency_record()["cases"][0]))
    assert len({len(row) for row in table}) == 1
    by_name = {row[0]: row[1:] for row in table}
    assert by_name["infer"] == ["808", "815", "816", "80%"]
    assert by_name["read"] == ["10", "10", "10", ""]
    assert by_name["report in HTML, on top"][0] == "500"


def test_the_brain_refined_and_in_float32() -> None:
    text = latency_section(latency_record())
    refined = next(line for line in text.splitlines() if line.startswith("Refined"))
    assert "4040 ms of computing" in refined
    assert "infer 808" in refined
    assert refined.endswith("80% of it outside the network.")
    assert "3030 ms of computing" in text
    assert "10% of it outside the network." in text


def test_kernels() -> None:
    table = rows(kernels_table(kernels_record()))
    assert table[2:] == [
        ["warp/linear", "40.0", "5.0", "25%", "numpy 5.0x"],
        ["broken", "wrong", "", "", ""],
        ["jacobian_determinant", "20.0", "10.0", "50%", "numpy 5.0x"],
    ]


def test_gpu() -> None:
    table = rows(gpu_table(gpu_record()))
    assert table[2:] == [["warp/linear", "0.100", "3000", "75%"]]
    section = make_section(gpu_record())
    assert "one Fast One, 256x256x256 float32" in section
    assert "4000 GB/s" in section


def test_bandwidths_leave_out_threads_and_wrong_cases() -> None:
    operations, copy = bandwidths(kernels_record())
    assert operations == {"warp/linear": 5.0, "jacobian_determinant": 10.0}
    assert copy == 20


def test_peers() -> None:
    table = rows(peers_table(peers_record()))
    assert table[0] == ["tool", "driven by", "brain", "lung lobes"]
    assert table[2:] == [
        ["Segreg", "labels", "0.820, 2.5 s", "0.980, 0.6 s"],
        ["Other", "labels", "0.710, 61.0 s", "-"],
    ]
    assert "2 threads, 2 cores of A processor" in make_section(peers_record())


def test_update_writes_the_sections_that_have_records(results: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    sections = [f"{begin}\nold {begin[5:-4]}\n{end}" for begin, end in map(markers, SECTIONS)]
    readme.write_text("\n\n".join(["# Title", *sections, "The end."]))
    for _ in range(2):  # writing again changes nothing
        assert update_sections(readme, results) == ["latency", "kernels"]
        text = readme.read_text()
        assert make_section(latency_record()) in text
        assert make_section(kernels_record()) in text
        assert "old accuracy" in text
        assert "old latency" not in text
        assert text.startswith("# Title\n")
        assert text.endswith("The end.")


def test_readme_without_a_section_is_refused(results: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n")
    with pytest.raises(ValueError, match="expected one section <!-- latency -->"):
        update_sections(readme, results)
    assert readme.read_text() == "# Title\n"


def test_words_say_what_the_record_says() -> None:
    record: dict[str, Any] = latency_record()
    section = make_section(record)
    assert "43 regions, 160x160x160; 2 cores of A processor, openvino in bfloat16" in section
    assert "takes 2.03 s after 0.30 s of starting up" in section
    assert "to the power 1.00" in section
    assert "1 threads" not in section
    record["cases"] = record["cases"][1:]  # no brain
    assert "Two brains" not in make_section(record)


def test_command(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(f"{begin}\n{end}" for begin, end in map(markers, SECTIONS)))
    words = ["report", "--results", str(results), "--readme", str(readme)]
    assert main(words) == 0
    for name in ("growth", "stages", "bandwidth"):
        assert f"benchmarks/pictures/{name}.svg" in readme.read_text()
        assert (tmp_path / f"benchmarks/pictures/{name}.svg").is_file()
    assert "README.md: latency" in capsys.readouterr().out
