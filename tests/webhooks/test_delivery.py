"""From the event to the merchant's server: signed, owed once, tried by the ladder, never misdirected."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from holdfast.base import ids
from holdfast.base.ids import EndpointId, EventId
from holdfast.domains.webhooks import Endpoint, Result, operations, queries
from holdfast.domains.webhooks.errors import (
    DeliveryNotFound,
    EndpointNotFound,
    EndpointsTooMany,
    EventTypesInvalid,
)
from holdfast.flows import reactions
from holdfast.flows.deliver import Courier, retry_after_s
from holdfast.platform import outbox
from holdfast.platform.db import Connection, Database
from holdfast.platform.http import HttpClient
from tests.support.waiting import until, until_async
from tests.webhooks.receiver import Receiver, receiver

OWNER = UUID(int=1)
OTHER = UUID(int=2)


@dataclass
class HandClock:
    """A clock that a test moves by hand; it begins now, since verifiers look at the time."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def now(self) -> datetime:
        return self.at

    def monotonic_s(self) -> float:
        return self.at.timestamp()

    async def sleep(self, delay_s: float) -> None:
        self.at += timedelta(seconds=delay_s)


@dataclass
class Desk:
    """What a test of deliveries needs."""

    database: Database
    clock: HandClock
    courier: Courier
    seq: int = 0

    async def endpoint(
        self, url: str, *, types: Sequence[str] = (), owner: UUID = OWNER, private: bool = True
    ) -> Endpoint:
        self.seq += 1
        planned = operations.plan_endpoint(
            EndpointId(UUID(int=self.seq)), owner, url, entropy=bytes([self.seq]) * 32, now=self.clock.now(),
            event_types=types, known_types=reactions.EVENT_TYPES, allow_private=private,
        )  # fmt: skip
        return await operations.add_endpoint(self.database, planned)

    async def happen(self, *types: str, owner: UUID = OWNER) -> list[UUID]:
        """Have events happen, and owe what follows from them."""
        made = []
        async with self.database.transaction() as connection:
            for each in types:
                made.append(uuid4())
                await announce(
                    connection,
                    outbox.Event(EventId(made[-1]), each, owner, "pay_1", {"n": 1}, self.clock.now()),
                )
        await self.react()
        return made

    async def react(self) -> None:
        """Follow up every event. Whatever else writes in the cluster may hold that back for a moment."""

        async def all_read() -> bool:
            await reactions.react(self.database, now=self.clock.now())
            return await outbox.lag(self.database, now=self.clock.now() + timedelta(days=1)) == 0

        await until_async(all_read, "every event is followed up")

    async def deliver(self) -> int:
        """Send what is due and wait for the answers; return how many tries were made."""
        done = await self.courier.deliver_due()
        await self.courier.finish()
        return done


async def announce(connection: Connection, event: outbox.Event) -> None:
    write = outbox.announce(event)
    await connection.execute(write.statement.sql.encode(), [[value] for value in write.row])


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    http = HttpClient(allow_private=True)
    clock = HandClock()
    yield Desk(database, clock, Courier(database, http, clock, Random(1).random, timeout_s=0.5))
    await http.close()


@pytest.fixture
async def merchant() -> AsyncIterator[Receiver]:
    async with receiver() as it:
        yield it


async def test_an_event_reaches_the_merchant_signed_and_with_the_id_that_the_api_shows(
    desk: Desk, merchant: Receiver
) -> None:
    endpoint = await desk.endpoint(merchant.url)
    (event,) = await desk.happen("payment.succeeded")
    assert await desk.deliver() == 1
    (it,) = merchant.arrived
    said = Webhook(endpoint.secret.reveal()).verify(it.body, it.headers)
    assert said["id"] == it.headers["webhook-id"] == ids.public("evt", event)
    assert said["type"] == "payment.succeeded"
    assert said["subject"] == "pay_1"
    assert said["data"] == {"n": 1}
    assert said["timestamp"].endswith("Z")
    assert it.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint.secret.reveal()).verify(it.body.replace("payment", "Payment"), it.headers)
    (delivery,) = await queries.deliveries(desk.database, OWNER)
    assert (delivery.state, delivery.tries, delivery.last_status) == ("delivered", 1, 204)
    assert await desk.deliver() == 0


async def test_each_endpoint_gets_the_types_it_asked_for_and_no_other_merchants_events(
    desk: Desk, merchant: Receiver
) -> None:
    await desk.endpoint(merchant.url + "/all")
    await desk.endpoint(merchant.url + "/failed", types=["payment.failed"])
    await desk.endpoint(merchant.url + "/other", owner=OTHER)
    await desk.happen("payment.succeeded", "payment.failed")
    await desk.deliver()
    assert sorted(json.loads(it.body)["type"] for it in merchant.arrived) == [
        "payment.failed", "payment.failed", "payment.succeeded",
    ]  # fmt: skip
    assert await queries.deliveries(desk.database, OTHER) == []


async def test_every_event_type_there_is_can_be_asked_for_and_no_other(
    desk: Desk, merchant: Receiver
) -> None:
    await desk.endpoint(merchant.url, types=list(reactions.EVENT_TYPES))
    with pytest.raises(EventTypesInvalid, match=r"No event has the type 'payment\.exploded'"):
        await desk.endpoint(merchant.url, types=["payment.exploded"])


async def test_an_event_that_is_relayed_twice_is_owed_once(desk: Desk, merchant: Receiver) -> None:
    await desk.endpoint(merchant.url)
    await desk.happen("payment.succeeded")
    async with desk.database.connection() as connection:
        await connection.execute(
            "delete from outbox.followers"
        )  # as after a restore: it begins from the start
    await desk.react()
    assert len(await queries.deliveries(desk.database, OWNER)) == 1


async def test_the_whole_ladder_is_climbed_with_one_id_and_then_given_up(
    desk: Desk, merchant: Receiver
) -> None:
    await desk.endpoint(merchant.url)
    merchant.answer = lambda _: (500, {})
    await desk.happen("payment.succeeded")
    waits = []
    for _ in range(10):
        assert await desk.deliver() == 1
        assert await desk.deliver() == 0, "it is not due before its time"
        (delivery,) = await queries.deliveries(desk.database, OWNER)
        waits.append((delivery.next_at - desk.clock.now()).total_seconds())
        desk.clock.at = max(delivery.next_at, desk.clock.now())
    hours = [5 / 3600, 300 / 3600, 0.5, 2, 5, 10, 14, 20, 24]
    for waited, hour in zip(waits, hours, strict=False):
        assert hour * 3600 <= waited <= hour * 3600 * 1.2
    found, tries = await queries.delivery(desk.database, OWNER, delivery.id)
    assert found.state == "given_up"
    assert [each.number for each in tries] == list(range(1, 11))
    assert {each.status for each in tries} == {500}
    assert tries[0].response == "said 500"
    assert len({it.headers["webhook-id"] for it in merchant.arrived}) == 1
    assert len({it.headers["webhook-timestamp"] for it in merchant.arrived}) == 10
    desk.clock.at += timedelta(days=30)
    assert await desk.deliver() == 0


async def test_a_merchant_can_have_a_message_sent_again_from_the_foot_of_the_ladder(
    desk: Desk, merchant: Receiver
) -> None:
    await desk.endpoint(merchant.url)
    merchant.answer = lambda _: (500, {})
    await desk.happen("payment.succeeded")
    for _ in range(10):
        await desk.deliver()
        (delivery,) = await queries.deliveries(desk.database, OWNER)
        desk.clock.at = max(delivery.next_at, desk.clock.now())
    (delivery,) = await queries.deliveries(desk.database, OWNER)
    assert delivery.state == "given_up"
    with pytest.raises(DeliveryNotFound):
        await operations.send_again(desk.database, OTHER, delivery.id, now=desk.clock.now())
    await operations.send_again(desk.database, OWNER, delivery.id, now=desk.clock.now())
    assert await desk.deliver() == 1
    (delivery,) = await queries.deliveries(desk.database, OWNER)
    assert (delivery.state, delivery.tries) == ("owed", 11)
    assert (delivery.next_at - desk.clock.now()).total_seconds() < 10
    merchant.answer = lambda _: (200, {})
    desk.clock.at = delivery.next_at
    await desk.deliver()
    (delivery,) = await queries.deliveries(desk.database, OWNER)
    assert (delivery.state, delivery.tries) == ("delivered", 12)


async def test_410_switches_the_endpoint_off_and_enabling_it_sends_what_is_owed(
    desk: Desk, merchant: Receiver
) -> None:
    endpoint = await desk.endpoint(merchant.url)
    merchant.answer = lambda _: (410, {})
    await desk.happen("payment.created")
    await desk.deliver()
    found = await queries.endpoint(desk.database, OWNER, endpoint.id)
    assert (found.state, found.disabled_reason) == ("disabled", "the endpoint answered 410 Gone")
    await desk.happen("payment.succeeded")
    assert await desk.deliver() == 0
    assert len(merchant.arrived) == 1
    merchant.answer = lambda _: (200, {})
    await operations.change_endpoint(desk.database, OWNER, endpoint.id, now=desk.clock.now(), enabled=True)
    await desk.happen("payment.failed")
    assert await desk.deliver() == 1
    assert json.loads(merchant.arrived[-1].body)["type"] == "payment.failed"


async def test_after_a_rotation_old_and_new_secret_verify_and_later_only_the_new(
    desk: Desk, merchant: Receiver
) -> None:
    endpoint = await desk.endpoint(merchant.url)
    new = await operations.rotate_secret(
        desk.database, OWNER, endpoint.id, entropy=b"\x99" * 32, now=desk.clock.now()
    )
    await desk.happen("payment.succeeded")
    await desk.deliver()
    for secret in (endpoint.secret, new):
        Webhook(secret.reveal()).verify(merchant.arrived[0].body, merchant.arrived[0].headers)
    # The old secret's time ends in the books, not on the clock: verifiers refuse a message of another day.
    async with desk.database.connection() as connection:
        await connection.execute(
            "update webhooks.endpoints set previous_secret_until = %s", (desk.clock.now(),)
        )
    await desk.happen("payment.succeeded")
    await desk.deliver()
    Webhook(new.reveal()).verify(merchant.arrived[1].body, merchant.arrived[1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint.secret.reveal()).verify(merchant.arrived[1].body, merchant.arrived[1].headers)


async def test_an_endpoint_that_hangs_does_not_hold_up_the_others(desk: Desk, merchant: Receiver) -> None:
    await desk.endpoint(merchant.url + "/hangs")
    await desk.endpoint(merchant.url + "/works", owner=OTHER)
    async with receiver() as tarpit:
        tarpit.answer = lambda _: None
        async with desk.database.connection() as connection:
            await connection.execute(
                "update webhooks.endpoints set url = %s where owner = %s", (tarpit.url, OWNER)
            )
        await desk.happen(*["payment.created"] * 30)
        await desk.happen(*["payment.created"] * 3, owner=OTHER)
        taken = await desk.courier.deliver_due()
        assert taken == 5 + 3
        assert await desk.courier.deliver_due() == 0, "the hanging endpoint has its five places taken"
        await desk.courier.finish()
        assert len(merchant.arrived) == 3
        assert len(tarpit.arrived) == 5
        errors = {
            each.last_error
            for each in await queries.deliveries(desk.database, OWNER, limit=100)
            if each.tries
        }
        assert errors == {"No answer within 0.5 s."}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "127.1"])
async def test_a_webhook_never_goes_to_a_private_address_however_it_is_written(
    desk: Desk, merchant: Receiver, host: str
) -> None:
    port = merchant.url.rpartition(":")[2]
    await desk.endpoint(
        f"http://{host}:{port}", private=True
    )  # as if the name had been public when it was given
    guarded = HttpClient(allow_private=False)
    courier = Courier(desk.database, guarded, desk.clock, Random(1).random, timeout_s=2.0)
    await desk.happen("payment.succeeded")
    assert await courier.deliver_due() == 1
    await courier.finish()
    await guarded.close()
    assert merchant.arrived == []
    (delivery,) = await queries.deliveries(desk.database, OWNER)
    assert (delivery.state, delivery.tries, delivery.last_status) == ("owed", 1, None)


async def test_a_redirect_to_a_private_address_is_not_followed(desk: Desk, merchant: Receiver) -> None:
    async with receiver() as secret_place:
        merchant.answer = lambda _: (307, {"location": secret_place.url})
        await desk.endpoint(merchant.url)
        await desk.happen("payment.succeeded")
        await desk.deliver()
        assert len(merchant.arrived) == 1
        assert secret_place.arrived == []


async def test_a_worker_whose_lease_was_taken_over_records_nothing(desk: Desk, merchant: Receiver) -> None:
    await desk.endpoint(merchant.url)
    await desk.happen("payment.succeeded")
    (slow,) = await operations.claim(desk.database, now=desk.clock.now(), limit=10)
    assert await operations.claim(desk.database, now=desk.clock.now(), limit=10) == []
    desk.clock.at += timedelta(seconds=61)
    (fast,) = await operations.claim(desk.database, now=desk.clock.now(), limit=10)
    assert fast.delivery_id == slow.delivery_id
    took = Result(200, "", 1, "")
    now = desk.clock.now()
    assert await operations.record(desk.database, slow, took, began_at=now, now=now, chance=0) is None
    verdict = await operations.record(desk.database, fast, took, began_at=now, now=now, chance=0)
    assert verdict is not None
    assert verdict.outcome == "delivered"


async def test_a_merchant_has_at_most_twenty_endpoints_and_touches_no_other_merchants(
    desk: Desk, merchant: Receiver
) -> None:
    made = [await desk.endpoint(merchant.url) for _ in range(20)]
    with pytest.raises(EndpointsTooMany):
        await desk.endpoint(merchant.url)
    now = desk.clock.now()
    for act in (
        operations.delete_endpoint(desk.database, OTHER, made[0].id, now=now),
        operations.change_endpoint(desk.database, OTHER, made[0].id, now=now, enabled=False),
        operations.rotate_secret(desk.database, OTHER, made[0].id, entropy=bytes(32), now=now),
        queries.endpoint(desk.database, OTHER, made[0].id),
    ):
        with pytest.raises(EndpointNotFound):
            await act
    await operations.delete_endpoint(desk.database, OWNER, made[0].id, now=now)
    await desk.endpoint(merchant.url)
    page = await queries.endpoints(desk.database, OWNER, limit=15)
    rest = await queries.endpoints(desk.database, OWNER, after=page[-1].id, limit=15)
    assert len({each.id for each in page + rest}) == 20


async def test_ended_deliveries_are_forgotten_by_age_and_owed_ones_never(
    desk: Desk, merchant: Receiver
) -> None:
    await desk.endpoint(merchant.url)
    await desk.happen("payment.created")
    await desk.deliver()
    merchant.answer = lambda _: (500, {})
    await desk.happen("payment.succeeded")
    await desk.deliver()
    later = desk.clock.now() + timedelta(days=365)
    assert await operations.forget(desk.database, before=later) == 1
    assert [each.state for each in await queries.deliveries(desk.database, OWNER)] == ["owed"]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("", None), ("120", 120.0), (" 7 ", 7.0), ("soon", None), ("-1", None),
     ("Wed, 11 Nov 2026 00:01:00 GMT", 60.0),     ("Wed, 11 Nov 2020 00:00:00 GMT", 0.0), ("９", None)],
)  # fmt: skip
def test_retry_after_is_read_in_both_its_forms(header: str, seconds: float | None) -> None:
    assert retry_after_s(header, now_s=datetime(2026, 11, 11, tzinfo=UTC).timestamp()) == seconds


COURIER = """
import asyncio
from random import Random
from holdfast.base.clock import SystemClock
from holdfast.domains.webhooks import operations
from holdfast.flows.deliver import Courier
from holdfast.platform.db import Database
from holdfast.platform.http import HttpClient

async def main():
    database = Database({dsn!r})
    await database.open()
    courier = Courier(database, HttpClient(allow_private=True), SystemClock(), Random(1).random)
    while True:
        await courier.deliver_due()
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


async def test_a_delivery_under_way_when_its_worker_is_killed_is_made_by_another(
    desk: Desk, merchant: Receiver
) -> None:
    await desk.endpoint(merchant.url)
    merchant.answer = lambda _: None
    await desk.happen("payment.succeeded")
    worker = subprocess.Popen([sys.executable, "-c", COURIER.format(dsn=desk.database.dsn)])
    try:
        await asyncio.to_thread(until, lambda: merchant.arrived, "the first worker has sent it")
    finally:
        worker.kill()
        worker.wait()
    merchant.answer = lambda _: (200, {})
    assert await desk.deliver() == 0, "the lease of the dead worker still runs"
    desk.clock.at += timedelta(minutes=5)
    assert await desk.deliver() == 1
    first, second = merchant.arrived
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    (delivery,) = await queries.deliveries(desk.database, OWNER)
    assert delivery.state == "delivered"
