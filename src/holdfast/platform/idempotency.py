"""Idempotency keys: which request a key was first used for, and the answer that its repeats get.

A claim is a guard that goes into the very unit that makes the first effect durable, so there is no moment at
which the effect stands and the key is free. The answer is a write in the unit that makes it final. Between
the two a repeat finds a claim without an answer: the caller of this module then tells the state of the
claim's subject.

Rows are keyed by caller and key; an answer is added once and never changed. They are kept
`IDEMPOTENCY_KEEP_HOURS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final

from holdfast.platform.db import Database
from holdfast.platform.unit import Guard, Statement, Write

_FINGERPRINT_BYTES: Final = 16

CLAIM: Final = Statement(
    "idempotency.claim",
    """
with asked as (
    select * from unnest(%b::text[], %b::text[], %b::bytea[], %b::text[], %b::timestamptz[])
        with ordinality as r(caller, key, fingerprint, subject, claimed_at, position)
), claimed as (
    insert into idempotency.claims (caller, key, fingerprint, subject, claimed_at)
    select caller, key, fingerprint, subject, claimed_at from asked order by caller, key
    on conflict do nothing
    returning caller, key
)
select position from asked join claimed using (caller, key)
""",
    ("text", "text", "bytea", "text", "timestamptz"),
    rank=10,
    sure="""
insert into idempotency.claims (caller, key, fingerprint, subject, claimed_at)
select * from unnest(%b::text[], %b::text[], %b::bytea[], %b::text[], %b::timestamptz[])
    as r(caller, key, fingerprint, subject, claimed_at) order by caller, key
""",
)

ANSWER: Final = Statement(
    "idempotency.answer",
    """
insert into idempotency.answers (caller, key, status, body)
select * from unnest(%b::text[], %b::text[], %b::int2[], %b::bytea[])
on conflict do nothing
""",
    ("text", "text", "int2", "bytea"),
    rank=900,
)

_FIND: Final = """
select c.fingerprint, c.subject, c.claimed_at, a.status, a.body
from idempotency.claims c left join idempotency.answers a using (caller, key)
where c.caller = %b and c.key = %b
"""

_FORGET: Final = """
with old as (
    select caller, key from idempotency.claims where claimed_at < %(before)s limit %(limit)s
    for update skip locked
), answers as (
    delete from idempotency.answers a using old where a.caller = old.caller and a.key = old.key
)
delete from idempotency.claims c using old where c.caller = old.caller and c.key = old.key
"""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer that was given: HTTP `status` and `body`, byte for byte."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """A key in use. `answer` is None while its request is under way, or when it was cut off by a crash."""

    fingerprint: bytes
    subject: str
    claimed_at: datetime
    answer: StoredAnswer | None


def fingerprint(operation: str, payload: bytes) -> bytes:
    """Return a digest of what is asked, 16 bytes: `operation` (method and path) and the body as it came."""
    return blake2b(payload, digest_size=_FINGERPRINT_BYTES, key=operation.encode()[:64]).digest()


def claim(caller: str, key: str, fingerprint: bytes, subject: str, now: datetime) -> Guard:
    """Return the guard that takes `key` for `caller`; it holds for the first unit that commits with it."""
    return Guard(CLAIM, (caller, key, fingerprint, subject, now), ("idempotency", caller, key), claims=True)


def answer(caller: str, key: str, status: int, body: bytes) -> Write:
    """Return the write that keeps the answer; the first one stays."""
    return Write(ANSWER, (caller, key, status, body))


async def find(database: Database, caller: str, key: str) -> Claim | None:
    """Return what `key` was used for by `caller`, or None. Raises: `DatabaseUnavailable`."""
    async with database.connection() as connection:
        row = await (await connection.execute(_FIND, (caller, key), binary=True)).fetchone()
    if row is None:
        return None
    stored = None if row[3] is None else StoredAnswer(row[3], row[4])
    return Claim(row[0], row[1], row[2], stored)


async def forget_before(database: Database, before: datetime, *, limit: int = 10_000) -> int:
    """Delete up to `limit` keys that were claimed before `before`, with their answers; return how many."""
    async with database.connection() as connection:
        return (await connection.execute(_FORGET, {"before": before, "limit": limit})).rowcount
