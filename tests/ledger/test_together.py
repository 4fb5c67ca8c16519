"""Long lists that are posted all or none, on both ledgers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.base.ids import AccountId, IdSource
from holdfast.base.ids import TransferId as Id
from holdfast.base.limits import BATCH_TRANSFERS_MAX, LINKED_TRANSFERS_MAX
from holdfast.domains.ledger.errors import BatchTooLarge, TransferInvalid
from holdfast.domains.ledger.model import NewAccount, NewTransfer, Outcome
from tests.ledger.conftest import Stage

WORLD, PAYER, SHOP = (AccountId(n) for n in (1, 2, 3))
FEW = 3 * LINKED_TRANSFERS_MAX


async def opened(stage: Stage) -> IdSource:
    """Open the accounts, and give the payer 1,000,000."""
    ids = IdSource(lambda: int(stage.clock.now().timestamp() * 1000))
    await stage.ledger.open_accounts(
        [
            NewAccount(WORLD, "world", "CNY"),
            NewAccount(PAYER, "payer", "CNY", "debits_must_not_exceed_credits"),
            NewAccount(SHOP, "shop", "CNY"),
        ]
    )
    await stage.ledger.post([NewTransfer(Id(ids.new()), WORLD, PAYER, "CNY", 1_000_000)])
    return ids


def many(ids: IdSource, count: int, amount: int) -> list[NewTransfer]:
    return [NewTransfer(Id(ids.new()), PAYER, SHOP, "CNY", amount) for _ in range(count)]


async def left(stage: Stage) -> int:
    return (await stage.ledger.balances([PAYER]))[PAYER].net_minor


@pytest.mark.parametrize("count", [1, FEW, BATCH_TRANSFERS_MAX])
async def test_all_are_made_and_again_they_stand(stage: Stage, count: int) -> None:
    wanted = many(await opened(stage), count, 10)
    postings = await stage.ledger.post_together(wanted)
    assert [(p.id, p.outcome, p.amount_minor) for p in postings] == [
        (t.id, Outcome.POSTED, 10) for t in wanted
    ]
    assert {p.outcome for p in await stage.ledger.post_together(wanted)} == {Outcome.EXISTS}
    assert await left(stage) == 1_000_000 - 10 * count


@pytest.mark.parametrize("count", [FEW, BATCH_TRANSFERS_MAX])
@pytest.mark.parametrize("place", [0, 17, -1])
async def test_when_one_is_refused_none_is_made(stage: Stage, count: int, place: int) -> None:
    wanted = many(await opened(stage), count, 10)
    wanted[place] = replace(wanted[place], amount_minor=1_000_001)
    postings = await stage.ledger.post_together(wanted)
    assert postings.pop(place).outcome is Outcome.EXCEEDS_CREDITS
    assert {p.outcome for p in postings} == {Outcome.LINKED_TRANSFER_FAILED}
    assert await left(stage) == 1_000_000
    del wanted[place]
    assert {p.outcome for p in await stage.ledger.post_together(wanted)} == {Outcome.POSTED}


async def test_what_one_brings_the_next_may_spend_and_links_say_nothing(stage: Stage) -> None:
    ids = await opened(stage)
    brings = NewTransfer(Id(ids.new()), WORLD, PAYER, "CNY", 500)
    spends = NewTransfer(Id(ids.new()), PAYER, SHOP, "CNY", 1_000_500, linked=True)
    assert [p.outcome for p in await stage.ledger.post_together([brings, spends])] == [Outcome.POSTED] * 2
    assert await left(stage) == 0


async def test_more_than_one_commit_takes_and_what_is_no_transfer_are_refused(stage: Stage) -> None:
    ids = await opened(stage)
    assert await stage.ledger.post_together([]) == []
    with pytest.raises(BatchTooLarge):
        await stage.ledger.post_together(many(ids, BATCH_TRANSFERS_MAX + 1, 1))
    with pytest.raises(TransferInvalid):
        await stage.ledger.post_together([*many(ids, 2, 1), replace(many(ids, 1, 1)[0], code=-1)])
    assert await left(stage) == 1_000_000
