"""Writing down where a payment stands.

Kept, held, over, or waiting, with what the ledger does and what is announced.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from holdfast.base.ids import AttemptId, public
from holdfast.domains.payments import store
from holdfast.domains.payments.model import Attempt, AttemptState, Evidence, PaymentState, Step
from holdfast.domains.payments.rules.actions import (
    Action,
    End,
    Held,
    Keep,
    Owe,
    PayFromBalance,
    Rest,
    StandIn,
    Wait,
)
from holdfast.domains.payments.rules.lifecycle import GONE, payment_after
from holdfast.flows import book, chart
from holdfast.flows.desk import Desk
from holdfast.flows.draft import Draft

_S: Final = AttemptState
_REMIND_S: Final = 86_400.0


def settle(desk: Desk, draft: Draft, action: Action) -> bool:
    """Put `action` into the draft, to be committed. True: whoever carries the payment stops here."""
    keeping = action.attempt if isinstance(action, Keep) else None
    book.balance_strays(draft, keeping)
    match action:
        case Keep(attempt):
            _keep(desk, draft, draft.case.attempts[attempt.seq])
        case PayFromBalance(step):
            attempt = balance_attempt(desk, draft, step)
            draft.put(attempt)
            pay_from_balance(draft, attempt)
        case Held(attempt):
            _held(desk, draft, attempt)
        case StandIn():
            _stand_in(desk, draft)
        case Owe():
            _owe(draft)
        case End():
            _end(draft, action)
        case Wait():
            _wait(desk, draft, action)
        case Rest():
            draft.set(next_step_at=None, lease_until=None)
        case _:
            return False
    return True


def balance_attempt(desk: Desk, draft: Draft, step: Step) -> Attempt:
    """Return the attempt that is a payment from the payer's balance: it is over as it begins."""
    id_, payment, now = AttemptId(desk.ids.new()), draft.case.payment, draft.now
    return Attempt(
        id_,
        payment.id,
        len(draft.case.attempts),
        step.rail,
        step.method,
        payment.asked.amount,
        _S.CAPTURED,
        Evidence.SETTLEMENT,
        public("att", id_),
        None,
        "",
        "",
        now,
        now,
        now,
        captured_minor=payment.asked.amount.amount_minor,
        verified=True,
    )


def pay_from_balance(draft: Draft, attempt: Attempt) -> None:
    """Move the amount from the payer's balance to the merchant.

    The commit is refused when there is not enough.
    """
    payment = draft.case.payment
    asked = payment.asked
    asset, amount = asked.amount.asset.code, asked.amount.amount_minor
    if asked.payer_id is None:
        return
    payer, merchant = chart.payer(asked.payer_id, asset).code, chart.merchant(asked.merchant_id, asset).code
    draft.move(chart.transfer_id(attempt.id, chart.PAID), payer, merchant, amount)
    _succeed(draft, attempt, payment_after(payment.state, "paid_from_balance"))
    draft.note("paid_from_balance", f"Paid {asked.amount} from the balance", attempt)


def _keep(desk: Desk, draft: Draft, attempt: Attempt) -> None:
    payment = draft.case.payment
    book.pay_merchant(draft, attempt)
    if payment.stood_in_minor:
        _stand_in_back(draft)
        draft.note("funded", f"{attempt.rail} has funded what the wallet had paid ahead", attempt)
        draft.set(kept=attempt.id, stood_in_minor=0, **_next(draft, attempt))
        return
    if desk.settings.rules.r3_capture_needs_the_token and payment.asked.funding == "direct":
        draft.take_token(attempt.id)
    _succeed(draft, attempt, payment_after(payment.state, "captured"))
    if not desk.settings.rules.i11_announce_once:
        draft.announce(_success(draft))
    draft.note("succeeded", f"{attempt.rail} charged {attempt.amount}: the merchant is paid", attempt)


def _succeed(draft: Draft, attempt: Attempt, state: PaymentState) -> None:
    draft.set(
        state=state,
        captured_minor=attempt.captured_minor,
        kept=attempt.id,
        promise_at=None,
        **_next(draft, attempt),
    )
    draft.announce(_success(draft))


def _success(draft: Draft) -> str:
    return "top_up.succeeded" if draft.case.payment.asked.purpose == "top_up" else "payment.succeeded"


def _next(draft: Draft, keeping: Attempt | None) -> dict[str, datetime | None]:
    """When a worker looks at it again: at once if other attempts are still to be cleared up, else never."""
    kept = None if keeping is None else keeping.id
    left = any(a.state not in GONE and a.id != kept for a in draft.case.attempts)
    return {"next_step_at": draft.now if left else None, "lease_until": None}


def _held(desk: Desk, draft: Draft, attempt: Attempt) -> None:
    payment = draft.case.payment
    if payment.state is PaymentState.AUTHORIZED:
        draft.set(lease_until=None, next_step_at=payment.next_step_at)
        return
    until = draft.now + timedelta(seconds=desk.settings.hold_s)
    draft.set(
        state=payment_after(payment.state, "held"), next_step_at=until, lease_until=None, promise_at=None
    )
    draft.note("held", f"{attempt.rail} holds {attempt.amount} until the merchant captures it", attempt)
    draft.announce("payment.authorized")


def _stand_in(desk: Desk, draft: Draft) -> None:
    payment = draft.case.payment
    asked = payment.asked
    amount = asked.amount.amount_minor
    if asked.payer_id is None:
        return
    book.advance(draft)
    limit = desk.settings.stand_in_limit_minor
    draft.guards.append(store.stand_in_guard(asked.payer_id, asked.amount.asset.code, amount, limit))
    draft.set(
        state=payment_after(payment.state, "stood_in"),
        captured_minor=amount,
        stood_in_minor=amount,
        next_step_at=draft.now,
        lease_until=None,
    )
    draft.note("stood_in", f"No provider has answered: the wallet pays {asked.amount} ahead of its funding")
    draft.announce("payment.succeeded")


def _stand_in_back(draft: Draft) -> None:
    payment = draft.case.payment
    if payment.asked.payer_id is not None:
        asset = payment.asked.amount.asset.code
        draft.writes.append(store.stand_in_back(payment.asked.payer_id, asset, payment.stood_in_minor))


def _owe(draft: Draft) -> None:
    book.owe(draft)
    _stand_in_back(draft)
    draft.set(stood_in_minor=0, next_step_at=draft.now, lease_until=None)
    draft.note(
        "owed", "No funding came for what the wallet paid ahead: the payer owes it. A person should know."
    )


def _end(draft: Draft, end: End) -> None:
    state = payment_after(draft.case.payment.state, end.event)
    draft.set(
        state=state,
        failure_code=end.code,
        failure_message=end.message,
        next_step_at=None,
        lease_until=None,
        promise_at=None,
    )
    draft.note(state.value, end.message)
    draft.announce(f"payment.{state.value}")


def _wait(desk: Desk, draft: Draft, wait: Wait) -> None:
    payment = draft.case.payment
    draft.set(next_step_at=wait.until, lease_until=None)
    if payment.state in (PaymentState.PROCESSING, PaymentState.AUTHORIZED):
        draft.set(state=payment_after(payment.state, "in_doubt"))
        draft.note("pending", f"It is not decided yet: {wait.why}. It ends by itself.")
        draft.announce("payment.pending")
    _mind_the_promise(desk, draft)


def _mind_the_promise(desk: Desk, draft: Draft) -> None:
    """Something in doubt is a person's business once it has taken longer than was promised (I9)."""
    promise = draft.case.payment.promise_at
    if promise is None:
        draft.set(promise_at=draft.now + timedelta(seconds=desk.settings.promise_s))
    elif draft.now >= promise:
        draft.set(promise_at=draft.now + timedelta(seconds=_REMIND_S))
        draft.note("alert", "This has been in doubt for longer than promised. A person should look at it.")
