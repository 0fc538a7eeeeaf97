from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from segreg.engine.errors import InputError
from segreg.engine.files import OutputFolder, replace_file


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_file_appears_under_its_name_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "field.nii.gz"
    with replace_file(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("-field.nii.gz")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(tmp_path) == ["field.nii.gz"]


def test_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replace_file(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_missing_folder_full_disk_and_folder_as_target_are_input_errors(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"a\.txt: cannot be written \(No such file"),
        replace_file(tmp_path / "none" / "a.txt") as temporary,
    ):
        temporary.write_text("x")
    with (
        pytest.raises(InputError, match=r"a\.txt: cannot be written \(No space left"),
        replace_file(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="b: expected a file"), replace_file(tmp_path / "b"):
        pass
    assert names(tmp_path) == ["b"]


def test_output_folder_is_created_and_its_files_appear_together(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    with OutputFolder(folder) as output:
        output.path("a.txt").write_text("a")
        output.path("b.nii.gz").write_text("b")
        assert output.path("a.txt").read_text() == "a"  # the same path when asked again
        assert not (folder / "a.txt").exists()
    assert names(folder) == ["a.txt", "b.nii.gz"]


def test_failed_run_keeps_earlier_results_and_removes_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("earlier")
    with pytest.raises(RuntimeError), OutputFolder(tmp_path) as output:  # noqa: PT012
        output.path("a.txt").write_text("later")
        output.path("b.txt").write_text("later")
        raise RuntimeError
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "earlier"


def test_failed_run_removes_the_folders_it_made(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), OutputFolder(tmp_path / "x" / "y") as output:  # noqa: PT012
        output.path("a.txt").write_text("a")
        raise RuntimeError
    assert names(tmp_path) == []


def test_failed_rename_puts_earlier_results_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("earlier")
    replace = Path.replace

    def refuse_b(source: Path, target: Path) -> Path:
        if target.name == "b.txt" and source.read_text() == "later":
            raise PermissionError(errno.EACCES, "Permission denied")
        return replace(source, target)

    def write_three() -> None:
        with OutputFolder(tmp_path) as output:
            for name in ("a.txt", "b.txt", "c.txt"):
                output.path(name).write_text("later")
            monkeypatch.setattr(Path, "replace", refuse_b)

    with pytest.raises(InputError, match=r"b\.txt: cannot be written \(Permission denied"):
        write_three()
    assert names(tmp_path) == ["a.txt", "b.txt"]
    assert {p.read_text() for p in tmp_path.iterdir()} == {"earlier"}


def test_full_disk_inside_the_block_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left"), OutputFolder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("folder", ["file.txt", "file.txt/out"])
def test_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file.txt").write_text("in the way")
    with (
        pytest.raises(InputError, match=f"{Path(folder).name}: expected a folder to write"),
        OutputFolder(tmp_path / folder),
    ):
        pass
    assert names(tmp_path) == ["file.txt"]


def test_folder_that_refuses_files_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(InputError, match="Permission denied") as caught, OutputFolder(tmp_path):
        pass
    assert str(tmp_path.parent) not in str(caught.value)


def test_announced_but_unwritten_file_is_a_fault_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="never written"), OutputFolder(tmp_path) as output:
        output.path("a.txt")
    assert names(tmp_path) == []


def test_names_with_folders_and_names_of_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with OutputFolder(tmp_path) as output:
        with pytest.raises(ValueError, match="without a folder"):
            output.path("../a.txt")
        with pytest.raises(InputError, match=r"report\.html: expected a file"):
            output.path("report.html")
