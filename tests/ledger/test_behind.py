"""What is written behind the commits goes on where it stopped, and never says more than is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import psycopg

from holdfast.base.ids import AccountId, IdSource, TransferId
from holdfast.base.limits import BATCH_TRANSFERS_MAX
from holdfast.domains.ledger.model import NewAccount, NewTransfer
from holdfast.domains.ledger.verify import verify
from holdfast.platform.db import Database
from tests.ledger.conftest import Stage, on_postgres
from tests.ledger.workload import StillClock
from tests.support.waiting import until_async

WORLD, SHOP, ONE, OTHER = (AccountId(n) for n in range(1, 5))


def moves(
    clock: StillClock, count: int, debit: AccountId = WORLD, credit: AccountId = SHOP
) -> list[NewTransfer]:
    ids = IdSource(lambda: int(clock.now().timestamp() * 1000))
    return [NewTransfer(TransferId(ids.new()), debit, credit, "CNY", 1) for _ in range(count)]


async def opened(stage: Stage) -> None:
    await stage.ledger.open_accounts(
        [NewAccount(n, f"account:{n}", "CNY") for n in (WORLD, SHOP, ONE, OTHER)]
    )


async def post_much(stage: Stage) -> None:
    """Post so much that the next segment is begun without indexes, with what comes a second later."""
    for _ in range(3):
        await stage.ledger.post(moves(stage.clock, BATCH_TRANSFERS_MAX))


def says(dsn: str, sql: str, rows: list[tuple[Any, ...]]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            return await (await connection.execute(sql.encode())).fetchall() == rows

    return look


async def test_a_segment_that_was_left_is_never_written_again_by_the_next_writer(
    database: Database, dsn: str
) -> None:
    """It was sealed and marked, nothing was posted in the one after it yet, and another writes then."""
    clock = StillClock()
    async with on_postgres(database, clock) as stage:
        await opened(stage)
        await post_much(stage)
        clock.at += timedelta(seconds=1)
        await stage.ledger.post(moves(clock, 10))
        last = "select max(seq) from ledger.transfers"
        assert await says(dsn, last, [((1 << 20) + 9,)])()
        clock.at += timedelta(seconds=10)
        marked = "select number from ledger.segments where marked order by number"
        await until_async(
            says(dsn, marked, [(0,), (1,)]), "little is posted, so it is left for one with indexes"
        )
        before = (await stage.ledger.balances([SHOP]))[SHOP].net_minor
    async with on_postgres(database, clock) as stage:
        [again] = moves(clock, 1)
        await stage.ledger.post([again])
        assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == before + 1
        assert again.id in await stage.ledger.find([again.id])
        assert await says(dsn, last, [(2 << 20,)])()
    assert verify(dsn).findings == []


TRIGGER = f"""
create table noted (number integer, marks bigint);
create function note_marks() returns trigger language plpgsql as $$ begin
    insert into noted select new.number, count(*) from ledger.marks m
    where m.account in ({ONE}, {OTHER}) and m.seq >= (
        select max(seq) from ledger.transfers where debit = {ONE} and seq >> 20 = new.number);
    return new;
end $$;
create trigger note_marks before update of marked on ledger.segments for each row
execute function note_marks()"""


async def test_a_segment_is_not_said_to_be_marked_before_its_marks_are_there(
    database: Database, dsn: str
) -> None:
    """Writing marks takes long; meanwhile more marks become due, and the segment is left."""
    clock = StillClock()
    async with on_postgres(database, clock) as stage, database.connection() as watcher:
        await opened(stage)
        await watcher.execute(TRIGGER.encode())
        await post_much(stage)
        async with watcher.transaction():
            await watcher.execute("lock table ledger.marks in exclusive mode")
            await stage.ledger.post(moves(clock, 100, ONE, OTHER))
            waits = (
                "select count(*) > 0 from pg_locks where not granted and relation = 'ledger.marks'::regclass"
            )
            await until_async(says(dsn, waits, [(True,)]), "marks are being written")
            await stage.ledger.post(moves(clock, 100, ONE, OTHER))
            clock.at += timedelta(seconds=1)
            await stage.ledger.post(moves(clock, 1))
        await until_async(says(dsn, "select count(*) from noted", [(1,)]), "the segment is marked")
        assert await says(dsn, "select number, marks from noted", [(0, 2)])(), "with both accounts' newest"
    assert verify(dsn).findings == []
