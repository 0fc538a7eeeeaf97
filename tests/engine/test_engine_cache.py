"""Engines are kept, found, and built again when they are not what was asked for."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from segreg.engine.backends import CudaOptions
from segreg.engine.backends.engine_build import build_engine, parse_network
from segreg.engine.backends.engine_cache import EngineCache, EngineKey, cache_folder, file_part
from tests.engine.networks import network

KEY = EngineKey(
    network="5" * 64, library="tensorrt_rtx", version="1.7.1", gpu="Some GPU", capability="8.6",
    build="batch 16",
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real one."""
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    path = network(tmp_path_factory.mktemp("network"))
    parsed = parse_network(rtx, path, "tensorrt-rtx")
    return build_engine(parsed, (16, 16, 16), CudaOptions(), capability=(8, 6))[0]


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache", [])


def refuse_to_build() -> bytes:
    raise AssertionError("built although it was kept")


def test_built_once_and_found_again(cache: EngineCache, engine: bytes) -> None:
    assert cache.get_or_build(KEY, lambda: engine) == (engine, False)
    assert EngineCache(cache.folder, cache.notes).get_or_build(KEY, refuse_to_build) == (
        engine, True,
    )
    assert cache.notes == []


def test_what_it_was_built_from_and_for_tells_engines_apart(cache: EngineCache) -> None:
    others = [
        replace(KEY, network="6" * 64),
        replace(KEY, library="tensorrt"),
        replace(KEY, gpu="Other GPU"),
        replace(KEY, capability="8.9"),
        replace(KEY, build="batch 8"),
    ]
    for number, key in enumerate([KEY, *others]):
        cache.store(key, b"engine %d" % number)
    for number, key in enumerate([KEY, *others]):
        assert cache.load(key) == b"engine %d" % number
    assert cache.notes == []


def test_engine_of_another_version_is_replaced(cache: EngineCache, engine: bytes) -> None:
    cache.store(KEY, engine)
    newer = replace(KEY, version="1.8.0")
    assert cache.get_or_build(newer, lambda: b"newer") == (b"newer", False)
    (note,) = cache.notes
    assert "is stale: version was 1.7.1, is 1.8.0; the engine is built again" in note
    assert cache.load(newer) == b"newer"
    assert len(list(cache.folder.iterdir())) == 1


@pytest.mark.parametrize("name", ["network", "gpu", "capability", "build"])
def test_file_under_a_wrong_name_is_not_believed(cache: EngineCache, name: str) -> None:
    cache.store(KEY, b"engine")
    other = replace(KEY, **{name: "other"})
    (cache.folder / KEY.file_name).rename(cache.folder / other.file_name)
    assert cache.load(other) is None
    assert f"is stale: {name} was" in cache.notes[0]


def test_one_changed_bit_is_noticed(cache: EngineCache, engine: bytes) -> None:
    cache.store(KEY, engine)
    path = cache.folder / KEY.file_name
    content = bytearray(path.read_bytes())
    content[-len(engine) // 2] ^= 16
    path.write_bytes(content)
    assert cache.get_or_build(KEY, lambda: engine) == (engine, False)
    assert "is damaged: its hash does not hold; the engine is built again" in cache.notes[0]
    assert cache.load(KEY) == engine
    assert len(cache.notes) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"not a header\nengine", b"[]\nengine", b'{"format": 1}\nengine', b"\xff\xfe\n",
     b"null\n"],
)
def test_damaged_header(cache: EngineCache, content: bytes) -> None:
    cache.folder.mkdir()
    (cache.folder / KEY.file_name).write_bytes(content)
    assert cache.load(KEY) is None
    assert "is damaged: its header cannot be read" in cache.notes[0]


def test_cut_short(cache: EngineCache, engine: bytes) -> None:
    cache.store(KEY, engine)
    path = cache.folder / KEY.file_name
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.load(KEY) is None
    assert "its hash does not hold" in cache.notes[0]


def test_other_format(cache: EngineCache) -> None:
    cache.store(KEY, b"engine")
    path = cache.folder / KEY.file_name
    header, _, engine = path.read_bytes().partition(b"\n")
    described = {**json.loads(header), "format": 0}
    path.write_bytes(json.dumps(described).encode() + b"\n" + engine)
    assert cache.load(KEY) is None
    assert "format was 0, is 1" in cache.notes[0]


def test_build_that_fails_leaves_nothing(cache: EngineCache) -> None:
    def fail() -> bytes:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.get_or_build(KEY, fail)
    assert not cache.folder.exists()


def test_write_that_fails_is_said_and_leaves_nothing(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the old file stays, no half of the new one does."""
    cache.store(KEY, b"old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert cache.get_or_build(replace(KEY, version="2"), lambda: b"new") == (b"new", False)
    assert "cannot be written (No space left on device)" in cache.notes[-1]
    assert "SEGREG_CACHE names another folder" in cache.notes[-1]
    monkeypatch.undo()
    assert [path.name for path in cache.folder.iterdir()] == [KEY.file_name]
    assert cache.load(KEY) == b"old"


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    cache = EngineCache(tmp_path / "cache", [])
    assert cache.get_or_build(KEY, lambda: b"engine") == (b"engine", False)
    assert len(cache.notes) == 2  # not read, not written
    assert cache.read("timings") == b""


def test_files_of_the_library(cache: EngineCache) -> None:
    assert cache.read("timings") == b""
    cache.write("timings", b"1")
    cache.write("timings", b"22")
    assert cache.read("timings") == b"22"
    assert cache.notes == []


def fill(folder: Path, number: int, times: int) -> None:
    """One of two processes that write and read the same engine over and over."""
    cache = EngineCache(folder, [])
    mine = bytes([number]) * 300_000
    for _ in range(times):
        cache.store(KEY, mine)
        found = cache.load(KEY)
        assert found is not None, cache.notes
        assert len(set(found)) == 1
        assert len(found) == len(mine)
    assert cache.notes == []


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Each finds a whole engine at any time, its own or the other's."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=fill, args=(tmp_path, n, 40)) for n in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == [KEY.file_name]


@pytest.mark.skipif(os.name != "posix", reason="permissions of other systems")
def test_nobody_else_can_write_it(cache: EngineCache) -> None:
    """An engine is code: the library runs what it is given."""
    cache.store(KEY, b"engine")
    mode = stat.S_IMODE((cache.folder / KEY.file_name).stat().st_mode)
    assert mode & (stat.S_IWGRP | stat.S_IWOTH) == 0


class TestFolder:
    @pytest.fixture(autouse=True)
    def clear(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("SEGREG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", "/home/someone")

    def test_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SEGREG_CACHE", "~/engines")
        assert cache_folder() == Path("/home/someone/engines")

    @pytest.mark.parametrize(
        ("platform", "variable", "value", "expected"),
        [
            ("linux", "NOTHING", "", "/home/someone/.cache/segreg"),
            ("linux", "XDG_CACHE_HOME", "/fast", "/fast/segreg"),
            ("darwin", "XDG_CACHE_HOME", "/fast", "/home/someone/Library/Caches/segreg"),
            ("win32", "LOCALAPPDATA", "/local", "/local/segreg/cache"),
        ],
    )
    def test_of_the_system(
        self, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, value: str,
        expected: str,
    ) -> None:
        monkeypatch.setattr("sys.platform", platform)
        monkeypatch.setenv(variable, value)
        assert cache_folder() == Path(expected)


def test_names_of_gpus_become_names_of_files() -> None:
    assert file_part("NVIDIA GeForce RTX 4090/PCIe") == "nvidia-geforce-rtx-4090-pcie"
