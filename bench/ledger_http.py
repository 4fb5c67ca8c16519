"""Transfers in bulk over HTTP: one client, batches of the largest size, a server as it runs in production."""

from __future__ import annotations

from random import Random
from typing import Final
from uuid import uuid4

import msgspec
import psycopg

from bench.load import request, run
from bench.shop import people, server, settings_for
from holdfast.base.limits import BATCH_ITEMS_MAX, BATCHES_PER_MERCHANT_MAX
from holdfast.platform import migrate
from holdfast.platform.postgres import EmbeddedPostgres

PAYERS: Final = 1_000
PORT: Final = 8493
_NAME: Final = "http"


async def over_http(postgres: EmbeddedPostgres, transfers: int, seed: int) -> float:
    """Post `transfers` by `POST /v1/transfers/batch` and return how many a second."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"create database {_NAME}".encode())
    dsn = postgres.dsn(_NAME)
    migrate.apply(dsn, migrate.shipped())
    key, payers = await people(dsn, PAYERS)
    count = max(1, transfers // BATCH_ITEMS_MAX)
    warm, made = _batches(BATCHES_PER_MERCHANT_MAX, key, payers, seed), _batches(count, key, payers, seed + 1)
    with server("bench.api_paid:create", PORT, settings_for(dsn)):
        for some in (warm, made):
            load = await run("127.0.0.1", PORT, some, connections=BATCHES_PER_MERCHANT_MAX)
            if set(load.statuses) != {200}:
                raise SystemExit(f"batches: answers by status {dict(load.statuses)}, all should be 200")
    return load.rate * BATCH_ITEMS_MAX


def _batches(count: int, key: str, payers: list[str], seed: int) -> list[bytes]:
    random = Random(seed)
    made = []
    for _ in range(count):
        items = []
        for _ in range(BATCH_ITEMS_MAX):
            source, destination = random.sample(payers, 2)
            amount = {"asset": "CNY", "amount_minor": random.randint(1, 1000)}
            items.append({"source": source, "destination": destination, "amount": amount})
        headers = {"authorization": f"Bearer {key}", "idempotency-key": str(uuid4())}
        made.append(request("/v1/transfers/batch", msgspec.json.encode({"transfers": items}), headers))
    return made
