"""Model packages: a folder or zip with metadata, networks and checksums; verified before use."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from segreg.engine.errors import PackageError
from segreg.engine.expectation import Curve, read_curve

METADATA = "configs/metadata.json"
REGISTRATION = "models/registration.onnx"
SEGMENTATION = "models/segmentation.onnx"
CHECKSUMS = "SHA256SUMS"
SIGNATURE = "SIGNATURE"
MAX_UNPACKED = 2 << 30  # bytes; a zip that promises more is refused before anything is unpacked


@dataclass(frozen=True)
class Package:
    """A verified model package.

    Attributes
    ----------
    folder : where its files lie.
    metadata : the whole of ``configs/metadata.json``.
    digest : SHA-256 over the checksum list; names this exact package.
    """

    folder: Path
    metadata: dict[str, Any]
    digest: str

    @property
    def name(self) -> str:
        return str(self.metadata["name"])

    @property
    def version(self) -> str:
        return str(self.metadata["version"])

    @property
    def licence(self) -> str:
        return str(self.metadata["license"])

    @property
    def intended_use(self) -> str:
        return str(self.metadata.get("intended_use", ""))

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever uses the package must be told, every time."""
        blocks = (self.settings, self.settings.get("segmentation", {}))
        if all(block.get("parity") != "failed" for block in blocks):
            return ()
        return (
            f"package {self.name} {self.version} was exported although its network differs from "
            "the trained one (docs/parity.md); do not rely on its results.",
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The ``segreg`` block: what the engine must know and cannot find out."""
        return dict(self.metadata["segreg"])

    @cached_property
    def curve(self) -> Curve | None:
        """Accuracy over the labels' accuracy, if the package carries it."""
        return read_curve(self.folder)

    @property
    def network(self) -> Path:
        return self.folder / REGISTRATION

    @property
    def registers(self) -> bool:
        """Whether it holds a registration network."""
        return "placement" in self.settings

    @property
    def segments(self) -> bool:
        """Whether it holds a segmentation network."""
        return "segmentation" in self.settings


@contextmanager
def open_package(
    name_or_path: str | Path, *, keyring: str | Path | None = None
) -> Iterator[Package]:
    """Find, verify and load a package for the length of the ``with`` block.

    Parameters
    ----------
    name_or_path : name of a package that comes with segreg, a package folder, or a zip of one.
    keyring : file of public keys, one of which must have signed the package; None asks for none.

    Raises
    ------
    PackageError : not found, not signed, checksums that do not hold, or metadata that breaks the
        schema.
    """
    path = _locate(name_or_path)
    if path.is_dir():
        yield load_package(path, keyring=keyring)
        return
    with TemporaryDirectory(prefix="segreg-") as folder:
        yield load_package(_unzip(path, Path(folder)), keyring=keyring)


def load_package(folder: Path, *, keyring: str | Path | None = None) -> Package:
    """Verify the package in ``folder`` and read its metadata."""
    if keyring is not None:
        from segreg.engine.signature import check_signature  # needs cryptography

        check_signature(folder, Path(keyring))
    digest = _verify_checksums(folder)
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except ValueError as error:
        raise PackageError(
            f"{folder.name}: expected JSON in {METADATA}, could not parse it ({error})."
        ) from error
    if faults := metadata_faults(metadata):
        raise PackageError(
            f"{folder.name}: {METADATA} does not follow the schema: {'; '.join(faults)}. "
            "Mend that, or take the version of segreg that the package was made for."
        )
    _check_networks(folder, metadata["segreg"])
    package = Package(folder, metadata, digest)
    _ = package.curve  # read while the folder is known to be there, and refused if it is none
    return package


def shipped_packages() -> dict[str, Path]:
    """Name -> folder of the packages that come with segreg."""
    root = Path(str(resources.files("segreg.models")))
    return {p.parent.parent.name: p.parent.parent for p in sorted(root.glob(f"*/{METADATA}"))}


def write_checksums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over the files that make up the package in ``folder``."""
    lines = [f"{_sha256(folder / name)}  {name}" for name in package_files(folder)]
    (folder / CHECKSUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_checksums(folder: Path) -> dict[str, str]:
    """File -> SHA-256 as ``SHA256SUMS`` lists them; whether they hold is not checked here."""
    try:
        text = (folder / CHECKSUMS).read_text(encoding="utf-8")
    except ValueError as error:
        raise PackageError(
            f"{folder.name}: {CHECKSUMS} is damaged ({error}). Fetch the package again."
        ) from error
    return dict(line.split("  ", 1)[::-1] for line in text.splitlines() if "  " in line)


def package_files(folder: Path) -> list[str]:
    """Relative paths of the files in ``folder`` that make up a package, but for the checksums."""
    parts = [p for part in ("configs", "docs", "models") for p in (folder / part).rglob("*")]
    parts.append(folder / "LICENSE")
    return sorted(p.relative_to(folder).as_posix() for p in parts if p.is_file())


def _locate(name_or_path: str | Path) -> Path:
    shipped = shipped_packages()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_dir() or zipfile.is_zipfile(path):
        return path
    came = "a file that is neither folder nor zip" if path.exists() else "nothing of that name"
    raise PackageError(
        f"package {path.name!r}: expected one of {', '.join(shipped) or 'no shipped packages'}, "
        f"a package folder or its zip; found {came}."
    )


def _unzip(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > MAX_UNPACKED:
            raise PackageError(f"{path.name}: unpacks to more than {MAX_UNPACKED >> 30} GiB.")
        for entry in entries:
            parts = PurePosixPath(entry.filename)
            if parts.is_absolute() or ".." in parts.parts:
                raise PackageError(f"{path.name}: entry {entry.filename!r} leaves its folder.")
        try:
            archive.extractall(folder)
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise PackageError(  # RuntimeError: encrypted, or packed in a way unknown here
                f"{path.name}: cannot be unpacked ({error}). Fetch it again, or unpack it yourself "
                "and give the folder."
            ) from error
    roots = [p.parent for p in folder.rglob(CHECKSUMS)]
    if len(roots) != 1:
        raise PackageError(f"{path.name}: expected one {CHECKSUMS} inside, found {len(roots)}.")
    return roots[0]


def _verify_checksums(folder: Path) -> str:
    listing = folder / CHECKSUMS
    if not listing.is_file():
        raise PackageError(f"{folder.name}: expected a model package, but it has no {CHECKSUMS}.")
    listed = read_checksums(folder)
    if METADATA not in listed:
        raise PackageError(f"{folder.name}: {CHECKSUMS} does not list {METADATA}.")
    if extra := sorted(set(package_files(folder)) - set(listed)):
        raise PackageError(f"{folder.name}: {extra[0]} is not listed in {CHECKSUMS}.")
    for name, expected in listed.items():
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise PackageError(f"{folder.name}: {CHECKSUMS} names {name!r}, outside the package.")
        if not file.is_file():
            raise PackageError(f"{folder.name}: {name} is missing. Fetch the package again.")
        if (found := _sha256(file)) != expected:
            raise PackageError(
                f"{folder.name}: checksum of {name} does not hold: expected {expected[:12]}..., "
                f"got {found[:12]}.... The file was altered or damaged; fetch the package again."
            )
    return _sha256(listing)


def _check_networks(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse metadata that speak of a network that is not there, or not of one that is."""
    listed = read_checksums(folder)
    for key, network in (("placement", REGISTRATION), ("segmentation", SEGMENTATION)):
        if key in settings and network not in listed:
            raise PackageError(f"{folder.name}: {CHECKSUMS} does not list {network}.")
        if key not in settings and network in listed:
            raise PackageError(f"{folder.name}: {METADATA} says nothing of {network}.")
    for precision, variant in settings.get("variants", {}).items():
        if "file" in variant and variant["file"] not in listed:
            raise PackageError(
                f"{folder.name}: its {precision} variant, {variant['file']}, is missing. "
                "Fetch the package again."
            )


def metadata_faults(metadata: Any) -> list[str]:
    """Every way in which ``metadata`` breaks the schema."""
    schema = resources.files("segreg.engine").joinpath("schema/package.json")
    return schema_faults(metadata, json.loads(schema.read_text(encoding="utf-8")))


def schema_faults(content: Any, schema: dict[str, Any], root: str = "") -> list[str]:
    """Every way in which ``content`` breaks ``schema``, as ``place: what``.

    ``root`` is where ``content`` itself lies.
    """
    import jsonschema  # imported here: it is needed once per engine, not for `import segreg`

    found = jsonschema.Draft202012Validator(schema).iter_errors(content)
    faults = []
    for fault in sorted(found, key=lambda f: list(map(str, f.absolute_path))):
        place = [part for part in (root, *map(str, fault.absolute_path)) if part]
        message = fault.message
        if fault.validator == "not":  # a key that another one rules out
            place += fault.validator_value["required"]
            message = "does not go with the rest"
        faults.append(f"{'/'.join(place) or 'top level'}: {message}")
    return faults


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
