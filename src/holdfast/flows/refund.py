"""Giving money back.

Reserved in the merchant's balance first, then the rail is asked, under the same journal as a charge.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from holdfast.base.errors import OutcomeUnknown, Unavailable
from holdfast.base.ids import PaymentId, RefundId, public
from holdfast.base.money import Money
from holdfast.domains.payments.errors import KeyClaimed, PaymentBusy, RefundNotFunded
from holdfast.domains.payments.model import Case, Refund
from holdfast.domains.payments.rules.cascade import BALANCE_RAIL
from holdfast.domains.payments.rules.refunds import refundable
from holdfast.flows import book
from holdfast.flows.carry import Carrier
from holdfast.flows.desk import Desk
from holdfast.flows.draft import Draft
from holdfast.flows.pay import find
from holdfast.platform.unit import Guard, Write

Answer = Callable[[Refund], tuple[Write, ...]]
"""Builds the writes that keep the caller's answer, from the refund as the commit leaves it."""

_TRIES: Final = 8


async def refund(
    desk: Desk,
    payment_id: PaymentId,
    amount_minor: int | None = None,
    *,
    id: RefundId | None = None,  # noqa: A002 - the field's own word
    reason: str = "",
    claim: Guard | None = None,
    answer: Answer | None = None,
) -> Refund:
    """Give back `amount_minor`, or all that is left; return the refund succeeded, failed, or under way.

    What came from a balance goes back to it at once; what a rail charged goes back through it. Raises:
    `PaymentNotFound`, `PaymentStateWrong`, `RefundTooMuch`, `RefundNotFunded`, `KeyClaimed`,
    `PaymentBusy` (nothing has moved), `Unavailable`.
    """
    id_ = RefundId(desk.ids.new()) if id is None else id
    for _ in range(_TRIES):
        case = await find(desk, payment_id)
        wanted = refundable(case.payment, amount_minor)
        draft = Draft(desk, case)
        made = _made(draft, id_, wanted, reason)
        if claim is not None:
            draft.guards.append(claim)
        draft.guarded = desk.settings.rules.r8_refunds_under_the_version
        if made.state == "succeeded" and answer is not None:
            draft.answer = _of_case(id_, answer)
        # From here the refund exists: it must end succeeded or failed, whoever dies meanwhile.
        outcome = await draft.commit()
        if outcome.status == "refused":
            raise RefundNotFunded
        if outcome.status == "committed":
            return made if made.state == "succeeded" else await _carry(desk, draft, made, answer)
        if claim is not None and outcome.guard_failed == int(draft.guarded):
            raise KeyClaimed
    raise PaymentBusy


def _made(draft: Draft, id_: RefundId, amount_minor: int, reason: str) -> Refund:
    payment = draft.case.payment
    kept = draft.case.attempt(payment.kept)
    through = (
        kept if kept is not None and kept.rail != BALANCE_RAIL and payment.asked.funding == "direct" else None
    )
    made = Refund(
        id_,
        payment.id,
        None if through is None else through.id,
        Money(payment.asked.amount.asset, amount_minor),
        "succeeded" if through is None else "pending",
        reason,
        draft.now,
        draft.now,
    )
    draft.put_refund(made)
    draft.set(refunded_minor=payment.refunded_minor + amount_minor)
    if through is None:
        book.refund_to_balance(draft, made)
        draft.note("refund", f"Refunded {made.amount} to the balance")
        draft.announce("refund.succeeded", refund=public("ref", id_), refund_minor=amount_minor)
        return made
    book.hold_refund(draft, made, through.rail)
    draft.note("refund", f"Refund {made.amount} through {through.rail}", through)
    draft.set(next_step_at=draft.now)
    if payment.lease_until is None or payment.lease_until <= draft.now:
        draft.set(driver=payment.driver + 1, lease_until=draft.now + timedelta(seconds=60))
    return made


async def _carry(desk: Desk, draft: Draft, made: Refund, answer: Answer | None) -> Refund:
    until = desk.clock.now() + timedelta(seconds=desk.settings.answer_within_s)
    of_case = None if answer is None else _of_case(made.id, answer)
    carrier = Carrier(desk, draft, until=until, patience_s=desk.settings.caller_patience_s, answer=of_case)
    try:
        case = await carrier.run()
    except (Unavailable, OutcomeUnknown):
        return made
    return _refund_of(case, made)


def _of_case(id_: RefundId, answer: Answer) -> Callable[[Case], tuple[Write, ...]]:
    def build(case: Case) -> tuple[Write, ...]:
        return next((answer(refund) for refund in case.refunds if refund.id == id_), ())

    return build


def _refund_of(case: Case, made: Refund) -> Refund:
    return next((refund for refund in case.refunds if refund.id == made.id), made)
