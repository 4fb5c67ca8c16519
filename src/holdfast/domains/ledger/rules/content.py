"""What is kept of the content of an archived transfer: enough to tell whether a request asks for the same."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.rules.rulebook import (
    ASSET_NUMBERS,
    BALANCING_NUMBERS,
    KIND_NUMBERS,
    UNKNOWN_ASSET,
)

DIGEST_BYTES: Final = 16
_TAG: Final = 3
_ALL_OF_IT: Final = -1
_BIG: Final = 2**63 - 1
_FIXED: Final = struct.Struct("!Bqqqihh").pack


def digest(t: NewTransfer) -> bytes:
    """Return the first 16 bytes of SHA-256 over what was asked; nothing for what can never have been posted.

    Over a byte 3, debit, credit, the amount asked for (-1: all of the hold), code, asset, kind, and those of
    `balancing`, `pending_id`, `expires_at`, `over`, `settles` and `metadata` that it has, all written as in a
    leaf.
    """
    amount, over = _ALL_OF_IT if t.amount_minor is None else t.amount_minor, t.over_minor
    asset = ASSET_NUMBERS.get(t.asset, UNKNOWN_ASSET)
    if type(amount) is not int or not _ALL_OF_IT <= amount <= _BIG or asset == UNKNOWN_ASSET:
        return b""
    if over and (type(over) is not int or not 0 < over <= _BIG):
        return b""
    fixed = _FIXED(_TAG, t.debit, t.credit, amount, t.code, asset, KIND_NUMBERS[t.kind])
    more = chain.extension(
        balancing=BALANCING_NUMBERS[t.balancing],
        pending_id=None if t.pending_id is None else t.pending_id.bytes,
        expires_at=t.expires_at,
        over=over or None,
        settles=t.settles or None,
        metadata=chain.canonical(t.metadata) if t.metadata else None,
    )
    return sha256(fixed + more).digest()[:DIGEST_BYTES]


@dataclass(frozen=True, slots=True)
class Archived:
    """A transfer whose content is in an archive: only the digest of it is known here."""

    content: bytes

    def same(self, t: NewTransfer) -> bool:
        """Tell whether `t` asks for what this one was."""
        return digest(t) == self.content
