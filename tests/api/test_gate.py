"""Too much at once is turned away with nothing moved, and what cannot be told is not told."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any
from uuid import uuid4

import pytest

from holdfast.api.access_log import AccessLog, Watcher
from holdfast.api.context import Api as Context
from holdfast.api.context import Reply
from holdfast.api.errors import MerchantOverloaded
from holdfast.api.gate import Gate, Message, Receive, Request, Scope, Send
from holdfast.api.payments import create
from holdfast.base.clock import SystemClock
from holdfast.base.errors import Broken
from holdfast.base.limits import REQUESTS_IN_FLIGHT_MAX, REQUESTS_PER_MERCHANT_MAX
from holdfast.platform import metrics
from tests.api.test_payments import asked
from tests.api.world import make_shop, opened


async def framework(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("nothing here goes to the framework")


class Sent:
    """What a gate answered."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]

    @property
    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told


def gate(hot: Any, **how: Any) -> tuple[Gate, list[tuple[object, ...]]]:
    seen: list[tuple[object, ...]] = []
    made = Gate(framework, {("POST", "/v1/x"): hot}, ids="t", watch=lambda *facts: seen.append(facts), **how)
    return made, seen


async def send(to: Gate, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Sent:
    sent = Sent()
    given = {"content-type": "application/json"} | (headers or {})
    pairs = [(name.encode(), value.encode()) for name, value in given.items()]

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/v1/x", "query_string": b"", "headers": pairs}
    await to(scope, receive, sent)
    return sent


async def test_v5_0_0_16_5_2_beyond_what_a_process_can_work_on_requests_are_turned_away_at_once() -> None:
    release = asyncio.Event()

    async def slow(_: Request) -> Reply:
        await release.wait()
        return Reply(201, b"{}")

    made, seen = gate(slow, in_flight_max=3)
    waiting = [asyncio.create_task(send(made)) for _ in range(3)]
    await asyncio.sleep(0)
    refused = await send(made)
    assert (refused.status, refused.told["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    release.set()
    assert [one.status for one in await asyncio.gather(*waiting)] == [201, 201, 201]
    assert (await send(made)).status == 201
    assert made.in_flight == 0
    assert [facts[3] for facts in seen] == [503, 201, 201, 201, 201]


async def test_v5_0_0_16_5_1_an_error_that_nobody_foresaw_tells_nothing_of_the_inside() -> None:
    async def broken(_: Request) -> Reply:
        raise KeyError("secret_key=sk_live_abc")

    made, _ = gate(broken)
    told = await send(made)
    assert (told.status, told.told["code"]) == (500, "error")
    assert b"sk_live" not in told.body
    assert made.in_flight == 0


async def test_an_invariant_that_does_not_hold_is_told_as_such_without_its_words() -> None:
    async def broken(_: Request) -> Reply:
        raise Broken("account 7 differs")

    told = await send(gate(broken)[0])
    assert (told.status, told.told["code"]) == (500, "broken")
    assert b"account 7" not in told.body


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-length": "x"}, "header_invalid"),
        ({"content-length": "-1"}, "header_invalid"),
        ({"content-length": "99999999999999999999"}, "body_too_large"),
        ({"cookie": "x" * 5000}, "header_invalid"),
    ],
)
async def test_a_header_that_makes_no_sense_is_refused(headers: dict[str, str], code: str) -> None:
    async def never(_: Request) -> Reply:
        raise AssertionError

    told = await send(gate(never)[0], headers=headers)
    assert told.told["code"] == code


async def test_the_access_log_holds_no_secret_and_drops_rather_than_grows() -> None:
    out = io.StringIO()
    log = AccessLog(SystemClock().now, out)
    log("POST", "/v1/payments", 201, 0.0123, "req_1")
    for _ in range(6_000):
        log("GET", "/v1/payments", 200, 0.001, "req_2")
    log.flush()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines[0]["path"] == "/v1/payments"
    assert lines[0]["duration_ms"] == 12.3
    assert set(lines[0]) == {"timestamp", "event", "method", "path", "status", "duration_ms", "request_id"}
    assert lines[-1] == lines[-1] | {"event": "access lines dropped", "count": 1_001}


async def test_v5_0_0_15_2_2_methods_that_a_caller_makes_up_are_counted_as_one() -> None:
    out = io.StringIO()
    log = AccessLog(SystemClock().now, out)
    watch = Watcher(log)
    route = uuid4().hex
    for number in range(1_000):
        watch(f"MADEUP{number}", "/v1/x", route, 405, 0.001, "req_1")
    watch("GET", "/v1/x", route, 200, 0.001, "req_2")
    log.flush()
    counted = [line for line in metrics.render().decode().splitlines() if route in line and "_count{" in line]
    assert len(counted) == 2, counted
    assert any('method="other"' in line and line.endswith(" 1000.0") for line in counted)
    assert "MADEUP" not in out.getvalue()


async def test_one_merchants_surge_leaves_room_for_others(dsn: str) -> None:
    assert REQUESTS_PER_MERCHANT_MAX < REQUESTS_IN_FLIGHT_MAX
    app = await opened(dsn)
    try:
        one, other = await make_shop(app), await make_shop(app)
        api = Context(app, busy_max=1)
        api.busy[one.merchant.id.hex] = 1
        with pytest.raises(MerchantOverloaded):
            await create(api, f"Bearer {one.key}", "k", json.dumps(asked(one)).encode())
        served = await create(api, f"Bearer {other.key}", "k", json.dumps(asked(other)).encode())
        assert served.status == 201
        assert api.busy == {one.merchant.id.hex: 1}
    finally:
        await app.close()
