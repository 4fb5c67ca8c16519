"""Writing: the ledger on PostgreSQL, and the lane on which everything that changes money commits.

Seat(database)               one process's seat: it writes when elected, else forwards; commits units
PostgresLedger(seat)         opens accounts, posts lists of transfers, reads balances
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.limits import EXPIRE_ROWS_MAX, PAGE_ROWS_DEFAULT
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.checks import chains, check_account, check_limit, check_transfer, together
from holdfast.domains.ledger.model import Balance, Entry, NewAccount, NewTransfer, Posting
from holdfast.domains.ledger.rules.columns import ColumnOutcomes, Columns
from holdfast.domains.ledger.writer.seat import Seat
from holdfast.platform.db import Database

__all__ = ["ColumnOutcomes", "Columns", "PostgresLedger", "Seat"]


class PostgresLedger:
    """The `Ledger` on PostgreSQL. It posts through the process's seat and reads from the tables."""

    def __init__(self, database: Database, seat: Seat) -> None:
        self._database = database
        self._seat = seat

    async def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Open accounts; opening one again with the same content does nothing.

        The limit is not part of that content: it changes by `set_limits`. Raises: `AccountExists`,
        `AccountInvalid`, `Unavailable`.
        """
        for account in accounts:
            check_account(account)
        if accounts:
            await self._seat.open_accounts(accounts)

    async def close_accounts(self, numbers: Sequence[AccountId], *, closed: bool = True) -> None:
        """Close accounts: from then on they take part in nothing but the end of holds.

        Raises: `AccountMissing`, `Unavailable`.
        """
        await self._seat.close_accounts(numbers, closed=closed)

    async def set_limits(self, limits: Mapping[AccountId, int]) -> None:
        """Set by how much the rule of accounts may be exceeded from now on, minor units: a credit limit.

        A limit below what is in use already stops further use; it takes nothing back. Raises:
        `AccountMissing`, `AccountInvalid`, `Unavailable`.
        """
        for limit in limits.values():
            check_limit(limit)
        if limits:
            await self._seat.set_limits(limits)

    async def post(self, transfers: Sequence[NewTransfer]) -> list[Posting]:
        """Post transfers in order, in one durable commit; `linked` ones as chains; an answer for each.

        Raises: `BatchTooLarge`, `ChainTooLong`, `Unavailable` (nothing has moved), `OutcomeUnknown` (ask by
        `find`).
        """
        if not transfers:
            return []
        for t in transfers:
            check_transfer(t)
        return await self._seat.post(chains(transfers))

    async def post_together(self, transfers: Sequence[NewTransfer]) -> list[Posting]:
        """Post transfers in order, all of them or none, however many one commit takes; an answer for each.

        When one is refused, the others answer `LINKED_TRANSFER_FAILED`. `linked` of them says nothing here.
        Raises: `BatchTooLarge`, `Unavailable` (nothing has moved), `OutcomeUnknown` (ask by `find`).
        """
        if not transfers:
            return []
        for t in transfers:
            check_transfer(t)
        return await self._seat.post([together(transfers)])

    async def post_columns(self, columns: Columns) -> ColumnOutcomes:
        """Post plain transfers, given as arrays, in one durable commit. Raises: as `post`."""
        columns.check()
        return await self._seat.post_columns(columns)

    async def expire_due(self, *, limit: int = EXPIRE_ROWS_MAX) -> int:
        """Release, or settle, up to `limit` holds whose time is over, oldest first, and return how many.

        Any process may ask for it; it is asked for again while it returns `limit`.
        """
        return await self._seat.expire_due(limit)

    async def balances(
        self, accounts: Iterable[AccountId], *, at: datetime | None = None
    ) -> dict[AccountId, Balance]:
        """Return balances now, or as they stood at `at`; an account that does not exist is left out."""
        return await queries.balances(self._database, list(accounts), at=at, memory=self._seat)

    async def statement(
        self, account: AccountId, *, before: TransferId | None = None, limit: int = PAGE_ROWS_DEFAULT
    ) -> list[Entry]:
        """Return an account's entries, newest first, each with the balance after it.

        `before` is the last entry of the page before. Raises: `AccountMissing`, `CursorInvalid`.
        """
        return await queries.statement(self._database, account, before=before, limit=limit, memory=self._seat)

    async def find(self, ids: Iterable[TransferId]) -> dict[TransferId, Posting]:
        """Return what became of each id that the ledger has seen."""
        return await queries.find(self._database, list(ids))
