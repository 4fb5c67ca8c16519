"""Links by which a subscription is confirmed or ended: they carry their own proof, and nothing is kept."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final, Literal

from holdfast.base.errors import Refused

Purpose = Literal["confirm", "end"]
_MAC_BYTES: Final = 18


class LinkWrong(Refused):
    """The link is not from us, or is no longer of use: subscribe again."""

    code = "status_link_wrong"


class Links:
    """Makes and reads links with a key of its own."""

    def __init__(self, key: bytes, url: str) -> None:
        self._key = key
        self._url = url

    @classmethod
    def kept(cls, path: Path, url: str) -> Links:
        """Return the links whose key is kept in a file that only its owner may read; make it if absent."""
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls(path.read_bytes(), url)
        key = secrets.token_bytes(32)
        with os.fdopen(handle, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return cls(key, url)

    def to(self, purpose: Purpose, subscriber: int) -> str:
        """Return the link for a subscriber."""
        return f"{self._url}/subscriptions/{purpose}/{self.token(purpose, subscriber)}"

    def token(self, purpose: Purpose, subscriber: int) -> str:
        """Return what stands at the end of the link."""
        return f"{subscriber}.{self._mac(purpose, subscriber)}"

    def subscriber(self, purpose: Purpose, token: str) -> int:
        """Return whose link it is. Raises: `LinkWrong`."""
        number, _, mac = token[:100].partition(".")
        if not number.isdecimal() or len(number) > 15:
            raise LinkWrong
        if not hmac.compare_digest(self._mac(purpose, int(number)).encode(), mac.encode()):
            raise LinkWrong
        return int(number)

    def _mac(self, purpose: Purpose, subscriber: int) -> str:
        made = hmac.new(self._key, f"holdfast-link/1|{purpose}|{subscriber}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(made.digest()[:_MAC_BYTES]).decode()
