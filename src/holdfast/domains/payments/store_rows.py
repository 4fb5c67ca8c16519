"""How payments' values stand in rows: one tuple per row, in the order of the column lists, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from holdfast.base.ids import AttemptId, InstrumentId, MerchantId, PayerId, PaymentId, RefundId
from holdfast.base.money import ASSETS, Money
from holdfast.domains.payments.model import (
    Attempt,
    AttemptState,
    CaptureToken,
    Evidence,
    JournalEntry,
    Method,
    NewPayment,
    Op,
    Payment,
    PaymentState,
    Refund,
    SendRecord,
    Step,
)

Row = tuple[Any, ...]

ASKED: Final = {
    "id": "uuid",
    "merchant_id": "uuid",
    "payer_id": "uuid",
    "asset": "text",
    "amount_minor": "int8",
    "capture": "text",
    "funding": "text",
    "reference": "text",
    "description": "text",
    "metadata": "text",
    "merchant_rules": "text",
    "purpose": "text",
    "live": "bool",
    "created_at": "timestamptz",
}
"""What a payment was asked to be; never changes."""

PLAN: Final = {"deadline_at": "timestamptz", "methods": "text", "plan": "text"}
"""Set when it is confirmed."""

STATE: Final = {
    "state": "text",
    "captured_minor": "int8",
    "refunded_minor": "int8",
    "version": "int8",
    "driver": "int4",
    "updated_at": "timestamptz",
    "next_step_at": "timestamptz",
    "lease_until": "timestamptz",
    "cancel_asked": "bool",
    "kept": "uuid",
    "stood_in_minor": "int8",
    "promise_at": "timestamptz",
    "lines": "int4",
    "failure_code": "text",
    "failure_message": "text",
}

ATTEMPT: Final = {
    "id": "uuid",
    "payment_id": "uuid",
    "seq": "int4",
    "rail": "text",
    "method": "text",
    "asset": "text",
    "amount_minor": "int8",
    "state": "text",
    "evidence": "int2",
    "reference": "text",
    "remote_id": "text",
    "code": "text",
    "message": "text",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "deadline_at": "timestamptz",
    "captured_minor": "int8",
    "tries": "int4",
    "requests": "int4",
    "next_at": "timestamptz",
    "sent_at": "timestamptz",
    "expires_at": "timestamptz",
    "last_op": "text",
    "payer_fault": "bool",
    "verified": "bool",
    "undoing": "bool",
    "to_capture_minor": "int8",
    "conflict": "bool",
    "epoch": "int8",
    "booked": "bool",
}

PAID: Final = (
    ASKED
    | PLAN
    | {"attempt_id": "uuid", "attempt_reference": "text", "attempt_method": "text", "words": "text"}
)
"""A payment that its payer's balance paid as it opened.

That is most payments, and payment, attempt and journal line follow from these columns: `paid_of` says how,
and the statement `PAID` of the store says the same in SQL.
"""

TOKEN: Final = {"payment_id": "uuid", "epoch": "int8", "holder": "uuid"}

SEND: Final = {
    "attempt_id": "uuid",
    "number": "int4",
    "op": "text",
    "key": "text",
    "payload_hash": "bytea",
    "at": "timestamptz",
    "deadline_at": "timestamptz",
    "repeat": "bool",
    "epoch": "int8",
}

JOURNAL: Final = {
    "payment_id": "uuid",
    "position": "int4",
    "at": "timestamptz",
    "attempt_id": "uuid",
    "op": "text",
    "event": "text",
    "words": "text",
    "facts": "text",
}

REFUND: Final = {
    "id": "uuid",
    "payment_id": "uuid",
    "attempt_id": "uuid",
    "asset": "text",
    "amount_minor": "int8",
    "state": "text",
    "reason": "text",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "tries": "int4",
    "next_at": "timestamptz",
    "code": "text",
    "message": "text",
}

_json: Final = msgspec.json.Encoder()
_NO_FACTS: Final = "{}"


def to_json(value: object) -> str:
    """Write `value` as JSON text."""
    return _json.encode(value).decode()


def from_json(value: Any) -> Any:  # noqa: ANN401 - whatever the text holds
    """Read JSON, given as text or (by the driver) read already."""
    return msgspec.json.decode(value) if isinstance(value, str) else value


def asked_row(payment: Payment) -> Row:
    """Return the columns of `ASKED`."""
    asked = payment.asked
    return (
        payment.id,
        asked.merchant_id,
        asked.payer_id,
        asked.amount.asset.code,
        asked.amount.amount_minor,
        asked.capture,
        asked.funding,
        asked.reference,
        asked.description,
        to_json(asked.metadata) if asked.metadata else _NO_FACTS,
        to_json((asked.allowed_kinds, asked.rail_order)),
        asked.purpose,
        asked.live,
        payment.created_at,
    )


def plan_row(payment: Payment) -> Row:
    """Return the columns of `PLAN`.

    Methods as lists, each step as the position of its method, its rail and the reason.
    """
    asked = payment.asked
    places = {method.instrument_id.int: i for i, method in enumerate(asked.methods)}
    methods = [(m.instrument_id.hex, m.kind, m.label, m.token) for m in asked.methods]
    plan = [(places[s.method.instrument_id.int], s.rail, s.reason) for s in payment.plan]
    return asked.deadline_at, to_json(methods), to_json(plan)


def state_row(payment: Payment) -> Row:
    """Return the columns of `STATE`."""
    return (
        payment.state.value,
        payment.captured_minor,
        payment.refunded_minor,
        payment.version,
        payment.driver,
        payment.updated_at,
        payment.next_step_at,
        payment.lease_until,
        payment.cancel_asked,
        payment.kept,
        payment.stood_in_minor,
        payment.promise_at,
        payment.lines,
        payment.failure_code,
        payment.failure_message,
    )


def payment_of(row: Sequence[Any]) -> Payment:
    """Read `ASKED`, `PLAN` and `STATE`, one after the other."""
    (id_, merchant, payer, asset, amount, capture, funding, reference, description, metadata, rules) = row[
        :11
    ]
    purpose, live, created, deadline, methods_json, plan_json = row[11:17]
    (state, captured, refunded, version, driver, updated, next_step, lease, cancel, kept) = row[17:27]
    stood_in, promise, lines, failure_code, failure_message = row[27:32]
    methods = tuple(_method(each) for each in from_json(methods_json))
    allowed, order = from_json(rules)
    asked = NewPayment(
        MerchantId(merchant),
        None if payer is None else PayerId(payer),
        Money(ASSETS[asset], amount),
        methods,
        capture,
        funding,
        deadline,
        reference,
        description,
        from_json(metadata),
        tuple(allowed),
        tuple(order),
        live,
        purpose,
    )
    return Payment(
        PaymentId(id_),
        asked,
        PaymentState(state),
        captured,
        refunded,
        version,
        created,
        updated,
        tuple(Step(rail, methods[place], reason) for place, rail, reason in from_json(plan_json)),
        next_step,
        failure_code,
        failure_message,
        lease,
        driver,
        cancel,
        None if kept is None else AttemptId(kept),
        stood_in,
        promise,
        lines,
    )


def _method_json(method: Method) -> str:
    return to_json((method.instrument_id.hex, method.kind, method.label, method.token))


def _method(parts: Sequence[str]) -> Method:
    instrument, kind, label, token = parts
    return Method(InstrumentId(UUID(instrument)), kind, label, token)


def attempt_row(attempt: Attempt) -> Row:
    """Return the columns of `ATTEMPT`."""
    return (
        attempt.id,
        attempt.payment_id,
        attempt.seq,
        attempt.rail,
        _method_json(attempt.method),
        attempt.amount.asset.code,
        attempt.amount.amount_minor,
        attempt.state.value,
        int(attempt.evidence),
        attempt.reference,
        attempt.remote_id,
        attempt.code,
        attempt.message,
        attempt.created_at,
        attempt.updated_at,
        attempt.deadline_at,
        attempt.captured_minor,
        attempt.tries,
        attempt.requests,
        attempt.next_at,
        attempt.sent_at,
        attempt.expires_at,
        None if attempt.last_op is None else attempt.last_op.value,
        attempt.payer_fault,
        attempt.verified,
        attempt.undoing,
        attempt.to_capture_minor,
        attempt.conflict,
        attempt.epoch,
        attempt.booked,
    )


def attempt_of(row: Sequence[Any]) -> Attempt:
    """Read `ATTEMPT`."""
    id_, payment, seq, rail, method, asset, amount, state, evidence = row[:9]
    last_op = row[22]
    fields: list[Any] = [
        AttemptId(id_),
        PaymentId(payment),
        seq,
        rail,
        _method(from_json(method)),
        Money(ASSETS[asset], amount),
        AttemptState(state),
        Evidence(evidence),
        *row[9:22],
        None if last_op is None else Op(last_op),
        *row[23:],
    ]
    return Attempt(*fields)


def paid_row(opening: Row, attempt: Attempt, entry: JournalEntry) -> Row:
    """Return the columns of `PAID`; `opening` is the row with which the payment opens."""
    asked = opening[: len(ASKED) + len(PLAN)]
    return (*asked, attempt.id, attempt.reference, _method_json(attempt.method), entry.words)


def paid_of(row: Sequence[Any]) -> tuple[Payment, Attempt, JournalEntry]:
    """Read `PAID`."""
    attempt_id, reference, method, words = row[-4:]
    id_, asset, amount, at = row[0], row[3], row[4], row[13]
    state = ("succeeded", amount, 0, 1, 0, at, None, None, False, attempt_id, 0, None, 1, "", "")
    payment = payment_of((*row[:-4], *state))
    money = Money(ASSETS[asset], amount)
    attempt = Attempt(
        attempt_id, payment.id, 0, payment.plan[0].rail, _method(from_json(method)), money,
        AttemptState.CAPTURED, Evidence.SETTLEMENT, reference, None, "", "", at, at, at,
        captured_minor=amount, verified=True,
    )  # fmt: skip
    return payment, attempt, JournalEntry(id_, 0, at, attempt_id, None, "paid_from_balance", words)


def token_of(row: Sequence[Any] | None) -> CaptureToken:
    """Read `TOKEN`; no row is a token that nobody has taken yet."""
    return CaptureToken() if row is None else CaptureToken(row[1], row[2])


def send_row(send: SendRecord) -> Row:
    """Return the columns of `SEND`."""
    return (
        send.attempt_id,
        send.number,
        send.op.value,
        send.key,
        send.payload_hash,
        send.at,
        send.deadline_at,
        send.repeat,
        send.epoch,
    )


def send_of(row: Sequence[Any]) -> SendRecord:
    """Read `SEND`."""
    attempt, number, op, *rest = row
    return SendRecord(AttemptId(attempt), number, Op(op), *rest)


def journal_row(entry: JournalEntry) -> Row:
    """Return the columns of `JOURNAL`."""
    return (
        entry.payment_id,
        entry.position,
        entry.at,
        entry.attempt_id,
        None if entry.op is None else entry.op.value,
        entry.event,
        entry.words,
        to_json(entry.facts) if entry.facts else _NO_FACTS,
    )


def journal_of(row: Sequence[Any]) -> JournalEntry:
    """Read `JOURNAL`."""
    payment, position, at, attempt, op, event, words, facts = row
    attempt_id = None if attempt is None else AttemptId(attempt)
    op_ = None if op is None else Op(op)
    return JournalEntry(PaymentId(payment), position, at, attempt_id, op_, event, words, from_json(facts))


def refund_row(refund: Refund) -> Row:
    """Return the columns of `REFUND`."""
    return (
        refund.id,
        refund.payment_id,
        refund.attempt_id,
        refund.amount.asset.code,
        refund.amount.amount_minor,
        refund.state,
        refund.reason,
        refund.created_at,
        refund.updated_at,
        refund.tries,
        refund.next_at,
        refund.code,
        refund.message,
    )


def refund_of(row: Sequence[Any]) -> Refund:
    """Read `REFUND`."""
    id_, payment, attempt, asset, amount, *rest = row
    attempt_id = None if attempt is None else AttemptId(attempt)
    return Refund(RefundId(id_), PaymentId(payment), attempt_id, Money(ASSETS[asset], amount), *rest)
