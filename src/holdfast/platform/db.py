"""Connections. Binary parameters are marked `%b` on hot calls: text costs 2.8 times the CPU."""

from __future__ import annotations

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
            kwargs={"autocommit": True, "options": "-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s"},
        )

    async def open(self) -> None:
        """Open the pool. Raises: `DatabaseUnavailable`."""
        try:
            await self._pool.open(wait=True, timeout=10.0)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable from error

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit. Raises: `DatabaseUnavailable` when none can be had."""
        try:
            lent = await self._pool.getconn()
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable from error
        try:
            yield lent
        finally:
            await self._pool.putconn(lent)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside one transaction, committed when the block ends."""
        async with self.connection() as lent, lent.transaction():
            yield lent
