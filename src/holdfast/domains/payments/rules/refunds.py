"""Refunds: what may be refunded, and the next step of one that is under way (R8).

One refund of a charge is under way at a time, so that what the rail says it has given back so far can be told
apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from holdfast.domains.payments.errors import PaymentStateWrong, RefundTooMuch
from holdfast.domains.payments.model import Case, Op, Payment, PaymentState, Refund, changed
from holdfast.domains.payments.ports import RailTraits, Said
from holdfast.domains.payments.rules.actions import Send, Wait
from holdfast.domains.payments.rules.evidence import Heard


def refundable(payment: Payment, amount_minor: int | None) -> int:
    """Return how much is refunded: `amount_minor`, or all that is left.

    Raises: `PaymentStateWrong`, `RefundTooMuch`.
    """
    if payment.state is not PaymentState.SUCCEEDED:
        raise PaymentStateWrong(
            f"Only a payment that succeeded can be refunded; this one is {payment.state.value}."
        )
    left = payment.captured_minor - payment.refunded_minor
    wanted = left if amount_minor is None else amount_minor
    if wanted <= 0 or wanted > left:
        raise RefundTooMuch(f"{left} minor units are left to refund.")
    return wanted


def next_refund(case: Case, rails: Mapping[str, RailTraits], now: datetime) -> Send | Wait | None:
    """Return the next step of the first refund that is not over, or None when all are."""
    open_ = [r for r in case.refunds if r.state in ("sending", "pending")]
    if not open_:
        return None
    refund = next((r for r in open_ if r.state == "sending"), open_[0])
    attempt = case.attempt(refund.attempt_id)
    if attempt is None:
        return None
    if refund.next_at is not None and refund.next_at > now:
        return Wait(refund.next_at, f"{attempt.rail} has not confirmed the refund")
    if refund.state == "pending":
        return Send(Op.REFUND, f"ask {attempt.rail} to give the money back", attempt, refund=refund)
    lives = (now - refund.created_at).total_seconds() < rails[attempt.rail].replay_key_s
    if lives and refund.tries % 2 == 0:
        why = f"ask {attempt.rail} again with the same key: it gives back once"
        return Send(Op.REFUND, why, attempt, repeat=True, refund=refund)
    return Send(Op.QUERY, f"ask {attempt.rail} what it has given back", attempt, refund=refund)


def learn_refund(case: Case, refund: Refund, news: Heard, now: datetime) -> Refund:
    """Return the refund as it stands after `news`."""
    state = refund.state
    if state not in ("sending", "pending"):
        return refund
    if news.op is Op.REFUND:
        if news.said is Said.REFUNDED:
            state = "succeeded"
        elif news.said is Said.DECLINED:
            state = "failed"
        elif news.said in (Said.NOT_SENT, Said.NOT_DONE) and not news.repeat:
            state = "pending"
    elif news.refunded_minor >= _given_back(case, refund) + refund.amount.amount_minor:
        state = "succeeded"
    return changed(
        refund,
        state=state,
        updated_at=now,
        code=news.code or refund.code,
        message=news.message or refund.message,
    )


def _given_back(case: Case, but: Refund) -> int:
    """What is known to have been given back of the same charge, minor units."""
    same = [r for r in case.refunds if r.attempt_id == but.attempt_id and r.id != but.id]
    return sum(r.amount.amount_minor for r in same if r.state == "succeeded")
