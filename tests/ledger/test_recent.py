"""Where the newest segments are not indexed, the writer's memory says the same as the tables, and sooner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import numpy as np
import pytest

from holdfast.base.ids import AccountId
from holdfast.base.limits import BATCH_TRANSFERS_MAX, WRITER_LEASE_S
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.model import Balance, NewAccount, Newest
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.writer import recent
from holdfast.domains.ledger.writer.recent import Recent
from holdfast.platform.db import Database
from tests.ledger.conftest import Stage, on_postgres
from tests.ledger.test_behind import SHOP, WORLD, moves
from tests.ledger.workload import StillClock, Workload, accounts
from tests.support.waiting import until_async

BEGUN = 1 << 20
"""Number of the first transfer in the segment that is not indexed."""
OPENED = accounts(12)
NUMBERS = [account.number for account in OPENED]


class Watched:
    """A seat's memory, and what it was asked."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.told: list[Newest | None] = []

    async def balances(self, numbers: Sequence[AccountId]) -> dict[AccountId, Balance] | None:
        return await self.seat.balances(numbers)

    async def newest(self, account: AccountId, below: int, limit: int) -> Newest | None:
        self.told.append(await self.seat.newest(account, below, limit))
        return self.told[-1]


@asynccontextmanager
async def much_written(database: Database, clock: StillClock) -> AsyncIterator[Stage]:
    """So much was posted that the next segment has no index; some of many kinds is in it, and before it."""
    async with on_postgres(database, clock) as stage:
        work = Workload(7, OPENED, clock.now)
        await stage.ledger.open_accounts(OPENED)
        await stage.ledger.open_accounts([NewAccount(n, f"much:{n}", "CNY") for n in (WORLD, SHOP)])
        for _ in range(8):
            await stage.ledger.post(work.lists())
        for _ in range(3):
            await stage.ledger.post(moves(clock, BATCH_TRANSFERS_MAX))
        clock.at += timedelta(seconds=1)
        for _ in range(40):
            await stage.ledger.post(work.lists())
            clock.at += timedelta(milliseconds=20)
        async with database.connection() as connection:
            rows = await connection.execute("select number, indexed from ledger.segments order by number")
            assert await rows.fetchall() == [(0, True), (1, False)]
        yield stage


def seat_of(stage: Stage) -> Seat:
    assert isinstance(stage.lane, Seat)
    return stage.lane


async def test_a_statement_says_the_same_with_the_writers_memory_and_without(database: Database) -> None:
    """Of every account, in pages of any length, with and without a filter, back into what is indexed."""
    async with much_written(database, StillClock()) as stage:
        memory = Watched(seat_of(stage))
        for account in NUMBERS:
            for limit in (1, 7, 100):
                for wanted in ({}, {"code": 1}, {"metadata": {"note": "午餐"}}):
                    cursor, pages = None, 0
                    while pages < 4:
                        ask = {"before": cursor, "limit": limit, **wanted}
                        page = await queries.entries(database, account, memory=memory, **ask)  # type: ignore[arg-type]
                        assert page == await queries.entries(database, account, **ask)  # type: ignore[arg-type]
                        pages, cursor = pages + 1, page.next
                        if cursor is None:
                            break
            listed = await queries.transfers(database, account=account, limit=50, memory=memory)
            assert listed == await queries.transfers(database, account=account, limit=50)
        assert all(told is not None and told.segments == (1,) for told in memory.told)
        assert any(told is not None and len(told.transfers) > 50 for told in memory.told)
        assert all(told is None or told.balance is not None or not told.transfers for told in memory.told)
        found = await stage.ledger.balances([*NUMBERS, AccountId(99)])
        assert found == await queries.balances(database, NUMBERS)


async def test_another_process_asks_the_writer_and_reads_the_tables_when_it_is_not_sure(
    database: Database,
) -> None:
    async with much_written(database, StillClock()) as stage:
        other = Seat(database)
        other.open()
        try:

            async def told() -> bool:
                return await other.balances([SHOP]) is not None

            await until_async(told, "the other process has found the writer")
            seat, account = seat_of(stage), NUMBERS[0]
            ours = await seat.newest(account, BEGUN + 60, 10)
            assert ours is not None
            assert len(ours.transfers) == 10
            assert all(BEGUN <= seq < BEGUN + 60 for seq, _ in ours.transfers)
            assert await other.newest(account, BEGUN + 60, 10) == ours
            assert await other.balances(NUMBERS) == await queries.balances(database, NUMBERS)
            assert await other.newest(AccountId(99), BEGUN, 10) is None, "there is no such account"
            seat._sure_until -= WRITER_LEASE_S
            assert await seat.balances([SHOP]) is None, "another may be the writer: it says nothing"
            assert await other.newest(account, BEGUN + 60, 10) is None
            ledger = PostgresLedger(database, other)
            assert await ledger.statement(account, limit=5) == await queries.statement(
                database, account, limit=5
            )
        finally:
            await other.close()


async def test_what_is_not_committed_is_not_told(database: Database) -> None:
    """The head is locked, so that a commit is decided and does not come about yet."""
    async with much_written(database, StillClock()) as stage, database.connection() as other:
        seat = seat_of(stage)
        before = await stage.ledger.balances([WORLD, SHOP])
        async with other.transaction():
            await other.execute("select from ledger.head for update")
            posting = asyncio.create_task(stage.ledger.post(moves(stage.clock, 3)))

            async def under_way() -> bool:
                return seat.lane is not None and seat.lane.committer.under_way is not None

            await until_async(under_way, "it is decided", every_s=0.01)
            assert await seat.balances([WORLD, SHOP]) == before
            newest = await seat.newest(SHOP, 1 << 62, 5)
        await posting
        after = await stage.ledger.balances([WORLD, SHOP])
        assert after[SHOP].net_minor == before[SHOP].net_minor + 3
        assert after == await queries.balances(database, [WORLD, SHOP])
        later = await seat.newest(SHOP, 1 << 62, 5)
        assert newest is not None
        assert later is not None
        assert (later.upto, later.balance) == (newest.upto + 3, after[SHOP])
        assert len(later.transfers) == len(newest.transfers) + 3


async def test_a_writer_that_did_not_see_a_segment_begin_says_nothing_of_it(database: Database) -> None:
    clock = StillClock()
    async with much_written(database, clock):
        pass
    async with on_postgres(database, clock) as stage:
        await stage.ledger.post(moves(clock, 1))
        newest = await seat_of(stage).newest(SHOP, 1 << 62, 5)
        assert newest is not None
        assert (newest.segments, newest.transfers) == ((), ())
        assert isinstance(stage.ledger, PostgresLedger)
        assert len(await stage.ledger.statement(SHOP, limit=5)) == 5


async def test_no_more_is_found_than_asked_for_however_the_rows_are_looked_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent, "_AT_ONCE", 16)
    memory, random = Recent(), np.random.default_rng(3)
    rows = np.zeros(100, chain.FIXED)
    rows["debit"], rows["credit"] = random.integers(1, 6, 100), random.integers(6, 11, 100)
    rows["amount"] = random.integers(1, 1000, 100)
    rows["id"] = np.frombuffer(random.bytes(1600), "V16")
    first, end = 5 << 20, Balance(10**6, 10**6, 7, 8)
    for start in range(0, 100, 25):
        memory.add(rows[start : start + 25], {}, first + start)
    memory.add(rows[:1], {}, (6 << 20) + 1)  # of the sixth the first is missing
    for account in range(1, 11):
        theirs = [p for p in range(99, -1, -1) if account in (rows["debit"][p], rows["credit"][p])]
        for upto, below, limit in ((99, 100, 100), (99, 100, 3), (99, 41, 5), (60, 99, 9), (99, 16, 100)):
            said = await memory.newest(AccountId(account), end, first + upto, first + below, limit)
            places = [p for p in theirs if p < below and p <= upto][:limit]
            assert (said.upto, said.segments) == (first + upto, (5,))
            assert [seq for seq, _ in said.transfers] == [first + p for p in places]
            assert [i.bytes for _, i in said.transfers] == [rows["id"][p].tobytes() for p in places]
            later = sum(int(rows["amount"][p]) for p in theirs if below <= p <= upto)
            debits, credits_ = (later, 0) if account < 6 else (0, later)
            assert said.balance == Balance(10**6 - debits, 10**6 - credits_, 7, 8)
        known = await memory.newest(AccountId(account), end, (6 << 20) + 1, first + 100, 1)
        assert known.transfers
        assert known.balance is None, "who knows what happened in the sixth"
    memory.forget(5)
    said = await memory.newest(AccountId(1), end, first + 99, first + 100, 5)
    assert said == Newest(first + 99, None, (), ())
