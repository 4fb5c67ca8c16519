"""Moving money between two accounts of the ledger: from payer to payer, or by an operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from holdfast.base.ids import TransferId
from holdfast.base.money import Money
from holdfast.domains.ledger.model import NewTransfer, Outcome, Posting, Unit
from holdfast.domains.payments.errors import KeyClaimed, PaymentInvalid, TransferRefused
from holdfast.flows import chart
from holdfast.flows.desk import Desk
from holdfast.platform.unit import Guard, Write

_WORDS = {
    Outcome.EXCEEDS_CREDITS: "There is not enough money in the account.",
    Outcome.EXCEEDS_DEBITS: "The receiving account takes no more.",
    Outcome.DEBIT_ACCOUNT_NOT_FOUND: "There is no such account to take the money from.",
    Outcome.CREDIT_ACCOUNT_NOT_FOUND: "There is no such account to put the money into.",
    Outcome.ASSETS_DIFFER: "The two accounts hold different assets.",
    Outcome.ACCOUNT_CLOSED: "One of the accounts is closed.",
    Outcome.EXISTS_WITH_DIFFERENT_CONTENT: "This id was used for another transfer.",
}


async def transfer(
    desk: Desk,
    from_account: str,
    to_account: str,
    amount: Money,
    *,
    id: TransferId | None = None,  # noqa: A002 - the field's own word
    metadata: Mapping[str, str] | None = None,
    claim: Guard | None = None,
    answer: Callable[[Posting], tuple[Write, ...]] | None = None,
) -> Posting:
    """Move `amount` between two accounts, named by their codes, at once and durably.

    The same `id` and content again gives the earlier answer. Raises: `PaymentInvalid`, `TransferRefused`
    (with the ledger's `outcome` among its facts), `KeyClaimed`, `Unavailable`, `OutcomeUnknown`.
    """
    if amount.amount_minor <= 0:
        raise PaymentInvalid("The amount must be more than zero.")
    if from_account == to_account:
        raise PaymentInvalid("The two accounts must differ.")
    id_ = TransferId(desk.ids.new()) if id is None else id
    made = NewTransfer(
        id_,
        chart.number(from_account),
        chart.number(to_account),
        amount.asset.code,
        amount.amount_minor,
        metadata=metadata or {},
    )
    posted = Posting(id_, Outcome.POSTED, amount.amount_minor)
    writes = () if answer is None else answer(posted)
    outcome = await desk.lane.submit(Unit((made,), writes, (), () if claim is None else (claim,)))
    if outcome.status == "conflict":
        raise KeyClaimed
    if outcome.status == "refused":
        why = outcome.postings[0].outcome
        raise TransferRefused(_WORDS.get(why), outcome=why.name.lower())
    return outcome.postings[0]
