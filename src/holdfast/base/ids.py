"""Ids. Inside, an id is a time-ordered UUID (version 7, RFC 9562); outside, a prefixed text such as `pay_01JD…`.

Time-ordered ids keep index pages hot: random ones halve the ledger's rate.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NewType
from uuid import UUID

from holdfast.base.errors import Refused

PaymentId = NewType("PaymentId", UUID)
AttemptId = NewType("AttemptId", UUID)
RefundId = NewType("RefundId", UUID)
TransferId = NewType("TransferId", UUID)
EventId = NewType("EventId", UUID)
MerchantId = NewType("MerchantId", UUID)
PayerId = NewType("PayerId", UUID)
InstrumentId = NewType("InstrumentId", UUID)
EndpointId = NewType("EndpointId", UUID)
AccountId = NewType("AccountId", int)
"""A ledger account: a positive 63-bit integer, chosen by whoever opens it."""

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES: Final = {c: i for i, c in enumerate(_ALPHABET)}
_TEXT_CHARS: Final = 26


class IdInvalid(Refused):
    """That is not an id of the kind expected here."""

    code = "id_invalid"


class IdSource:
    """Makes time-ordered ids. `now_ms` and `entropy` are injected, so that a simulation repeats by seed.

    Ids of one source increase strictly, also within one millisecond.
    """

    def __init__(self, now_ms: Callable[[], int], entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._now_ms = now_ms
        self._entropy = entropy
        self._last = 0

    def new(self) -> UUID:
        """Return a fresh UUID version 7."""
        tail = int.from_bytes(self._entropy(10), "big")
        value = (self._now_ms() & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | (tail >> 64 & 0xFFF) << 64
        value |= 0x2 << 62 | tail & 0x3FFFFFFFFFFFFFFF
        if value <= self._last:
            value = self._last + 1
        self._last = value
        return UUID(int=value)


def public(prefix: str, value: UUID) -> str:
    """Write an id for the outside: `public("pay", …)` is `pay_` and 26 characters of Crockford base 32."""
    number = value.int
    return prefix + "_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def parse(prefix: str, text: str) -> UUID:
    """Read an id written by `public`. Raises: `IdInvalid`."""
    head, _, body = text.partition("_")
    if head != prefix or len(body) != _TEXT_CHARS or not all(c in _VALUES for c in body):
        raise IdInvalid(f"An id that begins with {prefix}_ is expected here.")
    number = 0
    for c in body:
        number = number << 5 | _VALUES[c]
    if number >> 128:
        raise IdInvalid(f"An id that begins with {prefix}_ is expected here.")
    return UUID(int=number)
