"""What Stripe's answers prove about an attempt. Anything that is not in these tables proves nothing: unknown.

Sources: Stripe API reference: the PaymentIntent object, Errors, Error codes, Decline codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from holdfast.adapters.rails.wire import document, unanswered
from holdfast.base.money import ASSETS, Asset, Money
from holdfast.domains.payments.ports import Answer, Evidence, Op, Order, Said
from holdfast.platform.http import Reply

_PAYER_CODES: Final = frozenset((
    "authentication_required", "card_not_supported", "card_velocity_exceeded", "currency_not_supported",
    "duplicate_transaction", "expired_card", "incorrect_cvc", "incorrect_number", "incorrect_pin",
    "incorrect_zip", "insufficient_funds", "invalid_account", "invalid_cvc", "invalid_expiry_month",
    "invalid_expiry_year", "lost_card", "new_account_information_available", "not_permitted",
    "pickup_card", "pin_try_exceeded", "restricted_card", "stolen_card",
    "withdrawal_count_limit_exceeded",
))  # fmt: skip
"""Decline codes that lie with the payer's card or account. Source: Stripe, "Decline codes"."""


def money(doc: Mapping[str, Any], amount_minor: int) -> Money | None:
    """Return an amount in the currency of `doc`; None when it is none of our assets."""
    asset: Asset | None = ASSETS.get(str(doc.get("currency", "")).upper())
    return None if asset is None else Money(asset, amount_minor)


def with_id(answer: Answer, remote_id: str) -> Answer:
    """Return `answer` with the rail's id, unless it names one itself."""
    return answer if answer.remote_id is not None else replace(answer, remote_id=remote_id)


def not_done(answer: Answer) -> Answer:
    """Return `answer` as "not done": what it tells of was a request that moves no money."""
    return Answer(Said.NOT_DONE, Evidence.QUERY, answer.remote_id, answer.code, answer.message)


def read_intent(reply: Reply, order: Order) -> Answer:
    """Say what the answer to a request about an intent proves."""
    doc = document(reply)
    if reply.status != 200 or doc is None:
        return read_error(reply, doc, order)
    return _state(doc)


def _state(intent: Mapping[str, Any]) -> Answer:
    """Say what an intent's status means for the attempt."""
    remote_id, status = intent.get("id"), intent.get("status")
    match status:
        case "requires_capture":
            held = money(intent, int(intent["amount_capturable"]))
            return Answer(Said.AUTHORIZED, Evidence.QUERY, remote_id, amount=held)
        case "succeeded":
            taken = money(intent, int(intent["amount_received"]))
            return Answer(Said.CAPTURED, Evidence.QUERY, remote_id, amount=taken)
        case "canceled":
            return Answer(Said.CANCELED, Evidence.QUERY, remote_id)
        case "processing" | "requires_action":
            return Answer(Said.PENDING, Evidence.QUERY, remote_id, str(status))
        case "requires_payment_method" if intent.get("last_payment_error"):
            return _declined(intent["last_payment_error"], remote_id)
        case "requires_confirmation" | "requires_payment_method":
            text = "The rail has made the payment and nobody has confirmed it yet."
            return Answer(Said.NOT_FOUND, Evidence.QUERY, remote_id, str(status), text)
        case _:
            return unanswered("status_unknown", f"The rail named a status {status!r}.", remote_id=remote_id)


def _declined(error: Mapping[str, Any], remote_id: str | None) -> Answer:
    code = str(error.get("decline_code") or error.get("code") or "declined")
    return Answer(
        Said.DECLINED,
        Evidence.QUERY,
        remote_id,
        code,
        str(error.get("message") or ""),
        payer_fault=code in _PAYER_CODES,
    )


def read_error(reply: Reply, doc: Mapping[str, Any] | None, order: Order) -> Answer:
    """Say what an error answer proves. Anything that is not in this table proves nothing: unknown."""
    found = doc.get("error") if doc is not None else None
    error: Mapping[str, Any] = found if isinstance(found, dict) else {}
    kind, code = str(error.get("type", "")), str(error.get("code") or reply.status)
    message = str(error.get("message", ""))[:500]
    intent = error.get("payment_intent")
    match reply.status:
        case 401 | 403 | 429 if error:
            return Answer(Said.NOT_DONE, Evidence.QUERY, code=code, message=message)
        case 402 if kind == "card_error":
            return _declined(error, intent.get("id") if isinstance(intent, dict) else None)
        case 400 if (
            code == "payment_intent_unexpected_state"
            and isinstance(intent, dict)
            and order.op is not Op.REFUND
        ):
            return _state(intent)
        case 400 if kind == "idempotency_error":
            return unanswered(kind, message)
        case 400 if code == "charge_expired_for_capture":
            return Answer(Said.DECLINED, Evidence.QUERY, code=code, message=message)
        case 404 if code == "resource_missing" and error.get("param") != "payment_method":
            return Answer(Said.NOT_FOUND, Evidence.QUERY, code=code, message=message)
        case 400 | 402 | 404 | 422 if kind == "invalid_request_error":
            definite = order.op in (Op.AUTHORIZE, Op.REFUND)
            return Answer(
                Said.DECLINED if definite else Said.NOT_DONE, Evidence.QUERY, code=code, message=message
            )
        case _:
            return unanswered(code, message or f"The rail answered {reply.status}.")


def read_refund(reply: Reply, order: Order) -> Answer:
    """Say what the answer to a refund proves."""
    doc = document(reply)
    if reply.status != 200 or doc is None:
        return read_error(reply, doc, order)
    amount = money(doc, int(doc["amount"]))
    match doc.get("status"):
        case "succeeded":
            return Answer(Said.REFUNDED, Evidence.QUERY, amount=amount)
        case "pending" | "requires_action":
            return Answer(Said.PENDING, Evidence.QUERY, amount=amount)
        case "failed" | "canceled":
            return Answer(
                Said.DECLINED, Evidence.QUERY, code=str(doc.get("failure_reason") or "refund_failed")
            )
        case status:
            return unanswered("status_unknown", f"The rail named a refund status {status!r}.")
