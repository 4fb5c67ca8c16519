"""Which segments a read must look into, and the names of their tables.

The transfers lie in one partition for each 2^20 numbers, of which there may be hundreds. A statement on all
of them costs its planner some 40 µs for each partition, and locks even those that it leaves out. So a
statement names the tables that it needs, or brings the range of numbers as parameters. For the same reason a
balance does not walk through every segment since an account's newest mark. Segments are marked in spans, of
one or a few in a row: each account that a span touches has a mark in it, at or after its last transfer there.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from psycopg.errors import UndefinedTable

from holdfast.domains.ledger.errors import HistoryArchived
from holdfast.platform.arrays import Packed
from holdfast.platform.db import Connection
from holdfast.platform.exchange import exchange

SEGMENT_BITS: Final = 20
"""Segment n holds the numbers from n * 2^20."""
END: Final = 2**63 - 1
"""Beyond every transfer's number."""

UNMARKED: Final = (
    "(select array_agg(number * 2 + indexed::integer order by number) from ledger.segments where not marked)"
)
"""The segments without all their marks, oldest first, as `tail_of` reads them."""
_TAIL: Final = f"select {UNMARKED}"
_AROUND: Final = """
select s.number, s.indexed from (select %b::integer as number) at
left join ledger.segments o on o.number = at.number
join ledger.segments s on s.number <= at.number and (s.number >= o.span or not s.marked) order by s.number"""
_INSIDE: Final = """
select file, last_at from ledger.archives
where segment = %b::integer and last_seq > %b::bigint and %b::bigint >= 0"""
_LAST_BEFORE: Final = """
select first_seq + transfers - 1 from ledger.batches where at < %s order by at desc, number desc limit 1"""
_LAST_AT: Final = """
select first_seq + transfers - 1 from ledger.batches where at <= %s order by at desc, number desc limit 1"""
_big: Final = struct.Struct("!q").pack
_int: Final = struct.Struct("!i").pack


class Segment(NamedTuple):
    """One segment. `indexed`: an account's transfers in it are found by index."""

    number: int
    indexed: bool

    @property
    def table(self) -> str:
        """The table that holds its transfers."""
        return table_of(self.number)

    @property
    def first(self) -> int:
        """The lowest number that a transfer in it may have."""
        return first_of(self.number)


T = TypeVar("T")
Tail = tuple[Segment, ...]
"""The segments without all their marks, oldest first; the newest, which is being written, is among them."""
_tails: Final[WeakKeyDictionary[Connection, Tail]] = WeakKeyDictionary()


def table_of(number: int) -> str:
    """Return the table that holds the transfers of a segment."""
    return f"ledger.transfers_{number:06d}"


def segment_of(seq: int) -> int:
    """Return the number of the segment of a transfer."""
    return seq >> SEGMENT_BITS


def first_of(number: int) -> int:
    """Return the lowest number that a transfer in a segment may have."""
    return number << SEGMENT_BITS


def bigint(value: int) -> Packed:
    """Pack one whole number of 64 bits. Cast it in the statement: `%b::bigint`."""
    return Packed(_big(value))


def integer(value: int) -> Packed:
    """Pack one whole number of 32 bits. Cast it in the statement: `%b::integer`."""
    return Packed(_int(value))


def tail_of(packed: Sequence[int] | None) -> Tail:
    """Read `UNMARKED`."""
    return tuple(Segment(value >> 1, bool(value & 1)) for value in packed or ())


async def tail(connection: Connection) -> Tail:
    """Read which segments lack marks."""
    return remember(connection, (await exchange(connection, [(_TAIL, ())]))[0].all()[0][0])


def remembered(connection: Connection) -> Tail | None:
    """Return what `tail` last said on this connection: segments may have come since, and some been marked."""
    return _tails.get(connection)


def remember(connection: Connection, packed: Sequence[int] | None) -> Tail:
    """Keep `UNMARKED` for this connection."""
    found = _tails[connection] = tail_of(packed)
    return found


async def some_not_indexed(connection: Connection) -> bool:
    """Tell whether there were segments whose history is not indexed, the last time that this one looked."""
    found = remembered(connection)
    return any(not segment.indexed for segment in (await tail(connection) if found is None else found))


async def around(connection: Connection, seq: int) -> Tail:
    """Return the segments that a balance after transfer number `seq` adds up, oldest first.

    Where that lies inside an archived segment there is none; at its end marks say it. Raises:
    `HistoryArchived`.
    """
    number = integer(segment_of(max(seq, 0)))
    rows, inside = await exchange(
        connection, [(_AROUND, (number,)), (_INSIDE, (number, bigint(seq), bigint(seq)))]
    )
    for file, last_at in inside.all():
        raise HistoryArchived(
            f"The transfers around that moment are archived in {file}. Balances are known again from "
            f"{last_at.isoformat(sep=' ', timespec='seconds')} on.",
            file=file,
        )
    return tuple(Segment(number, indexed) for number, indexed in rows.all())


async def steady(connection: Connection, ask: Callable[[], Awaitable[T]]) -> T:
    """Ask, and once more when a segment was archived meanwhile: its table was named, and then it was gone."""
    try:
        return await ask()
    except UndefinedTable:
        await tail(connection)
        return await ask()


def before(read: Tail) -> int:
    """Return the number below the first of some segments."""
    return (read[0].first if read else 0) - 1


async def last_seq(connection: Connection, at: datetime, *, before: bool = False) -> int:
    """Return the number of the newest transfer made until `at`, or `before` it; -1 when there is none."""
    cursor = await connection.execute(_LAST_BEFORE if before else _LAST_AT, (at,))
    row: tuple[Any, ...] | None = await cursor.fetchone()
    return -1 if row is None else row[0]
