"""How two processes prove to each other that both know the token, before anything else is read.

    writer  -> caller   HFFW, protocol number (2 bytes), nonce (32)
    caller  -> writer   nonce (32), HMAC-SHA-256 of "caller" and both nonces, by the token's hash (32)
    writer  -> caller   HMAC-SHA-256 of "writer" and both nonces, by the token's hash (32)

Both nonces are fresh, so nothing of one greeting serves in another; the role is part of what is hashed, so
nobody's proof can be sent back to them. A caller that proves nothing is told nothing. Every message has one
length: who is not proven yet can make the other keep that many bytes and no more.
"""

from __future__ import annotations

import hmac
import os
from hashlib import sha256
from typing import Final

from holdfast.base.errors import ensure
from holdfast.domains.ledger.errors import WriterAway

PROTOCOL: Final = 2
"""Changes with every change of what crosses the wire."""
_MAGIC: Final = b"HFFW"
_NONCE_BYTES: Final = 32
_PROOF_BYTES: Final = 32
CHALLENGE_BYTES: Final = len(_MAGIC) + 2 + _NONCE_BYTES
REPLY_BYTES: Final = _NONCE_BYTES + _PROOF_BYTES
TOKEN_BYTES_MIN: Final = 16
"""128 bits, drawn at random: nobody guesses it."""


class Stranger(Exception):
    """The other end has not proven that it knows the token."""


def _proof(token: bytes, role: bytes, writers: bytes, callers: bytes) -> bytes:
    key = sha256(token).digest()  # HMAC itself takes a key and the same with zeros behind it for one
    return hmac.digest(key, b"holdfast forward %d %s\0" % (PROTOCOL, role) + writers + callers, "sha256")


def check_token(token: bytes) -> None:
    """Raises: `Broken` when the token is too short to be one."""
    ensure(len(token) >= TOKEN_BYTES_MIN, f"the token of the ledger has {TOKEN_BYTES_MIN} bytes or more")


class WritersGreeting:
    """The writer's side of one greeting: send `challenge`, then `answer` what comes back."""

    __slots__ = ("_nonce", "_token", "challenge")

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._nonce = os.urandom(_NONCE_BYTES)
        self.challenge = _MAGIC + PROTOCOL.to_bytes(2, "big") + self._nonce

    def answer(self, reply: bytes) -> bytes:
        """Return the writer's own proof. Raises: `Stranger`."""
        callers, proof = reply[:_NONCE_BYTES], reply[_NONCE_BYTES:]
        if not hmac.compare_digest(proof, _proof(self._token, b"caller", self._nonce, callers)):
            raise Stranger("a wrong token, or a greeting used before")
        return _proof(self._token, b"writer", self._nonce, callers)


class CallersGreeting:
    """The caller's side: send what `reply` makes of the challenge, then `check` the writer's proof."""

    __slots__ = ("_expected", "_token")

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._expected = b""

    def reply(self, challenge: bytes) -> bytes:
        """Return the caller's nonce and proof. Raises: `WriterAway` when it is no writer of this version."""
        if not challenge.startswith(_MAGIC):
            raise WriterAway("What answers at the address of the ledger's writer is no writer.")
        if challenge[len(_MAGIC) :][:2] != PROTOCOL.to_bytes(2, "big"):
            raise WriterAway(OTHER_VERSION)
        writers, callers = challenge[-_NONCE_BYTES:], os.urandom(_NONCE_BYTES)
        self._expected = _proof(self._token, b"writer", writers, callers)
        return callers + _proof(self._token, b"caller", writers, callers)

    def check(self, proof: bytes) -> None:
        """Raises: `Stranger` when the other end does not know the token."""
        if not self._expected or not hmac.compare_digest(proof, self._expected):
            raise Stranger("the writer does not know the token")


PROOF_BYTES: Final = _PROOF_BYTES
OTHER_VERSION: Final = (
    "This process and the ledger's writer run different versions. Nothing has moved; it goes on when both run"
    " the same."
)
