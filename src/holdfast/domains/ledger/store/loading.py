"""Reading the ledger into memory: the newest snapshot, and what came after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from itertools import islice
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.base.errors import ensure
from holdfast.domains.ledger.rules import snapshots
from holdfast.domains.ledger.rules.book import Book
from holdfast.domains.ledger.rules.rulebook import Hold
from holdfast.domains.ledger.store import archived, lookup
from holdfast.domains.ledger.store.head import Head
from holdfast.platform.db import Connection
from holdfast.platform.exchange import Rows, exchange

_HEAD: Final = "select epoch, commits, batch, seq, at, hash from ledger.head"
_SNAPSHOT: Final = """
select s.seq, p.payload from (select * from ledger.snapshots order by seq desc limit 1) s
cross join lateral (
    select 0 as part, s.payload union all
    select part, payload from ledger.snapshot_parts where seq = s.seq
) p order by p.part"""
_ACCOUNTS: Final = """
select array_agg(number), array_agg(asset::bigint), array_agg(rule::bigint) from (
    select number, asset, rule from ledger.accounts
    where place >= %b::integer and place < %b::integer + 65536 order by place
) a"""
_CHANGED: Final = """
select place, closed, limit_minor from ledger.accounts where closed or limit_minor <> 0"""
_EARLY: Final = "select unnest(early) from ledger.batches where early is not null"
_POSTED: Final = """
select array_agg(debit), array_agg(credit), array_agg(amount) from ledger.transfers
where seq > %b::bigint and seq <= %b::bigint and kind = 0"""
_OTHERS: Final = """
select array_agg(debit), array_agg(credit), array_agg(amount), array_agg(kind::bigint),
       array_agg(coalesce(held, 0)), array_agg(id) filter (where kind = 1), array_agg(pending_id)
       filter (where pending_id is not null)
from ledger.transfers
where seq > %b::bigint and seq <= %b::bigint and kind <> 0"""
_STEP: Final = 65_536
_HOLDS_AT_ONCE: Final = 4_096
"""After so many others may go on: who holds the seat says so in time."""
_UUID: Final = np.dtype([("length", ">i4"), ("value", "V16")])
_BIGINT: Final = np.dtype([("length", ">i4"), ("value", ">i8")])
_ARRAY_HEAD_BYTES: Final = 20


async def head(connection: Connection) -> Head:
    """Read where the ledger stands."""
    row = await (await connection.execute(_HEAD)).fetchone()
    if row is None:
        raise RuntimeError("ledger.head has no row")
    return Head(*row)


async def load(connection: Connection) -> tuple[Book, Head, int]:
    """Read every balance and open hold. Nobody else may write meanwhile.

    Return with them how many transfers came after the newest snapshot.
    """
    stands = await head(connection)
    early = [row[0].int for row in await (await connection.execute(_EARLY)).fetchall()]
    book = Book(stands.at, early)
    since = -1
    if parts := await (await connection.execute(_SNAPSHOT, binary=True)).fetchall():
        since = parts[0][0]
        holds = snapshots.restore(book, b"".join(part for _, part in parts))
        while some := dict(islice(holds, _HOLDS_AT_ONCE)):
            _reserve(book, some)
            await asyncio.sleep(0)
    async for numbers, assets, rules in _accounts(connection, book.count):
        book.open(numbers, assets, rules)
    for place, closed, limit in await (await connection.execute(_CHANGED)).fetchall():
        book.closed[place], book.limit[place] = closed, limit
    count = await _replay(connection, book, since, stands.seq)
    ensure(await archived.end(connection) <= since, "the newest snapshot is newer than all that was archived")
    return book, stands, count


async def _replay(connection: Connection, book: Book, since: int, last: int) -> int:
    """Apply the transfers after `since`, up to `last`, and return how many there are."""
    count = 0
    opened: set[bytes] = set()
    for low in range(since, last, _STEP):
        step = _big(low), _big(min(low + _STEP, last))
        posted, others = await exchange(connection, [(_POSTED, step), (_OTHERS, step)])
        if not posted.is_null(0, 0):
            columns = [_bigints(posted, column) for column in range(3)]
            book.replay(*columns)
            count += len(columns[0])
        if not others.is_null(0, 0):
            columns = [_bigints(others, column) for column in range(5)]
            book.replay_others(*columns)
            count += len(columns[0])
            opened |= _uuids(others, 5)
            settled = _uuids(others, 6)
            for i in settled - opened:
                del book.holds[UUID(bytes=i)]
            opened -= settled
    left = sorted(opened)
    for start in range(0, len(left), _HOLDS_AT_ONCE):
        ids = left[start : start + _HOLDS_AT_ONCE]
        some = await lookup.open_holds(connection, ids, since + 1, last + 1)
        ensure(len(some) == len(ids), "a hold that was opened and not settled is found by its id")
        _reserve(book, some)
    return count


async def _accounts(connection: Connection, first: int) -> AsyncIterator[tuple[npt.NDArray[Any], ...]]:
    while True:
        [rows] = await exchange(connection, [(_ACCOUNTS, (_int(first), _int(first)))])
        if rows.is_null(0, 0):
            return
        columns = tuple(_bigints(rows, column) for column in range(3))
        yield columns
        first += len(columns[0])


def _reserve(book: Book, holds: Mapping[UUID, Hold]) -> None:
    for i, hold in holds.items():
        book.reserve(i, hold)


def _uuids(rows: Rows, column: int) -> set[bytes]:
    if rows.is_null(0, column):
        return set()
    return set(np.frombuffer(rows.raw(0, column), _UUID, offset=_ARRAY_HEAD_BYTES)["value"].tolist())


def _bigints(rows: Rows, column: int) -> npt.NDArray[np.int64]:
    raw = rows.raw(0, column)
    return np.frombuffer(raw, _BIGINT, offset=_ARRAY_HEAD_BYTES)["value"].astype(np.int64)


def _big(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def _int(value: int) -> bytes:
    return value.to_bytes(4, "big", signed=True)
