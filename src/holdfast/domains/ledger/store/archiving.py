"""Moves a segment that was written to an archive file out of the tables."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg

from holdfast.domains.ledger.errors import ArchiveRefused
from holdfast.domains.ledger.store.kept import ARCHIVE_LOCK, Row
from holdfast.domains.ledger.store.segments import table_of

_OLDEST: Final = """
select s.number, s.opened_at, s.last_at, s.last_seq, s.indexed and s.marked,
       exists (select from ledger.segments n where n.span = s.number and n.number > s.number),
       (select count(*) from ledger.segments n where n.number > s.number),
       (select coalesce(min(seq), -1) from ledger.snapshots)
from ledger.segments s order by s.number limit 1"""
_OPEN_HOLDS: Final = """
select count(*), min(h.at) from {table} h
where h.kind = 1 and not exists (select from ledger.transfers s where s.pending_id = h.id)"""
_SETTLED: Final = """
select h.id, s.seq, s.kind from {table} h join ledger.transfers s on s.pending_id = h.id where h.kind = 1"""
_MARK: Final = "select ledger.mark_segment_v1(%s)"
_BEFORE: Final = """
select coalesce((select hash from ledger.batches where number = %s), ''::bytea)"""
_NOTE: Final = """
insert into ledger.archives (segment, file, sha256, bytes, transfers, opened_at, last_at, last_seq,
                             archived_at)
values (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp())"""
_KEEP: Final = "copy ledger.archived (segment, first_id, ids, details, holds) from stdin (format binary)"
_DROP: Final = "select ledger.drop_segment_v1(%s)"
_LOCK_TIMEOUT_MS: Final = 100
_TRIES_MAX: Final = 100
_PAUSE_S: Final = 0.2


class Oldest(NamedTuple):
    """The oldest segment that is still in the tables.

    `ready`: its history is indexed and its marks are all there; `shared`: but only at the end of a longer
    span; `newer`: how many segments are newer; `snapshot_seq`: every snapshot is of this number or later.
    """

    number: int
    opened_at: datetime
    last_at: datetime | None
    last_seq: int | None
    ready: bool
    shared: bool
    newer: int
    snapshot_seq: int


class Written(NamedTuple):
    """The file of a segment."""

    name: str
    sha256: bytes
    bytes: int
    transfers: int


class Archiving:
    """One who archives, alone: on a session that holds the lock."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def oldest(self) -> Oldest | None:
        """Return the oldest segment, None when there is none."""
        row = self._connection.execute(_OLDEST).fetchone()
        return Oldest(*row) if row else None

    def open_holds(self, segment: int) -> tuple[int, datetime | None]:
        """Return how many holds of a segment are not settled, and when the oldest of them was made."""
        row = self._connection.execute(_OPEN_HOLDS.format(table=table_of(segment)).encode()).fetchone()
        return (row[0], row[1]) if row else (0, None)

    def settled(self, segment: int) -> dict[bytes, tuple[int, int]]:
        """Return, by the id of each hold of a segment, number and kind of what settled it."""
        cursor = self._connection.execute(_SETTLED.format(table=table_of(segment)).encode(), binary=True)
        return {i.bytes: (seq, kind) for i, seq, kind in cursor}

    def mark(self, segment: int) -> None:
        """Give the first segment of a span marks of its own."""
        self._connection.execute(_MARK, (segment,))

    def hash_before(self, batch: int) -> bytes:
        """Return the hash of the batch before, nothing for the first."""
        row = self._connection.execute(_BEFORE, (batch - 1,)).fetchone()
        return bytes(row[0]) if row else b""

    def move(self, oldest: Oldest, written: Written, rows: Iterable[Row]) -> None:
        """Note the file, keep what must be kept, and drop the table, in one transaction.

        Everybody who posts waits meanwhile for a moment; nobody for longer than `_LOCK_TIMEOUT_MS` while it
        gets its locks. Raises: `ArchiveRefused` when it does not get them.
        """
        kept = list(rows)
        for _ in range(_TRIES_MAX):
            try:
                with self._connection.transaction():
                    self._move(oldest, written, kept)
            except psycopg.errors.LockNotAvailable:
                time.sleep(_PAUSE_S)
            else:
                return
        raise ArchiveRefused(
            f"The table of segment {oldest.number} is in use without a pause. Its file is written; try again."
        )

    def _move(self, oldest: Oldest, written: Written, rows: list[Row]) -> None:
        facts = (
            oldest.number, *written, oldest.opened_at, oldest.last_at, oldest.last_seq,
        )  # fmt: skip
        self._connection.execute(_NOTE, facts)
        with self._connection.cursor() as cursor, cursor.copy(_KEEP) as copy:
            copy.set_types(["int4", "uuid", "bytea", "bytea", "bytea"])
            for ids, details, holds in rows:
                copy.write_row((oldest.number, UUID(bytes=ids[:16]), ids, details, holds))
        self._connection.execute(f"set local lock_timeout = {_LOCK_TIMEOUT_MS}")
        self._connection.execute(_DROP, (oldest.number,))


@contextmanager
def alone(dsn: str) -> Iterator[Archiving]:
    """Be the only one who archives, while nobody proves. Raises: `ArchiveRefused`."""
    with psycopg.connect(dsn, autocommit=True, application_name="holdfast-archive") as connection:
        connection.execute("set statement_timeout = '30min'")
        row = connection.execute("select pg_try_advisory_lock(%s)", (ARCHIVE_LOCK,)).fetchone()
        if not row or not row[0]:
            raise ArchiveRefused(
                "Somebody else archives, or `holdfast ledger verify` runs. Try again when it is done."
            )
        yield Archiving(connection)
