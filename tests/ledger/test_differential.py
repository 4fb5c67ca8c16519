"""The fast ledgers give the answers of the plain sequential one, transfer by transfer."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from random import Random

import pytest

from holdfast.domains.ledger.memory import MemoryLedger
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.store import copied
from holdfast.platform.db import Database
from tests.ledger.sequential import SequentialLedger
from tests.ledger.workload import StillClock, Workload, accounts

SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "0")) or Random().randrange(1, 10**9)


def explain(seed: int, step: int, transfers: list[NewTransfer], got: object, want: object) -> str:
    rows = [f"{t}\n   got {g}  want {w}" for t, g, w in zip(transfers, got, want, strict=True) if g != w]  # type: ignore[call-overload]
    return f"seed {seed}, list {step}:\n" + "\n".join(rows)


async def test_the_memory_ledger_answers_like_the_sequential_one() -> None:
    print(f"HOLDFAST_TEST_SEED={SEED}")
    clock = StillClock()
    opened = accounts(40)
    work = Workload(SEED, opened, clock.now)
    model, ledger = SequentialLedger(), MemoryLedger(clock)
    await ledger.open_accounts(opened)
    for account in opened:
        model.open(account)
    for step in range(2500):
        transfers = work.lists()
        want = model.post(transfers, clock.now())
        got = [(p.outcome, p.amount_minor) for p in await ledger.post(transfers)]
        assert got == want, explain(SEED, step, transfers, got, want)
        if step % 10 == 9:
            clock.at += timedelta(seconds=work.random.randrange(30))
            assert await ledger.expire_due(limit=10_000) == model.expire(clock.now())
    assert await ledger.balances([a.number for a in opened]) == {
        a.number: model.balance(a.number) for a in opened
    }


@pytest.mark.parametrize(
    ("lists_at_once", "copied_from"), [(1, copied.ROWS_MIN), (6, 1)], ids=["one by one", "many, copied"]
)
async def test_the_postgresql_ledger_answers_like_the_sequential_one(
    database: Database, monkeypatch: pytest.MonkeyPatch, lists_at_once: int, copied_from: int
) -> None:
    monkeypatch.setattr(copied, "ROWS_MIN", copied_from)
    seed = SEED + lists_at_once
    print(f"HOLDFAST_TEST_SEED={SEED}")
    clock = StillClock()
    opened = accounts(40)
    work = Workload(seed, opened, clock.now)
    seat = Seat(database, clock)
    model, ledger = SequentialLedger(), PostgresLedger(database, seat)
    await ledger.open_accounts(opened)
    for account in opened:
        model.open(account)
    for step in range(900 // lists_at_once):
        lists = [work.lists() for _ in range(lists_at_once)]
        want = [model.post(transfers, clock.now()) for transfers in lists]
        answers = await asyncio.gather(*(ledger.post(transfers) for transfers in lists))
        for transfers, answer, wanted in zip(lists, answers, want, strict=True):
            got = [(p.outcome, p.amount_minor) for p in answer]
            assert got == wanted, explain(seed, step, transfers, got, wanted)
        if step % 10 == 9:
            clock.at += timedelta(seconds=work.random.randrange(30))
            assert await ledger.expire_due() == model.expire(clock.now())
    assert await ledger.balances([a.number for a in opened]) == {
        a.number: model.balance(a.number) for a in opened
    }
    await seat.close()
