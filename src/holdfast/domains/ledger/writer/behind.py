"""What the writer does behind its commits: marks, snapshots, segments and the indexes of their history.

A segment is a partition of 2^20 transfers. When it is full, each account that changed gets a mark; where
these would be very many for what was written, that waits for the end of another segment, and all segments
since are one span. Where little is written, an account's history is indexed from the
segment's beginning; where much is written at once, the next segment is begun without those indexes and they
are built when it is full, since to build them at the end takes a fraction of the work. Never more than
`SEGMENTS_BEHIND_MAX` full segments wait for their indexes: rather, posting waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Final

import psycopg

from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.base.limits import SEGMENT_TRANSFERS_MAX, SEGMENTS_BEHIND_MAX, SNAPSHOT_TRANSFERS
from holdfast.base.tasks import is_cancelled
from holdfast.domains.ledger.errors import WriterAway
from holdfast.domains.ledger.rules import snapshots
from holdfast.domains.ledger.rules.book import Book, Decided, Marks
from holdfast.domains.ledger.store import behind as store
from holdfast.domains.ledger.store import seats
from holdfast.domains.ledger.store.head import Head
from holdfast.domains.ledger.writer.recent import Recent
from holdfast.platform.db import Connection
from holdfast.platform.log import logger

_FAST_PER_S: Final = 20_000
"""Above this rate the next segment is begun without indexes."""
_SLOW_PER_S: Final = 2_000
"""Below this rate a segment without indexes is given up, so that its history can be indexed."""
_SLOW_S: Final = 5.0
"""How long the rate must be low for that."""
_ROUND_S: Final = 0.1
_MARKS_MAX: Final = 100_000
"""Marks waiting to be written; beyond it they are left out, and reading walks a little farther."""
_FEW_MARKS: Final = 4096
"""So many accounts are always marked when a segment is full."""
_TRANSFERS_TO_A_MARK: Final = 16
"""More of them wait until there are so many transfers to each."""
_SPAN_SEGMENTS_MAX: Final = 16
"""A span is never longer: a balance adds up what lies in one."""
_AHEAD_SHARE: Final = 0.75
"""How full a segment is when the next one is made ready."""
_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_log: Final = logger(__name__)


class Behind:
    """Works beside the lane, on a session of its own. `unsaved`: transfers since the newest snapshot."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], clock: Clock, unsaved: int = 0) -> None:
        self.recent = Recent()
        self._connect = connect
        self._clock = clock
        self._connection: Connection | None = None
        self._marks: list[Marks] = []
        self._marks_count = 0
        self._book: Book | None = None
        self._still: Callable[[], AbstractAsyncContextManager[object]] | None = None
        self._snapshot: tuple[Head, list[bytes], int] | None = None
        """One to be written, and how many transfers are new in it."""
        self._saved_at: datetime | None = None
        self.unsaved = unsaved
        """Transfers since the newest snapshot that was written."""
        self._segments: dict[int, bool] = {}
        """Segments that there are, and whether their history is indexed."""
        self._current = -1
        self._span = 0
        """The first segment that is not marked, or will not be when `_to_seal` is done."""
        self._span_transfers = 0
        """How many lie in it and those after it, but the current one."""
        self._to_seal: list[tuple[int, tuple[int, Marks] | None]] = []
        """Segments that are written no more; the last of a span with its first, and the marks at its end."""
        self._to_index: list[int] = []
        self._count = 0
        self._rate = 0.0
        self._rate_at = self._clock.monotonic_s()
        self._slow_since = self._clock.monotonic_s()
        self._epoch = 0
        self._deposed = False
        self._seq = -1
        self._at = _UNIX_EPOCH
        """Time of the newest batch: none after it is older, though clocks may differ."""
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def open(self, head: Head, book: Book) -> None:
        """Read which segments there are, and begin to work."""
        self._book = book
        self._epoch, self._seq, self._at = head.epoch, head.seq, head.at
        self._current = max(head.seq, 0) >> store.SEGMENT_BITS
        async with self._session() as connection:
            self._saved_at = await store.newest_snapshot(connection)
            there = await store.segments(connection)
            self._current = max([self._current, *(s.number + 1 for s in there if s.last_seq is not None)])
            self._span = min([self._current, *(s.number for s in there if not s.marked)])
            for number, indexed, marked, last_seq in there:
                self._segments[number] = indexed
                if number < self._current and last_seq is None:
                    self._to_seal.append((number, None))
                if number < self._current and not marked:
                    last = head.seq if last_seq is None else last_seq
                    self._span_transfers += last + 1 - (number << store.SEGMENT_BITS)
                if number < self._current and not indexed:
                    self._to_index.append(number)
            if self._current not in self._segments:
                await self._open_segment(connection, self._current)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def attach(self, still: Callable[[], AbstractAsyncContextManager[object]]) -> None:
        """Learn how to hold the lane between two commits."""
        self._still = still

    async def close(self) -> None:
        """Write the marks that wait, and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._connection is not None and not self._connection.closed:
            with contextlib.suppress(psycopg.Error):
                await self._write_marks(self._connection)
            await self._connection.close()

    @property
    def lag(self) -> int:
        """Full segments whose history is not indexed yet, for metrics."""
        return len(self._to_index)

    @property
    def snapshot_age_s(self) -> float:
        """How old the newest snapshot is, for metrics; 0 when there is none."""
        at = self._saved_at
        return 0.0 if at is None else (self._clock.now() - at).total_seconds()

    @property
    def segments(self) -> int:
        """How many segments there are, for metrics."""
        return len(self._segments)

    @property
    def marks_waiting(self) -> int:
        """Marks that are not written yet, for metrics."""
        return self._marks_count

    def note(self, book: Book, decided: Decided, head: Head) -> None:
        """Take note of a batch that was committed."""
        self._count += len(decided.rows)
        self._seq, self._at = head.seq, head.at
        if len(decided.rows) and not self._segments[self._current]:
            self.recent.add(decided.rows, decided.extras, head.seq + 1 - len(decided.rows))
        if self._marks_count < _MARKS_MAX:
            self._add(book.marks(decided, head.seq))
        self.unsaved += len(decided.rows)
        if self.unsaved >= SNAPSHOT_TRANSFERS and self._snapshot is None:
            self._snapshot = head, snapshots.payload_of(book), self.unsaved
            self._wake.set()

    def _add(self, marks: Marks | None) -> None:
        if marks is not None:
            self._marks.append(marks)
            self._marks_count += len(marks.accounts)

    async def room(self, first_seq: int, count: int) -> int:
        """Return where `count` transfers go: `first_seq`, or the beginning of the next segment.

        Raises: `WriterAway` when a segment is needed and cannot be made, or another writes by now.
        """
        at = max(first_seq, self._current << store.SEGMENT_BITS)
        if (at + count - 1) >> store.SEGMENT_BITS == self._current and not self._unfit():
            return at
        following = self._current + 1
        while len(self._to_index) > SEGMENTS_BEHIND_MAX:
            if self._deposed:
                raise WriterAway
            self._wake.set()
            await asyncio.sleep(_ROUND_S)
        if following not in self._segments:
            async with self._session() as connection:
                await self._open_segment(connection, following)
        if self._current < following:
            self._advance()
        return self._current << store.SEGMENT_BITS

    def _advance(self) -> None:
        """Leave the current segment for the next, which is there. No batch may be under way."""
        self._span_transfers += max(0, self._seq + 1 - (self._current << store.SEGMENT_BITS))
        ends = None
        if self._book is not None and self._span_ends(self._book.unmarked):
            ends = self._span, self._book.all_marks(self._seq)
            self._span, self._span_transfers = self._current + 1, 0
        self._to_seal.append((self._current, ends))
        if not self._segments[self._current]:
            self._to_index.append(self._current)
        self._current += 1
        self._slow_since = self._clock.monotonic_s()
        self._wake.set()

    def _span_ends(self, marks: int) -> bool:
        """Tell whether the span ends with the current segment, at the cost of so many marks."""
        return (
            marks <= max(_FEW_MARKS, self._span_transfers // _TRANSFERS_TO_A_MARK)
            or self._current + 1 - self._span >= _SPAN_SEGMENTS_MAX
        )

    def _unfit(self) -> bool:
        """Tell whether the current segment's way of indexing does not suit what is being written."""
        self._measure()
        if self._seq < self._current << store.SEGMENT_BITS:
            return False  # nothing is in it yet
        if self._segments[self._current]:
            return self._rate > _FAST_PER_S
        return self._clock.monotonic_s() - self._slow_since > _SLOW_S

    def _measure(self) -> None:
        now = self._clock.monotonic_s()
        if now - self._rate_at >= 1.0:
            self._rate = self._count / (now - self._rate_at)
            self._count, self._rate_at = 0, now
            if self._rate > _SLOW_PER_S:
                self._slow_since = now

    async def _open_segment(self, connection: Connection, number: int) -> None:
        async with self._turn:
            if number not in self._segments:
                history = self._rate <= _FAST_PER_S
                async with self._held(connection):
                    indexed = await store.open_segment(connection, number, self._at, history=history)
                self._segments[number] = indexed

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection]:
        try:
            connection = await self._connect()
        except (psycopg.Error, HoldfastError) as error:
            raise WriterAway from error
        try:
            yield connection
        except psycopg.Error as error:
            raise WriterAway from error
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def _held(self, connection: Connection) -> AsyncIterator[None]:
        """A transaction before whose end no other begins to write. Raises: `WriterAway` when one has.

        What one who wrote before does late must not reach the segments: to the next, one that is sealed is
        written no more, and one that is not sealed is its own to write.
        """
        async with connection.transaction():
            try:
                await seats.hold(connection, self._epoch)
            except WriterAway:
                self._deposed = True
                raise
            yield

    async def _run(self) -> None:
        while not self._deposed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ROUND_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await self._connect()
                await self._work(self._connection)
            except (psycopg.Error, HoldfastError) as error:
                if is_cancelled():
                    raise asyncio.CancelledError from error
                _log.warning("what is written behind the ledger's commits waits", why=str(error))
                await asyncio.sleep(1.0)

    async def _work(self, connection: Connection) -> None:
        snapshot = self._snapshot
        await self._write_marks(connection)
        while self._to_seal:
            await self._write_marks(connection)  # those made meanwhile too: `marked` says that all are there
            await self._seal(connection, *self._to_seal[0])
            self._to_seal.pop(0)
        if snapshot is not None:  # it says what is marked: so all that was before it is written by now
            head, parts, count = snapshot
            await store.write_snapshot(connection, head, b"".join(parts))
            self._snapshot, self._saved_at = None, head.at
            self.unsaved -= count
        current, unfit = self._current, self._unfit()
        if unfit or self._seq - (current << store.SEGMENT_BITS) > _AHEAD_SHARE * SEGMENT_TRANSFERS_MAX:
            await self._open_segment(connection, current + 1)
        # A commit that waits in `room` for indexes has the lane: who waited for it would never make them.
        waited_for = len(self._to_index) > SEGMENTS_BEHIND_MAX
        if unfit and not self._segments[current] and self._still is not None and not waited_for:
            async with self._still():
                if current == self._current:
                    self._advance()
        if self._to_index:
            async with self._held(connection):
                pass  # whoever begins to write from here on ends this session
            await store.index_segment(connection, self._to_index[0])
            self.recent.forget(self._to_index[0])
            self._segments[self._to_index.pop(0)] = True

    async def _seal(self, connection: Connection, number: int, ends: tuple[int, Marks] | None) -> None:
        if ends is not None:
            await store.write_marks(connection, [ends[1]])
        async with self._held(connection):
            await store.seal_segment(connection, number)
            if ends is not None:
                await store.note_marked(connection, ends[0], number)

    async def _write_marks(self, connection: Connection) -> None:
        marks = self._marks[:]
        if marks:
            await store.write_marks(connection, marks)
            del self._marks[: len(marks)]
            self._marks_count = sum(len(m.accounts) for m in self._marks)
