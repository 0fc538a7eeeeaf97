"""A keyring refuses what its keys did not sign, and what was altered afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from segreg.engine.errors import InputError, PackageError
from segreg.engine.package import load_package, open_package, write_checksums
from segreg.engine.runtime import Engine
from segreg.engine.signature import check_signature, read_keyring, sign_package

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519


def write_key(folder: Path, name: str, key: Any = None, password: bytes | None = None) -> Path:
    """``name.pem`` and, as a keyring, ``name.ring``."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    lock = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, lock)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / f"{name}.pem").write_bytes(private)
    (folder / f"{name}.ring").write_bytes(b"# of the authors\n" + public)
    return folder / f"{name}.pem"


@pytest.fixture
def package(tmp_path: Path, tiny_package: Path) -> Path:
    return Path(shutil.copytree(tiny_package, tmp_path / "tiny"))


@pytest.fixture
def signed(package: Path, tmp_path: Path) -> Path:
    sign_package(package, write_key(tmp_path, "ours"))
    return package


def test_signed_package_loads(signed: Path, tmp_path: Path) -> None:
    ring = tmp_path / "ours.ring"
    digest = load_package(signed).digest
    assert load_package(signed, keyring=ring).digest == digest
    with Engine(signed, keyring=ring) as engine:
        assert engine.package.digest == digest
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path, "tiny")
    with open_package(archive, keyring=ring) as opened:
        assert opened.digest == digest


def test_one_of_several_keys_suffices(signed: Path, tmp_path: Path) -> None:
    write_key(tmp_path, "theirs")
    ring = tmp_path / "both.ring"
    rings = [tmp_path / "theirs.ring", tmp_path / "ours.ring"]
    ring.write_bytes(b"".join(path.read_bytes() for path in rings))
    assert len(read_keyring(ring)) == 2
    assert len(check_signature(signed, ring)) == 16


def test_unsigned(package: Path, tmp_path: Path) -> None:
    write_key(tmp_path, "ours")
    with pytest.raises(PackageError, match="it has no SIGNATURE"):
        Engine(package, keyring=tmp_path / "ours.ring")


def test_signed_by_somebody_else(signed: Path, tmp_path: Path) -> None:
    write_key(tmp_path, "theirs")
    with pytest.raises(PackageError, match=r"signed with key [0-9a-f]{16}, which is not in theirs"):
        load_package(signed, keyring=tmp_path / "theirs.ring")


def test_altered_file(signed: Path, tmp_path: Path) -> None:
    (signed / "LICENSE").write_text("altered")
    with pytest.raises(PackageError, match="checksum of LICENSE does not hold"):
        load_package(signed, keyring=tmp_path / "ours.ring")


def test_altered_file_and_checksums(signed: Path, tmp_path: Path) -> None:
    """Checksums alone would not notice."""
    (signed / "LICENSE").write_text("altered")
    write_checksums(signed)
    load_package(signed)
    with pytest.raises(PackageError, match="does not hold: SHA256SUMS is not what was signed"):
        load_package(signed, keyring=tmp_path / "ours.ring")


@pytest.mark.parametrize("content", ["", "ed25519 abc", "rsa a b"])
def test_damaged_signature(signed: Path, tmp_path: Path, content: str) -> None:
    (signed / "SIGNATURE").write_text(content)
    with pytest.raises(PackageError, match="SIGNATURE is damaged"):
        load_package(signed, keyring=tmp_path / "ours.ring")


@pytest.mark.parametrize("seal", ["!!", "AAAA"])
def test_wrong_signature(signed: Path, tmp_path: Path, seal: str) -> None:
    kind, name, _ = (signed / "SIGNATURE").read_text().split()
    (signed / "SIGNATURE").write_text(f"{kind} {name} {seal}")
    with pytest.raises(PackageError, match=r"the signature of key .* does not hold"):
        load_package(signed, keyring=tmp_path / "ours.ring")


def test_damaged_package_is_not_signed(package: Path, tmp_path: Path) -> None:
    (package / "LICENSE").write_text("altered")
    with pytest.raises(PackageError, match="checksum of LICENSE"):
        sign_package(package, write_key(tmp_path, "ours"))
    assert not (package / "SIGNATURE").exists()


def test_zip_is_not_signed(package: Path, tmp_path: Path) -> None:
    zipped = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", package))
    with pytest.raises(PackageError, match=r"expected the folder of a package.* Unpack"):
        sign_package(zipped, write_key(tmp_path, "ours"))


def test_encrypted_key(package: Path, tmp_path: Path) -> None:
    key = write_key(tmp_path, "locked", password=b"secret")
    with pytest.raises(InputError, match=r"locked\.pem is encrypted"):
        sign_package(package, key)
    with pytest.raises(InputError, match="and its password"):
        sign_package(package, key, password=lambda: "wrong")
    name = sign_package(package, key, password=lambda: "secret")
    assert check_signature(package, tmp_path / "locked.ring") == name


def test_keys_that_are_none(package: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    curve = write_key(tmp_path, "curve", ec.generate_private_key(ec.SECP256R1()))
    for key, sentence in (
        (tmp_path / "text", "expected a private key in PEM in text"),
        (tmp_path / "nowhere", "nowhere cannot be read"),
        (curve, "expected an Ed25519 key in curve.pem"),
    ):
        with pytest.raises(InputError, match=sentence):
            sign_package(package, key)
    damaged = tmp_path / "damaged"
    damaged.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    for ring, sentence in (
        (tmp_path / "text", "expected public keys in PEM in text, found none"),
        (tmp_path / "nowhere", "nowhere cannot be read"),
        (tmp_path / "curve.ring", "expected Ed25519 keys in curve.ring"),
        (damaged, "damaged holds a damaged key"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_keyring(ring)
