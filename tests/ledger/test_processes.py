"""Several processes post at once: one writes, the others forward to it.

The outcome is that of some order one by one: the order of the batch numbers.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import psycopg
import pytest

from holdfast.domains.ledger.model import NewTransfer, Outcome
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.verify import verify
from holdfast.platform.db import Database
from tests.ledger.conftest import on_postgres
from tests.ledger.sequential import STAYS_REFUSED, SequentialLedger
from tests.ledger.workload import StillClock, Workload, accounts

SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "0")) or Random().randrange(1, 10**9)
Answered = list[tuple[list[NewTransfer], list[tuple[Outcome, int]]]]


def post_in_a_process(dsn: str, seed: int, lists: int, target: str) -> None:
    async def run() -> Answered:
        database = Database(dsn, connections_min=1, connections_max=2)
        await database.open()
        clock = StillClock()
        work = Workload(seed, accounts(40), clock.now)
        seat = Seat(database, clock, batch_transfers_max=1)  # one list to a batch: their order is then known
        ledger = PostgresLedger(database, seat)
        answered: Answered = []
        for _ in range(lists):
            transfers = work.lists((1, 20, 200, 800))
            answered.append((transfers, [(p.outcome, p.amount_minor) for p in await ledger.post(transfers)]))
        await seat.close()
        await database.close()
        return answered

    Path(target).write_bytes(pickle.dumps(asyncio.run(run())))


def batch_numbers(dsn: str) -> dict[object, int]:
    """Which batch each id was stored by."""
    with psycopg.connect(dsn) as connection:
        return dict(
            connection.execute(
                "select t.id, b.number from ledger.batches b join ledger.transfers t "
                "on t.seq >= b.first_seq and t.seq < b.first_seq + b.transfers "
                "union all select id, batch from ledger.refusals"
            )
        )


async def compare(dsn: str, folder: Path, *, processes: int, lists: int) -> int:
    """Post from several processes, then post the same one by one in the order of the batches.

    Return how many.
    """
    print(f"HOLDFAST_TEST_SEED={SEED}")
    opened = accounts(40)
    database = Database(dsn)
    await database.open()
    seat = Seat(database, StillClock())
    ledger = PostgresLedger(database, seat)
    await ledger.open_accounts(opened)
    await seat.close()
    context = multiprocessing.get_context("spawn")
    targets = [str(folder / f"answers-{n}") for n in range(processes)]
    started = [
        context.Process(target=post_in_a_process, args=(dsn, SEED + n, lists, target))
        for n, target in enumerate(targets)
    ]
    for process in started:
        process.start()
    for process in started:
        await asyncio.to_thread(process.join, 900)
        assert process.exitcode == 0
    answered: Answered = [pair for target in targets for pair in pickle.loads(Path(target).read_bytes())]
    stored = batch_numbers(dsn)
    model = SequentialLedger()
    for account in opened:
        model.open(account)
    ordered: list[tuple[int, list[NewTransfer], list[tuple[Outcome, int]]]] = []
    for transfers, got in answered:
        numbers = {
            stored[t.id]
            for t, (outcome, _) in zip(transfers, got, strict=True)
            if outcome is Outcome.POSTED or outcome in STAYS_REFUSED
        }
        assert len(numbers) <= 1, "a list is one batch"
        if numbers:
            ordered.append((numbers.pop(), transfers, got))
    for number, transfers, got in sorted(ordered, key=lambda row: row[0]):
        assert model.post(transfers, StillClock().now()) == got, f"seed {SEED}, batch {number}"
    assert await ledger.balances([a.number for a in opened]) == {
        a.number: model.balance(a.number) for a in opened
    }
    await database.close()
    report = verify(dsn)
    assert report.findings == []
    assert report.refusals == len(model.refused)
    return sum(len(transfers) for transfers, _ in answered)


async def test_several_processes_at_once_are_as_good_as_one_after_the_other(
    emptied: Database, shared_dsn: str, tmp_path: Path
) -> None:
    assert emptied
    assert await compare(shared_dsn, tmp_path, processes=3, lists=150) > 100_000


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_several_processes_for_long(emptied: Database, shared_dsn: str, tmp_path: Path) -> None:
    assert emptied
    assert await compare(shared_dsn, tmp_path, processes=4, lists=1500) > 1_000_000


async def test_time_never_goes_back_though_writers_clocks_differ(emptied: Database, shared_dsn: str) -> None:
    ahead, behind = StillClock(datetime(2026, 5, 1, tzinfo=UTC)), StillClock(datetime(2026, 4, 1, tzinfo=UTC))
    opened = accounts(12)
    for step in range(6):
        clock = (ahead, behind)[step % 2]
        async with on_postgres(emptied, clock) as stage:
            await stage.ledger.open_accounts(opened)
            await stage.ledger.post(Workload(step, opened, clock.now).lists((20,)))
    with psycopg.connect(shared_dsn) as connection:
        row = connection.execute(
            "select count(*) from ledger.batches b join ledger.batches p on p.number = b.number - 1 "
            "where p.at > b.at"
        ).fetchone()
    assert row == (0,)
    assert verify(shared_dsn).findings == []
