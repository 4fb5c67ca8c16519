"""What is read of webhooks."""

from __future__ import annotations

from uuid import UUID

from holdfast.base.limits import PAGE_ROWS_DEFAULT
from holdfast.domains.webhooks import store
from holdfast.domains.webhooks.errors import DeliveryNotFound, EndpointNotFound
from holdfast.domains.webhooks.model import Delivery, Endpoint, Try
from holdfast.platform.db import Database


async def endpoints(
    database: Database, owner: UUID, *, after: UUID | None = None, limit: int = PAGE_ROWS_DEFAULT
) -> list[Endpoint]:
    """Return a merchant's endpoints, newest first, from the one before `after`."""
    async with database.connection() as connection:
        return await store.endpoints(connection, owner, after=after, limit=limit)


async def endpoint(database: Database, owner: UUID, wanted: UUID) -> Endpoint:
    """Return one endpoint. Raises: `EndpointNotFound`."""
    async with database.connection() as connection:
        found = await store.endpoints(connection, owner, after=None, limit=1, endpoint=wanted)
    if not found:
        raise EndpointNotFound
    return found[0]


async def deliveries(
    database: Database,
    owner: UUID,
    *,
    endpoint: UUID | None = None,
    after: UUID | None = None,
    limit: int = PAGE_ROWS_DEFAULT,
) -> list[Delivery]:
    """Return deliveries, newest first, of one endpoint when given, from the one before `after`."""
    async with database.connection() as connection:
        return await store.deliveries(connection, owner, endpoint=endpoint, after=after, limit=limit)


async def delivery(database: Database, owner: UUID, wanted: UUID) -> tuple[Delivery, list[Try]]:
    """Return one delivery with its tries. Raises: `DeliveryNotFound`."""
    async with database.connection() as connection:
        found = await store.delivery(connection, owner, wanted)
        if found is None:
            raise DeliveryNotFound
        return found, await store.tries(connection, wanted)


async def owed_count(database: Database) -> int:
    """Return how many deliveries are owed, for metrics."""
    async with database.connection() as connection:
        return await store.owed_count(connection)
