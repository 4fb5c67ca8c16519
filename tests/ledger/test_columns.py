"""Transfers as arrays mean what they mean as objects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import numpy as np
import pytest

from holdfast.base.clock import SystemClock
from holdfast.base.ids import AccountId, IdSource
from holdfast.base.limits import BATCH_TRANSFERS_MAX
from holdfast.domains.ledger.errors import BatchTooLarge, TransferInvalid
from holdfast.domains.ledger.model import NewAccount, Outcome
from holdfast.domains.ledger.operations import Columns, PostgresLedger, Seat
from holdfast.domains.ledger.store import copied
from holdfast.domains.ledger.verify import verify
from holdfast.platform.db import Database
from tests.ledger.sequential import SequentialLedger

ACCOUNTS = [NewAccount(AccountId(1), "world", "CNY")] + [
    NewAccount(AccountId(n), f"payer:{n}", "CNY", "debits_must_not_exceed_credits") for n in range(2, 40)
]


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[tuple[Database, PostgresLedger]]:
    """A ledger with `ACCOUNTS`, written by this process; verified when it is closed."""
    database = Database(dsn)
    await database.open()
    seat = Seat(database)
    try:
        ledger = PostgresLedger(database, seat)
        await ledger.open_accounts(ACCOUNTS)
        yield database, ledger
    finally:
        await seat.close()
        await database.close()
    assert verify(dsn).findings == []


def columns_of(
    ids: bytes, debits: Sequence[int], credits_: Sequence[int], amounts: Sequence[int], code: int = 0
) -> Columns:
    numbers = [np.array(column, np.int64) for column in (debits, credits_, amounts)]
    return Columns(ids, numbers[0], numbers[1], numbers[2], "CNY", code)


class Draw:
    """Draws columns from a seed: repeats, empty accounts, accounts that are not."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.ids = IdSource(lambda: int(time.time() * 1000), self.random.randbytes)
        self.past: list[bytes] = []

    def columns(self, count: int) -> Columns:
        r = self.random
        rows = []
        for _ in range(count):
            debit = 1 if r.random() < 0.4 else r.randrange(1, 40)
            credit = r.choice([n for n in range(1, 41 if r.random() < 0.05 else 40) if n != debit])
            again = self.past and r.random() < 0.03
            i = r.choice(self.past) if again else self.ids.new().bytes
            self.past.append(i)
            rows.append((i, debit, credit, r.randrange(1, 200)))
        ids, debits, credits_, amounts = zip(*rows, strict=True)
        return columns_of(b"".join(ids), debits, credits_, amounts, code=r.randrange(3))


@pytest.mark.parametrize("copied_from", [copied.ROWS_MIN, 1], ids=["as arrays", "copied"])
@pytest.mark.parametrize("forwarded", [False, True], ids=["in the writer", "forwarded"])
async def test_columns_are_answered_like_one_by_one(
    dsn: str, monkeypatch: pytest.MonkeyPatch, *, forwarded: bool, copied_from: int
) -> None:
    monkeypatch.setattr(copied, "ROWS_MIN", copied_from)
    async with opened(dsn) as (database, ledger):
        other = Seat(database)
        posts = PostgresLedger(database, other) if forwarded else ledger
        model = SequentialLedger()
        for account in ACCOUNTS:
            model.open(account)
        draw = Draw(7)
        for count in (1, 3, 40, 500, 2000, 60, 5000):
            columns = draw.columns(count)
            got = await posts.post_columns(columns)
            want = model.post([g.transfers[0] for g in columns.groups()], SystemClock().now())
            assert [
                (Outcome(o), a) for o, a in zip(got.outcomes.tolist(), got.amounts.tolist(), strict=True)
            ] == want
        numbers = [a.number for a in ACCOUNTS]
        assert await ledger.balances(numbers) == {n: model.balance(n) for n in numbers}
        await other.close()


async def test_columns_that_all_stand_are_copied_and_those_behind_them_wait_their_turn(dsn: str) -> None:
    """Some make the next batch while the one before is copied; one of an early id is noted with its batch."""
    now_ms = int(time.time() * 1000)
    early = IdSource(lambda: now_ms + 3_600_000).new().bytes
    ids = IdSource(lambda: now_ms)
    count = copied.ROWS_MIN
    rounds = [b"".join(ids.new().bytes for _ in range(count - 1)) + ids.new().bytes for _ in range(4)]
    rounds[2] = rounds[2][:-16] + early
    debits, credits_ = [1] * count, [2 + n % 30 for n in range(count)]
    async with opened(dsn) as (_, ledger):
        waits = [ledger.post_columns(columns_of(each, debits, credits_, [3] * count)) for each in rounds]
        for done in await asyncio.gather(*waits):
            assert set(done.outcomes.tolist()) == {Outcome.POSTED}
        again = await ledger.post_columns(columns_of(early, [1], credits_[-1:], [3]))
        assert again.outcomes.tolist() == [Outcome.EXISTS]
        assert (await ledger.balances([AccountId(1)]))[AccountId(1)].debits_posted_minor == 3 * 4 * count


async def test_columns_and_objects_share_the_lane_in_order(dsn: str) -> None:
    ids = Draw(1).ids
    async with opened(dsn) as (_, ledger):
        waits = [ledger.post_columns(columns_of(ids.new().bytes, [1], [2], [100]))]
        waits += [ledger.post_columns(columns_of(ids.new().bytes, [2], [1], [40])) for _ in range(3)]
        outcomes = [Outcome(int(done.outcomes[0])) for done in await asyncio.gather(*waits)]
    assert outcomes == [Outcome.POSTED, Outcome.POSTED, Outcome.POSTED, Outcome.EXCEEDS_CREDITS]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"amounts": np.array([0, 5])}, TransferInvalid),
        ({"credits": np.array([2, 3])}, TransferInvalid),
        ({"debits": np.array([-1, 3])}, TransferInvalid),
        ({"debits": np.array([2])}, TransferInvalid),
        ({"asset": "NONE"}, TransferInvalid),
        ({"ids": bytes(31)}, TransferInvalid),
        ({"ids": bytes(16 * (BATCH_TRANSFERS_MAX + 1))}, BatchTooLarge),
    ],
    ids=["amount", "same account", "number", "length", "asset", "half an id", "too many"],
)
def test_columns_that_are_not_well_formed_are_refused(
    changes: dict[str, object], error: type[Exception]
) -> None:
    good: dict[str, object] = {
        "ids": bytes(range(32)), "debits": np.array([2, 4]), "credits": np.array([3, 5]),
        "amounts": np.array([1, 1]), "asset": "CNY",
    }  # fmt: skip
    Columns(**good).check()  # type: ignore[arg-type]
    with pytest.raises(error):
        Columns(**good | changes).check()  # type: ignore[arg-type]
