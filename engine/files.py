"""Results appear whole or not at all: written under another name, renamed when complete."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from segreg.engine.errors import InputError

HIDDEN = ".segreg-"
DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it on success and removed on failure.

    It ends in the same suffixes, and lies in the same folder so that the rename is atomic. An
    existing file stays as it was until then.

    Raises
    ------
    InputError : the folder is missing or refuses, the disk is full, ``path`` is a folder.
    """
    path = Path(path)
    _check_target(path)
    temporary = _beside(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


class OutputFolder:
    """Several files that appear together or not at all.

    ::

        with OutputFolder("out") as output:
            volume.write(output.path("warped.nii.gz"))
            output.path("report.html").write_text(report)

    The files get their names when the block ends without an exception; otherwise they are removed
    and what an earlier run left in the folder stays. The folder is created where it is missing.

    Raises
    ------
    InputError : the folder cannot be created or written to, or the disk is full.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._temporary: dict[Path, Path] = {}
        self._created: list[Path] = []

    def path(self, name: str) -> Path:
        """Where to write the file that will be called ``name``."""
        if Path(name).name != name:
            raise ValueError(f"name: expected a file name without a folder, got {name!r}.")
        target = self.folder / name
        _check_target(target)
        return self._temporary.setdefault(target, _beside(target))

    def __enter__(self) -> OutputFolder:
        missing = [p for p in (self.folder, *self.folder.parents) if not p.exists()]
        try:
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                self._created.append(folder)
            probe = _beside(self.folder / "probe")  # found out before the work, not after it
            probe.touch()
            probe.unlink()
        except OSError as error:
            self._discard()
            raise InputError(
                f"{self.folder.name}: expected a folder to write results to, but it cannot be "
                f"created or written ({error.strerror}). Choose another folder."
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self._discard()
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            raise _unwritable(self.folder, error) from error

    def _commit(self) -> None:
        """Rename all; should one rename fail, put back what was there before."""
        for target, temporary in self._temporary.items():
            if not temporary.exists():
                raise FileNotFoundError(f"{target.name}: was announced but never written.")
        kept: dict[Path, Path] = {}
        placed: list[Path] = []
        try:
            for target, temporary in self._temporary.items():
                if target.exists():
                    backup = _beside(target)
                    target.replace(backup)
                    kept[target] = backup
                temporary.replace(target)
                placed.append(target)
        except OSError as error:
            for target in placed:
                target.unlink(missing_ok=True)
            for target, backup in kept.items():
                backup.replace(target)
            raise _unwritable(target, error) from error
        for backup in kept.values():
            backup.unlink()
        self._created.clear()

    def _discard(self) -> None:
        for temporary in self._temporary.values():
            temporary.unlink(missing_ok=True)
        for folder in reversed(self._created):
            if not any(folder.iterdir()):
                folder.rmdir()


def _beside(path: Path) -> Path:
    # The name comes last, so that the suffixes still say how to write it.
    return path.with_name(f"{HIDDEN}{secrets.token_hex(4)}-{path.name}")


def _check_target(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path.name}: expected a file to write, got a folder of that name.")


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path.name}: cannot be written ({error.strerror or error}). Check that the folder "
        "exists, that it may be written to and that the disk is not full."
    )
