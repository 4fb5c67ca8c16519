"""Stripe's objects as JSON documents.

Names and shapes are those of Stripe's API reference; keys that begin with `_` stay inside.
"""

from __future__ import annotations

import secrets
from typing import Any

from holdfast.sandbox.magic import Card
from holdfast.sandbox.store import Doc

API_VERSION = "2026-01-28.clover"


def new_id(prefix: str) -> str:
    """Return a fresh id such as `pi_3f…`."""
    return f"{prefix}_{secrets.token_hex(12)}"


def public(doc: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return `doc` without what stays inside."""
    if isinstance(doc, dict):
        return {key: public(value) for key, value in doc.items() if not key.startswith("_")}
    if isinstance(doc, list):
        return [public(value) for value in doc]
    return doc


def listing(url: str, docs: list[Doc], *, more: bool) -> Doc:
    """Return a page of a list."""
    return {"object": "list", "url": url, "has_more": more, "data": docs}


def payment_method(card: Card, *, created: int, object_id: str | None = None) -> Doc:
    """Return a card's PaymentMethod. The number is not in it, only its last four digits."""
    return {
        "id": object_id or new_id("pm"),
        "object": "payment_method",
        "type": "card",
        "created": created,
        "livemode": False,
        "customer": None,
        "metadata": {},
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "card": {
            "brand": card.brand,
            "last4": card.number[-4:],
            "exp_month": 12,
            "exp_year": 2040,
            "funding": "credit",
            "country": "US",
        },
        "_token": card.token,
    }


def payment_intent(params: dict[str, Any], *, created: int) -> Doc:
    """Return a fresh PaymentIntent without a payment method."""
    object_id = new_id("pi")
    return {
        "id": object_id,
        "object": "payment_intent",
        "amount": params["amount"],
        "amount_capturable": 0,
        "amount_received": 0,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": params["capture_method"],
        "client_secret": f"{object_id}_secret_{secrets.token_hex(12)}",
        "confirmation_method": "automatic",
        "created": created,
        "currency": params["currency"],
        "customer": params.get("customer"),
        "description": params.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "next_action": None,
        "payment_method": None,
        "payment_method_types": params.get("payment_method_types", ["card"]),
        "statement_descriptor": params.get("statement_descriptor"),
        "status": "requires_payment_method",
    }


def charge(intent: Doc, method: Doc, *, amount: int, captured: bool, paid: bool, created: int) -> Doc:
    """Return the Charge that a confirmation makes."""
    return {
        "id": new_id("ch"),
        "object": "charge",
        "amount": amount,
        "amount_captured": amount if captured and paid else 0,
        "amount_refunded": 0,
        "captured": captured and paid,
        "created": created,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": intent["metadata"],
        "outcome": None,
        "paid": paid,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"type": "card", "card": method["card"]},
        "refunded": False,
        "status": "succeeded" if paid else "failed",
        "_token": method["_token"],
    }


def refund(charge_doc: Doc, *, amount: int, status: str, params: dict[str, Any], created: int) -> Doc:
    """Return a Refund."""
    return {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "charge": charge_doc["id"],
        "created": created,
        "currency": charge_doc["currency"],
        "failure_reason": None,
        "metadata": params.get("metadata", {}),
        "payment_intent": charge_doc["payment_intent"],
        "reason": params.get("reason"),
        "status": status,
    }


def event(kind: str, obj: Doc, *, created: int, key: str | None, request_id: str) -> Doc:
    """Return the Event that tells of `obj`."""
    return {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": created,
        "type": kind,
        "data": {"object": public(obj)},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": request_id, "idempotency_key": key},
    }
