"""Background jobs and schedules, over pgqueuer: kept in PostgreSQL, taken over when a worker dies.

A job runs at least once: its handler must bear being run again. What has steps, promises and evidence of
its own (payments in doubt, webhooks owed) is not a job but a state machine in its domain's own tables.

pgqueuer's own driver waits for notifications on the connection that it also asks on, which delays each
question by up to a second; this one asks over the pool, and listens on a connection of its own.
Notifications are a hint: the queue is looked at every second anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import psycopg
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.persistence import qb
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.applications import PgQueuer
from pgqueuer.core.tm import TaskManager
from pgqueuer.domain.errors import DuplicateJobError
from pgqueuer.domain.models import Job, Schedule
from pgqueuer.domain.settings import DBSettings
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import dict_row

from holdfast.platform.db import Connection, Database
from holdfast.platform.log import logger

POLL_S: Final = 1.0
SILENT_S: Final = 30.0
"""A job whose worker has not been heard of for so long is given to another."""
KEEP_LOG: Final = timedelta(days=14)
_SETTINGS: Final = DBSettings(db_schema="jobs")
_RECONNECT_S: Final = 1.0

Payload = Mapping[str, Any]
Handler = Callable[[Payload], Awaitable[None]]
Routine = Callable[[], Awaitable[None]]
_log = logger(__name__)


def _queries(driver: Any) -> Queries:  # noqa: ANN401 - pgqueuer is not followed by the type checker
    return Queries(
        driver,
        qbe=qb.QueryBuilderEnvironment(_SETTINGS),
        qbq=qb.QueryQueueBuilder(_SETTINGS),
        qbs=qb.QuerySchedulerBuilder(_SETTINGS),
    )


async def enqueue(
    connection: Connection,
    name: str,
    payload: Payload,
    *,
    delay: timedelta | None = None,
    once_key: str | None = None,
) -> bool:
    """Have job `name` done, if and only if the caller's transaction on `connection` commits.

    `once_key`: at most one job with this key waits or runs at a time; False when there is one already.
    """
    try:
        async with connection.transaction():
            await _queries(PsycopgDriver(connection)).enqueue(
                name, json.dumps(payload).encode(), execute_after=delay, dedupe_key=once_key
            )
    except DuplicateJobError:
        return False
    return True


class Jobs:
    """Works jobs off until `stop`; any number of processes may."""

    def __init__(
        self,
        database: Database,
        *,
        handlers: Mapping[str, Handler],
        schedules: Mapping[tuple[str, str], Routine],
        silent_s: float = SILENT_S,
    ) -> None:
        """`schedules` are keyed by name and cron expression (five fields, UTC).

        One process runs each at a time.
        """
        self._silent = timedelta(seconds=silent_s)
        self._driver = _PoolDriver(database)
        self._queue = PgQueuer(self._driver, queries=_queries(self._driver))
        for name, handler in handlers.items():
            self._queue.entrypoint(name)(_job(handler))
        for (name, expression), routine in schedules.items():
            self._queue.schedule(name, expression)(_scheduled(routine))

    async def run(self) -> None:
        """Work until `stop` is called. Raises: whatever the database raises; run it again then."""
        await self._queue.run(
            dequeue_timeout=timedelta(seconds=POLL_S), batch_size=10, heartbeat_timeout=self._silent
        )

    def stop(self) -> None:
        """Take no more jobs; those under way are finished."""
        self._queue.shutdown.set()


async def forget(database: Database, *, limit: int = 5_000) -> int:
    """Delete the log of jobs that ended `KEEP_LOG` ago; return how many lines."""
    async with database.connection() as connection:
        done = await connection.execute(
            """delete from jobs.pgqueuer_log where id in (
                   select id from jobs.pgqueuer_log where created < now() - %s order by created limit %s)""",
            (KEEP_LOG, limit),
        )
        return done.rowcount


def _job(handler: Handler) -> Callable[[Job], Awaitable[None]]:
    async def run(job: Job) -> None:
        await handler(json.loads(job.payload or b"{}"))

    return run


def _scheduled(routine: Routine) -> Callable[[Schedule], Awaitable[None]]:
    async def run(_schedule: Schedule) -> None:
        await routine()

    return run


class _PoolDriver:
    """pgqueuer's `Driver` over our pool."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shutdown = asyncio.Event()
        self._tasks = TaskManager()
        self._listeners: dict[str, list[Callable[[Any], None]]] = {}
        self._entered = 0

    @property
    def shutdown(self) -> asyncio.Event:
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        return self._tasks

    async def fetch(self, query: str, *args: object) -> list[dict[str, Any]]:
        async with self._database.connection() as connection:
            cursor = AsyncRawCursor(connection, row_factory=dict_row)
            await cursor.execute(query.encode(), args or None)
            return await cursor.fetchall()

    async def execute(self, query: str, *args: object) -> str:
        async with self._database.connection() as connection:
            cursor = AsyncRawCursor(connection)
            await cursor.execute(query.encode(), args or None)
            return cursor.statusmessage or ""

    async def notify(self, channel: str, payload: str) -> None:
        await self.execute("select pg_notify($1, $2)", channel, payload)

    async def add_listener(self, channel: str, callback: Callable[[Any], None]) -> None:
        known = channel in self._listeners
        self._listeners.setdefault(channel, []).append(callback)
        if not known:
            self._tasks.add(asyncio.create_task(self._listen(channel)))

    async def _listen(self, channel: str) -> None:
        while not self._shutdown.is_set():
            try:
                async with await AsyncConnection.connect(self._database.dsn, autocommit=True) as connection:
                    await connection.execute(
                        psycopg.sql.SQL("listen {}").format(psycopg.sql.Identifier(channel))
                    )
                    while not self._shutdown.is_set():
                        async for note in connection.notifies(timeout=POLL_S, stop_after=1):
                            for callback in self._listeners[channel]:
                                callback(note.payload)
            except psycopg.OperationalError as error:
                _log.warning("listening was interrupted", channel=channel, error=str(error))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._shutdown.wait(), _RECONNECT_S)

    async def __aenter__(self) -> _PoolDriver:
        if self._entered == 0:
            self._shutdown.clear()
        self._entered += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered -= 1
        if self._entered == 0:
            self._shutdown.set()
            await self._tasks.gather_tasks()
            self._listeners.clear()
