"""The hot path: a payment, from what a merchant asks for to an answer.

Refusals come first, in order of precedence, and leave nothing behind. After the line that says so, the
payment is durable and must end posted, released or pending. A payment from balance needs no rail: it opens,
posts and announces in one commit.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from holdfast.base.errors import OutcomeUnknown, Unavailable
from holdfast.base.ids import PaymentId
from holdfast.base.limits import METHODS_PER_PAYMENT_MAX
from holdfast.domains.payments.errors import (
    CaptureTooMuch,
    KeyClaimed,
    NoWayToPay,
    PaymentBusy,
    PaymentInvalid,
    PaymentNotFound,
    PaymentStateWrong,
)
from holdfast.domains.payments.model import (
    AttemptState,
    CaptureToken,
    Case,
    Method,
    NewPayment,
    Payment,
    PaymentState,
    Step,
    changed,
)
from holdfast.domains.payments.rules.cascade import BALANCE_RAIL
from holdfast.domains.payments.rules.lifecycle import payment_after
from holdfast.domains.payments.rules.plan import plan
from holdfast.flows import book
from holdfast.flows.carry import Carrier, declined_for_funds
from holdfast.flows.desk import Desk
from holdfast.flows.draft import Draft
from holdfast.flows.settle import balance_attempt, pay_from_balance
from holdfast.platform.unit import Guard, Write

Answer = Callable[[Payment], tuple[Write, ...]]
"""Builds the writes that keep the caller's answer, from the payment as the commit leaves it."""

_TRIES: Final = 5
"""How often a change is made anew when somebody else was faster."""


async def create(
    desk: Desk,
    asked: NewPayment,
    *,
    id: PaymentId | None = None,  # noqa: A002 - the field's own word
    confirm: bool = True,
    claim: Guard | None = None,
    answer: Answer | None = None,
) -> Payment:
    """Open a payment and, unless `confirm` is False, carry it out; return it final, authorized or pending.

    `id` is chosen by the caller where the key's claim must name it. `claim` is the caller's idempotency
    key; `answer` builds the writes that keep the caller's answer. Raises: `PaymentInvalid`, `NoWayToPay`,
    `KeyClaimed` (nothing has changed); `Unavailable` (nothing has changed, unless `opened` is among its
    facts), `OutcomeUnknown` (ask for the state of `id`).
    """
    now = desk.clock.now()
    check(asked, now)
    payment = opened(desk, asked, PaymentId(desk.ids.new()) if id is None else id, now, confirm=confirm)
    await desk.open(book.accounts(payment.asked, tuple(step.rail for step in payment.plan)))
    draft = Draft(desk, Case(payment, [], CaptureToken()), fresh=True)
    draft.now = now
    if claim is not None:
        draft.guards.append(claim)
    # From here the payment exists: it must end posted, released or pending, whoever dies meanwhile.
    if not confirm:
        return await _only_open(draft, answer)
    if payment.plan[0].rail == BALANCE_RAIL and asked.capture == "automatic":
        paid = await _from_balance(desk, draft, payment.plan[0], answer)
        if paid is not None:
            return paid
    else:
        draft.announce("payment.created")
        _note_plan(draft, payment)
    return await _carry(desk, draft, answer)


async def confirm(
    desk: Desk,
    payment_id: PaymentId,
    *,
    methods: tuple[Method, ...] | None = None,
    answer: Answer | None = None,
) -> Payment:
    """Carry out a payment that was only opened, with other methods when given.

    Raises: `PaymentNotFound`, `PaymentStateWrong`, `NoWayToPay`, `PaymentInvalid`, `Unavailable`.
    """
    case = await find(desk, payment_id)
    payment, now = case.payment, desk.clock.now()
    if payment.state is not PaymentState.REQUIRES_CONFIRMATION:
        raise PaymentStateWrong(f"It was confirmed already; it is {payment.state.value}.")
    asked = payment.asked if methods is None else changed(payment.asked, methods=methods)
    check(asked, now)
    planned = opened(desk, asked, payment.id, now, confirm=True)
    await desk.open(book.accounts(planned.asked, tuple(step.rail for step in planned.plan)))
    draft = Draft(desk, case)
    draft.replan(changed(payment, asked=planned.asked, plan=planned.plan))
    draft.set(
        state=PaymentState.PROCESSING,
        next_step_at=now,
        lease_until=now + timedelta(seconds=desk.settings.lease_s),
        driver=payment.driver + 1,
    )
    _note_plan(draft, planned)
    draft.announce("payment.processing")
    if (await draft.commit()).status != "committed":
        raise PaymentBusy
    return await _carry(desk, draft, answer)


async def capture(
    desk: Desk, payment_id: PaymentId, amount_minor: int | None = None, *, answer: Answer | None = None
) -> Payment:
    """Capture what is held: all of it, or `amount_minor` of it and release the rest.

    Raises: `PaymentNotFound`, `PaymentStateWrong`, `CaptureTooMuch`, `PaymentBusy`, `Unavailable`.
    """
    for _ in range(_TRIES):
        case = await find(desk, payment_id)
        payment = case.payment
        held = [a for a in case.attempts if a.state is AttemptState.AUTHORIZED and not a.conflict]
        if payment.state is not PaymentState.AUTHORIZED or not held:
            raise PaymentStateWrong(
                f"Only a held payment can be captured; this one is {payment.state.value}."
            )
        attempt = held[0]
        whole = attempt.amount.amount_minor
        if amount_minor is not None and not 0 < amount_minor <= whole:
            raise CaptureTooMuch(f"{whole} minor units are held.")
        draft = Draft(desk, case)
        draft.put(changed(attempt, to_capture_minor=amount_minor or whole))
        draft.note(
            "capture_asked", "The merchant asks to capture", attempt, amount_minor=amount_minor or whole
        )
        if await take_over(desk, draft, "capture_asked"):
            return await _carry(desk, draft, answer)
    raise PaymentBusy


async def cancel(desk: Desk, payment_id: PaymentId, *, answer: Answer | None = None) -> Payment:
    """Cancel a payment that has not succeeded.

    Release what is held, fence what is in doubt, return what turns up.

    The answer is `canceled`, or `pending` while something is still in doubt. Raises: `PaymentNotFound`,
    `PaymentStateWrong`, `PaymentBusy`, `Unavailable`.
    """
    for _ in range(_TRIES):
        case = await find(desk, payment_id)
        payment = case.payment
        if payment.state is PaymentState.CANCELED or (payment.cancel_asked and not payment.final):
            return payment
        if payment.final:
            raise PaymentStateWrong(f"It is over: {payment.state.value}. Use a refund to give money back.")
        draft = Draft(desk, case)
        draft.set(cancel_asked=True)
        draft.note("cancel_asked", "The merchant asks to cancel")
        if payment.lease_until is not None and payment.lease_until > draft.now:
            # Whoever is at work on it finds this at its next commit, and undoes what it did.
            if (await draft.commit()).status == "committed":
                return draft.case.payment
            continue
        if await take_over(desk, draft, "cancel_asked"):
            return await _carry(desk, draft, answer)
    raise PaymentBusy


def check(asked: NewPayment, now: datetime) -> None:
    """Refuse what makes no sense. Raises: `PaymentInvalid`."""
    if asked.amount.amount_minor <= 0:
        raise PaymentInvalid("The amount must be more than zero.")
    if len(asked.methods) > METHODS_PER_PAYMENT_MAX:
        raise PaymentInvalid(f"At most {METHODS_PER_PAYMENT_MAX} methods can be offered.")
    if len({m.instrument_id.int for m in asked.methods}) != len(asked.methods):
        raise PaymentInvalid("Each method can be offered once.")
    if asked.deadline_at is not None and asked.deadline_at <= now:
        raise PaymentInvalid("The deadline has passed.")
    if asked.payer_id is None and (
        asked.funding == "absorb" or any(m.kind == "balance" for m in asked.methods)
    ):
        raise PaymentInvalid("Paying from, or through, a balance needs to know whose it is.")
    if asked.funding == "absorb" and asked.capture == "manual":
        raise PaymentInvalid("A payment through the payer's balance cannot be held.")


def opened(desk: Desk, asked: NewPayment, id_: PaymentId, now: datetime, *, confirm: bool) -> Payment:
    """Return the payment as it opens, with its plan. Raises: `NoWayToPay`."""
    settings = desk.settings
    if asked.deadline_at is None:
        asked = changed(asked, deadline_at=now + timedelta(seconds=settings.deadline_s))
    steps: tuple[Step, ...] = ()
    if confirm:
        steps = plan(asked, desk.traits, desk.router, now_s=desk.clock.monotonic_s())
        if not steps:
            raise NoWayToPay
    return Payment(
        id_,
        asked,
        PaymentState.PROCESSING if confirm else PaymentState.REQUIRES_CONFIRMATION,
        0,
        0,
        1,
        now,
        now,
        steps,
        next_step_at=now if confirm else asked.deadline_at,
        lease_until=now + timedelta(seconds=settings.lease_s) if confirm else None,
    )


async def _from_balance(desk: Desk, draft: Draft, step: Step, answer: Answer | None) -> Payment | None:
    """Pay from balance in the commit that opens the payment. None: not enough; it is open and goes on."""
    opened_only = draft.case.payment
    attempt = balance_attempt(desk, draft, step)
    draft.put(attempt)
    pay_from_balance(draft, attempt)
    draft.answer = _of_case(answer)
    draft.opening = desk.writer.open_payment(opened_only)
    try:
        outcome = await draft.commit(if_refused=(draft.opening,))
    except (Unavailable, OutcomeUnknown):
        desk.outcomes.count("failed", "pay", BALANCE_RAIL)
        raise
    if outcome.status == "committed":
        desk.outcomes.count("succeeded", "pay", BALANCE_RAIL)
        return draft.case.payment
    if outcome.status == "conflict":
        raise KeyClaimed
    desk.outcomes.count("declined", "pay", BALANCE_RAIL)
    draft.restart(opened_only)
    draft.put(declined_for_funds(attempt))
    _note_plan(draft, opened_only)
    draft.note("answer", "The balance does not cover it", attempt)
    draft.announce("payment.created")
    return None


def _of_case(answer: Answer | None) -> Callable[[Case], tuple[Write, ...]] | None:
    return None if answer is None else lambda case: answer(case.payment)


async def _only_open(draft: Draft, answer: Answer | None) -> Payment:
    draft.note("created", "Opened; it waits for the payer's confirmation")
    draft.announce("payment.created")
    draft.answer = _of_case(answer)
    if (await draft.commit()).status != "committed":
        raise KeyClaimed
    return draft.case.payment


async def _carry(desk: Desk, draft: Draft, answer: Answer | None) -> Payment:
    """Carry it out for as long as a caller waits.

    Once it is open, trouble of ours is no answer: a worker goes on.
    """
    settings = desk.settings
    until = desk.clock.now() + timedelta(seconds=settings.answer_within_s)
    carrier = Carrier(
        desk, draft, until=until, patience_s=settings.caller_patience_s, answer=_of_case(answer)
    )
    try:
        return (await carrier.run()).payment
    except (Unavailable, OutcomeUnknown):
        if carrier.is_open:
            return carrier.payment
        raise


async def take_over(desk: Desk, draft: Draft, event: str) -> bool:
    """Commit the draft and make this caller the payment's driver.

    False: somebody else was faster; read again.
    """
    payment = draft.case.payment
    if payment.state is PaymentState.AUTHORIZED:
        draft.set(state=payment_after(payment.state, event))
    lease_until = draft.now + timedelta(seconds=desk.settings.lease_s)
    draft.set(next_step_at=draft.now, lease_until=lease_until, driver=payment.driver + 1)
    return (await draft.commit()).status == "committed"


async def find(desk: Desk, payment_id: PaymentId) -> Case:
    """Return a payment with all that belongs to it. Raises: `PaymentNotFound`."""
    case = await desk.book.case(payment_id)
    if case is None:
        raise PaymentNotFound
    return case


def _note_plan(draft: Draft, payment: Payment) -> None:
    ways = ", then ".join(f"{step.method.label or step.method.kind} on {step.rail}" for step in payment.plan)
    draft.note("plan", f"The plan: {ways}", reasons=[step.reason for step in payment.plan])
