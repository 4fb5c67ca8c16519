"""Reading the ledger into memory: the newest snapshot, and what came after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.base.errors import ensure
from holdfast.domains.ledger.rules import snapshots
from holdfast.domains.ledger.rules.book import Book
from holdfast.domains.ledger.rules.rulebook import Hold
from holdfast.domains.ledger.store import archived
from holdfast.domains.ledger.store.append import Head
from holdfast.platform.db import Connection
from holdfast.platform.exchange import Rows, exchange

_HEAD: Final = "select epoch, commits, batch, seq, at, hash from ledger.head"
_SNAPSHOT: Final = "select seq, payload from ledger.snapshots order by seq desc limit 1"
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
select id, debit, credit, asset, amount, kind, held, pending_id, expires_at, over, settles
from ledger.transfers
where seq > %b::bigint and kind <> 0 order by seq"""
_STEP: Final = 65_536
_BIGINT: Final = np.dtype([("length", ">i4"), ("value", ">i8")])
_ARRAY_HEAD_BYTES: Final = 20


async def head(connection: Connection) -> Head:
    """Read where the ledger stands."""
    row = await (await connection.execute(_HEAD)).fetchone()
    if row is None:
        raise RuntimeError("ledger.head has no row")
    return Head(*row)


async def load(connection: Connection) -> tuple[Book, Head]:
    """Read every balance and open hold. Nobody else may write meanwhile."""
    stands = await head(connection)
    early = [row[0].int for row in await (await connection.execute(_EARLY)).fetchall()]
    book = Book(stands.at, early)
    since = -1
    row = await (await connection.execute(_SNAPSHOT, binary=True)).fetchone()
    if row is not None:
        since = row[0]
        snapshots.restore(book, row[1])
    async for numbers, assets, rules in _accounts(connection, book.count):
        book.open(numbers, assets, rules)
    for place, closed, limit in await (await connection.execute(_CHANGED)).fetchall():
        book.closed[place], book.limit[place] = closed, limit
    for low in range(since, stands.seq, _STEP):
        [rows] = await exchange(connection, [(_POSTED, (_big(low), _big(min(low + _STEP, stands.seq))))])
        if not rows.is_null(0, 0):
            book.replay(*(_bigints(rows, column) for column in range(3)))
    await _replay_others(connection, book, since)
    ensure(await archived.end(connection) <= since, "the newest snapshot is newer than all that was archived")
    return book, stands


async def snapshot_seq(connection: Connection) -> int:
    """Return up to which transfer the newest snapshot goes; -1 when there is none."""
    row = await (await connection.execute("select max(seq) from ledger.snapshots")).fetchone()
    return -1 if row is None or row[0] is None else int(row[0])


async def _accounts(connection: Connection, first: int) -> AsyncIterator[tuple[npt.NDArray[Any], ...]]:
    while True:
        [rows] = await exchange(connection, [(_ACCOUNTS, (_int(first), _int(first)))])
        if rows.is_null(0, 0):
            return
        columns = tuple(_bigints(rows, column) for column in range(3))
        yield columns
        first += len(columns[0])


async def _replay_others(connection: Connection, book: Book, since: int) -> None:
    cursor = await connection.execute(_OTHERS, (since,), binary=True)
    for i, debit, credit, asset, amount, kind, held, pending_id, *terms in await cursor.fetchall():
        expires_at, over, settles = terms
        hold = Hold(debit, credit, asset, amount, expires_at, "open", over or 0, settles is True)
        book.replay_hold(UUID(int=i.int), hold, kind, amount, held or 0, pending_id)


def _bigints(rows: Rows, column: int) -> npt.NDArray[np.int64]:
    raw = rows.raw(0, column)
    return np.frombuffer(raw, _BIGINT, offset=_ARRAY_HEAD_BYTES)["value"].astype(np.int64)


def _big(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def _int(value: int) -> bytes:
    return value.to_bytes(4, "big", signed=True)
