"""Statements, past balances and the trial balance agree with what was posted."""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import pairwise
from random import Random
from uuid import UUID

import pytest

from holdfast.base.ids import AccountId, TransferId
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.errors import AccountMissing, CursorInvalid
from holdfast.domains.ledger.model import Balance, Entry
from holdfast.domains.ledger.rules.rulebook import OWN_KINDS
from holdfast.platform.db import Database
from tests.ledger.conftest import Stage
from tests.ledger.sequential import SequentialLedger
from tests.ledger.workload import Workload, accounts

History = dict[AccountId, list[tuple[object, Balance]]]


async def filled(stage: Stage) -> tuple[SequentialLedger, History, Random]:
    """Post the same to the ledger and the model, and note every balance at every moment."""
    seed = int(os.environ.get("HOLDFAST_TEST_SEED", "0")) or Random().randrange(1, 10**9)
    print(f"HOLDFAST_TEST_SEED={seed}")
    clock, ledger, model = stage.clock, stage.ledger, SequentialLedger()
    opened = accounts(12)
    work = Workload(seed, opened, clock.now)
    await ledger.open_accounts(opened)
    for account in opened:
        model.open(account)
    history: History = {a.number: [] for a in opened}
    for step in range(150):
        transfers = work.lists((20, 60))
        model.post(transfers, clock.now())
        await ledger.post(transfers)
        if step % 10 == 9:
            model.expire(clock.now())
            await ledger.expire_due()
        for number in history:
            history[number].append((clock.now(), model.balance(number)))
        clock.at += timedelta(seconds=work.random.randrange(1, 20))
    return model, history, work.random


async def whole_statement(database: Database, number: AccountId, page: int) -> list[Entry]:
    entries: list[Entry] = []
    while True:
        more = await queries.statement(
            database, number, before=entries[-1].id if entries else None, limit=page
        )
        entries += more
        if len(more) < page:
            return entries


async def test_reading_agrees_with_the_sequential_model(postgresql: Stage, emptied: Database) -> None:
    model, history, random = await filled(postgresql)
    for number, moments in history.items():
        for at, balance in random.sample(moments, 6):
            assert (await queries.balances(emptied, [number], at=at))[number] == balance  # type: ignore[arg-type]
    for number in history:
        entries = await whole_statement(emptied, number, 100)
        made = [i for i, (t, _) in model.made.items() if number in (t.debit, t.credit)]
        lapsed = [e for e in entries if e.kind in OWN_KINDS]
        assert [e.id for e in entries if e.kind not in OWN_KINDS] == made[::-1]
        assert all(e.pending_id in model.reservations for e in lapsed)
        assert not entries or entries[0].balance == model.balance(number)
        for newer, older in pairwise(entries):
            assert newer.at >= older.at
            change = newer.balance.net_minor - older.balance.net_minor
            moves = newer.kind in ("posted", "post_pending", "settle_pending")
            sign = moves * (1 if newer.side == "credit" else -1)
            assert change == sign * newer.amount_minor
    rare = min(history, key=lambda n: len([t for t, _ in model.made.values() if n in (t.debit, t.credit)]))
    by_sevens = await whole_statement(emptied, rare, 7)
    assert len(by_sevens) > 7
    assert by_sevens == await whole_statement(emptied, rare, 100)


async def test_the_trial_balance_sums_every_asset(postgresql: Stage, emptied: Database) -> None:
    model, _, _ = await filled(postgresql)
    rows = await queries.trial_balance(emptied)
    assert {row.asset for row in rows} == {"CNY", "JPY", "USDC"}
    for row in rows:
        members = [model.balance(n) for n, a in model.accounts.items() if a.asset == row.asset]
        assert row.balanced
        assert row.accounts == len(members)
        assert row.totals.debits_posted_minor == sum(b.debits_posted_minor for b in members)
        assert row.totals.credits_pending_minor == sum(b.credits_pending_minor for b in members)


async def test_accounts_are_found_by_number_name_and_beginning(postgresql: Stage, emptied: Database) -> None:
    opened = accounts(12)
    await postgresql.ledger.open_accounts(opened)
    view = await queries.account(emptied, "account:3")
    assert view == await queries.account(emptied, opened[3].number)
    assert (view.asset, view.rule, view.closed, view.limit_minor, view.entries) == (
        "CNY",
        "free",
        False,
        0,
        0,
    )
    page = await queries.accounts(emptied, prefix="account:1", limit=2)
    rest = await queries.accounts(emptied, prefix="account:1", after=page[-1].code)
    assert [a.code for a in page + rest] == ["account:1", "account:10", "account:11"]
    for missing in (AccountId(99), "account:99"):
        with pytest.raises(AccountMissing):
            await queries.account(emptied, missing)
    with pytest.raises(AccountMissing):
        await queries.statement(emptied, AccountId(99))
    with pytest.raises(AccountMissing):
        await queries.transfers(emptied, account=AccountId(99))
    with pytest.raises(CursorInvalid):
        await queries.statement(emptied, opened[0].number, before=TransferId(UUID(int=1)))
