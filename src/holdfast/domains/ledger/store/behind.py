"""What is written behind the commits: marks, snapshots, segments and their indexes.

All of it follows from the transfers; none of it is waited for by anybody who posts, but for a new segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np

from holdfast.domains.ledger.rules.book import Marks
from holdfast.domains.ledger.store.head import Head
from holdfast.platform import arrays
from holdfast.platform.db import Connection

SEGMENT_BITS: Final = 20
"""Segment n holds the numbers from n * 2^20 (`SEGMENT_TRANSFERS_MAX`)."""

_PART_BYTES: Final = 2**19
_MARKS_AT_ONCE: Final = 50_000
_MARK: Final = """
insert into ledger.marks (account, seq, entries,
                          debits_posted, credits_posted, debits_pending, credits_pending)
select * from unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],
                     %b::bigint[])
on conflict do nothing"""
_SNAPSHOT: Final = """
insert into ledger.snapshots (seq, batch, at, payload) values (%b, %b, %b, %b) on conflict do nothing"""
_PART: Final = "insert into ledger.snapshot_parts values (%b, %b, %b) on conflict do nothing"
_NEWEST_SNAPSHOT: Final = "select at from ledger.snapshots order by seq desc limit 1"
_OLD_SNAPSHOTS: Final = """
delete from ledger.snapshots
where seq < (select seq from ledger.snapshots order by seq desc offset 1 limit 1)"""
_SEGMENTS: Final = """
select number, indexed, marked, last_seq from ledger.segments order by number"""
_INDEXED: Final = "select indexed from ledger.segments where number = %b"
_OPEN: Final = "select ledger.open_segment_v1(%b, %b, %b)"
_SEAL: Final = "select ledger.seal_segment_v1(%b)"
_MARKED: Final = """
update ledger.segments s set marked = true, span = %b
where number between %b and %b
      and not exists (select from ledger.segments o where o.number < %b and not o.marked)"""
_INDEX: Final = "select ledger.index_segment_v1(%b)"


class Segment(NamedTuple):
    """A segment: whether its history is indexed and its marks are there; once sealed, its last transfer."""

    number: int
    indexed: bool
    marked: bool
    last_seq: int | None


async def write_marks(connection: Connection, marks: Sequence[Marks]) -> None:
    """Write marks. The disk is not waited for."""
    accounts = np.concatenate([m.accounts for m in marks])
    seqs = np.repeat([m.seq for m in marks], [len(m.accounts) for m in marks])
    order = np.lexsort((seqs, accounts))
    columns = [
        accounts,
        seqs,
        np.concatenate([m.entries for m in marks]),
        *np.concatenate([m.sums for m in marks], axis=1),
    ]
    for start in range(0, len(order), _MARKS_AT_ONCE):
        some = order[start : start + _MARKS_AT_ONCE]
        async with connection.transaction():
            await connection.execute("set local synchronous_commit = off")
            await connection.execute(_MARK, [arrays.bigints(c[some]) for c in columns], binary=True)


async def write_snapshot(connection: Connection, head: Head, payload: bytes) -> None:
    """Keep a snapshot and drop all but the last two."""
    view = memoryview(payload)
    async with connection.transaction():
        first = head.seq, head.batch, head.at, bytes(view[:_PART_BYTES])
        await connection.execute(_SNAPSHOT, first, binary=True)
        for part, start in enumerate(range(_PART_BYTES, len(payload), _PART_BYTES), 1):
            more = head.seq, part, bytes(view[start : start + _PART_BYTES])
            await connection.execute(_PART, more, binary=True)
        await connection.execute(_OLD_SNAPSHOTS)


async def newest_snapshot(connection: Connection) -> datetime | None:
    """Return the time of the newest snapshot; None when there is none."""
    row = await (await connection.execute(_NEWEST_SNAPSHOT)).fetchone()
    return row[0] if row else None


async def segments(connection: Connection) -> list[Segment]:
    """Return all segments, oldest first."""
    rows = await (await connection.execute(_SEGMENTS)).fetchall()
    return [Segment(*row) for row in rows]


async def open_segment(connection: Connection, number: int, now: datetime, *, history: bool) -> bool:
    """Add a segment, if it is not there. Return whether its accounts' history is indexed.

    `history`: index it from the beginning.
    """
    row = await (await connection.execute(_INDEXED, (number,), binary=True)).fetchone()
    if row is not None:
        return bool(row[0])
    await connection.execute(_OPEN, (number, now, history), binary=True)
    return history


async def seal_segment(connection: Connection, number: int) -> None:
    """Note where a segment ended that is written no more."""
    await connection.execute(_SEAL, (number,), binary=True)


async def note_marked(connection: Connection, first: int, last: int) -> None:
    """Note that each account of some segments in a row, and of all before them, has its last mark."""
    await connection.execute(_MARKED, (first, first, last, first), binary=True)


async def index_segment(connection: Connection, number: int) -> None:
    """Build the indexes of a segment's history. Takes seconds."""
    await connection.execute("set statement_timeout = '10min'")
    try:
        await connection.execute(_INDEX, (number,), binary=True)
    finally:
        await connection.execute("reset statement_timeout")
