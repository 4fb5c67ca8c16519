"""Moving money between two accounts of the ledger: from payer to payer, or by an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from holdfast.base.errors import Unavailable
from holdfast.base.ids import TransferId
from holdfast.base.limits import BATCH_TRANSFERS_MAX
from holdfast.base.money import Money
from holdfast.domains.ledger.model import NewTransfer, Outcome, Posting, Unit
from holdfast.domains.ledger.operations import Columns, PostgresLedger
from holdfast.domains.ledger.ports import Ledger
from holdfast.domains.payments.errors import BatchUnfinished, KeyClaimed, PaymentInvalid, TransferRefused
from holdfast.flows import chart
from holdfast.flows.desk import Desk
from holdfast.platform.unit import Guard, Write

WORDS: Final[Mapping[Outcome, str]] = {
    Outcome.LINKED_TRANSFER_FAILED: "Another one was refused, and all or none of them was asked for.",
    Outcome.EXISTS_WITH_DIFFERENT_CONTENT: "This id was used for another transfer.",
    Outcome.ID_ALREADY_REFUSED: "A transfer with this id was refused before; give the next try another id.",
    Outcome.AMOUNT_INVALID: "The amount is not valid.",
    Outcome.ACCOUNTS_MUST_DIFFER: "The two accounts must differ.",
    Outcome.DEBIT_ACCOUNT_NOT_FOUND: "There is no such account to take the money from.",
    Outcome.CREDIT_ACCOUNT_NOT_FOUND: "There is no such account to put the money into.",
    Outcome.ASSETS_DIFFER: "The two accounts hold different assets.",
    Outcome.ACCOUNT_CLOSED: "One of the accounts is closed.",
    Outcome.EXCEEDS_CREDITS: "There is not enough money in the account.",
    Outcome.EXCEEDS_DEBITS: "The receiving account takes no more.",
    Outcome.BALANCE_OVERFLOW: "An account has no room for so much.",
}
"""Why a transfer that moves money at once is refused."""

_PIECE_TRANSFERS_MAX: Final = BATCH_TRANSFERS_MAX // 2
"""Of a long list so many go into one commit, so that what others ask for fits in beside them."""


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
        raise TransferRefused(WORDS.get(why), outcome=why.name.lower())
    return outcome.postings[0]


async def transfers(
    ledger: Ledger, wanted: Sequence[NewTransfer], *, all_or_none: bool = False
) -> list[Posting]:
    """Move money many times, in order, durably; an answer for each.

    The same ids and contents again do what is left and answer `EXISTS` for what is done, so it is safe to
    repeat after any error. Raises: `BatchTooLarge` (all or none, and more than one commit takes),
    `Unavailable` (nothing has moved), `BatchUnfinished` (a part of it has), `OutcomeUnknown`.
    """
    if all_or_none:
        return await ledger.post_together(wanted)
    postings: list[Posting] = []
    for piece in _pieces(len(wanted), _PIECE_TRANSFERS_MAX):
        with _unfinished(begun=bool(postings)):
            postings += await ledger.post(wanted[piece])
    return postings


async def columns(ledger: PostgresLedger, wanted: Columns) -> list[int]:
    """Move money many times, as `transfers` does, given as columns; return the number of each `Outcome`."""
    outcomes: list[int] = []
    for piece in _pieces(len(wanted), BATCH_TRANSFERS_MAX):
        part = Columns(
            wanted.ids[16 * piece.start : 16 * piece.stop], wanted.debits[piece], wanted.credits[piece],
            wanted.amounts[piece], wanted.asset, wanted.code,
        )  # fmt: skip
        with _unfinished(begun=bool(outcomes)):
            outcomes += (await ledger.post_columns(part)).outcomes.tolist()
    return outcomes


def _pieces(count: int, most: int) -> list[slice]:
    """Cut a list into pieces of about one size, none with more than `most`."""
    pieces = -(-count // most)
    size = -(-count // pieces) if pieces else 1
    return [slice(start, start + size) for start in range(0, count, size)]


@contextmanager
def _unfinished(*, begun: bool) -> Iterator[None]:
    """Say of what cannot be done now that a part of it has been, if so."""
    try:
        yield
    except Unavailable as error:
        if begun:
            raise BatchUnfinished from error
        raise
