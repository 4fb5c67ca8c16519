"""Streams of the ledger's tables for `verify`, all of one moment. Used by nothing that posts.

Transfers and batches, of which there are many, come by pages: the server concatenates the binary form of each
row into one value, which numpy reads as it is. COPY would send a message for each row, and taking those apart
costs more than hashing them. While one page is looked at, the server makes the next.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import errors, pq

from holdfast.base.errors import Broken, ensure
from holdfast.domains.ledger.store.kept import ARCHIVE_LOCK, Kept, joined

Rows = npt.NDArray[Any]
T = TypeVar("T")
Following = Callable[[tuple[Any, ...] | None], str | None]
SEGMENT_BITS: Final = 20
_COPY_HEAD_BYTES: Final = 19
_CHUNK_ROWS: Final = 65_536
_PAGE_NUMBERS: Final = 2**17
"""Transfers of one page, by their numbers: 9 MB, and sorted in the server's memory."""
_PAGE_BATCHES: Final = 2**14

TRANSFER: Final = np.dtype(
    [
        ("tag", "u1"),
        ("id", "V16"),
        ("debit", ">i8"),
        ("credit", ">i8"),
        ("amount", ">i8"),
        ("code", ">i4"),
        ("asset", ">i2"),
        ("kind", ">i2"),
        ("seq", ">i8"),
        ("at", ">i8"),
    ]
)
"""A transfer; times are microseconds since 2000-01-01 UTC. Up to `kind` it is as it is hashed."""
EXTRA: Final = np.dtype(
    [
        ("seq", ">i8"),
        ("has", ">i2"),
        ("balancing", ">i2"),
        ("asked", ">i8"),
        ("held", ">i8"),
        ("pending_id", "V16"),
        ("expires_at", ">i8"),
        ("over", ">i8"),
        ("settles", "u1"),
    ]
)
"""What only some transfers have. Bit n of `has` tells of the n-th column after it, bit 7 of metadata."""
BATCH: Final = np.dtype(
    [
        ("number", ">i8"),
        ("first_seq", ">i8"),
        ("at", ">i8"),
        ("transfers", ">i4"),
        ("refusals", ">i4"),
        ("root", "V32"),
        ("hash", "V32"),
    ]
)
"""A batch; up to `root` it is as it is hashed. A root or hash that is not of 32 bytes comes as zeros."""

_PAGE: Final = r"""
select count(*),
       string_agg('\x00'::bytea || uuid_send(id) || int8send(debit) || int8send(credit) || int8send(amount)
                  || int4send(code) || int2send(asset) || int2send(kind) || int8send(seq)
                  || timestamptz_send(at), ''::bytea),
       string_agg(int8send(seq)
                  || int2send(((balancing is not null)::int + (asked is not null)::int * 2
                               + (held is not null)::int * 4 + (pending_id is not null)::int * 8
                               + (expires_at is not null)::int * 16 + (over is not null)::int * 32
                               + (settles is not null)::int * 64 + (metadata is not null)::int * 128)::int2)
                  || int2send(coalesce(balancing, 0::int2)) || int8send(coalesce(asked, 0))
                  || int8send(coalesce(held, 0))
                  || uuid_send(coalesce(pending_id, '00000000-0000-0000-0000-000000000000'))
                  || timestamptz_send(coalesce(expires_at, '2000-01-01 00:00:00+00'))
                  || int8send(coalesce(over, 0)) || boolsend(coalesce(settles, false)), ''::bytea)
           filter (where num_nonnulls(balancing, asked, held, pending_id, expires_at, over, settles,
                                      metadata) > 0),
       string_agg(int8send(seq), ''::bytea) filter (where metadata is not null),
       array_agg(metadata::text) filter (where metadata is not null)
from (select * from ledger.transfers where seq >= {low} and seq < {high} order by seq) t"""
_IDS: Final = """
select string_agg(uuid_send(id), ''::bytea) from ledger.transfers where seq >= {low} and seq < {high}"""
_BATCHES: Final = r"""
select count(*),
       string_agg(int8send(number) || int8send(first_seq) || timestamptz_send(at) || int4send(transfers)
                  || int4send(refusals)
                  || case when octet_length(root) = 32 then root else decode(repeat('00', 32), 'hex') end
                  || case when octet_length(hash) = 32 then hash else decode(repeat('00', 32), 'hex') end,
                  ''::bytea)
from (select * from ledger.batches where number > {after} and {which} order by number limit {limit}) b"""
_SEGMENTS: Final = """
select (regexp_match(bounds, $$FROM \\('(-?[0-9]+)'\\)$$))[1]::bigint,
       (regexp_match(bounds, $$TO \\('(-?[0-9]+)'\\)$$))[1]::bigint
from (select pg_get_expr(c.relpartbound, c.oid) as bounds
      from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = 'ledger.transfers'::regclass) p
order by 1"""
_SEGMENT_ROWS: Final = """
select number, timestamptz_send(opened_at), timestamptz_send(last_at), last_seq, span
from ledger.segments order by number"""
_ARCHIVES: Final = """
select segment, file, sha256, transfers, timestamptz_send(opened_at), timestamptz_send(last_at), last_seq
from ledger.archives order by segment"""
_KEPT: Final = "select ids, details, holds from ledger.archived where segment = {segment} order by first_id"
_REFUSALS: Final = """
copy (select batch, position, at, id, outcome from ledger.refusals where {which} order by batch, position)
to stdout (format binary)"""
_REFUSAL_FIELDS: Final = (("batch", 8), ("position", 4), ("at", 8), ("id", 16), ("outcome", 2))
_MARKS: Final = """
copy (select seq, account, entries, debits_posted, credits_posted, debits_pending, credits_pending
      from ledger.marks order by seq)
to stdout (format binary)"""
_MARK_FIELDS: Final = (
    ("seq", 8),
    ("account", 8),
    ("entries", 8),
    ("debits_posted", 8),
    ("credits_posted", 8),
    ("debits_pending", 8),
    ("credits_pending", 8),
)
_LIMITS: Final = """
copy (select seq, account, limit_minor from ledger.limits order by seq) to stdout (format binary)"""
_LIMIT_FIELDS: Final = (("seq", 8), ("account", 8), ("limit_minor", 8))
_ACCOUNTS: Final = """
copy (select number, asset, rule, place, limit_minor from ledger.accounts order by number)
to stdout (format binary)"""
_ACCOUNT_FIELDS: Final = (("number", 8), ("asset", 2), ("rule", 2), ("place", 4), ("limit_minor", 8))
_EARLY: Final = "select number, early from ledger.batches where early is not null order by number"
_NODES: Final = "select level, number, hash from ledger.tree_nodes order by (number + 1) << level, level"
_TOTAL: Final = "select coalesce(sum(transfers), 0)::bigint from ledger.batches"
_HEAD: Final = "select batch, seq, timestamptz_send(at), hash, commits from ledger.head"
_BATCH_OF: Final = """
select b.number from ledger.transfers t
cross join lateral (select number from ledger.batches where first_seq <= t.seq and transfers > 0
                    order by first_seq desc limit 1) b
where t.id = %b order by t.seq desc limit 1"""


@dataclass(frozen=True, slots=True)
class Page:
    """Some transfers by ascending `seq`; `metadata` is JSON by `seq`."""

    rows: Rows
    extras: Rows
    metadata: dict[int, str]


@dataclass(frozen=True, slots=True)
class Segment:
    """What is noted of a segment. `span`: the first of those marked together with it; None: not marked."""

    number: int
    opened_at: int
    last_at: int | None
    last_seq: int | None
    span: int | None


@dataclass(frozen=True, slots=True)
class Archive:
    """What is noted of an archived segment and its file."""

    number: int
    file: str
    sha256: bytes
    transfers: int
    opened_at: int
    last_at: int
    last_seq: int


class Tables:
    """The tables of one moment, each on a connection of its own, since they are read side by side."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._snapshot = ""
        self._holder: psycopg.Connection[tuple[Any, ...]] | None = None
        self._streams: list[Generator[Any, None, None]] = []

    @contextmanager
    def opened(self, *, locked: bool = True) -> Iterator[None]:
        """Hold one snapshot while the block runs. Meanwhile nothing is archived, if `locked`.

        The lock comes first: a snapshot does not bring back a table that is dropped.
        """
        with psycopg.connect(self._dsn) as holder:
            if locked:
                holder.execute("set statement_timeout = 0")
                holder.execute("select pg_advisory_lock_shared(%s)", (ARCHIVE_LOCK,))
                holder.commit()
            holder.execute("set transaction isolation level repeatable read, read only")
            row = holder.execute("select pg_export_snapshot()").fetchone()
            self._snapshot = row[0] if row else ""
            holder.execute("set local statement_timeout = 0")
            self._holder = holder
            try:
                yield
            finally:
                self._holder = None
                for stream in self._streams:
                    stream.close()

    @contextmanager
    def _reader(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with psycopg.connect(self._dsn) as connection:
            connection.execute("set transaction isolation level repeatable read, read only")
            connection.execute(f"set transaction snapshot '{self._snapshot}'".encode())
            connection.execute(
                "set local statement_timeout = 0; set local work_mem = '128MB'; set local jit = off; "
                "set local max_parallel_workers_per_gather = 0"
            )
            yield connection

    def _all(self, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        ensure(self._holder is not None, "tables are read while they are held at one moment")
        holder = cast("psycopg.Connection[tuple[Any, ...]]", self._holder)
        return holder.execute(query.encode(), parameters).fetchall()

    def total(self) -> int:
        """Return how many transfers the batches speak of."""
        return int(self._all(_TOTAL)[0][0])

    def head(self) -> tuple[int, int, int, bytes, int] | None:
        """Return batch, seq, time, hash and commits of the head."""
        rows = self._all(_HEAD)
        if len(rows) != 1:
            return None
        batch, seq, at, digest, commits = rows[0]
        return batch, seq, _microseconds(at), bytes(digest), commits

    def partitions(self) -> list[tuple[int | None, int | None]]:
        """Return the bounds of each partition of transfers, None for one that has none."""
        return [(row[0], row[1]) for row in self._all(_SEGMENTS)]

    def segments(self) -> list[Segment]:
        """Return what is noted of each segment."""
        return [
            Segment(number, _microseconds(opened), None if last is None else _microseconds(last), seq, span)
            for number, opened, last, seq, span in self._all(_SEGMENT_ROWS)
        ]

    def archives(self) -> list[Archive]:
        """Return what is noted of archived segments, oldest first."""
        return [
            Archive(number, file, digest, transfers, _microseconds(opened), _microseconds(last), seq)
            for number, file, digest, transfers, opened, last, seq in self._all(_ARCHIVES)
        ]

    def kept(self, segment: int) -> Kept:
        """Return what is kept of the transfers of an archived segment."""
        return joined(self._all(_KEPT.format(segment=segment)))

    def batch_of(self, transfer: UUID) -> int | None:
        """Return the batch of the last transfer with this id."""
        rows = self._all(_BATCH_OF, (transfer,))
        return int(rows[0][0]) if rows else None

    def accounts(self) -> Rows:
        """Return all accounts, ascending by number."""
        parts = list(self._copy(_ACCOUNTS, _dtype(_ACCOUNT_FIELDS)))
        return np.concatenate(parts) if parts else np.empty(0, _dtype(_ACCOUNT_FIELDS))

    def transfers(self, segment: int | None = None) -> Iterator[Page]:
        """Yield transfers (of one segment) in order of their numbers, many at a time."""
        return self._kept(self._transfers(segment))

    def ids(self) -> Iterator[Rows]:
        """Yield the ids of all transfers, archived ones first, then of all refusals, many at a time."""
        return self._kept(self._ids())

    def batches(self, segment: int | None = None) -> Iterator[Rows]:
        """Yield batches (of one segment) in order, many at a time."""
        which = "true"
        if segment is not None:
            low, high = segment << SEGMENT_BITS, (segment + 1) << SEGMENT_BITS
            which = f"first_seq >= {low} and first_seq < {high}"
        return self._kept(self._batches(which))

    def refusals(self, batches: tuple[int, int] | None = None) -> Iterator[Rows]:
        """Yield refusals (of batches from one to another) in order of batch and position, many at a time."""
        which = "true" if batches is None else f"batch >= {batches[0]} and batch <= {batches[1]}"
        return self._copy(_REFUSALS.format(which=which), _dtype(_REFUSAL_FIELDS))

    def marks(self) -> Iterator[Rows]:
        """Yield marks in order of the transfer after which they hold, many at a time."""
        return self._copy(_MARKS, _dtype(_MARK_FIELDS))

    def limits(self) -> Iterator[Rows]:
        """Yield changes of limits in order of the transfer from which they hold, many at a time."""
        return self._copy(_LIMITS, _dtype(_LIMIT_FIELDS))

    def early(self) -> Iterator[tuple[int, list[UUID]]]:
        """Yield the batches that name early ids, with those."""
        return self._kept(self._fetch(_EARLY))

    def nodes(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the subtrees that are kept for receipts, in the order in which they became complete."""
        return self._kept(self._fetch(_NODES))

    def _copy(self, query: str, dtype: np.dtype[Any]) -> Iterator[Rows]:
        return self._kept(self._receive(query, dtype))

    def _kept(self, stream: Generator[T, None, None]) -> Iterator[T]:
        self._streams.append(stream)
        return stream

    def _fetch(self, query: str) -> Generator[Any, None, None]:
        with self._reader() as connection, connection.cursor("rows") as cursor:
            cursor.itersize = 1000
            cursor.execute(query.encode())
            yield from cursor

    def _ranges(self) -> Iterator[tuple[int, int]]:
        for low, high in self.partitions():
            if low is not None and high is not None:
                for start in range(low, high, _PAGE_NUMBERS):
                    yield start, min(high, start + _PAGE_NUMBERS)

    def _transfers(self, segment: int | None) -> Generator[Page, None, None]:
        queries = [
            _PAGE.format(low=low, high=high)
            for low, high in self._ranges()
            if segment in (None, low >> SEGMENT_BITS)
        ]
        with self._reader() as connection:
            for count, rows, extras, seqs, metadata in _ahead(connection, _each(queries)):
                yield Page(
                    _in_order(_table(rows, TRANSFER, count)),
                    _in_order(_table(extras, EXTRA)),
                    dict(zip(_table(seqs, np.dtype(">i8")).tolist(), metadata or (), strict=True)),
                )

    def _ids(self) -> Generator[Rows, None, None]:
        for archive in self.archives():
            yield self.kept(archive.number).ids
        queries = [_IDS.format(low=low, high=high) for low, high in self._ranges()]
        with self._reader() as connection:
            for (ids,) in _ahead(connection, _each(queries)):
                yield _table(ids, np.dtype("V16"))
        for rows in self.refusals():
            yield np.ascontiguousarray(rows["id"])

    def _batches(self, which: str) -> Generator[Rows, None, None]:
        def query(before: tuple[Any, ...] | None) -> str | None:
            after = -(2**62)
            if before is not None:
                if not before[0]:
                    return None
                after = int(_table(before[1], BATCH)["number"][-1])
            return _BATCHES.format(after=after, limit=_PAGE_BATCHES, which=which)

        with self._reader() as connection:
            for count, page in _ahead(connection, query):
                if count:
                    yield _table(page, BATCH, count)

    def _receive(self, query: str, dtype: np.dtype[Any]) -> Generator[Rows, None, None]:
        """Run a COPY through libpq itself: psycopg's own loop is entered for each message, which is a row."""
        with self._reader() as connection:
            try:
                yield from _chunks(connection.pgconn, query.encode(), dtype)
            finally:
                connection.close()


def _each(queries: list[str]) -> Following:
    left = iter(queries)
    return lambda _row: next(left, None)


def _ahead(
    connection: psycopg.Connection[tuple[Any, ...]], following: Following
) -> Generator[tuple[Any, ...], None, None]:
    """Yield the one row of each query. While it is looked at, the server works on the next.

    `following` is given the row before, None at first, and returns the next query, None at the end.
    """
    pgconn, load = connection.pgconn, psycopg.adapt.Transformer(connection)
    row: tuple[Any, ...] | None = None
    try:
        while (query := following(row)) is not None:
            pgconn.send_query_params(query.encode(), [], result_format=pq.Format.BINARY)
            if row is not None:
                yield row
            result = pgconn.get_result()
            while pgconn.get_result() is not None:
                pass
            if result is None or result.status != pq.ExecStatus.TUPLES_OK:
                raise errors.error_from_result(result, encoding="utf-8") if result else Broken("it answers")
            load.set_pgresult(result)
            (row,) = load.load_rows(0, 1, tuple)
        if row is not None:
            yield row
    finally:
        connection.close()


def _table(value: bytes | None, dtype: np.dtype[Any], count: int | None = None) -> Rows:
    value = value or b""
    if len(value) % dtype.itemsize or (count is not None and len(value) != count * dtype.itemsize):
        raise Broken("every column of transfers and batches that must have a value has one")
    return np.frombuffer(value, dtype)


def _microseconds(sent: bytes) -> int:
    return int.from_bytes(sent, "big", signed=True)


def _in_order(rows: Rows) -> Rows:
    seq = rows["seq"]
    return rows if (seq[1:] >= seq[:-1]).all() else rows[np.argsort(seq, kind="stable")]


def _dtype(fields: tuple[tuple[str, int], ...]) -> np.dtype[Any]:
    """A row of COPY's binary format: a count, then each field as its length and its bytes."""
    names, formats, offsets = ["count"], [">i2"], [0]
    place = 2
    for name, size in fields:
        names.append(name)
        formats.append(f"V{size}" if size == 16 else f">i{size}")
        offsets.append(place + 4)
        place += size + 4
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": place})


def _chunks(pgconn: pq.abc.PGconn, query: bytes, dtype: np.dtype[Any]) -> Generator[Rows, None, None]:
    begun = pgconn.exec_(query)
    if begun.status != pq.ExecStatus.COPY_OUT:
        raise errors.error_from_result(begun, encoding="utf-8")
    pieces: list[bytes | memoryview | bytearray] = []
    skip = _COPY_HEAD_BYTES
    while True:
        length, piece = pgconn.get_copy_data(0)
        if length < 0:
            break
        pieces.append(piece[skip:])
        skip = 0
        if len(pieces) > _CHUNK_ROWS:  # the last one is kept back: it may be what ends a COPY, and no row
            yield _rows(pieces[:-1], dtype)
            pieces = pieces[-1:]
    ended = pgconn.get_result()
    if ended is not None and ended.status == pq.ExecStatus.FATAL_ERROR:
        raise errors.error_from_result(ended, encoding="utf-8")
    yield _rows(pieces[:-1], dtype)


def _rows(pieces: list[bytes | memoryview | bytearray], dtype: np.dtype[Any]) -> Rows:
    whole = b"".join(pieces)
    if len(whole) != len(pieces) * dtype.itemsize:
        raise Broken("every column of the ledger that must have a value has one")
    return np.frombuffer(whole, dtype)
