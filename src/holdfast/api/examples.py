"""An example of each shape of the API, made from its schema: real in form, the same every time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.api.errors import PROBLEM_TYPE, TABLE

REF: Final = "#/components/schemas/"
"""What names of shapes begin with in the document."""

_SOME_ID: Final = "01M8AFZRZHFNSAYWHYXM5DXRDF"
_SOME_UUID: Final = "01a1157f-63f1-7d72-af72-3eed0adec5af"
_IDS: Final = {
    "PaymentShown": "pay",
    "RefundShown": "ref",
    "TransferShown": "tr",
    "InstrumentShown": "ins",
    "PayerShown": "pyr",
    "EventShown": "evt",
    "EndpointShown": "we",
    "DeliveryShown": "wd",
    "AttemptShown": "att",
    "StatementLine": "tr",
}
_OBJECTS: Final = {
    "PaymentShown": "payment",
    "RefundShown": "refund",
    "TransferShown": "transfer",
    "InstrumentShown": "instrument",
    "PayerShown": "payer",
    "EventShown": "event",
    "EndpointShown": "webhook_endpoint",
    "DeliveryShown": "webhook_delivery",
    "StatementLine": "transfer",
    "TransfersShown": "transfer_batch",
}
_VALUES: Final[Mapping[str, Any]] = {
    "PaymentShown.next": None,
    "PaymentShown.failure": None,
    "PaymentShown.updated_at": "2026-11-23T08:00:01Z",
    "PaymentShown.deadline_at": "2026-11-23T08:10:00Z",
    "PaymentInFull.refunds": [],
    "PaymentShown.purpose": "purchase",
    "PaymentShown.capture": "automatic",
    "PaymentShown.funding": "direct",
    "PaymentShown.refunded_minor": 0,
    "PaymentAsked.guest": None,
    "PaymentAsked.capture": "automatic",
    "PaymentAsked.deadline_s": 600,
    "RefundShown.next": None,
    "RefundShown.state": "succeeded",
    "TransferShown.source": f"pyr_{_SOME_ID}",
    "TransferItem.id": _SOME_UUID,
    "TransferOutcome.id": _SOME_UUID,
    "TransferOutcome.transfer": f"tr_{_SOME_ID}",
    "TransferOutcome.outcome": "posted",
    "TransferOutcome.field": "",
    "TransferOutcome.detail": "",
    "TransfersShown.posted": 1,
    "TransfersShown.exists": 0,
    "TransfersShown.refused": 0,
    "AttemptShown.state": "captured",
    "AttemptShown.code": "",
    "AttemptShown.message": "",
    "AttemptShown.seq": 0,
    "DeliveryShown.state": "delivered",
    "DeliveryShown.next_at": None,
    "DeliveryShown.last_error": "",
    "DeliveryShown.last_status": 200,
    "EndpointShown.disabled_reason": "",
    "Next.what": "A provider has not said yet whether it went through.",
    "Next.ask_again_after_s": 2.5,
    "JournalLine.event": "send",
    "JournalLine.words": "Ask north to hold the amount",
    "JournalLine.facts": {},
    "EventShown.data": {"state": "succeeded"},
    "StatementLine.kind": "posted",
    "StatementLine.side": "credit",
    "Health.status": "ready",
    "Health.checks": {"database": "ok"},
    "RailHealth.kind": "stripe",
    "RailHealth.health": {},
    "Failure.code": "declined",
    "Failure.message": "The card was declined.",
    "Problem.type": f"{PROBLEM_TYPE}payment_not_found",
    "Problem.title": TABLE["payment_not_found"].title,
    "Problem.status": TABLE["payment_not_found"].status,
    "Problem.code": "payment_not_found",
    "Problem.remedy": TABLE["payment_not_found"].remedy,
    "Problem.detail": "There is no such payment.",
    "Problem.retry_after_s": 0,
    "Problem.facts": {},
    "Page_str_.data": ["payment.created", "payment.succeeded"],
    "amount_minor": 26_800,
    "captured_minor": 26_800,
    "available_minor": 473_200,
    "posted_minor": 473_200,
    "pending_in_minor": 0,
    "pending_out_minor": 0,
    "decimal": "268.00",
    "asset": "CNY",
    "assets": ["CNY"],
    "code": "CNY",
    "scale": 2,
    "state": "succeeded",
    "live": False,
    "has_more": False,
    "enabled": True,
    "payer": f"pyr_{_SOME_ID}",
    "payment": f"pay_{_SOME_ID}",
    "subject": f"pay_{_SOME_ID}",
    "source": f"pyr_{_SOME_ID}",
    "destination": f"mer_{_SOME_ID}",
    "account": f"pyr_{_SOME_ID}",
    "instrument": f"ins_{_SOME_ID}",
    "attempt": f"att_{_SOME_ID}",
    "endpoint": f"we_{_SOME_ID}",
    "event": f"evt_{_SOME_ID}",
    "methods": [f"ins_{_SOME_ID}"],
    "RailHealth.methods": ["card"],
    "instruments": [f"ins_{_SOME_ID}"],
    "rail": "north",
    "kind": "card",
    "method_kind": "card",
    "label": "Visa ending 4242",
    "method_label": "Visa ending 4242",
    "token": "pm_card_visa",
    "name": "Lin Xia",
    "reference": "order-1001",
    "description": "Celadon teapot",
    "reason": "One cup was broken",
    "metadata": {"table": "7"},
    "url": "https://shop.example/holdfast",
    "type": "payment.succeeded",
    "types": ["payment.succeeded"],
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "request_id": "req_5f3a1b2c",
    "explanation": ["The plan: Visa ending 4242 on north", "north has charged."],
    "evidence": "query",
    "tries": 1,
    "position": 1,
    "seq": 0,
}
"""What examples say, by shape and field or by field alone."""


def example(schema: dict[str, Any], schemas: dict[str, Any], shape: str = "", field: str = "") -> Any:  # noqa: ANN401
    """Return an example of a schema: what is known of its fields, else the simplest that is valid."""
    if field == "id" and shape in _IDS:
        return f"{_IDS[shape]}_{_SOME_ID}"
    if field == "object" and shape in _OBJECTS:
        return _OBJECTS[shape]
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REF)
        return example(schemas[name], schemas, name)
    if "properties" in schema:
        made = {each: example(one, schemas, shape, each) for each, one in schema["properties"].items()}
        return {
            each: value for each, value in made.items() if value is not None or each in schema["required"]
        }
    return _value(schema, schemas, shape, field)


def _value(schema: dict[str, Any], schemas: dict[str, Any], shape: str, field: str) -> Any:  # noqa: ANN401
    if (own := f"{shape}.{field}") in _VALUES:
        return _VALUES[own]
    if field in _VALUES and _fits(_VALUES[field], schema):
        return _VALUES[field]
    if parts := schema.get("oneOf") or schema.get("anyOf"):
        return example(next((p for p in parts if p.get("type") != "null"), parts[0]), schemas, shape, field)
    if "enum" in schema or "const" in schema:
        return (
            schema["default"]
            if "default" in schema
            else next(iter(schema.get("enum", [schema.get("const")])))
        )
    match schema.get("type"):
        case "array":
            return [example(schema.get("items", {}), schemas, shape, "")]
        case "boolean":
            return bool(schema.get("default", True))
        case "integer" | "number":
            return schema.get("default", schema.get("minimum", 1))
        case "string":
            return "2026-11-23T08:00:00Z" if schema.get("format") == "date-time" else "text"
        case _:
            return {}


_JSON_TYPES: Final[tuple[tuple[str, type], ...]] = (
    ("boolean", bool),
    ("integer", int),
    ("number", float),
    ("string", str),
    ("array", list),
    ("object", dict),
    ("null", type(None)),
)


def _fits(value: Any, schema: dict[str, Any]) -> bool:  # noqa: ANN401 - any JSON value
    """Tell whether a value is of a type that the schema allows: a field's name alone does not tell it."""
    if parts := schema.get("oneOf") or schema.get("anyOf"):
        return any(_fits(value, part) for part in parts)
    if "$ref" in schema:
        return False
    kind = next(name for name, type_ in _JSON_TYPES if isinstance(value, type_))
    allowed = schema.get("type", kind)
    if schema.get("format") == "date-time" and kind == "string":
        return False
    if kind == "array" and "$ref" in schema.get("items", {}):
        return False
    return kind in ([allowed] if isinstance(allowed, str) else allowed) or (
        kind == "integer" and allowed == "number"
    )
