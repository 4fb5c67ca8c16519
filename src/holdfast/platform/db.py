"""Connections. Binary parameters are marked `%b` on hot calls: text costs 2.8 times the CPU."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from holdfast.base.errors import Unavailable

Row = tuple[Any, ...]
Connection = AsyncConnection[Row]
DatabaseError = psycopg.Error
"""Whatever the driver raises, for those above platform, who do not know the driver."""


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached right now. Nothing has moved; try again shortly."""

    code = "database_unavailable"


class Database:
    """A pool of connections to one PostgreSQL."""

    def __init__(self, dsn: str, *, connections_max: int = 16, connections_min: int = 2) -> None:
        self.dsn = dsn
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            min_size=connections_min,
            max_size=connections_max,
            open=False,
            timeout=5.0,
            kwargs={
                "autocommit": True,
                "options": "-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s",
                # After a rollback psycopg deallocates every prepared statement of the session, if it has made
                # one itself: that would take those of `exchange` away behind its back.
                "prepare_threshold": None,
            },
        )

    async def open(self, *, timeout_s: float = 10.0) -> None:
        """Open the pool. Raises: `DatabaseUnavailable`."""
        try:
            await self._pool.open(wait=True, timeout=timeout_s)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable from error

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def dedicated(self, name: str, options: str = "") -> Connection:
        """Open a connection outside the pool, for a caller who keeps it and closes it.

        `name` is how the server lists it, `options` settings of the session. Raises: `DatabaseUnavailable`.
        """
        try:
            return await AsyncConnection.connect(
                self.dsn, autocommit=True, application_name=name, prepare_threshold=None,
                options=f"-c statement_timeout=30s {options}", connect_timeout=5,
            )  # fmt: skip
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable from error

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit. Raises: `DatabaseUnavailable` when none can be had."""
        lent = await self._lend()
        try:
            yield lent
        finally:
            await self._pool.putconn(lent)

    async def _lend(self) -> Connection:
        """Take a connection from the pool, passing over those that the server closed while they lay idle."""
        for _ in range(self._pool.max_size + 1):
            try:
                lent = await self._pool.getconn()
            except psycopg.OperationalError as error:
                raise DatabaseUnavailable from error
            if not gone(lent):
                return lent
            await lent.close()
            await self._pool.putconn(lent)
        raise DatabaseUnavailable

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside one transaction, committed when the block ends."""
        async with self.connection() as lent, lent.transaction():
            yield lent


def gone(connection: Connection) -> bool:
    """Tell whether the server has closed an idle connection, as far as the kernel knows by now.

    Asks nobody: microseconds. What arrives while nothing was asked is the server's last word, or the end.
    """
    if connection.pgconn.status != psycopg.pq.ConnStatus.OK:
        return True
    waiting = select.poll()
    waiting.register(connection.pgconn.socket, select.POLLIN | select.POLLHUP)
    return bool(waiting.poll(0))
