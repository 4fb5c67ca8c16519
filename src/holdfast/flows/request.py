"""A request to a rail: written into the draft first, then sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

from holdfast.base.errors import ensure
from holdfast.base.ids import AttemptId, RefundId, public
from holdfast.base.limits import RAIL_CALL_TIMEOUT_S_MAX
from holdfast.base.money import Money
from holdfast.base.values import members, quick
from holdfast.domains.payments.model import (
    Attempt,
    AttemptState,
    Case,
    Evidence,
    Op,
    Refund,
    SendRecord,
    Step,
    changed,
)
from holdfast.domains.payments.ports import Answer, Order, Said
from holdfast.domains.payments.rules.actions import Send
from holdfast.domains.payments.rules.cascade import BALANCE_RAIL
from holdfast.domains.payments.rules.evidence import heard
from holdfast.domains.payments.rules.lifecycle import FINAL, attempt_after
from holdfast.domains.payments.rules.routing import RailOutcome, Ticket
from holdfast.flows.desk import Desk
from holdfast.flows.draft import Draft
from holdfast.flows.news import News
from holdfast.platform.outcomes import Kind

_OP: Final = members(Op)
_OUTCOME: Final = members(RailOutcome)
_SAID: Final = members(Said)
_S: Final = members(AttemptState)

_HASH_BYTES: Final = 16
_KINDS: Final[dict[RailOutcome, Kind]] = {
    _OUTCOME.OK: "succeeded",
    _OUTCOME.ACCEPTED: "succeeded",
    _OUTCOME.DECLINED_BY_PAYER: "declined",
    _OUTCOME.FAILED: "failed",
    _OUTCOME.NOT_SENT: "failed",
    _OUTCOME.UNKNOWN: "failed",
}
"""How an outcome is told to the status service. An unknown one is a failure of the rail to answer."""


@quick
@dataclass(frozen=True, slots=True)
class Request:
    """A request whose record is in the draft. `ticket`: a first try, whose outcome the router counts."""

    rail: str
    order: Order
    attempt: AttemptId
    repeat: bool
    ticket: Ticket | None
    refund: RefundId | None
    asked_at: datetime


def prepare(desk: Desk, draft: Draft, send: Send) -> Request | None:
    """Put the record of a request into the draft, with the attempt's new state and its token (R1, R3).

    None: the rail takes no further call just now (it is noted in `Case.shut`), decide again.
    """
    ticket = None
    first = send.op is _OP.AUTHORIZE and not send.repeat
    if first and send.step is not None and send.step.rail != BALANCE_RAIL:
        ticket = _enter(desk, draft.case, send.step)
        if ticket is None:
            _pass_over(desk, draft, send.step.rail)
            return None
    attempt = send.attempt
    if attempt is None:
        ensure(send.step is not None, "a request without an attempt opens one for a step")
        assert send.step is not None  # noqa: S101 - for the type checker; `ensure` has raised
        attempt = _open(desk, draft, send.step)
    rules = desk.settings.rules
    epoch = draft.take_token(attempt.id) if send.take_token and rules.r3_capture_needs_the_token else None
    if draft.case.token.holder == attempt.id:
        epoch = draft.case.token.epoch
    attempt = _about_to_send(attempt, send, _deadline(desk, draft, attempt), epoch, draft.now)
    draft.put(attempt)
    if send.refund is not None:
        draft.put_refund(changed(send.refund, state="sending", updated_at=draft.now))
    order = _order(draft, attempt, send, share_key=not rules.r4_key_per_attempt)
    draft.record(_record(attempt, order, send, epoch, draft.now))
    draft.note("send", send.why, attempt, send.op, key=order.key)
    draft.set(next_step_at=draft.now, lease_until=draft.now + timedelta(seconds=desk.settings.lease_s))
    refund = None if send.refund is None else send.refund.id
    return Request(attempt.rail, order, attempt.id, send.repeat, ticket, refund, draft.now)


def _enter(desk: Desk, case: Case, step: Step) -> Ticket | None:
    """Ask the router for a call to the step's rail, as a last resort where no other rail is left."""
    now_s = desk.clock.monotonic_s()
    ticket = desk.router.started(step.rail, now_s=now_s)
    if ticket is None and _nowhere_else(case, step):
        ticket = desk.router.started(step.rail, now_s=now_s, last_resort=True)
    return ticket


def _pass_over(desk: Desk, draft: Draft, rail: str) -> None:
    """Leave a rail that takes no call just now to later; the journal says so once."""
    draft.case.shut.add(rail)
    if rail not in draft.case.passed_over:
        draft.case.passed_over.add(rail)
        why = desk.router.hindrance(rail, now_s=desk.clock.monotonic_s())
        draft.note("passed_over", f"{rail} is passed over for now: {why}", rail=rail)


def _nowhere_else(case: Case, step: Step) -> bool:
    """Whether no other rail is left to begin with: then a call that may fail is better than none."""
    spent = {(a.rail, a.method.instrument_id) for a in case.attempts}
    refused = {a.method.instrument_id for a in case.attempts if a.payer_fault}
    return not any(
        other.rail != step.rail
        and other.rail not in case.shut
        and other.method.instrument_id not in refused
        and (other.rail, other.method.instrument_id) not in spent
        for other in case.payment.plan
    )


async def ask(desk: Desk, request: Request) -> News:
    """Send the request and return what came back; the router learns how it went."""
    clock = desk.clock
    started_s = clock.monotonic_s()
    answer = None
    try:
        answer = await desk.rails[request.rail].send(request.order)
    finally:
        if request.ticket is not None:
            now_s = clock.monotonic_s()
            outcome = _OUTCOME.UNKNOWN if answer is None else _outcome(answer)
            desk.router.finished(request.ticket, outcome, latency_s=now_s - started_s, now_s=now_s)
            desk.outcomes.count(_KINDS[outcome], "pay", request.rail)
            if outcome in (_OUTCOME.UNKNOWN, _OUTCOME.ACCEPTED):
                desk.remember(request.attempt, request.ticket)
    news = heard(request.order.op, answer, asked_at=request.asked_at, repeat=request.repeat)
    return News(request.attempt, news, request.refund)


def _outcome(answer: Answer) -> RailOutcome:
    said = answer.said
    if said in (_SAID.AUTHORIZED, _SAID.CAPTURED):
        return _OUTCOME.OK
    if said is _SAID.PENDING:
        return _OUTCOME.ACCEPTED
    if said is _SAID.DECLINED:
        return _OUTCOME.DECLINED_BY_PAYER if answer.payer_fault else _OUTCOME.FAILED
    if said in (_SAID.NOT_SENT, _SAID.NOT_DONE):
        return _OUTCOME.NOT_SENT
    return _OUTCOME.UNKNOWN


def _open(desk: Desk, draft: Draft, step: Step) -> Attempt:
    id_, payment, now = AttemptId(desk.ids.new()), draft.case.payment, draft.now
    expires_s = desk.traits[step.rail].expires_s
    return Attempt(
        id=id_,
        payment_id=payment.id,
        seq=len(draft.case.attempts),
        rail=step.rail,
        method=step.method,
        amount=payment.asked.amount,
        state=_S.NOT_SENT,
        evidence=Evidence.NONE,
        reference=public("att", id_),
        remote_id=None,
        code="",
        message="",
        created_at=now,
        updated_at=now,
        deadline_at=now,
        expires_at=None if expires_s is None else now + timedelta(seconds=expires_s),
    )


def _about_to_send(
    attempt: Attempt, send: Send, deadline: datetime, epoch: int | None, now: datetime
) -> Attempt:
    state = attempt.state
    if send.refund is None and send.op is not _OP.QUERY and not send.repeat:
        state = attempt_after(state, f"send:{send.op}") or state
    return changed(
        attempt,
        state=state,
        updated_at=now,
        deadline_at=deadline,
        requests=attempt.requests + 1,
        next_at=None,
        sent_at=now if attempt.sent_at is None or state is _S.SENDING else attempt.sent_at,
        last_op=send.op,
        undoing=attempt.undoing or (send.op is _OP.CANCEL and send.refund is None),
        epoch=epoch if epoch is not None else attempt.epoch,
    )


def _deadline(desk: Desk, draft: Draft, attempt: Attempt) -> datetime:
    """Until when this call may take.

    The rail's own limit, but while the payer waits, leave time for the other ways.
    """
    settings, payment, now = desk.settings, draft.case.payment, draft.now
    seconds = min(desk.traits[attempt.rail].timeout_s, RAIL_CALL_TIMEOUT_S_MAX)
    deadline = payment.asked.deadline_at
    if deadline is not None and now < deadline and payment.state not in FINAL:
        others = {step.rail for step in payment.plan}
        others.discard(attempt.rail)
        others.difference_update([a.rail for a in draft.case.attempts])
        left = (deadline - now).total_seconds()
        seconds = min(seconds, max(settings.call_s_min, left / (len(others) + 1)))
    return now + timedelta(seconds=seconds)


def _order(draft: Draft, attempt: Attempt, send: Send, *, share_key: bool) -> Order:
    amount, name = _amount(attempt, send)
    if send.op is _OP.QUERY:
        name = f"{name}.{attempt.requests}"
    whose = attempt.reference if not share_key else public("pay", draft.case.payment.id)
    return Order(
        op=send.op,
        reference=attempt.reference,
        key=f"{whose}.{name}",
        amount=amount,
        token=_token(draft, attempt),
        deadline_at=attempt.deadline_at,
        remote_id=attempt.remote_id,
        use_backup=send.use_backup,
        expires_at=attempt.expires_at,
    )


def _token(draft: Draft, attempt: Attempt) -> str:
    """Return what the rail knows the instrument by; a balance is known by whose it is."""
    payer = draft.case.payment.asked.payer_id
    return (
        public("pyr", payer) if attempt.rail == BALANCE_RAIL and payer is not None else attempt.method.token
    )


def _amount(attempt: Attempt, send: Send) -> tuple[Money, str]:
    """Return the amount of the request, and what distinguishes its key from others of the attempt."""
    refund: Refund | None = send.refund
    if refund is not None:
        return refund.amount, f"{send.op}.{public('ref', refund.id)}"
    if send.op is _OP.CAPTURE and attempt.to_capture_minor:
        return Money(attempt.amount.asset, attempt.to_capture_minor), f"capture.{attempt.to_capture_minor}"
    if send.op is _OP.REFUND:
        return Money(attempt.amount.asset, attempt.captured_minor), f"refund.{attempt.captured_minor}"
    return attempt.amount, send.op


def _record(attempt: Attempt, order: Order, send: Send, epoch: int | None, now: datetime) -> SendRecord:
    money = order.amount
    payload = f"{order.op}|{order.reference}|{money.asset.code}|{money.amount_minor}|{order.token}"
    digest = blake2b(payload.encode(), digest_size=_HASH_BYTES).digest()
    charges = send.op in (_OP.AUTHORIZE, _OP.CAPTURE)
    return SendRecord(
        attempt.id,
        attempt.requests,
        send.op,
        order.key,
        digest,
        now,
        order.deadline_at,
        send.repeat,
        epoch if charges else None,
    )
