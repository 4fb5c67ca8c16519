"""Streams of the ledger's tables for `verify`, all of one moment. Used by nothing that posts."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import errors, pq

Rows = npt.NDArray[Any]
T = TypeVar("T")
_COPY_HEAD_BYTES: Final = 19
_CHUNK_ROWS: Final = 65_536
_FIELDS: Final = (
    ("id", 16),
    ("seq", 8),
    ("at", 8),
    ("debit", 8),
    ("credit", 8),
    ("amount", 8),
    ("debit_prev", 16),
    ("credit_prev", 16),
    ("code", 4),
    ("asset", 2),
    ("kind", 2),
)
_TRANSFERS: Final = """
copy (select id, seq, at, debit, credit, amount, debit_prev, credit_prev, code, asset, kind
      from ledger.transfers order by seq)
to stdout (format binary)"""
_EXTRAS: Final = """
select seq, id, balancing, asked, pending_id, expires_at, metadata::text from ledger.transfers
where balancing is not null or asked is not null or pending_id is not null or expires_at is not null
   or metadata is not null
order by seq"""
_BATCHES: Final = (
    "select number, chain, position, at, transfers, refusals, hash from ledger.batches order by number"
)
_REFUSALS: Final = "select seq, id, outcome from ledger.refusals order by seq"
_HOLDS: Final = "select id, debit, credit, asset, amount, expires_at from ledger.open_holds"
_BALANCES: Final = """
copy (select b.number, b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending, b.entries,
             b.last_transfer,
             coalesce(a.asset, -1::int2), coalesce(a.rule, -1::int2),
             case when b.asset = a.asset and b.rule = a.rule then 1::int2 else 0::int2 end
      from ledger.balances b left join ledger.accounts a on a.number = b.number order by b.number)
to stdout (format binary)"""
_COUNT: Final = """
select count(*), (select count(*) from ledger.accounts) - (select count(*) from ledger.balances)
from ledger.transfers"""
_BALANCE_FIELDS: Final = (
    ("number", 8),
    ("debits_posted", 8),
    ("credits_posted", 8),
    ("debits_pending", 8),
    ("credits_pending", 8),
    ("entries", 8),
    ("last", 16),
    ("asset", 2),
    ("rule", 2),
    ("same", 2),
)


def _dtype(fields: tuple[tuple[str, int], ...]) -> np.dtype[Any]:
    """A row of COPY's binary format: a count, then each field as its length and its bytes.

    `x_raw` is both together.
    """
    names, formats, offsets = ["count"], [">i2"], [0]
    place = 2
    for name, size in fields:
        value = f"V{size}" if size == 16 else f">i{size}"
        names += [name, name + "_raw"]
        formats += [value, f"V{size + 4}"]
        offsets += [place + 4, place]
        place += size + 4
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": place})


class Tables:
    """The tables of one moment, each on a connection of its own, since they are read side by side."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._snapshot = ""
        self._streams: list[Generator[Any, None, None]] = []

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold one snapshot while the block runs."""
        with psycopg.connect(self._dsn) as holder:
            holder.execute("set transaction isolation level repeatable read, read only")
            row = holder.execute("select pg_export_snapshot()").fetchone()
            self._snapshot = row[0] if row else ""
            try:
                yield
            finally:
                for stream in self._streams:
                    stream.close()

    @contextmanager
    def _reader(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with psycopg.connect(self._dsn) as connection:
            connection.execute("set transaction isolation level repeatable read, read only")
            connection.execute(f"set transaction snapshot '{self._snapshot}'".encode())
            connection.execute("set local statement_timeout = 0")
            connection.execute("set local work_mem = '256MB'")
            yield connection

    def counts(self) -> tuple[int, int]:
        """Return how many transfers there are, and how many accounts lack a balance."""
        with self._reader() as connection:
            row = connection.execute(_COUNT).fetchone()
            return (row[0], row[1]) if row else (0, 0)

    def balances(self) -> Rows:
        """Return all balances, ascending by account."""
        parts = list(self._copy(_BALANCES, _dtype(_BALANCE_FIELDS)))
        return np.concatenate(parts) if parts else np.empty(0, _dtype(_BALANCE_FIELDS))

    def transfers(self) -> Iterator[Rows]:
        """Yield transfers in order, many at a time."""
        return self._copy(_TRANSFERS, _dtype(_FIELDS))

    def extras(self) -> Iterator[tuple[Any, ...]]:
        """Yield what only some transfers have, in order."""
        return self._cursor(_EXTRAS)

    def batches(self) -> Iterator[tuple[Any, ...]]:
        """Yield batches in order."""
        return self._cursor(_BATCHES)

    def refusals(self) -> Iterator[tuple[Any, ...]]:
        """Yield refusals in order."""
        return self._cursor(_REFUSALS)

    def holds(self) -> Iterator[tuple[Any, ...]]:
        """Yield open holds."""
        return self._cursor(_HOLDS)

    def _cursor(self, query: str) -> Iterator[tuple[Any, ...]]:
        return self._kept(self._fetch(query))

    def _copy(self, query: str, dtype: np.dtype[Any]) -> Iterator[Rows]:
        return self._kept(self._receive(query, dtype))

    def _kept(self, stream: Generator[T, None, None]) -> Iterator[T]:
        self._streams.append(stream)
        return stream

    def _fetch(self, query: str) -> Generator[tuple[Any, ...], None, None]:
        with self._reader() as connection, connection.cursor("rows") as cursor:
            cursor.itersize = 5000
            cursor.execute(query.encode())
            yield from cursor

    def _receive(self, query: str, dtype: np.dtype[Any]) -> Generator[Rows, None, None]:
        """Run a COPY through libpq itself: psycopg's own loop is entered for each message, which is a row."""
        with self._reader() as connection:
            try:
                yield from _chunks(connection.pgconn, query.encode(), dtype)
            finally:
                connection.close()


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
        if len(pieces) >= _CHUNK_ROWS:
            yield _rows(pieces, dtype)
            pieces = []
    ended = pgconn.get_result()
    if ended is not None and ended.status == pq.ExecStatus.FATAL_ERROR:
        raise errors.error_from_result(ended, encoding="utf-8")
    yield _rows(pieces, dtype)


def _rows(pieces: list[bytes | memoryview | bytearray], dtype: np.dtype[Any]) -> Rows:
    whole = b"".join(pieces)
    return np.frombuffer(whole[: len(whole) // dtype.itemsize * dtype.itemsize], dtype)
