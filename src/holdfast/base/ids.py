"""Ids: inside a time-ordered UUID (version 7, RFC 9562), outside a prefixed text such as `pay_01JD…`.

Time-ordered ids keep index pages hot: random ones halve the ledger's rate.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NewType
from uuid import UUID, SafeUUID

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
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_TO_BASE_32: Final = bytes.maketrans(_ALPHABET.encode(), b"0123456789abcdefghijklmnopqrstuv")
"""From Crockford's digits to those that `int(…, 32)` reads."""
_BODY: Final = re.compile(rf"[0-7][{_ALPHABET}]{{25}}").fullmatch
"""26 digits of 5 bits are 130; the first is below 8, so that it is 128."""


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
        high = (self._now_ms() & 0xFFFFFFFFFFFF) << 16 | 0x7000 | tail >> 64 & 0xFFF
        value = high << 64 | 0x8000000000000000 | tail & 0x3FFFFFFFFFFFFFFF
        if value <= self._last:
            value = self._last + 1
        self._last = value
        return uuid_of(value)


_SET: Final = object.__setattr__
_UNSAFE: Final = SafeUUID.unknown


def uuid_of(number: int) -> UUID:
    """Return the UUID of a number of 128 bits, which is taken at its word.

    `UUID(int=…)` in a third of its time.
    """
    made = object.__new__(UUID)
    _SET(made, "int", number)
    _SET(made, "is_safe", _UNSAFE)
    return made


def public(prefix: str, value: UUID) -> str:
    """Write an id for the outside: `public("pay", …)` is `pay_` and 26 characters of Crockford base 32."""
    return _written(prefix, value.int)


@lru_cache(4_096)
def _written(prefix: str, number: int) -> str:
    """Write two characters at a time.

    What was written is remembered for a while, since a payment writes half a dozen ids, some of them again
    and again; by number, since to hash and compare a UUID costs more than to write it.
    """
    high, low, pairs = number >> 60, number & 0xFFFFFFFFFFFFFFF, _PAIRS
    return (
        f"{prefix}_{pairs[high >> 60]}{pairs[high >> 50 & 1023]}{pairs[high >> 40 & 1023]}"
        f"{pairs[high >> 30 & 1023]}{pairs[high >> 20 & 1023]}{pairs[high >> 10 & 1023]}{pairs[high & 1023]}"
        f"{pairs[low >> 50]}{pairs[low >> 40 & 1023]}{pairs[low >> 30 & 1023]}"
        f"{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"
    )


def parse(prefix: str, text: str) -> UUID:
    """Read an id written by `public`. Raises: `IdInvalid`."""
    head, _, body = text.partition("_")
    if head != prefix or _BODY(body) is None:
        raise IdInvalid(f"An id that begins with {prefix}_ is expected here.")
    return uuid_of(int(body.encode().translate(_TO_BASE_32), 32))
