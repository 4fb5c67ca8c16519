"""Which processes are alive: each writes a row every few seconds, and rows that fell silent are removed."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from holdfast import __version__
from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.platform import migrate
from holdfast.platform.db import Database

BEAT_EVERY_S: Final = 5.0
SILENT: Final = timedelta(seconds=30)
"""After so long without a beat a process counts as gone."""


@dataclass(frozen=True, slots=True)
class Heart:
    """One process: what it is and since when it runs.

    `knows` counts the migrations that its code came with.
    """

    id: UUID
    kind: str
    started_at: datetime
    knows: int

    @staticmethod
    def new(identity: UUID, kind: str, now: datetime) -> Heart:
        """Return the heart of this process."""
        return Heart(identity, kind, now, len(migrate.shipped()))


@dataclass(frozen=True, slots=True)
class Alive:
    """A process that was seen lately."""

    kind: str
    host: str
    pid: int
    version: str
    knows: int
    started_at: datetime
    seen_at: datetime
    facts: Mapping[str, object]


async def beat(database: Database, heart: Heart, *, now: datetime, facts: Mapping[str, object]) -> None:
    """Say that this process is alive, and remove the rows of those that fell silent."""
    async with database.connection() as connection:
        await connection.execute(
            """insert into processes.heartbeats
                   (id, kind, host, pid, version, needs, started_at, seen_at, facts)
               values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
               on conflict (id) do update set seen_at = excluded.seen_at, facts = excluded.facts""",
            (
                heart.id, heart.kind, socket.gethostname(), os.getpid(), __version__, heart.knows,
                heart.started_at, now, Jsonb(dict(facts)),
            ),
        )  # fmt: skip
        await connection.execute("delete from processes.heartbeats where seen_at < %s", (now - SILENT,))


@asynccontextmanager
async def beating(database: Database, heart: Heart, clock: Clock) -> AsyncIterator[None]:
    """Beat in the background until the block ends; a database that is away is tried again."""

    async def go_on() -> None:
        while True:
            with suppress(HoldfastError, psycopg.Error):
                await beat(database, heart, now=clock.now(), facts={})
            await clock.sleep(BEAT_EVERY_S)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with suppress(HoldfastError, psycopg.Error):
            await last_beat(database, heart)


def old_code(dsn: str, *, knows: int, now: datetime) -> list[str]:
    """Return the processes seen lately whose code knows fewer migrations than `knows`, in words."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        there = connection.execute("select to_regclass('processes.heartbeats')").fetchone()
        if there is None or there[0] is None:
            return []
        rows = connection.execute(
            """select kind || ' ' || version || ' on ' || host || ' (process ' || pid || ')'
               from processes.heartbeats where seen_at >= %s and needs < %s order by 1""",
            (now - SILENT, knows),
        )
        return [row[0] for row in rows]


async def last_beat(database: Database, heart: Heart) -> None:
    """Say that this process is going."""
    async with database.connection() as connection:
        await connection.execute("delete from processes.heartbeats where id = %s", (heart.id,))


async def alive(database: Database, *, now: datetime) -> list[Alive]:
    """Return the processes that were seen within `SILENT`, oldest first."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            """select kind, host, pid, version, needs, started_at, seen_at, facts from processes.heartbeats
               where seen_at >= %s order by started_at""",
            (now - SILENT,),
        )
        return [Alive(*row) for row in await cursor.fetchall()]
