"""Engines that were built on this machine, kept for the next time.

An engine lies in one file of the user's cache folder: a line of JSON that says what it was built
from, for and with, and its hash; then the engine. It is read again only if all of that holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

FORMAT = 1  # of the header; a change makes all files stale


@dataclass(frozen=True)
class EngineKey:
    """What an engine depends on.

    Attributes
    ----------
    network : SHA-256 of the ONNX file and its weights.
    library, version : what built it, such as ``tensorrt_rtx`` 1.7.1.116.
    gpu : name of the GPU that it runs on.
    capability : compute capability of that GPU, such as ``8.6``.
    build : the options it was built with, such as its range of shapes.
    """

    network: str
    library: str
    version: str
    gpu: str
    capability: str
    build: str

    @property
    def file_name(self) -> str:
        """The same for all versions of the library: a newer engine replaces the older one."""
        parts = (self.network, self.gpu, self.capability, self.build)
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
        return f"{self.library}-{digest}.engine"


def cache_folder() -> Path:
    """``SEGREG_CACHE`` if it is set, else the folder that the system has for such files."""
    if told := os.environ.get("SEGREG_CACHE"):
        return Path(told).expanduser()
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(home) / "segreg" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "segreg"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segreg"


class EngineCache:
    """Finds, keeps and replaces engines; ``notes`` says what it had to do unasked."""

    def __init__(self, folder: Path, notes: list[str]) -> None:
        self.folder, self.notes = folder, notes

    def get_or_build(self, key: EngineKey, build: Callable[[], bytes]) -> tuple[bytes, bool]:
        """The engine, and whether it was kept from before."""
        engine = self.load(key)
        if engine is not None:
            return engine, True
        engine = build()
        self.store(key, engine)
        return engine, False

    def load(self, key: EngineKey) -> bytes | None:
        """The engine kept for ``key``; None, with a note, if its file is stale or damaged."""
        path = self.folder / key.file_name
        try:
            header, _, engine = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            fault: str | None = f"cannot be read ({error.strerror})"
        else:
            fault = _fault(header, engine, key)
        if fault is None:
            return engine
        self.notes.append(f"{path.name} in {path.parent} {fault}; the engine is built again.")
        return None

    def store(self, key: EngineKey, engine: bytes) -> None:
        """Keep ``engine``; a note if that fails, since it can be used all the same."""
        header = {"format": FORMAT, **asdict(key), "sha256": hashlib.sha256(engine).hexdigest()}
        self.write(key.file_name, json.dumps(header).encode() + b"\n" + engine)

    def read(self, name: str) -> bytes:
        """A file that TensorRT checks itself, such as its timing cache; empty where none is."""
        path = self.folder / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            self.notes.append(f"{path} cannot be read ({error.strerror}); going on without it.")
            return b""

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all, whoever else reads or writes it; a note if not."""
        unfinished = None
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                unfinished = Path(file.name)
                file.write(content)
            unfinished.replace(self.folder / name)
        except OSError as error:
            if unfinished is not None:
                unfinished.unlink(missing_ok=True)
            self.notes.append(
                f"{self.folder / name} cannot be written ({error.strerror}), so the work is done "
                "again next time; SEGREG_CACHE names another folder."
            )


def _fault(line: bytes, engine: bytes, key: EngineKey) -> str | None:
    """What is wrong with a file of this header and engine, None if nothing is."""
    try:
        header = json.loads(line)
        described = {name: header[name] for name in ("format", *asdict(key), "sha256")}
    except (ValueError, TypeError, KeyError):
        return "is damaged: its header cannot be read"
    for name, wanted in {"format": FORMAT, **asdict(key)}.items():
        if described[name] != wanted:
            return f"is stale: {name} was {described[name]}, is {wanted}"
    if hashlib.sha256(engine).hexdigest() != described["sha256"]:
        return "is damaged: its hash does not hold"
    return None


def file_part(text: str) -> str:
    """``text`` as part of a file's name: ``NVIDIA H200`` gives ``nvidia-h200``."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
