"""Holds that settle themselves at a time, and that may be settled for less, or for more within a limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from holdfast.base.ids import TransferId
from holdfast.domains.ledger import queries, receipts
from holdfast.domains.ledger.errors import TransferInvalid
from holdfast.domains.ledger.model import Group, NewTransfer
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.rules import chain, content, snapshots
from holdfast.domains.ledger.rules.book import Book, expiry_id
from holdfast.domains.ledger.rules.plan import Plan
from holdfast.domains.ledger.rules.rulebook import malformed
from holdfast.domains.ledger.store import append, behind, loading
from holdfast.domains.ledger.store.head import Head
from holdfast.domains.ledger.verify import verify
from holdfast.platform.db import Database
from tests.ledger.conftest import Stage
from tests.ledger.test_posting import (
    FULL,
    MOST,
    PAYER,
    SHOP,
    WORLD,
    A,
    Case,
    H,
    O,
    check,
    fund,
    hold,
    move,
    opened,
    tid,
)
from tests.ledger.workload import START, StillClock

SOON = START + timedelta(seconds=60)
promise = replace(hold, settles=True, expires_at=SOON)
"""40 of 100, and the shop has them in a minute."""
wide = replace(hold, over_minor=25)
"""40 of 100, and up to 65 may be settled."""
full_hold = move(WORLD, FULL, 40, id=H, kind="pending", over_minor=25)
largest = move(WORLD, SHOP, MOST - 10, id=H, kind="pending", over_minor=25)


def settle(amount: int | None, **more: Any) -> NewTransfer:
    return move(PAYER, SHOP, amount, kind="post_pending", pending_id=H, **more)


def void() -> NewTransfer:
    return move(PAYER, SHOP, None, kind="void_pending", pending_id=H)


CASES = [
    Case(
        "a hold that settles itself reserves till then",
        [move(PAYER, SHOP, 61)],
        [O.EXCEEDS_CREDITS],
        [fund, promise],
    ),
    Case(
        "it is settled before its time, as any",
        [settle(10), move(PAYER, SHOP, 90)],
        [O.POSTED, O.POSTED],
        [fund, promise],
        [10, 90],
        59,
    ),
    Case(
        "it is released before its time, as any",
        [void(), move(PAYER, SHOP, 100)],
        [O.POSTED, O.POSTED],
        [fund, promise],
        [40, 100],
        59,
    ),
    Case(
        "at its time it is nobody's to settle any more",
        [settle(10)],
        [O.PENDING_EXPIRED],
        [fund, promise],
        later_s=60,
    ),
    Case(
        "at its time it is nobody's to release any more",
        [void(), move(PAYER, SHOP, 61)],
        [O.PENDING_EXPIRED, O.EXCEEDS_CREDITS],
        [fund, promise],
        later_s=60,
    ),
    Case("only a hold settles itself", [move(WORLD, SHOP, 5, settles=True)], [O.EXPIRY_INVALID]),
    Case(
        "it settles itself at a time",
        [move(WORLD, SHOP, 5, kind="pending", settles=True)],
        [O.EXPIRY_INVALID],
    ),
    Case(
        "what settles a hold does not settle itself",
        [settle(5, settles=True)],
        [O.EXPIRY_INVALID],
        [fund, hold],
    ),
    Case(
        "its time must not have come",
        [move(WORLD, SHOP, 5, kind="pending", settles=True, expires_at=START)],
        [O.EXPIRY_INVALID],
    ),
    Case(
        "whether it settles itself is part of what was asked",
        [replace(promise, settles=False)],
        [O.EXISTS_WITH_DIFFERENT_CONTENT],
        [fund, promise],
    ),
    Case("asked for again it is the earlier hold", [promise], [O.EXISTS], [fund, promise], [40]),
    Case(
        "a hold is settled for more, within its limit",
        [settle(65), move(PAYER, SHOP, 35)],
        [O.POSTED, O.POSTED],
        [fund, wide],
        [65, 35],
    ),
    Case("beyond its limit it is not", [settle(66)], [O.EXCEEDS_PENDING_AMOUNT], [fund, wide]),
    Case(
        "for less, the rest is free again",
        [settle(15), move(PAYER, SHOP, 85)],
        [O.POSTED, O.POSTED],
        [fund, wide],
        [15, 85],
    ),
    Case("without an amount it is what is held", [settle(None)], [O.POSTED], [fund, wide], [40]),
    Case(
        "what is above the hold is not reserved",
        [move(PAYER, SHOP, 60), settle(41), settle(40)],
        [O.POSTED, O.EXCEEDS_CREDITS, O.POSTED],
        [fund, wide],
        [60, 0, 40],
    ),
    Case(
        "what was refused left the hold as it was",
        [settle(41), move(PAYER, SHOP, 1), void(), move(PAYER, SHOP, 40)],
        [O.EXCEEDS_CREDITS, O.EXCEEDS_CREDITS, O.POSTED, O.POSTED],
        [fund, wide, move(PAYER, SHOP, 60)],
    ),
    Case(
        "money that came in the same list counts",
        [move(WORLD, PAYER, 5), settle(45)],
        [O.POSTED, O.POSTED],
        [fund, wide, move(PAYER, SHOP, 60)],
        [5, 45],
    ),
    Case(
        "the other account's rule counts, too",
        [
            move(WORLD, FULL, 56, kind="post_pending", pending_id=H),
            move(WORLD, FULL, 55, kind="post_pending", pending_id=H),
        ],
        [O.EXCEEDS_DEBITS, O.POSTED],
        [move(FULL, WORLD, 55), full_hold],
        [0, 55],
    ),
    Case(
        "so does what fits an account",
        [
            move(WORLD, SHOP, MOST, id=A, kind="post_pending", pending_id=H),
            move(SHOP, WORLD, 5),
            move(WORLD, SHOP, MOST, id=A, kind="post_pending", pending_id=H),
        ],
        [O.BALANCE_OVERFLOW, O.POSTED, O.POSTED],
        [move(WORLD, SHOP, 5), largest],
    ),
    Case(
        "a chain that fails takes it back",
        [settle(65, linked=True), move(PAYER, SHOP, 36), settle(65), move(PAYER, SHOP, 35)],
        [O.LINKED_TRANSFER_FAILED, O.EXCEEDS_CREDITS, O.POSTED, O.POSTED],
        [fund, wide],
    ),
    Case(
        "it may settle itself and be settled for more",
        [settle(65)],
        [O.POSTED],
        [fund, replace(promise, over_minor=25)],
        [65],
        59,
    ),
    Case(
        "a hold of what is there may be settled for more than that",
        [settle(110)],
        [O.POSTED],
        [
            fund,
            move(PAYER, SHOP, 500, id=H, kind="pending", balancing="debit", over_minor=10),
            move(WORLD, PAYER, 10),
        ],
        [110],
    ),
    *(
        Case(
            f"{over} is no limit", [move(WORLD, SHOP, 5, kind="pending", over_minor=over)], [O.AMOUNT_INVALID]
        )
        for over in (-1, MOST + 1, 2**63, 1.5, True)
    ),
    Case("only a hold is settled for more", [move(WORLD, SHOP, 5, over_minor=1)], [O.AMOUNT_INVALID]),
    Case("what settles a hold has no limit", [settle(5, over_minor=1)], [O.AMOUNT_INVALID], [fund, hold]),
    Case(
        "the limit is part of what was asked",
        [replace(wide, over_minor=26)],
        [O.EXISTS_WITH_DIFFERENT_CONTENT],
        [fund, wide],
    ),
    Case(
        "an amount that cannot be comes before a time that cannot be",
        [move(WORLD, SHOP, 5, settles=True, over_minor=1)],
        [O.AMOUNT_INVALID],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_holds(stage: Stage, case: Case) -> None:
    await check(stage, case)


async def test_a_hold_settles_itself_once_at_its_time(stage: Stage) -> None:
    await opened(stage)
    await stage.ledger.post([fund, promise])
    stage.clock.at += timedelta(seconds=59)
    assert await stage.ledger.expire_due() == 0
    stage.clock.at += timedelta(hours=5)  # nobody looked for hours: it settles late
    assert await stage.ledger.expire_due() == 1
    assert await stage.ledger.expire_due() == 0
    balances = await stage.ledger.balances([PAYER, SHOP])
    assert (balances[PAYER].debits_posted_minor, balances[PAYER].debits_pending_minor) == (40, 0)
    assert (balances[SHOP].credits_posted_minor, balances[SHOP].credits_pending_minor) == (40, 0)
    late = await stage.ledger.post([settle(1), void(), move(PAYER, SHOP, 60)])
    assert [p.outcome for p in late] == [O.PENDING_ALREADY_POSTED, O.PENDING_ALREADY_POSTED, O.POSTED]
    before = await stage.ledger.balances([SHOP], at=SOON + timedelta(hours=1))
    assert before[SHOP].credits_posted_minor == 0, "the time of its batch counts"


async def test_what_was_promised_is_paid_though_the_account_is_closed_or_its_limit_is_gone(
    stage: Stage,
) -> None:
    await opened(stage)
    await stage.ledger.set_limits({PAYER: 40})
    await stage.ledger.post([promise])
    await stage.ledger.set_limits({PAYER: 0})
    await stage.ledger.close_accounts([PAYER, SHOP])
    stage.clock.at = SOON
    assert await stage.ledger.expire_due() == 1
    assert (await stage.ledger.balances([SHOP]))[SHOP].credits_posted_minor == 40


async def test_nobody_may_ask_for_what_the_ledger_makes_by_itself(stage: Stage) -> None:
    await opened(stage)
    await stage.ledger.post([fund, promise])
    stage.clock.at = SOON
    with pytest.raises(TransferInvalid):
        await stage.ledger.post([move(PAYER, SHOP, None, kind="settle_pending", pending_id=H)])


async def test_a_limit_that_was_lowered_stops_more_than_is_held_and_not_what_is_held(stage: Stage) -> None:
    await opened(stage)
    await stage.ledger.set_limits({PAYER: 100})
    await stage.ledger.post([wide])
    await stage.ledger.set_limits({PAYER: 10})
    got = await stage.ledger.post([settle(41), settle(40)])
    assert [p.outcome for p in got] == [O.EXCEEDS_CREDITS, O.POSTED]


def due_at(number: int, seconds: int, **more: Any) -> NewTransfer:
    return move(
        WORLD, SHOP, number, id=tid(5_000_000 + number), kind="pending",
        expires_at=START + timedelta(seconds=seconds), **more,
    )  # fmt: skip


async def test_holds_end_in_the_order_of_their_time_whichever_way(
    postgresql: Stage, emptied: Database
) -> None:
    await opened(postgresql)
    made = [
        due_at(1, 30),
        due_at(2, 10, settles=True),
        due_at(3, 20),
        due_at(4, 40, settles=True, over_minor=5),
    ]
    await postgresql.ledger.post(made)
    postgresql.clock.at += timedelta(seconds=35)
    assert await postgresql.ledger.expire_due(limit=2) == 2
    assert await postgresql.ledger.expire_due(limit=2) == 1
    postgresql.clock.at += timedelta(seconds=35)
    assert await postgresql.ledger.expire_due(limit=2) == 1
    found = await queries.transfers(emptied, account=SHOP, limit=4)
    assert [(t.kind, t.amount_minor, t.id) for t in reversed(found.items)] == [
        (kind, t.amount_minor, expiry_id(t.id))
        for t, kind in (
            (made[1], "settle_pending"), (made[2], "expire_pending"), (made[0], "expire_pending"),
            (made[3], "settle_pending"),
        )
    ]  # fmt: skip


@pytest.mark.parametrize("snapshot", [False, True], ids=["read from transfers", "from a snapshot"])
async def test_another_writer_ends_holds_as_they_were_asked_for(
    dsn: str, database: Database, monkeypatch: pytest.MonkeyPatch, *, snapshot: bool
) -> None:
    monkeypatch.setattr("holdfast.domains.ledger.writer.behind.SNAPSHOT_TRANSFERS", 2**40)
    clock = StillClock()
    seat = Seat(database, clock)
    stage = Stage(PostgresLedger(database, seat), seat, clock, None, database)  # type: ignore[arg-type]
    await opened(stage)
    made = [fund, promise, due_at(1, 60), due_at(2, 70, settles=True), due_at(3, 600, over_minor=7)]
    await stage.ledger.post(made)
    if snapshot:
        assert seat.lane is not None
        committer = seat.lane.committer
        async with database.connection() as connection:
            payload = b"".join(snapshots.payload_of(committer.book))
            await behind.write_snapshot(connection, committer.head, payload)
    await seat.close()
    async with database.connection() as connection:
        book, *_ = await loading.load(connection)
    assert {i: (h.over, h.settles) for i, h in book.holds.items()} == {
        t.id: (t.over_minor, t.settles) for t in made[1:]
    }
    again = Seat(database, clock)
    ledger = PostgresLedger(database, again)
    clock.at += timedelta(seconds=100)
    assert await ledger.expire_due() == 3
    more = move(WORLD, SHOP, 10, kind="post_pending", pending_id=made[4].id)
    beyond = replace(more, id=A, amount_minor=11)
    assert [p.outcome for p in await ledger.post([beyond, more])] == [O.EXCEEDS_PENDING_AMOUNT, O.POSTED]
    assert (await ledger.balances([SHOP]))[SHOP].credits_posted_minor == 40 + 2 + 10
    assert [p.outcome for p in await ledger.post(made)] == [O.EXISTS] * 5
    await again.close()
    assert verify(dsn).findings == []


async def test_another_process_holds_settles_and_is_told_the_same(database: Database) -> None:
    clock = StillClock()
    writer, other = Seat(database, clock), Seat(database, clock)
    stage = Stage(PostgresLedger(database, writer), writer, clock, None, database)  # type: ignore[arg-type]
    await opened(stage)
    forwards = PostgresLedger(database, other)
    both = replace(promise, over_minor=25)
    assert [p.outcome for p in await forwards.post([fund, both, due_at(1, 60, settles=True)])] == [
        O.POSTED
    ] * 3
    assert other.lane is None
    asked = [replace(both, over_minor=0), settle(66), settle(65)]
    assert [p.outcome for p in await forwards.post(asked)] == [
        O.EXISTS_WITH_DIFFERENT_CONTENT, O.EXCEEDS_PENDING_AMOUNT, O.POSTED,
    ]  # fmt: skip
    clock.at = SOON
    assert await forwards.expire_due() == 1
    assert (await forwards.balances([SHOP]))[SHOP].credits_posted_minor == 66
    for seat in (other, writer):
        await seat.close()


async def test_receipts_prove_how_a_hold_was_to_end(postgresql: Stage, emptied: Database) -> None:
    await opened(postgresql)
    await postgresql.ledger.post([fund, replace(promise, over_minor=25, metadata={"order": "7"})])
    postgresql.clock.at = SOON
    await postgresql.ledger.expire_due()
    root = await receipts.published_root(emptied)
    asked = receipts.verify_receipt(await receipts.make_receipt(emptied, H), [root]).transfer
    assert (asked.kind_name, asked.over, asked.settles) == ("pending", 25, True)
    ended = receipts.verify_receipt(await receipts.make_receipt(emptied, expiry_id(H)), [root]).transfer
    assert (ended.kind_name, ended.amount_minor, ended.held, ended.pending_id) == (
        "settle_pending",
        40,
        40,
        H,
    )


def test_what_has_no_terms_is_hashed_as_ever_and_metadata_is_the_rest() -> None:
    assert (
        chain.extension(expires_at=START).hex() == "05" + chain.microseconds(START).to_bytes(8, "big").hex()
    )
    terms = "07" + (25).to_bytes(8, "big").hex() + "0801"
    assert chain.extension(over=25, settles=True).hex() == terms
    assert chain.extension(over=25, settles=True, metadata="{}").hex() == terms + "067b7d"
    plain = move(WORLD, PAYER, 5, id=TransferId(UUID(int=7)))
    assert content.digest(plain).hex() == "65d741ac1c8f3ddd2ebd95502c610944"
    digests = {content.digest(t) for t in (hold, wide, promise, replace(promise, over_minor=25))}
    assert len(digests) == 4
    assert content.digest(replace(hold, over_minor=2**70)) == b""


def test_only_holds_with_terms_take_more_than_other_transfers_do() -> None:
    for transfers, terms, sql in (
        ([fund, hold], False, append.APPEND_PLAIN),
        ([replace(fund, metadata={"a": "b"}), replace(hold, expires_at=SOON)], False, append.APPEND),
        ([fund, wide], True, append.APPEND_TERMS),
        ([fund, promise], True, append.APPEND_TERMS),
    ):
        plan, statements = planned(transfers)
        assert (plan.terms, plan.plain) == (terms, True)
        assert statements[0] == sql
    for odd in (replace(fund, settles=True), replace(fund, over_minor=1), replace(wide, over_minor=-1)):
        assert malformed(odd, START) is not None
        assert not planned([odd])[0].plain


def planned(transfers: list[NewTransfer]) -> tuple[Plan, list[str]]:
    """Return the plan of a batch, and what appends it."""
    book = Book(START)
    book.open(np.array([WORLD, PAYER, SHOP]), np.full(3, 156), np.zeros(3, np.int64))
    plan = Plan([Group((t,)) for t in transfers], START)
    head = Head(1, 0, 0, -1, START, b"")
    made, _ = append.commands(head, book.decide(plan), 0, [])
    assert isinstance(made, list)
    return plan, [sql for sql, _ in made]
