"""What posting promises, case by case, on both ledgers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.limits import BATCH_TRANSFERS_MAX
from holdfast.domains.ledger.errors import (
    AccountExists,
    AccountInvalid,
    AccountMissing,
    BatchTooLarge,
    ChainTooLong,
    MetadataTooLarge,
    TransferInvalid,
)
from holdfast.domains.ledger.model import NewAccount, NewTransfer, Outcome, Rule
from tests.ledger.conftest import Stage
from tests.ledger.sequential import STAYS_REFUSED
from tests.ledger.workload import START

WORLD, PAYER, SHOP, FULL, YEN, SHUT = (AccountId(n) for n in (1, 2, 3, 4, 5, 6))
MOST = 2**53 - 1
_ids = count(1)


def tid(number: int) -> TransferId:
    return TransferId(UUID(int=(7 << 76) | (1 << 100) | number))


def move(debit: AccountId, credit: AccountId, amount: int | None, **more: Any) -> NewTransfer:
    return NewTransfer(
        more.pop("id", None) or tid(next(_ids)), debit, credit, more.pop("asset", "CNY"), amount, **more
    )


@dataclass
class Case:
    """Post `first`, then `then`; the last list's outcomes are `want`, and what `then` moved is `moves`."""

    name: str
    then: list[NewTransfer]
    want: list[Outcome]
    first: list[NewTransfer] = field(default_factory=list)
    moves: list[int] | None = None
    later_s: float = 0


O = Outcome  # noqa: E741
A = tid(1_000_001)
H = tid(1_000_002)
fund = move(WORLD, PAYER, 100, id=tid(1_000_003))
hold = move(PAYER, SHOP, 40, id=H, kind="pending")
short_hold = replace(hold, expires_at=START + timedelta(seconds=60))
CASES = [
    Case("a transfer moves its amount", [move(PAYER, SHOP, 60)], [O.POSTED], [fund], [60]),
    Case("an id posted again is the earlier transfer", [fund], [O.EXISTS], [fund], [100]),
    Case(
        "an id again in one list is the earlier transfer", [fund, fund], [O.POSTED, O.EXISTS], [], [100, 100]
    ),
    Case(
        "an id with another amount is refused",
        [replace(fund, amount_minor=5)],
        [O.EXISTS_WITH_DIFFERENT_CONTENT],
        [fund],
    ),
    Case(
        "an id with other metadata is refused",
        [replace(fund, metadata={"a": "b"})],
        [O.EXISTS_WITH_DIFFERENT_CONTENT],
        [fund],
    ),
    Case(
        "an id between other accounts is refused",
        [replace(fund, credit=SHOP)],
        [O.EXISTS_WITH_DIFFERENT_CONTENT],
        [fund],
    ),
    Case(
        "a refused id stays refused",
        [move(PAYER, SHOP, 5, id=A)],
        [O.ID_ALREADY_REFUSED],
        [move(PAYER, SHOP, 5, id=A), fund],
    ),
    Case(
        "an id refused for its form may be mended",
        [move(WORLD, SHOP, 5, id=A)],
        [O.POSTED],
        [move(WORLD, SHOP, 0, id=A)],
    ),
    *(
        Case(f"an amount of {a} is refused", [move(WORLD, PAYER, a)], [O.AMOUNT_INVALID])
        for a in (0, -1, MOST + 1, 2**63, None)
    ),
    Case("an amount that is no whole number is refused", [move(WORLD, PAYER, 1.5)], [O.AMOUNT_INVALID]),  # type: ignore[arg-type]
    Case("a truth value is no amount", [move(WORLD, PAYER, True)], [O.AMOUNT_INVALID]),
    Case("an account cannot pay itself", [move(WORLD, WORLD, 5)], [O.ACCOUNTS_MUST_DIFFER]),
    Case(
        "only a hold may expire",
        [move(WORLD, PAYER, 5, expires_at=START + timedelta(days=1))],
        [O.EXPIRY_INVALID],
    ),
    Case(
        "a hold must not have expired",
        [move(WORLD, PAYER, 5, kind="pending", expires_at=START)],
        [O.EXPIRY_INVALID],
    ),
    Case(
        "an unknown debit account is named first",
        [move(AccountId(98), AccountId(99), 5)],
        [O.DEBIT_ACCOUNT_NOT_FOUND],
    ),
    Case("an unknown credit account is named", [move(WORLD, AccountId(99), 5)], [O.CREDIT_ACCOUNT_NOT_FOUND]),
    Case("accounts of two assets are refused", [move(WORLD, YEN, 5)], [O.ASSETS_DIFFER]),
    Case("the transfer's own asset must be theirs", [move(WORLD, PAYER, 5, asset="JPY")], [O.ASSETS_DIFFER]),
    Case("an unknown asset is refused", [move(WORLD, PAYER, 5, asset="XXX")], [O.ASSETS_DIFFER]),
    Case("a closed account takes part in nothing", [move(WORLD, SHUT, 5)], [O.ACCOUNT_CLOSED]),
    Case("debits must not exceed credits", [move(PAYER, SHOP, 101)], [O.EXCEEDS_CREDITS], [fund]),
    Case("debits may reach credits", [move(PAYER, SHOP, 100)], [O.POSTED], [fund]),
    Case("credits must not exceed debits", [move(WORLD, FULL, 1)], [O.EXCEEDS_DEBITS]),
    Case(
        "order decides",
        [move(PAYER, SHOP, 70), move(PAYER, SHOP, 70), move(PAYER, SHOP, 30)],
        [O.POSTED, O.EXCEEDS_CREDITS, O.POSTED],
        [fund],
    ),
    Case(
        "money that came in the same list can be spent",
        [move(WORLD, PAYER, 5), move(PAYER, SHOP, 105)],
        [O.POSTED, O.POSTED],
        [fund],
    ),
    Case(
        "money that comes later cannot",
        [move(PAYER, SHOP, 105), move(WORLD, PAYER, 5)],
        [O.EXCEEDS_CREDITS, O.POSTED],
        [fund],
    ),
    Case("no balance passes 2^53-1", [move(WORLD, SHOP, 1)], [O.BALANCE_OVERFLOW], [move(WORLD, SHOP, MOST)]),
    Case(
        "what has gone through an account may be more than it can have at a time",
        [move(WORLD, SHOP, MOST), move(SHOP, WORLD, MOST), move(WORLD, SHOP, 7)],
        [O.POSTED, O.POSTED, O.POSTED],
        [move(WORLD, SHOP, MOST), move(SHOP, WORLD, MOST)],
    ),
    Case(
        "what has gone through an account has its own, far larger bound",
        [move(WORLD, SHOP, MOST), move(WORLD, SHOP, 256)],
        [O.BALANCE_OVERFLOW, O.POSTED],
        [t for _ in range(256) for t in (move(WORLD, SHOP, MOST), move(SHOP, WORLD, MOST))],
    ),
    Case(
        "what found no room is not refused for ever",
        [move(SHOP, WORLD, 10), move(WORLD, SHOP, 1, id=A)],
        [O.POSTED, O.POSTED],
        [move(WORLD, SHOP, MOST), move(WORLD, SHOP, 1, id=A)],
    ),
    Case(
        "within a batch, too, no balance passes 2^53-1",
        [move(WORLD, SHOP, MOST), move(WORLD, SHOP, 1), move(SHOP, WORLD, 1), move(WORLD, SHOP, 1)],
        [O.POSTED, O.BALANCE_OVERFLOW, O.POSTED, O.POSTED],
    ),
    Case(
        "holds count towards 2^53-1",
        [move(WORLD, SHOP, 1, kind="pending")],
        [O.BALANCE_OVERFLOW],
        [move(WORLD, SHOP, MOST, kind="pending")],
    ),
    Case("what is held cannot be spent", [move(PAYER, SHOP, 61)], [O.EXCEEDS_CREDITS], [fund, hold]),
    Case(
        "a hold is settled whole",
        [move(PAYER, SHOP, None, kind="post_pending", pending_id=H)],
        [O.POSTED],
        [fund, hold],
        [40],
    ),
    Case(
        "a hold is settled in part, and the rest is free again",
        [move(PAYER, SHOP, 10, kind="post_pending", pending_id=H), move(PAYER, SHOP, 90)],
        [O.POSTED, O.POSTED],
        [fund, hold],
        [10, 90],
    ),
    Case(
        "a hold is settled in the list that made it",
        [hold, move(PAYER, SHOP, 40, kind="post_pending", pending_id=H)],
        [O.POSTED, O.POSTED],
        [fund],
        [40, 40],
    ),
    Case(
        "a hold cannot be settled before it is made",
        [move(PAYER, SHOP, 40, kind="post_pending", pending_id=H), hold],
        [O.PENDING_NOT_FOUND, O.POSTED],
        [fund],
    ),
    Case(
        "more than is held is refused",
        [move(PAYER, SHOP, 41, kind="post_pending", pending_id=H)],
        [O.EXCEEDS_PENDING_AMOUNT],
        [fund, hold],
    ),
    Case(
        "a released hold can be spent",
        [move(PAYER, SHOP, None, kind="void_pending", pending_id=H), move(PAYER, SHOP, 100)],
        [O.POSTED, O.POSTED],
        [fund, hold],
        [40, 100],
    ),
    Case(
        "releasing takes no amount",
        [move(PAYER, SHOP, 40, kind="void_pending", pending_id=H)],
        [O.AMOUNT_INVALID],
        [fund, hold],
    ),
    Case(
        "a hold is settled once",
        [move(PAYER, SHOP, 1, kind="post_pending", pending_id=H)],
        [O.PENDING_ALREADY_POSTED],
        [fund, hold, move(PAYER, SHOP, 1, kind="post_pending", pending_id=H)],
    ),
    Case(
        "a released hold is not settled",
        [move(PAYER, SHOP, 1, kind="post_pending", pending_id=H)],
        [O.PENDING_ALREADY_VOIDED],
        [fund, hold, move(PAYER, SHOP, None, kind="void_pending", pending_id=H)],
    ),
    Case(
        "settling names the hold's own accounts",
        [move(WORLD, SHOP, 1, kind="post_pending", pending_id=H)],
        [O.PENDING_HAS_OTHER_ACCOUNTS],
        [fund, hold],
    ),
    Case(
        "a posted transfer is no hold",
        [move(WORLD, PAYER, 1, kind="post_pending", pending_id=fund.id)],
        [O.PENDING_NOT_FOUND],
        [fund],
    ),
    Case(
        "a plain transfer settles nothing",
        [move(PAYER, SHOP, 1, pending_id=H)],
        [O.PENDING_NOT_FOUND],
        [fund, hold],
    ),
    Case(
        "a hold whose time is over is not settled",
        [move(PAYER, SHOP, 1, kind="post_pending", pending_id=H)],
        [O.PENDING_EXPIRED],
        [fund, short_hold],
        later_s=60,
    ),
    Case(
        "a hold is settled up to its time",
        [move(PAYER, SHOP, 1, kind="post_pending", pending_id=H)],
        [O.POSTED],
        [fund, short_hold],
        later_s=59,
    ),
    Case(
        "balancing moves what is there",
        [move(PAYER, SHOP, 500, balancing="debit")],
        [O.POSTED],
        [fund, hold],
        [60],
    ),
    Case(
        "balancing moves no more than asked",
        [move(PAYER, SHOP, 50, balancing="debit")],
        [O.POSTED],
        [fund],
        [50],
    ),
    Case("balancing nothing is refused", [move(PAYER, SHOP, 5, balancing="debit")], [O.EXCEEDS_CREDITS]),
    Case(
        "balancing fills what may be filled",
        [move(WORLD, FULL, 500, balancing="credit")],
        [O.POSTED],
        [move(FULL, WORLD, 30)],
        [30],
    ),
    Case(
        "a balancing transfer is repeated by what was asked",
        [move(PAYER, SHOP, 500, id=A, balancing="debit")],
        [O.EXISTS],
        [fund, move(PAYER, SHOP, 500, id=A, balancing="debit")],
        [100],
    ),
    Case(
        "a chain succeeds together",
        [move(WORLD, PAYER, 5, linked=True), move(PAYER, SHOP, 5)],
        [O.POSTED, O.POSTED],
    ),
    Case(
        "a chain fails together",
        [move(WORLD, PAYER, 5, linked=True), move(PAYER, SHOP, 6), move(PAYER, SHOP, 1)],
        [O.LINKED_TRANSFER_FAILED, O.EXCEEDS_CREDITS, O.EXCEEDS_CREDITS],
    ),
    Case(
        "a chain that fails leaves no hold",
        [replace(hold, linked=True), move(PAYER, SHOP, 500), move(PAYER, SHOP, 100)],
        [O.LINKED_TRANSFER_FAILED, O.EXCEEDS_CREDITS, O.POSTED],
        [fund],
    ),
    Case(
        "a chain must be closed",
        [move(WORLD, PAYER, 5), move(WORLD, PAYER, 5, linked=True), move(WORLD, PAYER, 5, linked=True)],
        [O.POSTED, O.LINKED_TRANSFER_FAILED, O.LINKED_CHAIN_OPEN],
    ),
    Case(
        "a whole chain can be repeated",
        [replace(fund, linked=True), move(PAYER, SHOP, 9, id=A)],
        [O.EXISTS, O.EXISTS],
        [replace(fund, linked=True), move(PAYER, SHOP, 9, id=A)],
    ),
]


async def opened(stage: Stage) -> None:
    kinds: list[tuple[AccountId, str, Rule]] = [
        (WORLD, "CNY", "free"), (PAYER, "CNY", "debits_must_not_exceed_credits"), (SHOP, "CNY", "free"),
        (FULL, "CNY", "credits_must_not_exceed_debits"), (YEN, "JPY", "free"), (SHUT, "CNY", "free"),
    ]  # fmt: skip
    await stage.ledger.open_accounts([NewAccount(n, f"account:{n}", asset, rule) for n, asset, rule in kinds])
    await stage.ledger.close_accounts([SHUT])


async def check(stage: Stage, case: Case) -> None:
    """Post and compare outcomes; what was refused moved nothing, what is found is what was answered."""
    await opened(stage)
    if case.first:
        await stage.ledger.post(case.first)
    stage.clock.at += timedelta(seconds=case.later_s)
    postings = await stage.ledger.post(case.then)
    assert [p.outcome for p in postings] == case.want
    assert [p.id for p in postings] == [t.id for t in case.then]
    if case.moves is not None:
        assert [p.amount_minor for p in postings] == case.moves
    found = await stage.ledger.find([t.id for t in case.then])
    for p in postings:
        if p.outcome.moved:
            assert found[p.id] == replace(p, outcome=Outcome.POSTED)
        elif p.outcome in STAYS_REFUSED:
            assert found[p.id].outcome is p.outcome
    balances = await stage.ledger.balances([WORLD, PAYER, SHOP, FULL])
    assert sum(b.net_minor for b in balances.values()) == 0
    assert balances[PAYER].spendable_minor >= 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_posting(stage: Stage, case: Case) -> None:
    await check(stage, case)


async def test_every_refusal_has_a_case() -> None:
    assert {outcome for case in CASES for outcome in case.want} == set(Outcome)


async def test_a_lapsed_hold_is_released_and_can_be_spent(stage: Stage) -> None:
    await opened(stage)
    await stage.ledger.post([fund, short_hold])
    assert await stage.ledger.expire_due() == 0
    stage.clock.at += timedelta(seconds=60)
    assert await stage.ledger.expire_due() == 1
    assert await stage.ledger.expire_due() == 0
    assert (await stage.ledger.balances([PAYER]))[PAYER].spendable_minor == 100
    late = await stage.ledger.post(
        [move(PAYER, SHOP, 1, kind="post_pending", pending_id=H), move(PAYER, SHOP, 100)]
    )
    assert [p.outcome for p in late] == [Outcome.PENDING_EXPIRED, Outcome.POSTED]


async def test_a_closed_account_can_still_release_what_it_holds(stage: Stage) -> None:
    await opened(stage)
    await stage.ledger.post([fund, hold])
    await stage.ledger.close_accounts([PAYER])
    settle = move(PAYER, SHOP, 1, kind="post_pending", pending_id=H)
    release = move(PAYER, SHOP, None, kind="void_pending", pending_id=H)
    assert [p.outcome for p in await stage.ledger.post([settle, release])] == [
        Outcome.ACCOUNT_CLOSED,
        Outcome.POSTED,
    ]
    await stage.ledger.close_accounts([PAYER], closed=False)
    assert (await stage.ledger.post([move(PAYER, SHOP, 100)]))[0].outcome is Outcome.POSTED


async def test_a_past_balance_can_be_asked_for(stage: Stage) -> None:
    await opened(stage)
    moments = []
    for amount in range(1, 200):
        await stage.ledger.post([move(WORLD, PAYER, amount)])
        moments.append((stage.clock.at, amount * (amount + 1) // 2))
        stage.clock.at += timedelta(seconds=1)
    for at, total in moments[::9]:
        balance = (await stage.ledger.balances([PAYER], at=at))[PAYER]
        assert balance.credits_posted_minor == total
        just_before = (await stage.ledger.balances([PAYER], at=at - timedelta(microseconds=1)))[PAYER]
        assert just_before.credits_posted_minor < total
    assert (await stage.ledger.balances([PAYER, SHOP], at=START - timedelta(days=1)))[
        PAYER
    ].credits_posted_minor == 0
    assert await stage.ledger.balances([AccountId(99)], at=START) == {}


async def test_opening_an_account_again_changes_nothing(stage: Stage) -> None:
    await opened(stage)
    await opened(stage)
    again = NewAccount(PAYER, f"account:{PAYER}", "CNY", "free")
    for clash in (
        again,
        NewAccount(AccountId(77), f"account:{PAYER}", "CNY"),
        NewAccount(PAYER, "new", "CNY"),
    ):
        with pytest.raises(AccountExists):
            await stage.ledger.open_accounts([NewAccount(AccountId(78), "fresh", "CNY"), clash])
        assert await stage.ledger.balances([AccountId(78)]) == {}


async def test_nonsense_is_refused_before_it_reaches_a_batch(stage: Stage) -> None:
    await opened(stage)
    for account in (
        NewAccount(AccountId(0), "x", "CNY"),
        NewAccount(AccountId(9), "", "CNY"),
        NewAccount(AccountId(9), "x", "X"),
    ):
        with pytest.raises(AccountInvalid):
            await stage.ledger.open_accounts([account])
    for t in (
        move(AccountId(0), PAYER, 5), move(WORLD, AccountId(2**63), 5), move(WORLD, PAYER, 5, code=-1),
        move(WORLD, PAYER, 5, code=2**31), move(WORLD, PAYER, None, kind="expire_pending", pending_id=H),
        move(WORLD, PAYER, 5, kind="pending", expires_at=START.replace(tzinfo=None)),
    ):  # fmt: skip
        with pytest.raises(TransferInvalid):
            await stage.ledger.post([t])
    for metadata in (
        {str(i): "" for i in range(21)},
        {"k" * 41: ""},
        {"k": "v" * 501},
        {"k": "\0"},
        {"k": 5},
    ):
        with pytest.raises(MetadataTooLarge):
            await stage.ledger.post([move(WORLD, PAYER, 5, metadata=metadata)])
    with pytest.raises(ChainTooLong):
        await stage.ledger.post([move(WORLD, PAYER, 5, linked=True) for _ in range(17)])
    with pytest.raises(BatchTooLarge):
        await stage.ledger.post([move(WORLD, PAYER, 5)] * (BATCH_TRANSFERS_MAX + 1))
    with pytest.raises(AccountMissing):
        await stage.ledger.close_accounts([AccountId(99)])
    assert await stage.ledger.post([]) == []
