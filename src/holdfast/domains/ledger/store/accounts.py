"""Accounts and their balances: opening, closing, reading."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from holdfast.base.ids import AccountId
from holdfast.domains.ledger.errors import AccountExists, AccountMissing
from holdfast.domains.ledger.model import Balance, NewAccount
from holdfast.domains.ledger.rules import ASSET_NUMBERS, RULE_NUMBERS
from holdfast.platform import arrays
from holdfast.platform.db import Connection

_OPEN: Final = """
with asked as (
    select * from unnest(%b::bigint[], %b::text[], %b::smallint[], %b::smallint[])
        as u (number, code, asset, rule)
), opened as (
    insert into ledger.accounts (number, code, asset, rule, opened_at)
    select number, code, asset, rule, %b::timestamptz from asked order by number
    on conflict do nothing
    returning number, asset, rule
)
insert into ledger.balances (number, asset, rule) select number, asset, rule from opened"""
_CLASH: Final = """
select u.number, u.code
from unnest(%b::bigint[], %b::text[], %b::smallint[], %b::smallint[]) as u (number, code, asset, rule)
left join ledger.accounts a on a.number = u.number
where (a.code, a.asset, a.rule) is distinct from (u.code, u.asset, u.rule)
limit 1"""
_CLOSE: Final = "update ledger.balances set closed = %b where number = any (%b::bigint[])"
_BALANCES: Final = """
select number, debits_posted, credits_posted, debits_pending, credits_pending
from ledger.balances where number = any (%b::bigint[])"""


async def open_accounts(connection: Connection, accounts: Sequence[NewAccount], now: datetime) -> None:
    """Add accounts that are not there yet. Raises: `AccountExists` when one is there with other content."""
    columns = (
        arrays.bigints([a.number for a in accounts]),
        arrays.column("text", [a.code for a in accounts]),
        arrays.smallints([ASSET_NUMBERS[a.asset] for a in accounts]),
        arrays.smallints([RULE_NUMBERS[a.rule] for a in accounts]),
    )
    await connection.execute(_OPEN, (*columns, now), binary=True)
    clash = await (await connection.execute(_CLASH, columns, binary=True)).fetchone()
    if clash is not None:
        raise AccountExists(f"Account {clash[0]} or the name {clash[1]!r} belongs to another account.")


async def close_accounts(connection: Connection, numbers: Sequence[AccountId], *, closed: bool) -> None:
    """Close or reopen accounts. Raises: `AccountMissing`."""
    done = await connection.execute(_CLOSE, (closed, arrays.bigints(sorted(numbers))), binary=True)
    if done.rowcount != len(set(numbers)):
        raise AccountMissing


async def balances(connection: Connection, numbers: Sequence[AccountId]) -> dict[AccountId, Balance]:
    """Read balances as they are now; an account that does not exist is left out."""
    rows: list[Any] = await (
        await connection.execute(_BALANCES, (arrays.bigints(numbers),), prepare=True, binary=True)
    ).fetchall()
    return {AccountId(row[0]): Balance(*row[1:]) for row in rows}
