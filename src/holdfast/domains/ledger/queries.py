"""Reading the ledger: balances now and at any moment, statements, transfers, trial balance, accounts.

All of it reads the tables, from any process. What a page needs of a transfer is read at the page's own
moment: what is posted meanwhile may or may not be in it, but never half of it. Where so much is written that
the newest segments are not indexed yet, the writer is asked what it remembers of them, if the caller has a
`Memory`; when it does not answer, they are read from end to end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.limits import HISTORY_SCAN_ROWS_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX
from holdfast.domains.ledger.errors import AccountMissing, CursorInvalid
from holdfast.domains.ledger.model import AccountView, AssetTotals, Balance, Entry, Newest, Posting
from holdfast.domains.ledger.store import archived, history, lookup, reading, segments
from holdfast.domains.ledger.store.archived import Archive
from holdfast.domains.ledger.store.history import Filter, Item, Page, Range, Transfer
from holdfast.platform.db import Connection, Database

__all__ = [
    "Archive", "Page", "Transfer", "account", "accounts", "archives", "balances", "entries", "find",
    "names_of", "statement", "transfers", "trial_balance",
]  # fmt: skip


class Memory(Protocol):
    """What asks the ledger's writer for what it remembers; a seat does. None: it cannot be asked now."""

    async def balances(self, numbers: Sequence[AccountId]) -> dict[AccountId, Balance] | None:
        """Return committed balances; an account that does not exist is left out."""
        ...

    async def newest(self, account: AccountId, below: int, limit: int) -> Newest | None:
        """Return what is remembered of an account: up to `limit` transfers, numbered less than `below`."""
        ...


async def balances(
    database: Database, numbers: Sequence[AccountId], *, at: datetime | None = None,
    memory: Memory | None = None,
) -> dict[AccountId, Balance]:  # fmt: skip
    """Return balances now, or as they stood at `at`; an account that does not exist is left out.

    Raises: `HistoryArchived` when the transfers of that time are in an archive file.
    """
    async with database.connection() as connection:
        if at is None:
            if memory is not None and await segments.some_not_indexed(connection):
                remembered = await memory.balances(numbers)
                if remembered is not None:
                    return remembered
            sums = await reading.sums_now(connection, numbers)
        else:
            seq = await segments.last_seq(connection, at)
            sums = await segments.steady(connection, lambda: reading.sums_at(connection, numbers, seq))
    return {number: found.balance for number, found in sums.items()}


async def statement(
    database: Database,
    account: AccountId,
    *,
    before: TransferId | None = None,
    limit: int = PAGE_ROWS_DEFAULT,
    memory: Memory | None = None,
) -> list[Entry]:
    """Return an account's entries, newest first, each with the balance after it.

    `before` is the last entry of the page before. Raises: `AccountMissing`, `CursorInvalid`.
    """
    return list((await entries(database, account, before=before, limit=limit, memory=memory)).items)


async def entries(
    database: Database,
    account: AccountId,
    *,
    before: TransferId | None = None,
    limit: int = PAGE_ROWS_DEFAULT,
    code: int | None = None,
    other: AccountId | None = None,
    metadata: Mapping[str, str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    memory: Memory | None = None,
) -> Page[Entry]:
    """Return a page of an account's statement, newest first, with the balance after each entry.

    Only entries with this code, this account on the other side and all of this metadata; made at `since` or
    later, and earlier than `until`. `before` is the `next` of the page before, or any entry of the account.
    With one of the first three a page may be short, or empty, and still have a `next`: one call looks at
    `HISTORY_SCAN_ROWS_MAX` entries at most. Raises: `AccountMissing`, `CursorInvalid`.
    """
    wanted = Filter(code, other, metadata)
    async with database.connection() as connection:
        if not await history.exists(connection, account):
            raise AccountMissing
        within = await _range(connection, before, limit, wanted, since, until, account)
        newest, within = await _newest(connection, memory, account, within)
        page = await segments.steady(
            connection, lambda: history.entries(connection, account, within, wanted, newest)
        )
        return await _ended(connection, page, within, account)


async def transfers(
    database: Database,
    *,
    account: AccountId | None = None,
    code: int | None = None,
    metadata: Mapping[str, str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: TransferId | None = None,
    limit: int = PAGE_ROWS_DEFAULT,
    memory: Memory | None = None,
) -> Page[Transfer]:
    """Return transfers of the whole ledger, or of one account, newest first.

    Only those with this code and all of this metadata; made at `since` or later, and earlier than `until`.
    `after` is the `next` of the page before. With a code or metadata a page may be short, or empty, and still
    have a `next`: one call looks at `HISTORY_SCAN_ROWS_MAX` transfers at most. Raises: `AccountMissing`,
    `CursorInvalid`.
    """
    wanted = Filter(code, None, metadata)
    async with database.connection() as connection:
        if account is not None and not await history.exists(connection, account):
            raise AccountMissing
        within = await _range(connection, after, limit, wanted, since, until, account)
        newest, within = await _newest(connection, memory, account, within)
        page = await segments.steady(
            connection, lambda: history.transfers(connection, within, wanted, account, newest)
        )
        return await _ended(connection, page, within, account)


async def _newest(
    connection: Connection, memory: Memory | None, account: AccountId | None, within: Range
) -> tuple[Newest | None, Range]:
    """Ask the writer for what no index finds; then nothing newer is read than it knew of."""
    if memory is None or account is None or not await segments.some_not_indexed(connection):
        return None, within
    newest = await memory.newest(account, within.below, within.scan)
    if newest is None:
        return None, within
    return newest, within._replace(below=min(within.below, newest.upto + 1))


async def _ended(
    connection: Connection, page: Page[Item], within: Range, account: AccountId | None
) -> Page[Item]:
    """Say on the last page whether older ones are archived."""
    if page.next is not None:
        return page
    until = await archived.older_until(connection, within.low, within.below, account)
    return page if until is None else replace(page, archived_until=until)


async def archives(database: Database) -> list[Archive]:
    """Return the segments whose transfers were moved to archive files, oldest first."""
    async with database.connection() as connection:
        return await archived.archives(connection)


async def _range(
    connection: Connection, cursor: TransferId | None, limit: int, wanted: Filter,
    since: datetime | None, until: datetime | None, account: AccountId | None,
) -> Range:  # fmt: skip
    low, below = -1, segments.END
    if since is not None:
        low = await segments.last_seq(connection, since, before=True)
    if until is not None:
        below = await segments.last_seq(connection, until, before=True) + 1
    if cursor is not None:
        seq = await lookup.seq_of(connection, cursor, account)
        if seq is None:
            raise CursorInvalid
        below = min(below, seq)
    limit = max(1, min(limit, PAGE_ROWS_MAX + 1))  # one more tells whether there are more
    return Range(low, below, limit, limit if wanted.everything else HISTORY_SCAN_ROWS_MAX)


async def trial_balance(database: Database) -> list[AssetTotals]:
    """Return the sums over all accounts of each asset, added up from every transfer there is.

    Debits and credits are equal when the books balance. Takes about a second for a million transfers.
    """
    async with database.connection() as connection:
        return await segments.steady(connection, lambda: reading.trial_balance(connection))


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


async def names_of(
    database: Database, *, names: Sequence[str] = (), numbers: Sequence[AccountId] = ()
) -> dict[AccountId, str]:
    """Return the names of accounts by number: of those that have these names, or these numbers."""
    async with database.connection() as connection:
        return await reading.names(connection, numbers, names)


async def accounts(
    database: Database, *, prefix: str = "", after: str = "", limit: int = PAGE_ROWS_DEFAULT
) -> list[AccountView]:
    """Return accounts whose names begin with `prefix`, in order of their names, from behind `after`."""
    async with database.connection() as connection:
        return await reading.accounts_after(connection, prefix, after, max(1, min(limit, PAGE_ROWS_MAX)))


async def find(database: Database, ids: Sequence[TransferId]) -> dict[TransferId, Posting]:
    """Return what became of each id that the ledger has seen."""
    async with database.connection() as connection:
        return await lookup.find(connection, ids)
