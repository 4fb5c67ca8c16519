"""How domain values are shown on the wire. Nothing here computes with money or decides anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from holdfast.api.wire import (
    AmountShown,
    AttemptShown,
    EventShown,
    Failure,
    InstrumentShown,
    JournalLine,
    Next,
    OtherMethod,
    PayerShown,
    PaymentShown,
    RefundShown,
)
from holdfast.base.ids import public
from holdfast.base.money import Money, decimal_text
from holdfast.domains.instruments import Instrument, Payer
from holdfast.domains.payments.model import Attempt, JournalEntry, Payment, PaymentState, Refund
from holdfast.platform.outbox import Event

ASK_AGAIN_S_MIN: Final = 1.0
ASK_AGAIN_S_MAX: Final = 60.0

_WHAT: Final[dict[PaymentState, str]] = {
    PaymentState.REQUIRES_CONFIRMATION: "Confirm it to have it carried out, or cancel it.",
    PaymentState.PROCESSING: "It is being carried out right now.",
    PaymentState.PENDING: (
        "A provider has not said yet whether it went through. Holdfast finds out by itself and ends it: paid "
        "once, or not at all. Do not ask the payer to pay again; another of their methods may be offered as "
        "their own choice."
    ),
    PaymentState.AUTHORIZED: "The money is held. Capture it, or cancel to release it.",
}


def amount(money: Money) -> AmountShown:
    """Show an amount."""
    return AmountShown(money.asset.code, money.amount_minor, decimal_text(money))


def wait_s(next_step_at: datetime | None, now: datetime) -> float:
    """Return after how many seconds it makes sense to ask again."""
    if next_step_at is None:
        return ASK_AGAIN_S_MIN
    return min(max(round((next_step_at - now).total_seconds(), 1), ASK_AGAIN_S_MIN), ASK_AGAIN_S_MAX)


def payment(it: Payment, *, live: bool, now: datetime, others: Iterable[Instrument] = ()) -> PaymentShown:
    """Show a payment.

    `others` are methods of the payer that it has not tried, offered while it is pending.
    """
    asked, state = it.asked, it.state
    what = None
    if state in _WHAT:
        offered = [OtherMethod(public("ins", o.id), o.kind.value, o.label) for o in others]
        what = Next(
            _WHAT[state], wait_s(it.next_step_at, now), offered if state is PaymentState.PENDING else []
        )
    failure = None
    if state is PaymentState.FAILED:
        failure = Failure(it.failure_code or "payment_failed", it.failure_message)
    return PaymentShown(
        public("pay", it.id),
        "payment",
        live,
        state.value,
        amount(asked.amount),
        it.captured_minor,
        it.refunded_minor,
        None if asked.payer_id is None else public("pyr", asked.payer_id),
        asked.purpose,
        asked.capture,
        asked.funding,
        asked.reference,
        asked.description,
        dict(asked.metadata),
        it.created_at,
        it.updated_at,
        asked.deadline_at,
        what,
        failure,
    )


def attempt(it: Attempt) -> AttemptShown:
    """Show an attempt; the token that rails know stays inside."""
    return AttemptShown(
        public("att", it.id),
        it.seq,
        it.rail,
        it.method.kind,
        it.method.label,
        it.state.value,
        it.evidence.name.lower(),
        it.code,
        it.message,
        it.captured_minor,
        it.created_at,
        it.updated_at,
    )


def journal(it: JournalEntry) -> JournalLine:
    """Show a line of a payment's journal."""
    attempt_id = None if it.attempt_id is None else public("att", it.attempt_id)
    return JournalLine(it.position, it.at, it.event, it.words, attempt_id, plain(it.facts))


def refund(it: Refund) -> RefundShown:
    """Show a refund."""
    under_way = it.state in ("sending", "pending")
    what = Next("The money is on its way back; it ends by itself.", 5.0) if under_way else None
    return RefundShown(
        public("ref", it.id),
        "refund",
        public("pay", it.payment_id),
        "pending" if under_way else it.state,
        amount(it.amount),
        it.reason,
        it.created_at,
        it.updated_at,
        what,
    )


def instrument(it: Instrument) -> InstrumentShown:
    """Show an instrument; its token stays inside."""
    return InstrumentShown(public("ins", it.id), "instrument", it.kind.value, it.label, it.created_at)


def payer(it: Payer, *, live: bool, instruments: Iterable[Instrument] | None = None) -> PayerShown:
    """Show a payer, with their instruments when these are given."""
    shown = None if instruments is None else [instrument(i) for i in instruments]
    return PayerShown(public("pyr", it.id), "payer", live, it.name, it.reference, it.created_at, shown)


def event(it: Event) -> EventShown:
    """Show an event."""
    return EventShown(public("evt", it.id), "event", it.type, it.subject, it.at, plain(it.facts))


def plain(facts: Mapping[str, object]) -> dict[str, Any]:
    """Return facts as JSON knows them."""
    return {key: _plain(value) for key, value in facts.items()}


def _plain(value: object) -> Any:  # noqa: ANN401 - any JSON value
    if value is None or isinstance(value, bool | int | str | float):
        return value
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value)
