"""Events: nothing unannounced, nothing announced twice, in whatever order transactions commit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg

from holdfast.base.ids import EventId
from holdfast.platform import outbox
from holdfast.platform.db import Connection, Database
from holdfast.platform.outbox import Event
from tests.support.waiting import until_async

NOW = datetime(2026, 11, 11, tzinfo=UTC)
OWNER = UUID(int=7)


def event(
    number: int, *, type_: str = "payment.succeeded", owner: UUID | None = OWNER, at: datetime = NOW
) -> Event:
    return Event(EventId(UUID(int=number)), type_, owner, f"pay_{number}", {"number": number}, at)


_UNREAD = """
    select count(*) from outbox.events e, outbox.followers f
    where f.name = %s and (e.transaction_id, e.id) > (f.transaction_id, f.event_id)"""


async def add(connection: Connection, *events: Event) -> None:
    rows = [outbox.announce(each).row for each in events]
    columns = [list(column) for column in zip(*rows, strict=True)]
    await connection.execute(outbox.ADD.sql.encode(), columns)


async def read_all(database: Database, follower: str = "f") -> list[int]:
    """Read until nothing is unread; the first call makes the follower.

    What is read is held back by whatever writes in the cluster, so it may take more than one look.
    """
    seen = await read_once(database, follower)

    async def everything() -> bool:
        seen.extend(await read_once(database, follower))
        async with database.connection() as connection:
            row = await (await connection.execute(_UNREAD, (follower,))).fetchone()
        return row == (0,)

    await until_async(everything, "every event is read")
    return seen


async def read_once(database: Database, follower: str = "f") -> list[int]:
    """Read what can be read now."""
    seen: list[int] = []

    async def follow(_connection: Connection, events: Sequence[Event]) -> None:
        seen.extend(each.id.int for each in events)

    await outbox.relay(database, follower, follow, now=NOW)
    while await outbox.relay(database, follower, follow, now=NOW, limit=7):
        pass
    return seen


async def test_an_event_is_handed_on_once_with_everything_it_said(database: Database) -> None:
    said = Event(
        EventId(uuid4()), "refund.failed", OWNER, "ref_1", {"amount_minor": 2**53 - 1, "注": "退款"}, NOW
    )
    async with database.transaction() as connection:
        await add(connection, said)
    seen: list[Event] = []

    async def follow(_connection: Connection, events: Sequence[Event]) -> None:
        seen.extend(events)

    for _ in range(3):
        await outbox.relay(database, "f", follow, now=NOW)
    assert seen == [said]


async def test_a_row_that_commits_late_is_not_skipped(database: Database) -> None:
    late = await psycopg.AsyncConnection.connect(database.dsn)
    await add(late, event(1))  # its transaction id is given out first, and it stays open
    async with database.transaction() as connection:
        await add(connection, event(2))
    assert await read_once(database) == []
    assert await read_once(database) == [], "the reader must not pass a transaction that may still commit"
    await late.commit()
    await late.close()
    assert sorted(await read_all(database)) == [1, 2]


async def test_what_was_rolled_back_is_never_announced_and_holds_nobody_up(database: Database) -> None:
    doomed = await psycopg.AsyncConnection.connect(database.dsn)
    await add(doomed, event(1))
    await doomed.rollback()
    await doomed.close()
    async with database.transaction() as connection:
        await add(connection, event(2))
    assert await read_all(database) == [2]


async def test_under_concurrent_writers_and_readers_each_event_is_followed_exactly_once(
    database: Database,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    numbers = list(range(1, 601))
    chance.shuffle(numbers)
    followed: list[int] = []
    writing = True

    async def write(mine: list[int]) -> None:
        while mine:
            async with database.transaction() as connection:
                for _ in range(chance.randint(1, 5)):
                    if mine:
                        await add(connection, event(mine.pop()))
                    await asyncio.sleep(chance.random() * 0.004)

    async def read() -> None:
        while True:
            done_writing = not writing

            async def follow(connection: Connection, events: Sequence[Event]) -> None:
                mine = [each.id.int for each in events]
                await asyncio.sleep(chance.random() * 0.002)
                if chance.random() < 0.2:
                    raise ConnectionError("the worker dies in the middle of a batch")
                await connection.execute("select 1")
                followed.extend(mine)

            try:
                done = await outbox.relay(database, "f", follow, now=NOW, limit=chance.randint(1, 40))
            except ConnectionError:
                continue
            if done_writing and not done:
                return
            await asyncio.sleep(0)

    parts = [numbers[start::6] for start in range(6)]
    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.gather(*(write(part) for part in parts))
    writing = False
    await asyncio.gather(*readers)
    followed.extend(await read_all(database))
    assert len(followed) == 600, "an event was lost or followed twice"
    assert set(followed) == set(range(1, 601))


async def test_two_followers_read_at_their_own_pace(database: Database) -> None:
    async with database.transaction() as connection:
        await add(connection, event(1))
    assert await read_all(database, "first") == [1]
    async with database.transaction() as connection:
        await add(connection, event(2))
    assert await read_all(database, "first") == [2]
    assert sorted(await read_all(database, "second")) == [1, 2]


async def test_a_database_loaded_into_a_new_cluster_loses_no_event_and_repeats_no_old_one(
    database: Database,
) -> None:
    old = NOW - timedelta(days=1)
    for number in (1, 2, 3, 4):
        async with database.transaction() as connection:
            await add(connection, event(number, at=old))
        if number == 2:
            assert await read_all(database, "slow") == [1, 2]
        if number == 3:
            assert await read_all(database, "fast") == [1, 2, 3]
    async with (
        database.transaction() as connection
    ):  # as after a dump and load: ids of another cluster, far ahead
        ahead = "set transaction_id = (transaction_id::text::bigint + 9000000000)::text::xid8"
        await connection.execute(f"update outbox.events {ahead}".encode())
        await connection.execute(f"update outbox.followers {ahead}, cluster = 1".encode())
        await add(connection, event(5))
    slow = await read_all(database, "slow")
    assert {4, 5} <= set(slow)
    assert not {1, 2} & set(slow), "what everyone had read long ago comes again"
    assert {4, 5} <= set(await read_all(database, "fast"))
    async with database.transaction() as connection:
        await add(connection, event(6))
    assert await read_all(database, "slow") == [6]
    assert await read_all(database, "fast") == [6]


async def test_a_merchant_lists_its_own_events_newest_first_page_by_page(database: Database) -> None:
    async with database.transaction() as connection:
        await add(connection, *(event(number) for number in range(1, 8)))
        await add(connection, event(50, owner=UUID(int=8)), event(51, type_="payment.failed"))
    first = await outbox.listing(database, OWNER, limit=3)
    assert [each.id.int for each in first] == [51, 7, 6]
    rest = await outbox.listing(database, OWNER, after=first[-1].id, limit=100)
    assert [each.id.int for each in rest] == [5, 4, 3, 2, 1]
    only = await outbox.listing(database, OWNER, type="payment.failed")
    assert [each.id.int for each in only] == [51]
    assert await outbox.find(database, OWNER, UUID(int=50)) is None
    found = await outbox.find(database, OWNER, UUID(int=3))
    assert found == event(3)


async def test_old_events_are_forgotten_only_when_everyone_has_read_them(database: Database) -> None:
    old = NOW - timedelta(days=40)
    async with database.transaction() as connection:
        await add(connection, event(1, at=old), event(2, at=old), event(3))
    assert await outbox.forget(database, before=NOW - timedelta(days=30)) == 0, "nobody has read them yet"
    await read_all(database)
    async with database.transaction() as connection:
        await add(connection, event(4, at=old))
    assert await outbox.forget(database, before=NOW - timedelta(days=30)) == 2
    assert [each.id.int for each in await outbox.listing(database, OWNER)] == [4, 3]


async def test_the_lag_is_the_age_of_the_oldest_unread_event(database: Database) -> None:
    assert await outbox.lag(database, now=NOW) == 0.0
    await read_all(database)
    async with database.transaction() as connection:
        await add(connection, event(1, at=NOW - timedelta(seconds=42)), event(2))
    assert await outbox.lag(database, now=NOW) == 42.0
    await read_all(database)
    assert await outbox.lag(database, now=NOW) == 0.0
