"""The bare endpoint: the same framework, the same request and answer, nothing behind it."""

from __future__ import annotations

from datetime import UTC, datetime

from litestar import Litestar, get, post

from holdfast.api.wire import AmountShown, PaymentAsked, PaymentShown
from holdfast.platform import processes


@get("/healthz")
async def healthz() -> str:
    return "ok"


@post("/v1/payments")
async def payments(data: PaymentAsked) -> PaymentShown:
    now = datetime.now(UTC)
    minor = data.amount.amount_minor
    return PaymentShown(
        "pay_00000000000000000000000000",
        "payment",
        True,
        "succeeded",
        AmountShown(data.amount.asset, minor, f"{minor // 100}.{minor % 100:02d}"),
        minor,
        0,
        data.payer,
        "purchase",
        data.capture or "automatic",
        data.funding,
        data.reference,
        data.description,
        data.metadata,
        now,
        now,
        None,
        None,
        None,
    )


def create() -> Litestar:
    return Litestar([healthz, payments], openapi_config=None, logging_config=None)


def create_in_long_turns() -> Litestar:
    """Return the same, scheduled as the server of payments is."""
    processes.work_in_long_turns()
    return create()
