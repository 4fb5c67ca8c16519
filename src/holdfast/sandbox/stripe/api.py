"""Stripe's endpoints: authentication, idempotency, routing, expansion.

Idempotency as Stripe documents it for v1: the status and body of the first request that began executing are
kept for its key, whether it succeeded or failed, 500s included, and are repeated for at least 24 hours;
other parameters with the same key are an `idempotency_error`; what failed validation, authentication or
rate limiting is not kept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

from holdfast.sandbox.faults import Verdict
from holdfast.sandbox.magic import CARDS_BY_NUMBER, CARDS_BY_TOKEN, Card, Outage, outages_of
from holdfast.sandbox.model import Call, Instance, Outgoing, Response, as_json
from holdfast.sandbox.store import Doc, Saved, Store, Timer
from holdfast.sandbox.stripe import balance, errors, forms, intents, objects, params, refunds, search
from holdfast.sandbox.stripe.desk import Desk, reference_of
from holdfast.sandbox.stripe.errors import StripeError
from holdfast.sandbox.stripe.forms import Form

_ROUTES: Final = (
    ("POST", r"/v1/payment_intents", "create", "create"),
    ("GET", r"/v1/payment_intents", "list", "list_intents"),
    ("GET", r"/v1/payment_intents/search", "search", "search_intents"),
    ("GET", r"/v1/payment_intents/([^/]+)", "retrieve", "retrieve_intent"),
    ("POST", r"/v1/payment_intents/([^/]+)", "other", "update"),
    ("POST", r"/v1/payment_intents/([^/]+)/confirm", "confirm", "confirm"),
    ("POST", r"/v1/payment_intents/([^/]+)/capture", "capture", "capture"),
    ("POST", r"/v1/payment_intents/([^/]+)/cancel", "cancel", "cancel"),
    ("POST", r"/v1/refunds", "refund", "refund"),
    ("GET", r"/v1/refunds", "list", "list_refunds"),
    ("GET", r"/v1/refunds/([^/]+)", "retrieve", "retrieve_refund"),
    ("GET", r"/v1/charges", "list", "list_charges"),
    ("GET", r"/v1/charges/([^/]+)", "retrieve", "retrieve_charge"),
    ("POST", r"/v1/payment_methods", "other", "create_method"),
    ("GET", r"/v1/payment_methods/([^/]+)", "retrieve", "retrieve_method"),
    ("GET", r"/v1/balance_transactions", "settlement", "balance"),
    ("GET", r"/v1/events", "list", "list_events"),
    ("GET", r"/v1/events/([^/]+)", "retrieve", "retrieve_event"),
)
_COMPILED: Final = tuple((method, re.compile(path), op, name) for method, path, op, name in _ROUTES)
KEY_CHARS_MAX: Final = 255
PAGE_MAX: Final = 100
AMOUNT_DIGITS_MAX: Final = 16
"""Digits of the largest amount there is; what is longer is refused later, and is no magic amount."""


def _route(method: str, path: str) -> tuple[str, str, tuple[str, ...]] | None:
    for verb, pattern, operation, name in _COMPILED:
        match = pattern.fullmatch(path)
        if verb == method and match is not None:
            return operation, name, tuple(map(unquote, match.groups()))
    return None


class StripeProvider:
    """One instance that speaks Stripe's protocol. `emit` takes the webhooks that it wants delivered."""

    def __init__(self, instance: Instance, store: Store, emit: Callable[[Outgoing], None]) -> None:
        self._instance = instance
        self._store = store
        self._emit = emit

    # what a request is, before anything is done

    def operation(self, method: str, path: str) -> str:
        """Name the operation from the first line of the request."""
        found = _route(method, path)
        return "other" if found is None else found[0]

    def makes(self, method: str, path: str) -> bool:
        """A POST to a collection makes something each time, unless a key says that it is the same."""
        found = _route(method, path)
        return method == "POST" and found is not None and not found[2]

    def refined(self, call: Call, operation: str) -> str:
        """A create that also confirms is a `confirm`."""
        if operation == "create" and self._form_or_empty(call).get("confirm") == "true":
            return "confirm"
        return operation

    def magic(self, call: Call, operation: str) -> tuple[Outage, ...]:
        """Return the failures asked for by the card and the amount that are about to be confirmed."""
        if operation != "confirm":
            return ()
        form = self._form_or_empty(call)
        found = _route(call.method, call.path)
        intent = (
            self._store.get(self._instance.name, "payment_intent", found[2][0])
            if found and found[2]
            else None
        )
        known = intent if intent is not None else form
        token = form.get("payment_method") or known.get("payment_method")
        method = self._store.get(self._instance.name, "payment_method", str(token))
        amount = str(known.get("amount", ""))
        return outages_of(
            method["_token"] if method is not None else str(token),
            int(amount) if amount.isdecimal() and len(amount) <= AMOUNT_DIGITS_MAX else None,
        )

    @staticmethod
    def _form_or_empty(call: Call) -> Form:
        try:
            return forms.read(call.body.decode())
        except (forms.FormError, UnicodeDecodeError):
            return {}

    # answers without doing anything

    def refusal(self, verdict: Verdict) -> Response:
        """Rate limited, expired key, or a server error."""
        if verdict.rate_limit:
            return self._error(
                StripeError(429, "invalid_request_error", "Request rate limit exceeded.", code="rate_limit")
            )
        if verdict.bad_key:
            text = "Expired API Key provided: sk_test_****. Platform access may have been revoked."
            return self._error(StripeError(401, "invalid_request_error", text, code="api_key_expired"))
        return self.failure(verdict.error_before)

    def busy(self) -> Response:
        """Answer that a request with the same key is being carried out."""
        text = "A request with this idempotency key is being carried out right now."
        return self._error(StripeError(409, "idempotency_error", text, code="idempotency_key_in_use"))

    def failure(self, status: int) -> Response:
        """A server error."""
        return self._error(StripeError(status, "api_error", "An unknown error occurred."))

    @staticmethod
    def _error(error: StripeError) -> Response:
        return as_json(error.status, error.doc())

    # carrying it out

    def perform(self, call: Call, verdict: Verdict) -> Response:
        """Authenticate, find an earlier answer for the key, or carry the request out and keep its answer."""
        request_id = objects.new_id("req")
        headers = {
            "request-id": request_id,
            "stripe-version": call.headers.get("stripe-version", objects.API_VERSION),
        }
        key = call.headers.get("idempotency-key") if call.method == "POST" else None
        if key is not None:
            headers["idempotency-key"] = key
        try:
            self._authenticate(call)
            desk = Desk(self._store, self._instance.name, call.now_ms, request_id, key, self._emit)
            answer = self._once(desk, call, verdict, key)
        except StripeError as error:
            answer = self._error(error)
        return Response(answer.status, answer.body, {**headers, **answer.headers})

    def _authenticate(self, call: Call) -> None:
        scheme, _, given = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError):
                given = ""
        if not given:
            raise StripeError(401, "invalid_request_error", "The request carries no API key.")
        if not given.startswith("sk_test_"):
            raise StripeError(401, "invalid_request_error", f"Invalid API Key provided: {given[:8]}****")

    def _once(self, desk: Desk, call: Call, verdict: Verdict, key: str | None) -> Response:
        if key is None:
            return self._run_or_fail(desk, call, verdict)[0]
        if not 0 < len(key) <= KEY_CHARS_MAX:
            raise errors.invalid(f"Idempotency keys must have 1 to {KEY_CHARS_MAX} characters.")
        fingerprint = hashlib.sha256(b"\0".join((call.path.encode(), call.body))).hexdigest()
        saved = self._store.saved(desk.instance, key)
        if saved is None:
            answer, executed = self._run_or_fail(desk, call, verdict)
            if executed:
                kept = Saved(fingerprint, answer.status, answer.body)
                self._store.save(desk.instance, key, kept, now_ms=call.now_ms)
            return answer
        if saved.fingerprint != fingerprint:
            text = f"The key '{key}' was first used with other parameters; another request needs another key."
            raise StripeError(400, "idempotency_error", text)
        return Response(saved.status, saved.body, {"idempotent-replayed": "true"})

    def _run_or_fail(self, desk: Desk, call: Call, verdict: Verdict) -> tuple[Response, bool]:
        answer, executed = self._run(desk, call, verdict)
        return (self.failure(verdict.error_after) if verdict.error_after and executed else answer), executed

    def _run(self, desk: Desk, call: Call, verdict: Verdict) -> tuple[Response, bool]:
        """Return the answer, and whether an endpoint had begun executing."""
        found = _route(call.method, call.path)
        if found is None:
            text = f"Unrecognized request URL ({call.method}: {call.path})."
            return self._error(StripeError(404, "invalid_request_error", text)), False
        try:
            form = forms.read(call.body.decode() if call.method == "POST" else call.query)
        except (forms.FormError, UnicodeDecodeError) as error:
            return self._error(errors.invalid(str(error))), False
        try:
            doc = self._endpoint(desk, found[1], found[2], form, verdict)
            return as_json(200, objects.public(self._expanded(desk, doc, form))), True
        except StripeError as error:
            return self._error(error), error.executed

    def _endpoint(self, desk: Desk, name: str, ids: tuple[str, ...], form: Form, verdict: Verdict) -> Doc:  # noqa: C901
        match name:
            case "create":
                return intents.create(desk, form, verdict)
            case "confirm":
                return intents.confirm(desk, ids[0], form, verdict)
            case "capture":
                return intents.capture(desk, ids[0], form, verdict)
            case "cancel":
                return intents.cancel(desk, ids[0], form)
            case "update":
                return intents.update(desk, ids[0], form)
            case "refund":
                return refunds.create(desk, form)
            case "create_method":
                return _create_method(desk, form)
            case "search_intents":
                return self._search(desk, form)
            case "balance":
                return balance.transactions(desk, form)
            case "retrieve_intent":
                return desk.intent(ids[0])
            case "retrieve_refund":
                return desk.refund(ids[0])
            case "retrieve_charge":
                return desk.charge(ids[0])
            case "retrieve_method":
                return desk.method(ids[0])
            case "retrieve_event":
                return self._event(desk, ids[0])
            case _:
                return self._list(desk, name.removeprefix("list_"), form)

    def _event(self, desk: Desk, event_id: str) -> Doc:
        doc = self._store.get(desk.instance, "event", event_id)
        if doc is None:
            raise errors.no_such("event", event_id)
        return doc

    def _search(self, desk: Desk, form: Form) -> Doc:
        params.only(form, ("query", "limit", "page", "expand"))
        query = params.text(form, "query")
        if query is None:
            raise errors.missing("query")
        metadata, fields = search.parse(query)
        reference = reference_of(metadata)
        if not reference:
            raise errors.invalid("Search here needs a metadata reference.", param="query")
        visible_ms = desk.now_ms - self._instance.search_lag_ms
        docs = self._store.by_reference(
            desk.instance, "payment_intent", reference, created_until_ms=visible_ms
        )
        found = [doc for doc in docs if search.matches(doc, metadata, fields)]
        page = objects.listing("/v1/payment_intents/search", found[: _limit(form)], more=False)
        return {**page, "object": "search_result", "next_page": None}

    def _list(self, desk: Desk, plural: str, form: Form) -> Doc:
        params.only(form, ("limit", "starting_after", "ending_before", "payment_intent", "expand"))
        kind, url = {"intents": ("payment_intent", "payment_intents")}.get(
            plural, (plural.removesuffix("s"), plural)
        )
        limit = _limit(form)
        of_intent = params.text(form, "payment_intent")
        if of_intent is not None and kind in ("charge", "refund"):
            docs = self._store.by_reference(desk.instance, kind, of_intent, created_until_ms=desk.now_ms)
            return objects.listing(f"/v1/{url}", docs[:limit], more=len(docs) > limit)
        docs, more = self._store.page(
            desk.instance,
            kind,
            limit=limit,
            after=params.text(form, "starting_after"),
            before=params.text(form, "ending_before"),
        )
        return objects.listing(f"/v1/{url}", docs, more=more)

    def _expanded(self, desk: Desk, doc: Doc, form: Form) -> Doc:
        """Replace the ids named in `expand[]` by their objects, one level deep, for lists as `data.x`."""
        names = params.texts(form, "expand")
        if doc.get("object") in ("list", "search_result"):
            inner = [name.removeprefix("data.") for name in names]
            return {**doc, "data": [self._expand_one(desk, item, inner) for item in doc["data"]]}
        return self._expand_one(desk, doc, names)

    def _expand_one(self, desk: Desk, doc: Doc, names: list[str]) -> Doc:
        doc = dict(doc)
        for name in names:
            value = doc.get(name)
            if not isinstance(value, str):
                continue
            match name:
                case "source" if value.startswith("re_"):
                    doc[name] = desk.refund(value)
                case "latest_charge" | "charge" | "source":
                    doc[name] = desk.charge(value)
                case "payment_method":
                    doc[name] = desk.method(value)
                case "payment_intent":
                    doc[name] = desk.intent(value)
                case _:
                    raise errors.invalid(f"This property cannot be expanded ({name}).", param="expand")
        return doc

    # later, and webhooks

    def fire(self, timer: Timer, now_ms: int) -> None:
        """Let a refund arrive or fail."""
        desk = Desk(self._store, self._instance.name, now_ms, objects.new_id("req"), None, self._emit)
        refunds.settle(desk, timer.object, timer.what.removeprefix("refund_"))

    def sign(self, body: str, event_id: str, now_ms: int, *, spoilt: bool) -> Mapping[str, str]:
        """Sign as Stripe does: HMAC-SHA256 over `t.body` with the endpoint's secret as it is written."""
        del event_id
        at = now_ms // 1000
        secret = self._instance.webhook_secret + ("-spoilt" if spoilt else "")
        mac = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
        return {"stripe-signature": f"t={at},v1={mac}", "content-type": "application/json; charset=utf-8"}


def _limit(form: Form) -> int:
    limit = params.integer(form, "limit")
    if limit is not None and not 1 <= limit <= PAGE_MAX:
        raise errors.invalid(f"This value must be between 1 and {PAGE_MAX}.", param="limit")
    return limit or 10


def _create_method(desk: Desk, form: Form) -> Doc:
    params.only(form, ("type", "card", "billing_details", "metadata", "expand"))
    card_form = form.get("card")
    if params.text(form, "type") != "card" or not isinstance(card_form, dict):
        raise errors.invalid("Only cards can be made here.", param="type")
    number = "".join(str(card_form.get("number", "")).split())
    token = card_form.get("token")
    card: Card | None = CARDS_BY_NUMBER.get(number)
    if token is not None:
        card = CARDS_BY_TOKEN.get(str(token).replace("tok_", "pm_card_"))
    if card is None:
        raise StripeError(
            402, "card_error", "Your card was declined: in test mode only test cards work.",
            code="card_declined", decline_code="test_mode_live_card", param="card[number]", executed=True,
        )  # fmt: skip
    method = objects.payment_method(card, created=desk.now_s)
    method["metadata"] = params.metadata(form)
    desk.keep_method(method)
    return method
