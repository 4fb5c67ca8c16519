"""What is written behind the commits goes on where it stopped, whoever writes next."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg

from holdfast.base.ids import AccountId, IdSource, TransferId
from holdfast.base.limits import BATCH_TRANSFERS_MAX
from holdfast.domains.ledger.model import NewAccount, NewTransfer
from holdfast.domains.ledger.verify import verify
from holdfast.platform.db import Database
from tests.ledger.conftest import Stage, on_postgres
from tests.ledger.workload import StillClock
from tests.support.waiting import until_async

WORLD, SHOP = AccountId(1), AccountId(2)


def moves(clock: StillClock, count: int) -> list[NewTransfer]:
    ids = IdSource(lambda: int(clock.now().timestamp() * 1000))
    return [NewTransfer(TransferId(ids.new()), WORLD, SHOP, "CNY", 1) for _ in range(count)]


async def fill_two_segments(stage: Stage, dsn: str) -> None:
    """So much at once that a segment without indexes is begun, then nothing until it is left for another."""
    clock = stage.clock
    await stage.ledger.open_accounts([NewAccount(WORLD, "world", "CNY"), NewAccount(SHOP, "shop", "CNY")])
    for _ in range(3):
        await stage.ledger.post(moves(clock, BATCH_TRANSFERS_MAX))
    clock.at += timedelta(seconds=1)
    for _ in range(2):
        await stage.ledger.post(moves(clock, 10))
    clock.at += timedelta(seconds=1)
    await asyncio.sleep(0.3)
    clock.at += timedelta(seconds=10)

    async def left() -> bool:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            rows = await connection.execute("select number from ledger.segments where marked order by number")
            return await rows.fetchall() == [(0,), (1,)]

    await until_async(left, "the segments that are left are marked")


async def test_a_segment_that_was_left_is_never_written_again_by_the_next_writer(
    emptied: Database, shared_dsn: str
) -> None:
    """It was sealed and marked before anything was posted in the next one, and then another writes."""
    clock = StillClock()
    async with on_postgres(emptied, clock) as stage:
        await fill_two_segments(stage, shared_dsn)
        balance = (await stage.ledger.balances([SHOP]))[SHOP].net_minor
    async with on_postgres(emptied, clock) as stage:
        [again] = moves(clock, 1)
        await stage.ledger.post([again])
        assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == balance + 1
        assert again.id in await stage.ledger.find([again.id])
    assert verify(shared_dsn).findings == []
