"""What Stripe tells by itself: signed webhooks, and the list of movements on the account.

Sources: Stripe documentation: Webhook signatures, Types of events, the BalanceTransaction object.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.adapters.rails.stripe_answers import money
from holdfast.adapters.rails.wire import RailEventInvalid
from holdfast.base.limits import RAIL_EVENT_AGE_S_MAX
from holdfast.domains.payments.ports import RailEvent, Said, SettlementRow

REFERENCE: Final = "holdfast_reference"
"""The metadata key under which Stripe keeps our reference."""


def check_signature(headers: Mapping[str, str], body: bytes, secret: str, *, now_s: float) -> None:
    """Check `Stripe-Signature`: HMAC-SHA256 over `t.body`, not older than five minutes.

    Raises: `RailEventInvalid`.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    parts = [part.strip().split("=", 1) for part in lower.get("stripe-signature", "").split(",")]
    times = [part[1] for part in parts if len(part) == 2 and part[0] == "t" and part[1].isdecimal()]
    if not times or abs(now_s - int(times[0])) > RAIL_EVENT_AGE_S_MAX:
        raise RailEventInvalid("The message carries no time, or one that is too far from now.")
    signed = hmac.new(secret.encode(), times[0].encode() + b"." + body, hashlib.sha256).hexdigest()
    given = [part[1] for part in parts if len(part) == 2 and part[0] == "v1"]
    if not any(hmac.compare_digest(signed.encode(), one.encode()) for one in given):
        raise RailEventInvalid("The signature of the message is wrong.")


_EVENT_SAYS: Final = {
    "payment_intent.amount_capturable_updated": Said.AUTHORIZED,
    "payment_intent.succeeded": Said.CAPTURED,
    "payment_intent.canceled": Said.CANCELED,
    "payment_intent.payment_failed": Said.DECLINED,
    "payment_intent.processing": Said.PENDING,
}


def event_of(rail: str, event: dict[str, Any], obj: dict[str, Any]) -> RailEvent | None:
    """Read an event about `obj`; None when it says nothing about an attempt."""
    kind = event["type"]
    at = datetime.fromtimestamp(int(event["created"]), UTC)
    reference = str(obj.get("metadata", {}).get(REFERENCE, ""))
    if kind in _EVENT_SAYS:
        said = _EVENT_SAYS[kind]
        held = {Said.AUTHORIZED: "amount_capturable", Said.CAPTURED: "amount_received"}.get(said)
        amount = money(obj, int(obj[held])) if held else None
        error = obj.get("last_payment_error") or {} if said is Said.DECLINED else {}
        code = str(error.get("decline_code") or error.get("code") or "")
        return RailEvent(
            event["id"], rail, reference, obj["id"], said, amount, at, code, str(error.get("message") or "")
        )
    if kind == "charge.refunded":
        given_back = int(obj["amount_refunded"]) - (int(obj["amount"]) - int(obj["amount_captured"]))
        amount = money(obj, given_back)
        return RailEvent(event["id"], rail, reference, obj["payment_intent"], Said.REFUNDED, amount, at)
    if kind == "refund.failed":
        why = str(obj.get("failure_reason") or "")
        return RailEvent(
            event["id"], rail, reference, obj["payment_intent"], Said.CAPTURED, None, at, "refund_failed", why
        )
    return None


_MOVES: Final = {
    "charge": ("charge", 1),
    "payment": ("charge", 1),
    "refund": ("return", -1),
    "payment_refund": ("return", -1),
    "refund_failure": ("return", -1),
    "payment_failure_refund": ("return", -1),
}
"""Types of balance transactions that belong to a payment, and the sign that makes their amount ours."""


def settlement_row(rail: str, one: Mapping[str, Any]) -> SettlementRow | None:
    """Read a balance transaction; None for fees and payouts. A failed refund is a negative return."""
    if one["type"] not in _MOVES:
        return None
    kind, sign = _MOVES[one["type"]]
    source = one["source"]
    amount = money(one, sign * int(one["amount"]))
    if amount is None:
        return None
    reference = str(source.get("metadata", {}).get(REFERENCE, ""))
    at = datetime.fromtimestamp(int(one["created"]), UTC)
    return SettlementRow(rail, reference, str(source["payment_intent"]), kind, amount, at)
