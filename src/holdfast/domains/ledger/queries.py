"""Reading the ledger: balances now and at any moment, statements, trial balance, accounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.limits import PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, STATEMENT_STEP_ROWS
from holdfast.domains.ledger.errors import AccountMissing, CursorInvalid
from holdfast.domains.ledger.model import AccountView, AssetTotals, Balance, Entry, Posting
from holdfast.domains.ledger.store import accounts as account_store
from holdfast.domains.ledger.store import reading
from holdfast.platform.db import Connection, Database

_NOTHING = Balance(0, 0, 0, 0)


async def balances(
    database: Database, numbers: Sequence[AccountId], *, at: datetime | None = None
) -> dict[AccountId, Balance]:
    """Return balances now, or as they stood at `at`; an account that does not exist is left out."""
    async with database.connection() as connection:
        if at is None:
            return await account_store.balances(connection, numbers)
        found = {}
        for number in numbers:
            balance = await _balance_at(connection, number, at)
            if balance is not None:
                found[number] = balance
        return found


async def _balance_at(connection: Connection, account: AccountId, at: datetime) -> Balance | None:
    anchor = await reading.anchor_after(connection, account, at)
    while anchor is not None and anchor[0] != reading.NIL:
        entries, anchor = await reading.walk(connection, account, anchor, STATEMENT_STEP_ROWS)
        for entry in entries:
            if entry.at <= at:
                return entry.balance
    return _NOTHING if anchor is not None else None


async def statement(
    database: Database,
    account: AccountId,
    *,
    before: TransferId | None = None,
    limit: int = PAGE_ROWS_DEFAULT,
) -> list[Entry]:
    """Return an account's entries, newest first, each with the balance after it.

    `before` is the last entry of the page before. Raises: `AccountMissing`, `CursorInvalid`.
    """
    limit = max(1, min(limit, PAGE_ROWS_MAX))
    async with database.connection() as connection:
        start = await reading.newest(connection, account)
        if start is None:
            raise AccountMissing
        if before is not None:
            start = await _behind(connection, account, before)
        entries, _ = await reading.walk(connection, account, start, limit)
        return entries


async def _behind(connection: Connection, account: AccountId, transfer: TransferId) -> reading.Anchor:
    at = await reading.moment_of(connection, account, transfer)
    anchor = None if at is None else await reading.anchor_after(connection, account, at)
    while anchor is not None and anchor[0] != reading.NIL:
        step = anchor
        entries, anchor = await reading.walk(connection, account, step, STATEMENT_STEP_ROWS)
        ids = [entry.id for entry in entries]
        if transfer in ids:
            return (await reading.walk(connection, account, step, ids.index(transfer) + 1))[1]
    raise CursorInvalid


async def trial_balance(database: Database) -> list[AssetTotals]:
    """Return the sums over all accounts of each asset.

    Debits and credits are equal when the books balance.
    """
    async with database.connection() as connection:
        return await reading.trial_balance(connection)


async def account(database: Database, which: AccountId | str) -> AccountView:
    """Return an account by number or by name. Raises: `AccountMissing`."""
    async with database.connection() as connection:
        if isinstance(which, str):
            found = await reading.accounts(connection, codes=[which])
        else:
            found = await reading.accounts(connection, numbers=[which])
    if not found:
        raise AccountMissing(f"There is no ledger account {which}.")
    return found[0]


async def accounts(
    database: Database, *, prefix: str = "", after: str = "", limit: int = PAGE_ROWS_DEFAULT
) -> list[AccountView]:
    """Return accounts whose names begin with `prefix`, in order of their names, from behind `after`."""
    async with database.connection() as connection:
        return await reading.accounts_after(connection, prefix, after, max(1, min(limit, PAGE_ROWS_MAX)))


async def find(database: Database, ids: Sequence[TransferId]) -> dict[TransferId, Posting]:
    """Return what became of each id that the ledger has seen."""
    async with database.connection() as connection:
        return await reading.find(connection, ids)
