from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from segreg.engine.errors import PackageError
from segreg.engine.package import (
    METADATA,
    load_package,
    open_package,
    shipped_packages,
    write_checksums,
)


@pytest.fixture
def package(tmp_path: Path, tiny_package: Path) -> Path:
    return Path(shutil.copytree(tiny_package, tmp_path / "tiny"))


def rewrite(package: Path, **changes: object) -> None:
    path = package / "configs/metadata.json"
    metadata = json.loads(path.read_text())
    for key, value in changes.items():
        target = metadata["segreg"] if key in metadata["segreg"] else metadata
        target[key] = value
    path.write_text(json.dumps(metadata))
    write_checksums(package)


def test_loads_and_names_itself(package: Path) -> None:
    loaded = load_package(package)
    assert loaded.name == "tiny"
    assert loaded.settings["canvas"] == [16]
    assert len(loaded.digest) == 64


def test_default_package_is_shipped_and_sound() -> None:
    assert load_package(shipped_packages()["shapes"]).licence == "Apache-2.0"


def test_zip_reads_like_its_folder(package: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path, "tiny")
    with open_package(archive) as loaded:
        assert loaded.digest == load_package(package).digest
        folder = loaded.folder
    assert not folder.exists()


def test_altered_file(package: Path) -> None:
    with (package / "models/registration.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(PackageError, match=r"checksum of models/registration.onnx does not hold"):
        load_package(package)


def test_missing_and_unlisted_files(package: Path) -> None:
    (package / "docs").mkdir(exist_ok=True)
    (package / "docs/extra.md").write_text("hello")
    with pytest.raises(PackageError, match=r"docs/extra.md is not listed"):
        load_package(package)
    (package / "docs/extra.md").unlink()
    (package / "LICENSE").unlink()
    with pytest.raises(PackageError, match="LICENSE is missing"):
        load_package(package)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, r"'surprise' was unexpected"),
        ({"canvas": [15]}, r"segreg/canvas/0: 15 is not a multiple of 2"),
        ({"placement": "everywhere"}, r"segreg/placement: 'everywhere' is not one of"),
        ({"passes": 0}, r"segreg/passes: 0 is less than the minimum"),
    ],
)
def test_schema_names_the_fault(package: Path, changes: dict, message: str) -> None:
    rewrite(package, **changes)
    with pytest.raises(PackageError, match=rf"^tiny: {METADATA} does not .*{message}.* Mend that"):
        load_package(package)


def test_unknown_name_lists_what_there_is() -> None:
    found = r"expected one of .*shapes.* found nothing"
    with pytest.raises(PackageError, match=found), open_package("nowhere"):
        pass


def test_checksum_list_cannot_reach_outside(package: Path) -> None:
    (package.parent / "secret").write_text("s")
    with (package / "SHA256SUMS").open("a") as file:
        file.write("0" * 64 + "  ../secret\n")
    with pytest.raises(PackageError, match="outside the package"):
        load_package(package)


def test_zip_cannot_reach_outside(tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../evil", "x")
    with pytest.raises(PackageError, match="leaves its folder"), open_package(path):
        pass


def test_zip_that_cannot_be_unpacked(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "locked.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(package / "SHA256SUMS", "locked/SHA256SUMS")
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1  # encrypted
    path.write_bytes(content)
    with pytest.raises(PackageError, match=r"cannot be unpacked .*encrypted"), open_package(path):
        pass


def test_checksum_list_that_is_none(package: Path) -> None:
    (package / "SHA256SUMS").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PackageError, match="SHA256SUMS is damaged"):
        load_package(package)


def test_zip_that_promises_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segreg.engine.package.MAX_UNPACKED", 10)
    path = tmp_path / "big.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "x" * 100)
    with pytest.raises(PackageError, match="unpacks to more"), open_package(path):
        pass
