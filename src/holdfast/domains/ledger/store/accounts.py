"""Accounts: opening, closing, limits. Only the writer does it: it must know of each before it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from holdfast.base.ids import AccountId
from holdfast.domains.ledger.errors import AccountExists
from holdfast.domains.ledger.model import NewAccount
from holdfast.domains.ledger.rules.rulebook import ASSET_NUMBERS, RULE_NUMBERS
from holdfast.platform import arrays
from holdfast.platform.db import Connection

_CLASH: Final = """
select u.number, u.code
from unnest(%b::bigint[], %b::text[], %b::smallint[], %b::smallint[]) as u (number, code, asset, rule)
join ledger.accounts a on a.number = u.number or a.code = u.code
where (a.number, a.code, a.asset, a.rule) is distinct from (u.number, u.code, u.asset, u.rule)
limit 1"""
_OPEN: Final = """
insert into ledger.accounts (number, code, asset, rule, place, limit_minor, opened_at)
select number, code, asset, rule, place, limit_minor, %b::timestamptz
from unnest(%b::bigint[], %b::text[], %b::smallint[], %b::smallint[], %b::integer[], %b::bigint[])
    as u (number, code, asset, rule, place, limit_minor)"""
_CLOSE: Final = "update ledger.accounts set closed = %b::boolean where number = any (%b::bigint[])"
_LIMIT: Final = """
with u as (select * from unnest(%b::bigint[], %b::bigint[]) as u (number, limit_minor)),
changed as (
    update ledger.accounts a set limit_minor = u.limit_minor from u where a.number = u.number
    returning a.number, a.limit_minor
)
insert into ledger.limits (account, seq, at, limit_minor)
select number, %b::bigint, %b::timestamptz, limit_minor from changed
on conflict (account, seq) do update set at = excluded.at, limit_minor = excluded.limit_minor"""


async def find_clash(connection: Connection, accounts: Sequence[NewAccount]) -> None:
    """Raises: `AccountExists` when a number or a name belongs to another account."""
    row = await (await connection.execute(_CLASH, _described(accounts), binary=True)).fetchone()
    if row is not None:
        raise AccountExists(f"Account {row[0]} or the name {row[1]!r} belongs to another account.")


async def open_accounts(
    connection: Connection, accounts: Sequence[NewAccount], first_place: int, now: datetime
) -> None:
    """Add accounts that are not there yet, at the next places."""
    places = arrays.integers(range(first_place, first_place + len(accounts)))
    limits = arrays.bigints([a.limit_minor for a in accounts])
    await connection.execute(_OPEN, (now, *_described(accounts), places, limits), binary=True)


async def close_accounts(connection: Connection, numbers: Sequence[AccountId], *, closed: bool) -> None:
    """Close or reopen accounts."""
    await connection.execute(_CLOSE, (closed, arrays.bigints(sorted(numbers))), binary=True)


async def set_limits(
    connection: Connection, limits: Mapping[AccountId, int], from_seq: int, now: datetime
) -> None:
    """Set credit limits, minor units, for transfers from number `from_seq` on."""
    columns = arrays.bigints(list(limits)), arrays.bigints(list(limits.values()))
    await connection.execute(_LIMIT, (*columns, from_seq, now), binary=True)


def _described(accounts: Sequence[NewAccount]) -> tuple[arrays.Packed, ...]:
    return (
        arrays.bigints([a.number for a in accounts]),
        arrays.column("text", [a.code for a in accounts]),
        arrays.smallints([ASSET_NUMBERS[a.asset] for a in accounts]),
        arrays.smallints([RULE_NUMBERS[a.rule] for a in accounts]),
    )
