"""Every balance and open hold at once, as bytes: what a new writer begins from."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.base.errors import Broken
from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.rules.book import Book
from holdfast.domains.ledger.rules.plan import Integers
from holdfast.domains.ledger.rules.rulebook import Hold

_MAGIC: Final = b"HFSNAP03"
_BEFORE: Final = b"HFSNAP02"
"""An earlier form: every number in 8 bytes, and without what is marked."""
_WIDTHS: Final[dict[int, type]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.int64}
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
    narrow = [_narrowed(a[:n]) for a in (*book.sums, book.entries, book.marked)]
    columns: list[npt.NDArray[Any]] = [book.places.numbers, book.asset[:n], book.rule[:n], *narrow]
    return [
        _MAGIC,
        struct.pack("!qq", n, len(holds)),
        bytes(a.dtype.itemsize if len(a) else 0 for a in narrow),
        *(column.tobytes() for column in columns),
        *holds,
    ]


def _narrowed(values: Integers) -> npt.NDArray[Any]:
    """Return numbers, none below zero, in as few bytes each as the greatest needs; nothing when all are 0."""
    most = int(values.max(initial=0))
    if not most:
        return values[:0]
    return values.astype(next(kind for size, kind in _WIDTHS.items() if most < 256**size))


def restore(book: Book, payload: bytes) -> Iterator[tuple[UUID, Hold]]:
    """Start from a snapshot's balances, and return its open holds. Raises: `Broken` when it is none."""
    view = memoryview(payload)
    magic = bytes(view[:8])
    if magic not in (_MAGIC, _BEFORE):
        raise Broken("this snapshot of the ledger was not written by this version")
    count, holds = struct.unpack_from("!qq", view, 8)
    at = 24

    def take(dtype: type) -> npt.NDArray[Any]:
        nonlocal at
        found: npt.NDArray[Any] = np.frombuffer(view, dtype, count, at)
        at += found.nbytes
        return found

    widths: Sequence[int] = [8] * 5
    if magic == _MAGIC:
        widths = view[at : at + 6]
        at += 6
    numbers, assets, rules = take(np.int64), take(np.int16), take(np.int8)
    book.open(numbers, assets.astype(np.int64), rules.astype(np.int64))
    for into, width in zip((*book.sums, book.entries, book.marked), widths, strict=False):
        if width:
            into[:count] = take(_WIDTHS[width])
    return map(_hold, _HOLD.iter_unpack(view[at : at + holds * _HOLD.size]))


def _hold(packed: tuple[Any, ...]) -> tuple[UUID, Hold]:
    i, debit, credit, asset, amount, expires, over, settles = packed
    moment = None if expires == _FOREVER else chain.moment(expires)
    return UUID(bytes=i), Hold(debit, credit, asset, amount, moment, "open", over, settles)
