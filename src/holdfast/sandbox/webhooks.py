"""Delivers the webhooks that instances owe.

At least once, with growing pauses, until the receiver answers 2xx.
"""

from __future__ import annotations

import asyncio
from typing import Final

from holdfast.base.limits import SANDBOX_WEBHOOK_TIMEOUT_S, SANDBOX_WEBHOOK_TRIES_MAX
from holdfast.platform.http import HttpClient, NoAnswer, NotSent, UrlInvalid
from holdfast.sandbox.engine import Engine
from holdfast.sandbox.store import Delivery

IDLE_S: Final = 0.02
"""How long to rest when nothing is due: bounds how late a webhook or a settlement is."""

BATCH: Final = 32
PRUNE_EVERY_S: Final = 600.0


async def run(engine: Engine, *, stop: asyncio.Event) -> None:
    """Deliver webhooks and do what falls due until `stop`."""
    client = HttpClient(allow_private=True)
    loop = asyncio.get_running_loop()
    prune_at = loop.time()
    try:
        while not stop.is_set():
            if loop.time() >= prune_at:
                engine.prune()
                prune_at = loop.time() + PRUNE_EVERY_S
            done = engine.fire_due()
            done += await _deliver_due(engine, client)
            if not done:
                await asyncio.sleep(IDLE_S)
    finally:
        await client.close()


async def _deliver_due(engine: Engine, client: HttpClient) -> int:
    due = [one for one in engine.store.deliveries(engine.now_ms(), BATCH) if not _held_back(engine, one)]
    await asyncio.gather(*(_deliver(engine, client, one) for one in due))
    return len(due)


def _held_back(engine: Engine, delivery: Delivery) -> bool:
    """A dark instance delivers nothing; what it owes waits."""
    if not engine.dark(delivery.instance):
        return False
    engine.store.postpone([delivery.seq], engine.now_ms() + 500)
    return True


async def _deliver(engine: Engine, client: HttpClient, delivery: Delivery) -> None:
    provider = engine.provider(delivery.instance)
    headers = provider.sign(delivery.body, delivery.event_id, engine.now_ms(), spoilt=delivery.bad_signature)
    try:
        reply = await client.call(
            "POST",
            delivery.url,
            timeout_s=SANDBOX_WEBHOOK_TIMEOUT_S,
            headers=headers,
            body=delivery.body.encode(),
        )
        taken = 200 <= reply.status < 300
    except (NotSent, NoAnswer, UrlInvalid):
        taken = False
    if taken or delivery.bad_signature or delivery.tries + 1 >= SANDBOX_WEBHOOK_TRIES_MAX:
        engine.store.delivered(delivery.seq)
    else:
        engine.store.postpone([delivery.seq], engine.now_ms() + 200 * 2**delivery.tries)
