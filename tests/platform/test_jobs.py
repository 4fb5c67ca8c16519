"""Jobs: done at least once, taken over when a worker dies, asked for together with a transaction."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import psycopg

from holdfast.platform import jobs
from holdfast.platform.db import Database

WORKER = """
import asyncio, sys
from holdfast.platform import jobs
from holdfast.platform.db import Database

async def main():
    database = Database({dsn!r})
    await database.open()
    async def work(payload):
        async with database.connection() as connection:
            await connection.execute("insert into done (n, who) values (%s, %s)", (payload["n"], {who!r}))
        if {hang!r}:
            await asyncio.sleep(3600)
    await jobs.Jobs(database, handlers={{"work": work}}, schedules={{}}, silent_s=2.0).run()

asyncio.run(main())
"""


def start(dsn: str, who: str, *, hang: bool) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER.format(dsn=dsn, who=who, hang=hang)])


def wait_for(condition: Callable[[], object], *, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_job_whose_worker_is_killed_is_taken_over_by_another(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table done (n integer, who text)")

        def who() -> list[str]:
            return [row[0] for row in connection.execute("select who from done order by 1")]

        async def ask() -> None:
            database = Database(dsn)
            await database.open()
            async with database.transaction() as mine:
                await jobs.enqueue(mine, "work", {"n": 1})
            await database.close()

        asyncio.run(ask())
        first = start(dsn, "first", hang=True)
        try:
            wait_for(lambda: who() == ["first"])
        finally:
            first.kill()
            first.wait()
        second = start(dsn, "second", hang=False)
        try:
            wait_for(lambda: who() == ["first", "second"])
            wait_for(lambda: connection.execute("select count(*) from jobs.pgqueuer").fetchone() == (0,))
        finally:
            second.terminate()
            second.wait(20)
        assert who() == ["first", "second"]


async def running(database: Database, done: list[dict[str, int]]) -> tuple[jobs.Jobs, asyncio.Task[None]]:
    async def work(payload: jobs.Payload) -> None:
        done.append(dict(payload))

    worker = jobs.Jobs(database, handlers={"work": work}, schedules={})
    return worker, asyncio.create_task(worker.run())


async def until(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_job_is_done_if_and_only_if_the_transaction_that_asked_for_it_commits(
    database: Database,
) -> None:
    done: list[dict[str, int]] = []
    worker, task = await running(database, done)
    async with database.connection() as connection, connection.transaction(force_rollback=True):
        await jobs.enqueue(connection, "work", {"n": 1})
    async with database.transaction() as connection:
        await jobs.enqueue(connection, "work", {"n": 2})
    await until(lambda: {"n": 2} in done)
    worker.stop()
    await task
    assert done == [{"n": 2}]


async def test_a_delayed_job_waits_and_a_key_lets_only_one_wait(database: Database) -> None:
    async with database.transaction() as connection:
        assert await jobs.enqueue(connection, "work", {"n": 1}, delay=timedelta(seconds=2), once_key="k")
        assert not await jobs.enqueue(connection, "work", {"n": 2}, once_key="k")
        assert await jobs.enqueue(connection, "work", {"n": 3}, once_key="other")
    done: list[dict[str, int]] = []
    began_s = time.monotonic()
    worker, task = await running(database, done)
    await until(lambda: done == [{"n": 3}, {"n": 1}])
    assert time.monotonic() - began_s > 1.0
    worker.stop()
    await task


async def test_asking_and_doing_take_no_turns_of_a_second_each(database: Database) -> None:
    done: list[dict[str, int]] = []
    worker, task = await running(database, done)
    for n in range(20):
        async with database.transaction() as connection:
            await jobs.enqueue(connection, "work", {"n": n})
    began_s = time.monotonic()
    await until(lambda: len(done) == 20)
    assert time.monotonic() - began_s < 5.0
    worker.stop()
    await task
