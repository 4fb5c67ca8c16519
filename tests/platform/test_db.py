"""The pool: a database that goes away and comes back costs nobody a request more than it must."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from holdfast.platform.db import Database, DatabaseUnavailable
from holdfast.platform.exchange import exchange


async def test_after_the_server_closed_every_connection_the_next_requests_do_not_notice(
    database: Database,
) -> None:
    async def ask() -> int:
        async with database.connection() as connection:
            await asyncio.sleep(0.05)
            row = await (await connection.execute("select pg_backend_pid()")).fetchone()
            assert row is not None
            return int(row[0])

    before = set(await asyncio.gather(*(ask() for _ in range(16))))
    assert len(before) > 4
    with psycopg.connect(database.dsn, autocommit=True) as killer:
        for pid in before:
            killer.execute("select pg_terminate_backend(%s, 5000)", (pid,))
    after = set(await asyncio.gather(*(ask() for _ in range(16))))
    assert not before & after


async def test_a_database_that_is_not_there_is_unavailable_and_nothing_worse(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await Database(f"host={tmp_path} user=nobody dbname=none connect_timeout=1").open(timeout_s=1.0)


async def test_a_rollback_takes_no_prepared_statement_away_from_the_hot_path(database: Database) -> None:
    async with database.connection() as connection:
        await exchange(connection, [("select 1", ())])
        for _ in range(12):
            await connection.execute("select 2")
        async with connection.transaction(force_rollback=True):
            await connection.execute("select 3")
        await connection.execute("select 4")
        (found,) = await exchange(connection, [("select 1", ())])
        assert found.all() == [(1,)]
