"""Signatures of what is published: who says it, for which place, and until when it may be believed.

A page carries its signature in its last line, as a comment that browsers do not show; every other file is
named with its SHA-256 in `signatures.json`, which carries one as well. What is signed (Ed25519, RFC 8032)
begins with a line of our own, so that no signature made for something else can pass for one of a page:

    holdfast-status/1 LF path LF valid-until LF content

A reader needs the public key alone, and no network.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from holdfast.base.errors import Refused

MANIFEST: Final = "signatures.json"
KEY_PREFIX: Final = "hfs1_"
"""Begins a public key as it is written for people: this format, then base64url of 32 bytes."""
_LINE: Final = re.compile(
    rb"\n<!-- holdfast-status/1 path=([!-~]+) valid-until=([0-9TZ:-]+) signature=([A-Za-z0-9_-]+) -->\n?\Z"
)


class PublicKeyInvalid(Refused):
    """That is not a public key of a status page: it begins with hfs1_ and has 43 more characters."""

    code = "status_key_invalid"


class SignatureWrong(Refused):
    """It was not signed by that key, or was changed since."""

    code = "status_signature_wrong"


class SignatureOld(Refused):
    """It was signed by that key, but may no longer be believed: look for a newer one."""

    code = "status_signature_old"


@dataclass(frozen=True, slots=True)
class Genuine:
    """What a signature says: the place it was made for, and until when it may be believed."""

    path: str
    valid_until: datetime


class Signer:
    """Signs with the key of one status service."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def kept(cls, path: Path) -> Signer:
        """Return the signer whose key is kept in a file, which only its owner may read; make it if absent."""
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls(Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_bytes())))
        key = Ed25519PrivateKey.generate()
        with os.fdopen(handle, "wb") as file:
            file.write(base64.b64encode(key.private_bytes_raw()))
            file.flush()
            os.fsync(file.fileno())
        return cls(key)

    @property
    def public_key(self) -> str:
        """The key that others check with."""
        return KEY_PREFIX + _write(self._key.public_key().public_bytes_raw())

    def sign(self, path: str, valid_until: datetime, content: bytes) -> str:
        """Return the signature of `content` at `path`."""
        return _write(self._key.sign(_signed(path, _moment(valid_until), content)))

    def page(self, path: str, valid_until: datetime, html: bytes) -> bytes:
        """Return a page with its signature in the last line."""
        signature = self.sign(path, valid_until, html)
        said = f"path={path} valid-until={_moment(valid_until)} signature={signature}"
        return html + f"\n<!-- holdfast-status/1 {said} -->\n".encode()

    def manifest(self, valid_until: datetime, files: Mapping[str, str]) -> bytes:
        """Return the list of files with their SHA-256 (hex), signed as the file of this name."""
        listed = msgspec.json.encode(dict(sorted(files.items())))
        return msgspec.json.encode(
            _Manifest(
                self.public_key, _moment(valid_until), self.sign(MANIFEST, valid_until, listed), dict(files)
            )
        )


class _Manifest(msgspec.Struct, frozen=True):
    key: str
    valid_until: str
    signature: str
    files: dict[str, str]


def verify_page(page: bytes, key: str, now: datetime) -> Genuine:
    """Return what the signature of a page says.

    Raises: `PublicKeyInvalid`, `SignatureWrong`, `SignatureOld`.
    """
    found = _LINE.search(page)
    if found is None:
        raise SignatureWrong("The page carries no signature.")
    path, until = found[1].decode(), found[2].decode()
    _check(key, found[3].decode(), path, until, page[: found.start()])
    return _in_time(path, until, now)


def verify_folder(folder: Path, key: str, now: datetime) -> Genuine:
    """Check every file that the manifest of a folder names, and that there is none besides.

    Raises: `PublicKeyInvalid`, `SignatureWrong`, `SignatureOld`.
    """
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Manifest)
    except (OSError, msgspec.DecodeError):
        raise SignatureWrong(f"{folder} has no {MANIFEST} that can be read.") from None
    listed = msgspec.json.encode(dict(sorted(manifest.files.items())))
    _check(key, manifest.signature, MANIFEST, manifest.valid_until, listed)
    there = {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }
    if there.keys() != manifest.files.keys():
        odd = min(there.keys() ^ manifest.files.keys())
        raise SignatureWrong(f"{odd} is missing, or was added.")
    for name, path in there.items():
        if hashlib.sha256(path.read_bytes()).hexdigest() != manifest.files[name]:
            raise SignatureWrong(f"{name} was changed.")
    return _in_time(MANIFEST, manifest.valid_until, now)


def verify_text(path: str, until: datetime, content: bytes, signature: str, key: str) -> bool:
    """Tell whether a signature was made for that place and content. Raises: `PublicKeyInvalid`."""
    try:
        _check(key, signature, path, _moment(until), content)
    except SignatureWrong:
        return False
    return True


def _in_time(path: str, until: str, now: datetime) -> Genuine:
    valid_until = datetime.fromisoformat(until)
    if valid_until < now:
        raise SignatureOld(f"It is genuine, but was to be believed only until {until}. Look for a newer one.")
    return Genuine(path, valid_until)


def _check(key: str, signature: str, path: str, until: str, content: bytes) -> None:
    try:
        body = key.removeprefix(KEY_PREFIX)
        if body == key:
            raise PublicKeyInvalid
        public = Ed25519PublicKey.from_public_bytes(_read(body))
    except ValueError:
        raise PublicKeyInvalid from None
    try:
        public.verify(_read(signature), _signed(path, until, content))
    except (InvalidSignature, ValueError):
        raise SignatureWrong from None


def _signed(path: str, until: str, content: bytes) -> bytes:
    return b"holdfast-status/1\n%s\n%s\n%s" % (path.encode(), until.encode(), content)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read(text: str) -> bytes:
    """Read base64url as `_write` writes it, and in no other way. Raises: `ValueError`."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _write(raw) != text:
        raise ValueError
    return raw
