"""When X happens, do Y: one table from event type to what follows, carried out by the worker, once per event.

A reaction runs in the transaction that moves the outbox cursor: it writes down what is owed and does
nothing outside.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from holdfast.base import ids
from holdfast.domains.webhooks import Owed
from holdfast.domains.webhooks import operations as webhooks
from holdfast.platform import metrics
from holdfast.platform.db import Connection, Database
from holdfast.platform.log import logger
from holdfast.platform.outbox import Event, relay

Reaction = Callable[[Connection, Sequence[Event], datetime], Awaitable[None]]
FOLLOWER: Final = "reactions"
_log = logger(__name__)


def as_public(event: Event) -> dict[str, object]:
    """Return an event as the outside sees it, in webhooks and in the list of events alike."""
    return {
        "id": ids.public("evt", event.id),
        "type": event.type,
        "timestamp": event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "subject": event.subject,
        "data": dict(event.facts),
    }


async def tell_merchant(connection: Connection, events: Sequence[Event], now: datetime) -> None:
    """Owe each event to its merchant's webhook endpoints."""
    owed = []
    for event in events:
        if event.owner is not None:
            body = json.dumps(as_public(event), ensure_ascii=False, separators=(",", ":"))
            owed.append(Owed(ids.public("evt", event.id), event.owner, event.type, body))
    await webhooks.owe(connection, owed, now=now)


REACTIONS: Final[Mapping[str, tuple[Reaction, ...]]] = {
    "payment.created": (tell_merchant,),
    "payment.processing": (tell_merchant,),
    "payment.pending": (tell_merchant,),
    "payment.authorized": (tell_merchant,),
    "payment.succeeded": (tell_merchant,),
    "payment.failed": (tell_merchant,),
    "payment.canceled": (tell_merchant,),
    "refund.succeeded": (tell_merchant,),
    "refund.failed": (tell_merchant,),
    "top_up.succeeded": (tell_merchant,),
    "credit.returned": (tell_merchant,),
}
"""What follows from each type of event; its keys are the event types that there are."""

EVENT_TYPES: Final = tuple(REACTIONS)


async def react(database: Database, *, now: datetime, limit: int = 500) -> int:
    """Carry out what follows from the next events; return how many there were."""
    seen: list[str] = []

    async def follow(connection: Connection, events: Sequence[Event]) -> None:
        chosen: dict[Reaction, list[Event]] = {}
        for event in events:
            if event.type not in REACTIONS:
                _log.error(
                    "an event of unknown type has no reaction", type=event.type, event_id=str(event.id)
                )
            for reaction in REACTIONS.get(event.type, ()):
                chosen.setdefault(reaction, []).append(event)
        for reaction, mine in chosen.items():
            await reaction(connection, mine, now)
        seen.extend(event.type if event.type in REACTIONS else "unknown" for event in events)

    done = await relay(database, FOLLOWER, follow, now=now, limit=limit)
    for type_ in seen:
        metrics.EVENTS.labels(type_).inc()
    return done
