"""Several prepared statements to PostgreSQL and back in one exchange, for the hot path.

psycopg's own pipeline does the same with a cursor for each statement; this drives the same connection
through libpq's pipeline mode directly and so spends less CPU for each exchange. Results come in binary form.
The connection must not be used by anybody else meanwhile. Errors are psycopg's own exceptions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors, pq
from psycopg.adapt import Transformer
from psycopg.waiting import Ready, Wait

from holdfast.platform.db import Connection

Command = tuple[str, Sequence[bytes | None]]
"""A statement with `%b` placeholders, and its parameters in binary form."""


@dataclass(frozen=True, slots=True)
class Script:
    """Statements without parameters, of which one is a `copy … from stdin` and takes `data`."""

    statements: tuple[str, ...]
    data: bytes | bytearray


_BINARY: Final = 1
_prepared: WeakKeyDictionary[Connection, dict[str, bytes]] = WeakKeyDictionary()
_names: Final = itertools.count(1)


@lru_cache(maxsize=1024)
def _numbered(sql: str) -> bytes:
    """Write `%b` as `$1`, `$2`, … and `%%` as `%`."""
    first, *rest = sql.split("%b")
    parts = [first] + [f"${number}{part}" for number, part in enumerate(rest, 1)]
    return "".join(parts).replace("%%", "%").encode()


class Rows:
    """The result of one statement."""

    __slots__ = ("_connection", "_result")

    def __init__(self, connection: Connection, result: pq.abc.PGresult) -> None:
        self._connection = connection
        self._result = result

    def is_null(self, row: int, column: int) -> bool:
        """Tell whether a value is null, without reading the others."""
        return self._result.get_value(row, column) is None

    def raw(self, row: int, column: int) -> bytes:
        """Return a value in binary form; empty when it is null."""
        return self._result.get_value(row, column) or b""

    def all(self) -> list[tuple[Any, ...]]:
        """Return all rows."""
        reader = Transformer(self._connection)
        reader.set_pgresult(self._result)
        return reader.load_rows(0, self._result.ntuples, tuple)


async def exchange(
    connection: Connection, commands: Sequence[Command], on_sent: Callable[[], None] | None = None
) -> list[Rows]:
    """Run `commands` in order and return their results; after the first error none of the rest is run.

    A transaction that the commands opened stays open. `on_sent` is called when the last byte of them is on
    its way: what it does then takes no time from the database. Raises: `psycopg.Error`.
    """
    known = _prepared.setdefault(connection, {})
    fresh = []
    pgconn = connection.pgconn
    try:
        pgconn.enter_pipeline_mode()
        for sql, parameters in commands:
            name = known.get(sql)
            if name is None:
                name = known[sql] = b"exchange_%d" % next(_names)
                fresh.append(sql)
                pgconn.send_prepare(name, _numbered(sql))
            pgconn.send_query_prepared(name, parameters, [_BINARY] * len(parameters), _BINARY)
        pgconn.pipeline_sync()
        results = await connection.wait(_results(pgconn, on_sent))
        pgconn.exit_pipeline_mode()
    except psycopg.Error:
        for sql in fresh:
            known.pop(sql, None)
        raise
    failed = next((r for r in results if r.status == pq.ExecStatus.FATAL_ERROR), None)
    if failed is not None:
        for sql in fresh:
            known.pop(sql, None)
        error = errors.error_from_result(failed, encoding="utf-8")
        if isinstance(
            error, errors.InvalidSqlStatementName
        ):  # somebody deallocated them: prepare them all again
            known.clear()
        raise error
    return _without_prepares(connection, commands, fresh, results)


async def run_script(connection: Connection, script: Script, on_sent: Callable[[], None] | None) -> None:
    """Run a script; after the first error none of the rest is run. `on_sent`: as `exchange`.

    Raises: `psycopg.Error`.
    """
    pgconn = connection.pgconn
    pgconn.send_query("; ".join(script.statements).encode())
    results = await connection.wait(_results_of_script(pgconn, script.data, on_sent))
    failed = next((r for r in results if r.status == pq.ExecStatus.FATAL_ERROR), None)
    if failed is not None:
        raise errors.error_from_result(failed, encoding="utf-8")


def _results_of_script(
    pgconn: pq.abc.PGconn, data: bytes | bytearray, on_sent: Callable[[], None] | None
) -> Generator[Wait, Ready | int, list[pq.abc.PGresult]]:
    results: list[pq.abc.PGresult] = []
    yield from _flushed(pgconn)
    while True:
        result = yield from _result(pgconn)
        if result is None:
            return results
        if result.status == pq.ExecStatus.COPY_IN:
            while not pgconn.put_copy_data(data):
                yield from _flushed(pgconn)
            while not pgconn.put_copy_end():
                yield from _flushed(pgconn)
            yield from _flushed(pgconn)
            if on_sent is not None:
                on_sent()
        else:
            results.append(result)


def _result(pgconn: pq.abc.PGconn) -> Generator[Wait, Ready | int, pq.abc.PGresult | None]:
    """Wait for the next result; None: those of a command are over."""
    while pgconn.is_busy():
        yield Wait.R
        pgconn.consume_input()
    return pgconn.get_result()


def _flushed(pgconn: pq.abc.PGconn) -> Generator[Wait, Ready | int, None]:
    """Send what is waiting, and take in what comes meanwhile."""
    while pgconn.flush():
        ready = yield Wait.RW
        if ready & Ready.R:
            pgconn.consume_input()


def _without_prepares(
    connection: Connection, commands: Sequence[Command], fresh: list[str], results: list[pq.abc.PGresult]
) -> list[Rows]:
    remaining = iter(results)
    waiting = set(fresh)
    rows = []
    for sql, _ in commands:
        if sql in waiting:
            waiting.discard(sql)
            next(remaining)
        rows.append(Rows(connection, next(remaining)))
    return rows


def _results(
    pgconn: pq.abc.PGconn, on_sent: Callable[[], None] | None
) -> Generator[Wait, Ready | int, list[pq.abc.PGresult]]:
    """Send what is waiting, and read results up to the sync."""
    yield from _flushed(pgconn)
    if on_sent is not None:
        on_sent()
    results: list[pq.abc.PGresult] = []
    ended = 0
    while True:
        result = yield from _result(pgconn)
        if result is None:
            ended += 1
            if ended > 1:
                raise psycopg.OperationalError("the connection was lost")
            continue
        ended = 0
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        results.append(result)
