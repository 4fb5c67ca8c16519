"""What changes webhooks: endpoints come, change and go; messages become owed; tries are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from holdfast.base.ids import EndpointId
from holdfast.base.limits import WEBHOOK_ENDPOINTS_MAX, WEBHOOK_PER_ENDPOINT_MAX
from holdfast.base.secret import Secret
from holdfast.domains.webhooks import rules, store
from holdfast.domains.webhooks.errors import (
    DeliveryNotFound,
    EndpointNotFound,
    EndpointsTooMany,
    EventTypesInvalid,
)
from holdfast.domains.webhooks.model import Claim, Endpoint, Owed, Result
from holdfast.platform.db import Connection, Database
from holdfast.platform.unit import Write

LEASE: Final = timedelta(seconds=60)
"""How long a try may take, the request's 15 s included, before another worker takes it over."""

ROTATION_OVERLAP: Final = timedelta(hours=24)


def plan_endpoint(
    identity: EndpointId,
    owner: UUID,
    url: str,
    *,
    entropy: bytes,
    now: datetime,
    description: str = "",
    event_types: Sequence[str] = (),
    known_types: Sequence[str] = (),
    allow_private: bool = False,
) -> tuple[Endpoint, Write]:
    """Return a new endpoint and the write that adds it. Raises: `EndpointUrlInvalid`, `EventTypesInvalid`."""
    rules.check_url(url, allow_private=allow_private)
    types = _checked(event_types, known_types)
    secret = rules.new_secret(entropy)
    endpoint = Endpoint(
        identity, owner, url, description, types, secret, None, None, "enabled", "", None, now, now
    )  # fmt: skip
    row = (identity, owner, url, description, " ".join(types), secret.reveal(), now)
    return endpoint, Write(store.ADD_ENDPOINT, row)


def _checked(event_types: Sequence[str], known_types: Sequence[str]) -> tuple[str, ...]:
    wrong = [each for each in event_types if each not in known_types] if known_types else []
    if wrong:
        raise EventTypesInvalid(f"No event has the type {wrong[0]!r}; there are {', '.join(known_types)}.")
    return tuple(dict.fromkeys(event_types))


async def check_room(database: Database, owner: UUID) -> None:
    """Refuse when `owner` has as many endpoints as there may be. Raises: `EndpointsTooMany`."""
    async with database.connection() as connection:
        if await store.count_endpoints(connection, owner) >= WEBHOOK_ENDPOINTS_MAX:
            raise EndpointsTooMany(
                f"There are {WEBHOOK_ENDPOINTS_MAX} webhook endpoints already. Delete one first."
            )


async def add_endpoint(database: Database, planned: tuple[Endpoint, Write]) -> Endpoint:
    """Add what `plan_endpoint` planned, on its own. Raises: `EndpointsTooMany`."""
    endpoint, write = planned
    await check_room(database, endpoint.owner)
    async with database.transaction() as connection:
        await store.insert_endpoint(connection, write.row)
    return endpoint


async def change_endpoint(
    database: Database,
    owner: UUID,
    endpoint: UUID,
    *,
    now: datetime,
    url: str | None = None,
    description: str | None = None,
    event_types: Sequence[str] | None = None,
    known_types: Sequence[str] = (),
    enabled: bool | None = None,
    allow_private: bool = False,
) -> None:
    """Change what is given. Enabling it again sends what is owed.

    Raises: `EndpointNotFound`, `EndpointUrlInvalid`, …
    """
    changes: dict[str, object] = {"updated_at": now}
    if url is not None:
        changes["url"] = rules.check_url(url, allow_private=allow_private)
    if description is not None:
        changes["description"] = description
    if event_types is not None:
        changes["event_types"] = list(_checked(event_types, known_types))
    if enabled is not None:
        changes["state"] = "enabled" if enabled else "disabled"
        changes["disabled_reason"] = "" if enabled else "switched off by the merchant"
        changes["failing_since"] = None
    await _change(database, owner, endpoint, changes)


async def delete_endpoint(database: Database, owner: UUID, endpoint: UUID, *, now: datetime) -> None:
    """Delete an endpoint; what was owed to it is not sent. Raises: `EndpointNotFound`."""
    await _change(database, owner, endpoint, {"state": "deleted", "updated_at": now})


async def rotate_secret(
    database: Database,
    owner: UUID,
    endpoint: UUID,
    *,
    entropy: bytes,
    now: datetime,
    overlap: timedelta = ROTATION_OVERLAP,
) -> Secret:
    """Give the endpoint a new secret and return it; the old one signs as well for `overlap`.

    Raises: `EndpointNotFound`.
    """
    secret = rules.new_secret(entropy)
    async with database.transaction() as connection:
        found = await store.endpoints(connection, owner, after=None, limit=1, endpoint=endpoint)
        if not found:
            raise EndpointNotFound
        changes: dict[str, object] = {
            "previous_secret": found[0].secret.reveal(),
            "previous_secret_until": now + overlap,
            "secret": secret.reveal(),
            "updated_at": now,
        }
        await store.change_endpoint(connection, owner, endpoint, changes)
    return secret


async def _change(database: Database, owner: UUID, endpoint: UUID, changes: dict[str, object]) -> None:
    async with database.transaction() as connection:
        if not await store.change_endpoint(connection, owner, endpoint, changes):
            raise EndpointNotFound


async def owe(connection: Connection, messages: Sequence[Owed], *, now: datetime) -> int:
    """Owe messages, in the caller's transaction; return how many deliveries came of them."""
    return await store.owe(connection, messages, now=now) if messages else 0


async def claim(database: Database, *, now: datetime, limit: int) -> list[Claim]:
    """Lease deliveries that are due, for `LEASE`."""
    async with database.transaction() as connection:
        return await store.claim(
            connection, now=now, leased_until=now + LEASE, limit=limit, per_endpoint=WEBHOOK_PER_ENDPOINT_MAX
        )


async def record(
    database: Database, claimed: Claim, result: Result, *, began_at: datetime, now: datetime, chance: float
) -> rules.Verdict | None:
    """Write down a try and do what follows from it; None when another worker had taken the delivery over."""
    async with database.transaction() as connection:
        failing_since = await store.failing_since(connection, claimed.endpoint_id)
        if not await store.record(connection, claimed, result, at=began_at, now=now):
            return None
        verdict = rules.judge(
            result, rung=claimed.rung, now=now, failing_since=failing_since, chance=chance
        )  # fmt: skip
        if verdict.next_at is not None:
            await store.postpone(connection, claimed.delivery_id, next_at=verdict.next_at)
        else:
            await store.finish(connection, claimed.delivery_id, verdict.outcome, now=now)
        if verdict.disable:
            await store.disable(connection, claimed.endpoint_id, verdict.disable, now=now)
        return verdict


async def send_again(database: Database, owner: UUID, delivery: UUID, *, now: datetime) -> None:
    """Owe a delivery again, at once. Raises: `DeliveryNotFound`."""
    async with database.transaction() as connection:
        if not await store.send_again(connection, owner, delivery, now=now):
            raise DeliveryNotFound


async def forget(database: Database, *, before: datetime, limit: int = 5_000) -> int:
    """Delete deliveries that ended before `before`; return how many."""
    async with database.transaction() as connection:
        return await store.forget(connection, before=before, limit=limit)
