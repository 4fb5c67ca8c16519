"""Refunds of what was captured, whole or in parts, never more than was captured."""

from __future__ import annotations

from typing import Final

from holdfast.sandbox.magic import CARDS_BY_TOKEN
from holdfast.sandbox.store import Doc
from holdfast.sandbox.stripe import errors, objects, params
from holdfast.sandbox.stripe.desk import Desk
from holdfast.sandbox.stripe.forms import Form

_CREATE: Final = ("payment_intent", "charge", "amount", "reason", "metadata", "expand", "instructions_email")
_REASONS: Final = ("duplicate", "fraudulent", "requested_by_customer")
SETTLE_MS: Final = 1000
"""How long a refund to one of the test cards with a delayed refund takes."""


def create(desk: Desk, form: Form) -> Doc:
    """Give money back."""
    params.only(form, _CREATE)
    amount, reason = params.amount(form, "amount"), params.choice(form, "reason", _REASONS)
    metadata = params.metadata(form)
    intent_id, charge_id = params.text(form, "payment_intent"), params.text(form, "charge")
    if intent_id is None and charge_id is None:
        raise errors.invalid("One of the following params should be provided: payment_intent or charge.")
    if intent_id is None and charge_id is not None:
        intent_id = desk.charge(charge_id)["payment_intent"]
    intent = desk.intent(str(intent_id))
    if intent["status"] != "succeeded":
        raise errors.unexpected_state(
            f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
            objects.public(intent),
        )
    charge = desk.charge(intent["latest_charge"])
    left = charge["amount_captured"] - charge.get("_given_back", 0)
    if left == 0:
        raise errors.StripeError(
            400, "invalid_request_error", f"Charge {charge['id']} has already been refunded.",
            code="charge_already_refunded", executed=True,
        )  # fmt: skip
    amount = amount or left
    if amount > left:
        raise errors.StripeError(
            400, "invalid_request_error",
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            param="amount", executed=True,
        )  # fmt: skip
    given = {"reason": reason, "metadata": metadata}
    outcome = CARDS_BY_TOKEN[charge["_token"]].refund
    status = "pending" if outcome == "pending" else "succeeded"
    refund = objects.refund(charge, amount=amount, status=status, params=given, created=desk.now_s)
    if outcome != "succeeded":
        desk.store.later(desk.instance, f"refund_{outcome}", refund["id"], desk.now_ms + SETTLE_MS)
    _change(desk, charge, amount)
    desk.keep_refund(refund)
    desk.enter(intent, "refund", amount, refund["id"])
    desk.tell("refund.created", refund)
    desk.tell("charge.refunded", desk.charge(charge["id"]))
    return refund


def _change(desk: Desk, charge: Doc, amount: int) -> None:
    """Add `amount` (it may be negative) to what the charge has given back."""
    given_back = charge.get("_given_back", 0) + amount
    charge |= {
        "_given_back": given_back,
        "amount_refunded": charge["amount"] - charge["amount_captured"] + given_back,
        "refunded": given_back == charge["amount_captured"],
    }
    desk.keep_charge(charge)


def settle(desk: Desk, refund_id: str, outcome: str) -> None:
    """End a refund that was under way: it arrives, or it fails and the money is the merchant's again."""
    refund = desk.refund(refund_id)
    if outcome == "pending":
        refund["status"] = "succeeded"
        desk.keep_refund(refund)
        desk.tell("refund.updated", refund)
        return
    refund |= {"status": "failed", "failure_reason": "lost_or_stolen_card"}
    desk.keep_refund(refund)
    _change(desk, desk.charge(refund["charge"]), -refund["amount"])
    desk.enter(desk.intent(refund["payment_intent"]), "refund", -refund["amount"], refund["id"])
    desk.tell("refund.failed", refund)
