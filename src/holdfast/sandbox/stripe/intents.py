"""PaymentIntents: created, confirmed, captured, canceled, with a Charge for each confirmation.

requires_payment_method -> requires_confirmation -> requires_capture -> succeeded
          ^  |                     | (declined)            |
          |  +-> canceled  <-------+-----------------------+
"""

from __future__ import annotations

from typing import Any, Final

from holdfast.sandbox.faults import Verdict
from holdfast.sandbox.magic import CARDS_BY_TOKEN, Card
from holdfast.sandbox.store import Doc
from holdfast.sandbox.stripe import errors, objects, params
from holdfast.sandbox.stripe.desk import Desk
from holdfast.sandbox.stripe.forms import Form

_CREATE: Final = (
    "amount", "currency", "capture_method", "confirm", "confirmation_method", "customer", "description",
    "error_on_requires_action", "expand", "metadata", "off_session", "payment_method",
    "payment_method_types", "automatic_payment_methods", "receipt_email", "return_url",
    "setup_future_usage", "statement_descriptor", "statement_descriptor_suffix", "transfer_group",
    "payment_method_options",
)  # fmt: skip
_CONFIRM: Final = (
    "payment_method", "error_on_requires_action", "off_session", "return_url", "capture_method",
    "expand", "receipt_email", "payment_method_types", "payment_method_options", "setup_future_usage",
    "client_secret", "use_stripe_sdk",
)  # fmt: skip
_CAPTURE: Final = (
    "amount_to_capture", "final_capture", "metadata", "statement_descriptor",
    "statement_descriptor_suffix", "expand",
)  # fmt: skip
_CANCEL_REASONS: Final = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
_OPEN: Final = ("requires_payment_method", "requires_confirmation", "requires_action")


def create(desk: Desk, form: Form, verdict: Verdict) -> Doc:
    """Create one; with `confirm=true` also confirm it."""
    params.only(form, _CREATE)
    amount, currency = params.amount(form, "amount"), params.text(form, "currency", longest=3)
    if amount is None:
        raise errors.missing("amount")
    if currency is None:
        raise errors.missing("currency")
    if len(currency) != 3 or not currency.isalpha():
        raise errors.invalid(f"Invalid currency: {currency}", param="currency")
    confirm_now = params.boolean(form, "confirm")
    read: dict[str, Any] = {
        "amount": amount - 1 if verdict.wrong_amount and amount > 1 and not confirm_now else amount,
        "currency": currency.lower(),
        "capture_method": params.choice(form, "capture_method", ("automatic", "automatic_async", "manual"))
        or "automatic_async",
        "customer": params.text(form, "customer"),
        "description": params.text(form, "description"),
        "statement_descriptor": params.text(form, "statement_descriptor", longest=22),
        "metadata": params.metadata(form),
        "payment_method_types": params.texts(form, "payment_method_types") or ["card"],
    }
    token = params.text(form, "payment_method")
    if token is not None:
        desk.method(token)
    intent = objects.payment_intent(read, created=desk.now_s)
    if token is not None:
        intent |= {"payment_method": token, "status": "requires_confirmation"}
    desk.keep_intent(intent)
    desk.tell("payment_intent.created", intent)
    return _confirmed(desk, intent, form, verdict) if confirm_now else intent


def confirm(desk: Desk, intent_id: str, form: Form, verdict: Verdict) -> Doc:
    """Confirm one: hold the money, or take it at once, or decline."""
    params.only(form, _CONFIRM)
    return _confirmed(desk, desk.intent(intent_id), form, verdict)


def _confirmed(desk: Desk, intent: Doc, form: Form, verdict: Verdict) -> Doc:
    if intent["status"] not in _OPEN:
        raise errors.unexpected_state(
            f"A PaymentIntent in {intent['status']} cannot be confirmed.",
            objects.public(intent),
        )
    token = params.text(form, "payment_method") or intent["payment_method"]
    if token is None:
        raise errors.unexpected_state(
            "This PaymentIntent has no payment method to confirm it with.",
            objects.public(intent),
        )
    method = desk.method(token)
    card = CARDS_BY_TOKEN[method["_token"]]
    if verdict.decline:
        card = Card(
            card.token, card.number, card.brand, "card_declined", "generic_decline", "Your card was declined."
        )
    if card.needs_action:
        return _needs_action(desk, intent, method, form)
    if card.decline_code:
        _decline(desk, intent, method, card)
    return _pay(desk, intent, method, verdict)


def _needs_action(desk: Desk, intent: Doc, method: Doc, form: Form) -> Doc:
    if params.boolean(form, "error_on_requires_action") or params.boolean(form, "off_session"):
        code, text = "authentication_required", "Your card was declined: it needs authentication."
        _decline(desk, intent, method, Card("", "", code=code, decline_code=code, message=text))
    intent |= {
        "payment_method": method["id"],
        "status": "requires_action",
        "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}},
    }
    desk.keep_intent(intent)
    desk.tell("payment_intent.requires_action", intent)
    return intent


def _decline(desk: Desk, intent: Doc, method: Doc, card: Card) -> None:
    charge = objects.charge(
        intent, method, amount=intent["amount"], captured=False, paid=False, created=desk.now_s
    )
    charge |= {"failure_code": card.code, "failure_message": card.message}
    error = {
        "type": "card_error",
        "code": card.code,
        "decline_code": card.decline_code,
        "message": card.message,
        "charge": charge["id"],
        "payment_method": objects.public(method),
    }
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "latest_charge": charge["id"],
        "last_payment_error": error,
    }
    desk.keep_charge(charge)
    desk.keep_intent(intent)
    desk.tell("payment_intent.payment_failed", intent)
    raise errors.StripeError(
        402,
        "card_error",
        card.message,
        code=card.code,
        executed=True,
        decline_code=card.decline_code,
        charge=charge["id"],
        payment_intent=objects.public(intent),
        payment_method=objects.public(method),
    )


def _pay(desk: Desk, intent: Doc, method: Doc, verdict: Verdict) -> Doc:
    manual = intent["capture_method"] == "manual"
    amount = intent["amount"] - (1 if verdict.wrong_amount and intent["amount"] > 1 else 0)
    charge = objects.charge(intent, method, amount=amount, captured=not manual, paid=True, created=desk.now_s)
    intent |= {
        "amount": amount,
        "payment_method": method["id"],
        "latest_charge": charge["id"],
        "last_payment_error": None,
        "next_action": None,
        "status": "requires_capture" if manual else "succeeded",
        "amount_capturable": amount if manual else 0,
        "amount_received": 0 if manual else amount,
    }
    desk.keep_charge(charge)
    desk.keep_intent(intent)
    desk.enter(intent, "hold" if manual else "capture", amount, charge["id"])
    desk.tell("payment_intent.amount_capturable_updated" if manual else "payment_intent.succeeded", intent)
    desk.tell("charge.succeeded", charge)
    return intent


def capture(desk: Desk, intent_id: str, form: Form, verdict: Verdict) -> Doc:
    """Take what is held, or part of it; the rest is released."""
    params.only(form, _CAPTURE)
    intent = desk.intent(intent_id)
    if intent["status"] != "requires_capture":
        raise errors.unexpected_state(
            f"Only a PaymentIntent in requires_capture can be captured; this one is in {intent['status']}.",
            objects.public(intent),
        )
    held = intent["amount_capturable"]
    amount = params.amount(form, "amount_to_capture") or held
    if amount > held:
        raise errors.StripeError(
            400,
            "invalid_request_error",
            "The amount to capture is greater than what can be captured.",
            code="amount_too_large",
            param="amount_to_capture",
            executed=True,
        )
    amount -= 1 if verdict.wrong_amount and amount > 1 else 0
    intent |= {"status": "succeeded", "amount_capturable": 0, "amount_received": amount}
    charge = desk.charge(intent["latest_charge"])
    charge |= {"captured": True, "amount_captured": amount}
    if amount < held:
        charge["amount_refunded"] = held - amount
    desk.keep_charge(charge)
    desk.keep_intent(intent)
    desk.enter(intent, "release", held, charge["id"])
    desk.enter(intent, "capture", amount, charge["id"])
    desk.tell("charge.captured", charge)
    desk.tell("payment_intent.succeeded", intent)
    return intent


def cancel(desk: Desk, intent_id: str, form: Form) -> Doc:
    """Cancel one: after this nothing can be taken with it; what it held is released."""
    params.only(form, ("cancellation_reason", "expand"))
    reason = params.choice(form, "cancellation_reason", _CANCEL_REASONS)
    intent = desk.intent(intent_id)
    if intent["status"] not in (*_OPEN, "requires_capture"):
        raise errors.unexpected_state(
            f"A PaymentIntent in {intent['status']} cannot be canceled any more.", objects.public(intent)
        )
    held = intent["amount_capturable"]
    intent |= {
        "status": "canceled",
        "amount_capturable": 0,
        "canceled_at": desk.now_s,
        "cancellation_reason": reason,
        "next_action": None,
    }
    desk.keep_intent(intent)
    if held:
        charge = desk.charge(intent["latest_charge"])
        charge |= {"refunded": True, "amount_refunded": charge["amount"]}
        desk.keep_charge(charge)
        desk.enter(intent, "release", held, charge["id"])
    desk.tell("payment_intent.canceled", intent)
    return intent


def update(desk: Desk, intent_id: str, form: Form) -> Doc:
    """Change the description or metadata."""
    params.only(form, ("metadata", "description", "expand", "receipt_email", "customer"))
    intent = desk.intent(intent_id)
    intent["metadata"] = params.metadata(form, intent["metadata"])
    for name in ("description", "customer"):
        if name in form:
            intent[name] = params.text(form, name)
    desk.keep_intent(intent)
    return intent
