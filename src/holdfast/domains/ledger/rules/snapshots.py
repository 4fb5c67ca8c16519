"""Every balance and open hold at once, as bytes: what a new writer begins from."""

from __future__ import annotations

import struct
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.base.errors import Broken
from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.rules.book import Book
from holdfast.domains.ledger.rules.rulebook import Hold

_MAGIC: Final = b"HFSNAP03"
_BEFORE: Final = b"HFSNAP02"
"""An earlier form, without what is marked."""
_HOLD: Final = struct.Struct("!16sqqhqqq?")
_FOREVER: Final = -(2**63)


def payload_of(book: Book) -> list[bytes]:
    """Return every balance and open hold, to be joined to one payload."""
    n = book.count
    holds = [
        _HOLD.pack(
            i.bytes, h.debit, h.credit, h.asset, h.amount,
            _FOREVER if h.expires_at is None else chain.microseconds(h.expires_at), h.over, h.settles,
        )
        for i, h in book.holds.items()
    ]  # fmt: skip
    arrays = (book.numbers, book.asset, book.rule, book.sums, book.entries, book.marked)
    return [
        _MAGIC,
        struct.pack("!qq", n, len(holds)),
        *(np.ascontiguousarray(a[..., :n]).tobytes() for a in arrays),
        *holds,
    ]


def restore(book: Book, payload: bytes) -> None:
    """Start from a snapshot. Raises: `Broken` when it is none."""
    view = memoryview(payload)
    magic = bytes(view[:8])
    if magic not in (_MAGIC, _BEFORE):
        raise Broken("this snapshot of the ledger was not written by this version")
    count, holds = struct.unpack_from("!qq", view, 8)
    at = 24

    def take(dtype: type, rows: int = 1) -> npt.NDArray[Any]:
        nonlocal at
        found: npt.NDArray[Any] = np.frombuffer(view, dtype, rows * count, at)
        at += found.nbytes
        return found

    numbers, assets, rules = take(np.int64), take(np.int16), take(np.int8)
    book.open(numbers, assets.astype(np.int64), rules.astype(np.int64))
    book.sums[:, :count] = take(np.int64, 4).reshape(4, count)
    book.entries[:count] = take(np.int64)
    if magic == _MAGIC:
        book.marked[:count] = take(np.int64)
    for _ in range(holds):
        i, debit, credit, asset, amount, expires, over, settles = _HOLD.unpack_from(view, at)
        at += _HOLD.size
        moment = None if expires == _FOREVER else chain.moment(expires)
        book.reserve(UUID(bytes=i), Hold(debit, credit, asset, amount, moment, "open", over, settles))
