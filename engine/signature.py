"""Who a package comes from: an Ed25519 signature (RFC 8032) over its checksum list.

``SIGNATURE`` holds one line, ``ed25519 KEY SIGNATURE``: the first 16 hexadecimal digits of the
SHA-256 of the public key, and the signature of ``SHA256SUMS`` in base64. A keyring is a text file
of public keys in PEM, one after the other; anything between them is ignored. Keys come from::

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout >> keyring.pem
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segreg.engine.errors import InputError, PackageError
from segreg.engine.package import CHECKSUMS, SIGNATURE, load_package

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


def sign_package(
    folder: Path, key: Path, *, password: Callable[[], str] | None = None
) -> str:
    """Write ``SIGNATURE`` into the package in ``folder``; gives the name of the key.

    Parameters
    ----------
    key : Ed25519 private key, PEM.
    password : asked only if the key is encrypted.

    Raises
    ------
    PackageError : no folder, or it does not hold what its checksums say.
    InputError : no such key.
    """
    if not folder.is_dir():
        raise PackageError(
            f"{folder.name}: expected the folder of a package; a signature is written into it. "
            "Unpack a zip first."
        )
    load_package(folder)
    private = _private_key(key, password)
    public = private.public_key()
    seal = base64.b64encode(private.sign((folder / CHECKSUMS).read_bytes())).decode()
    (folder / SIGNATURE).write_text(f"ed25519 {key_name(public)} {seal}\n", encoding="utf-8")
    return key_name(public)


def check_signature(folder: Path, keyring: Path) -> str:
    """Refuse a package that no key of ``keyring`` signed; gives the name of the key that did.

    Holds for the checksum list; that the files follow the list is checked apart.
    """
    keys = {key_name(key): key for key in read_keyring(keyring)}
    file = folder / SIGNATURE
    if not file.is_file() or not (folder / CHECKSUMS).is_file():
        raise PackageError(
            f"{folder.name}: expected a signed package, but it has no {SIGNATURE}. Ask its authors "
            "for a signed one, or sign it yourself: segreg packages sign."
        )
    parts = file.read_text(encoding="utf-8", errors="replace").split()
    if len(parts) != 3 or parts[0] != "ed25519":
        raise PackageError(
            f"{folder.name}: {SIGNATURE} is damaged: expected 'ed25519 KEY SIGNATURE'. "
            "Fetch the package again."
        )
    name = parts[1]
    if name not in keys:
        raise PackageError(
            f"{folder.name}: signed with key {name}, which is not in {keyring.name} "
            f"({', '.join(keys)}). Add that key only if you know whose it is."
        )
    from cryptography.exceptions import InvalidSignature

    try:
        seal = base64.b64decode(parts[2], validate=True)
        keys[name].verify(seal, (folder / CHECKSUMS).read_bytes())
    except (InvalidSignature, binascii.Error) as error:
        raise PackageError(
            f"{folder.name}: the signature of key {name} does not hold: {CHECKSUMS} is not what "
            "was signed. The package was altered; fetch it again from its authors."
        ) from error
    return name


def read_keyring(path: Path) -> list[Ed25519PublicKey]:
    """Public keys in the file at ``path``; raises ``InputError`` where there is none."""
    serialization, ed25519 = _cryptography()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"keyring: {path} cannot be read ({error.strerror}).") from error
    keys = []
    for block in _PEM.findall(content):
        try:
            key = serialization.load_pem_public_key(block)
        except ValueError as error:
            raise InputError(f"keyring: {path.name} holds a damaged key ({error}).") from error
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise InputError(
                f"keyring: expected Ed25519 keys in {path.name}, got a {type(key).__name__}."
            )
        keys.append(key)
    if not keys:
        raise InputError(
            f"keyring: expected public keys in PEM in {path.name}, found none. "
            "openssl pkey -in key.pem -pubout writes one."
        )
    return keys


def key_name(key: Ed25519PublicKey) -> str:
    """What people compare: 16 hexadecimal digits."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _private_key(path: Path, password: Callable[[], str] | None) -> Any:
    serialization, ed25519 = _cryptography()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"key: {path} cannot be read ({error.strerror}).") from error
    secret = None
    if b"ENCRYPTED" in content:
        if password is None:
            raise InputError(f"key: {path.name} is encrypted; its password is needed.")
        secret = password().encode()
    try:
        key = serialization.load_pem_private_key(content, secret)
    except ValueError as error:
        raise InputError(
            f"key: expected a private key in PEM in {path.name} and its password, got neither "
            "or only one. openssl genpkey -algorithm ed25519 writes a key."
        ) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(
            f"key: expected an Ed25519 key in {path.name}, got a {type(key).__name__}. "
            "openssl genpkey -algorithm ed25519 writes one."
        )
    return key


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise InputError(
            "signatures need the package cryptography; pip install 'segreg[sign]' brings it."
        ) from error
    return serialization, ed25519
