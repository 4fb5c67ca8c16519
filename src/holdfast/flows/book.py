"""What the ledger does for a payment: which transfers go with which step."""

from __future__ import annotations

from typing import Final

from holdfast.base.values import members
from holdfast.domains.ledger.model import NewAccount, TransferKind
from holdfast.domains.payments.model import Attempt, AttemptState, NewPayment, Refund, changed
from holdfast.domains.payments.rules.cascade import BALANCE_RAIL, keepable
from holdfast.domains.payments.rules.lifecycle import FINAL
from holdfast.flows import chart
from holdfast.flows.draft import Draft

_S: Final = members(AttemptState)


def accounts(asked: NewPayment, rails: tuple[str, ...]) -> list[NewAccount]:
    """Return every account that a payment may touch when it goes over `rails`."""
    asset = asked.amount.asset.code
    found = [chart.merchant(asked.merchant_id, asset)]
    if asked.payer_id is not None:
        found.append(chart.payer(asked.payer_id, asset))
    if rails != (BALANCE_RAIL,) or asked.capture == "manual":  # else the commit that opens it ends it
        found.append(chart.in_doubt(asset))
    found += [chart.rail(rail, asset) for rail in rails]
    if asked.funding == "absorb" and asked.payer_id is not None:
        found.append(chart.debt(asked.payer_id, asset))
    return found


def beneficiary(asked: NewPayment) -> NewAccount:
    """Return the account that the money is for: the merchant's, or (top-up) the payer's own."""
    if asked.purpose == "top_up" and asked.payer_id is not None:
        return chart.payer(asked.payer_id, asked.amount.asset.code)
    return chart.merchant(asked.merchant_id, asked.amount.asset.code)


def pay_merchant(draft: Draft, attempt: Attempt) -> None:
    """Pay the merchant from the charge that is kept: straight, or (absorb) through the payer's balance."""
    asked = draft.case.payment.asked
    asset, amount = asked.amount.asset.code, attempt.captured_minor
    source = chart.rail(attempt.rail, asset).code
    merchant = beneficiary(asked).code
    paid = chart.transfer_id(attempt.id, chart.PAID)
    if draft.case.payment.stood_in_minor:
        draft.move(paid, source, chart.in_doubt(asset).code, amount)
    elif asked.funding == "absorb" and asked.payer_id is not None:
        payer = chart.payer(asked.payer_id, asset).code
        draft.move(chart.transfer_id(attempt.id, chart.FUNDED), source, payer, amount)
        draft.move(paid, payer, merchant, amount)
    else:
        draft.move(paid, source, merchant, amount)


def advance(draft: Draft) -> None:
    """Pay the merchant ahead of any certain funding, out of suspense."""
    payment = draft.case.payment
    asked = payment.asked
    asset = asked.amount.asset.code
    draft.move(
        chart.transfer_id(payment.id, chart.ADVANCED),
        chart.in_doubt(asset).code,
        chart.merchant(asked.merchant_id, asset).code,
        asked.amount.amount_minor,
    )


def owe(draft: Draft) -> None:
    """Book what the wallet paid ahead as the payer's debt: no funding came."""
    payment = draft.case.payment
    asked = payment.asked
    asset = asked.amount.asset.code
    if asked.payer_id is not None:
        draft.move(
            chart.transfer_id(payment.id, chart.OWED),
            chart.debt(asked.payer_id, asset).code,
            chart.in_doubt(asset).code,
            payment.stood_in_minor,
        )


def balance_strays(draft: Draft, keeping: Attempt | None = None) -> None:
    """Book charges that are not kept as owed to the payer, until given back or kept after all."""
    kept = draft.case.payment.kept
    for attempt in list(draft.case.attempts):
        charged = attempt.state in (_S.CAPTURED, _S.RETURNING)
        keeps = attempt.id == kept or (keeping is not None and attempt.id == keeping.id)
        if charged and not keeps and not attempt.booked and attempt.captured_minor:
            _book(draft, attempt)
            draft.put(changed(attempt, booked=True))
        elif attempt.booked and (keeps or attempt.state is _S.RETURNED):
            _unbook(draft, attempt, given_back=not keeps)
            draft.put(changed(attempt, booked=False))


def _book(draft: Draft, attempt: Attempt) -> None:
    asked = draft.case.payment.asked
    asset, amount = attempt.amount.asset.code, attempt.captured_minor
    source, booked = chart.rail(attempt.rail, asset).code, chart.transfer_id(attempt.id, chart.BOOKED)
    open_ = draft.case.payment.state not in FINAL and not draft.case.payment.cancel_asked
    undecided = open_ and keepable(draft.case, attempt)
    if asked.funding == "absorb" and asked.payer_id is not None:
        payer = chart.payer(asked.payer_id, asset).code
        draft.move(booked, source, payer, amount)
        draft.move(chart.transfer_id(attempt.id, chart.RESERVED), payer, source, amount, "pending")
        words = f"{attempt.rail} charged what is not needed: it is the payer's credit until it is given back"
    else:
        draft.move(booked, source, chart.in_doubt(asset).code, amount)
        words = (
            f"{attempt.rail} charged what is not kept: it is owed to the payer until it is back at its source"
        )
    if undecided:
        words = f"{attempt.rail} charged: it stands as the payer's until it is clear whether it is kept"
    draft.note("late_money", words, attempt, amount_minor=amount)


def _unbook(draft: Draft, attempt: Attempt, *, given_back: bool) -> None:
    asked = draft.case.payment.asked
    asset, amount = attempt.amount.asset.code, attempt.captured_minor
    source, done = chart.rail(attempt.rail, asset).code, chart.transfer_id(attempt.id, chart.GIVEN_BACK)
    if asked.funding == "absorb" and asked.payer_id is not None:
        payer = chart.payer(asked.payer_id, asset).code
        held = chart.transfer_id(attempt.id, chart.RESERVED)
        draft.move(done, payer, source, None, "post_pending", held)
    else:
        draft.move(done, chart.in_doubt(asset).code, source, amount)
    if given_back:
        draft.note("given_back", f"{attempt.rail} gave the money back", attempt, amount_minor=amount)
        draft.announce("credit.returned", amount_returned_minor=amount, rail=attempt.rail)


def hold_refund(draft: Draft, refund: Refund, rail: str) -> None:
    """Reserve a refund in the merchant's balance until the rail has given it back."""
    asset = refund.amount.asset.code
    merchant = beneficiary(draft.case.payment.asked).code
    held = chart.transfer_id(refund.id, chart.REFUND_HELD)
    draft.move(held, merchant, chart.rail(rail, asset).code, refund.amount.amount_minor, "pending")


def end_refund(draft: Draft, refund: Refund, rail: str) -> None:
    """Settle the reservation of a refund that is over: gone for good, or the merchant's again."""
    asset = refund.amount.asset.code
    merchant = beneficiary(draft.case.payment.asked).code
    held, done = (
        chart.transfer_id(refund.id, chart.REFUND_HELD),
        chart.transfer_id(refund.id, chart.REFUND_DONE),
    )
    kind: TransferKind = "post_pending" if refund.state == "succeeded" else "void_pending"
    draft.move(done, merchant, chart.rail(rail, asset).code, None, kind, held)


def refund_to_balance(draft: Draft, refund: Refund) -> None:
    """Give money back to the payer's balance, at once."""
    asked = draft.case.payment.asked
    asset = refund.amount.asset.code
    if asked.payer_id is not None:
        draft.move(
            chart.transfer_id(refund.id, chart.REFUND_DONE),
            chart.merchant(asked.merchant_id, asset).code,
            chart.payer(asked.payer_id, asset).code,
            refund.amount.amount_minor,
        )
