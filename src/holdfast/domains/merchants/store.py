"""All SQL of merchants."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from holdfast.base.ids import MerchantId
from holdfast.domains.merchants.model import (
    KEY_ID_BYTES,
    Caller,
    KeyFacts,
    KeyId,
    Merchant,
    MerchantRules,
    Role,
)
from holdfast.platform.db import Connection

DIGEST_BYTES: Final = 32

_MERCHANT_COLUMNS: Final = (
    "m.id, m.business, m.live, m.name, m.allowed_kinds, m.rail_order, m.capture, m.created_at"
)

_ADD_MERCHANT: Final = """
insert into merchants.merchants (id, business, live, name, allowed_kinds, rail_order, capture, created_at)
values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing
"""

_SET_RULES: Final = (
    "update merchants.merchants set allowed_kinds = %s, rail_order = %s, capture = %s where id = %s"
)

_ADD_KEY: Final = """
insert into merchants.keys (digest, merchant, role, hint, created_at) values (%s, %s, %s, %s, %s)
on conflict (digest) do nothing
"""

_CALLERS: Final = f"""
select k.digest, k.role, {_MERCHANT_COLUMNS}
from merchants.keys k join merchants.merchants m on m.id = k.merchant
where k.digest = any(%b::bytea[]) and k.revoked_at is null
"""  # noqa: S608 - the columns are a constant of this file

_MERCHANTS: Final = f"select {_MERCHANT_COLUMNS} from merchants.merchants m where m.id = any(%b)"  # noqa: S608

_OF_BUSINESS: Final = (
    f"select {_MERCHANT_COLUMNS} from merchants.merchants m where m.business = %s order by m.live"  # noqa: S608
)

_NEWEST: Final = f"""
select {_MERCHANT_COLUMNS} from merchants.merchants m
where %(after)s::uuid is null or (m.created_at, m.id) <
      (select a.created_at, a.id from merchants.merchants a where a.id = %(after)s::uuid)
order by m.created_at desc, m.id desc limit %(limit)s
"""  # noqa: S608 - the columns are a constant of this file

_KEY_COLUMNS: Final = "digest, merchant, role, hint, created_at, revoked_at"

_KEYS_OF: Final = f"select {_KEY_COLUMNS} from merchants.keys where merchant = %s order by created_at, digest"  # noqa: S608

_KEY: Final = f"select {_KEY_COLUMNS} from merchants.keys where digest between %s and %s"  # noqa: S608

_REVOKE: Final = """
update merchants.keys set revoked_at = %s where digest = %s and merchant = %s and revoked_at is null
"""


def _merchant(row: Sequence[Any]) -> Merchant:
    rules = MerchantRules(tuple(row[4]), tuple(row[5]), row[6])
    return Merchant(MerchantId(row[0]), row[1], row[2], row[3], rules, row[7])


def _facts(row: Sequence[Any]) -> KeyFacts:
    return KeyFacts(row[0], MerchantId(row[1]), Role(row[2]), row[3], row[4], row[5])


async def add_merchant(connection: Connection, merchant: Merchant) -> None:
    """Keep a merchant; nothing happens when its id, or its business in its mode, is there already."""
    rules = merchant.rules
    await connection.execute(
        _ADD_MERCHANT,
        (
            merchant.id,
            merchant.business,
            merchant.live,
            merchant.name,
            list(rules.allowed_kinds),
            list(rules.rail_order),
            rules.capture,
            merchant.created_at,
        ),
    )


async def set_rules(connection: Connection, merchant: MerchantId, rules: MerchantRules) -> bool:
    """Replace a merchant's rules; return whether there is such a merchant."""
    done = await connection.execute(
        _SET_RULES, (list(rules.allowed_kinds), list(rules.rail_order), rules.capture, merchant)
    )
    return done.rowcount == 1


async def add_key(connection: Connection, facts: KeyFacts) -> None:
    """Keep the digest of a key."""
    await connection.execute(
        _ADD_KEY, (facts.digest, facts.merchant, facts.role.value, facts.hint, facts.created_at)
    )


async def callers(connection: Connection, digests: Sequence[bytes]) -> dict[bytes, Caller]:
    """Return whom each of these keys speaks for; unknown and revoked ones are left out."""
    rows = await connection.execute(_CALLERS, (list(digests),), binary=True)
    return {row[0]: Caller(_merchant(row[2:]), Role(row[1])) async for row in rows}


async def merchants(connection: Connection, ids: Sequence[MerchantId]) -> dict[MerchantId, Merchant]:
    """Return those of `ids` that exist."""
    rows = await connection.execute(_MERCHANTS, (list(ids),), binary=True)
    return {MerchantId(row[0]): _merchant(row) async for row in rows}


async def of_business(connection: Connection, business: UUID) -> list[Merchant]:
    """Return the merchants of a business, the one in test mode first."""
    return [_merchant(row) async for row in await connection.execute(_OF_BUSINESS, (business,))]


async def newest(connection: Connection, after: MerchantId | None, limit: int) -> list[Merchant]:
    """Return merchants, newest first, beginning after `after`."""
    rows = await connection.execute(_NEWEST, {"after": after, "limit": limit})
    return [_merchant(row) async for row in rows]


async def keys_of(connection: Connection, merchant: MerchantId) -> list[KeyFacts]:
    """Return a merchant's keys, oldest first."""
    return [_facts(row) async for row in await connection.execute(_KEYS_OF, (merchant,))]


async def key(connection: Connection, id_: KeyId) -> KeyFacts | None:
    """Return what may be told of a key; the primary key finds it, since its id is how its digest begins."""
    rest = DIGEST_BYTES - KEY_ID_BYTES
    rows = await connection.execute(_KEY, (id_.bytes + bytes(rest), id_.bytes + b"\xff" * rest))
    row = await rows.fetchone()
    return None if row is None else _facts(row)


async def revoke(connection: Connection, merchant: MerchantId, digest: bytes, now: datetime) -> bool:
    """Revoke a key; return whether it was in use until now."""
    return (await connection.execute(_REVOKE, (now, digest, merchant))).rowcount == 1
