"""Writing: the ledger on PostgreSQL, and the lane on which everything that changes money commits.

PostgresLedger(database)     opens accounts, posts lists of transfers, reads balances
GroupCommitLane(database)    commits units; those that arrive while a commit is under way share the next one
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from holdfast.base.clock import Clock, SystemClock
from holdfast.base.ids import AccountId, TransferId
from holdfast.base.limits import BATCH_TRANSFERS_MAX, EXPIRE_ROWS_MAX, LINKED_TRANSFERS_MAX
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.checks import check_account, check_transfer
from holdfast.domains.ledger.errors import BatchTooLarge, ChainTooLong
from holdfast.domains.ledger.lane import GroupCommitLane
from holdfast.domains.ledger.model import Balance, NewAccount, NewTransfer, Outcome, Posting
from holdfast.domains.ledger.store import accounts as account_store
from holdfast.domains.ledger.store import reading
from holdfast.domains.ledger.store.batch import Group
from holdfast.platform.db import Database

__all__ = ["GroupCommitLane", "PostgresLedger", "chains", "expire_due"]


def chains(transfers: Sequence[NewTransfer]) -> list[Group]:
    """Cut a list of transfers into chains. Raises: `ChainTooLong`, `BatchTooLarge`."""
    if len(transfers) > BATCH_TRANSFERS_MAX:
        raise BatchTooLarge(
            f"{len(transfers)} transfers are more than {BATCH_TRANSFERS_MAX}, which one commit takes."
        )
    groups = []
    chain: list[NewTransfer] = []
    for t in transfers:
        chain.append(t)
        if len(chain) > LINKED_TRANSFERS_MAX:
            raise ChainTooLong(f"More than {LINKED_TRANSFERS_MAX} transfers are linked.")
        if not t.linked:
            groups.append(Group(tuple(chain)))
            chain = []
    if chain:
        groups.append(Group(tuple(chain), unfinished=True))
    return groups


class PostgresLedger:
    """The `Ledger` on PostgreSQL. Stateless: any number of processes may post at once.

    `clock` dates what is posted and tells whether a hold has lapsed.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self._lane = GroupCommitLane(database, self._clock)

    async def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Open accounts; opening one again with the same content does nothing.

        Raises: `AccountExists`, `AccountInvalid`.
        """
        for account in accounts:
            check_account(account)
        if accounts:
            async with self._database.transaction() as connection:
                await account_store.open_accounts(connection, accounts, self._clock.now())

    async def close_accounts(self, numbers: Sequence[AccountId], *, closed: bool = True) -> None:
        """Close accounts: from then on they take part in nothing but the release of holds.

        Raises: `AccountMissing`.
        """
        async with self._database.transaction() as connection:
            await account_store.close_accounts(connection, numbers, closed=closed)

    async def post(self, transfers: Sequence[NewTransfer]) -> list[Posting]:
        """Post transfers in order, in one durable commit; `linked` ones as chains; an answer for each.

        Raises: `BatchTooLarge`, `ChainTooLong`, `Unavailable` (nothing has moved), `OutcomeUnknown` (ask by
        `find`).
        """
        if not transfers:
            return []
        for t in transfers:
            check_transfer(t)
        return await self._lane.post(chains(transfers))

    async def expire_due(self, *, limit: int = EXPIRE_ROWS_MAX) -> int:
        """Release up to `limit` holds whose time is over, oldest first, and return how many.

        Any process may do it.
        """
        async with self._database.connection() as connection:
            due = await reading.due_holds(connection, self._clock.now(), min(limit, EXPIRE_ROWS_MAX))
        if not due:
            return 0
        postings = await self._lane.post([Group((t,)) for t in due])
        return sum(p.outcome is Outcome.POSTED for p in postings)

    async def balances(
        self, accounts: Iterable[AccountId], *, at: datetime | None = None
    ) -> dict[AccountId, Balance]:
        """Return balances now, or as they stood at `at`; an account that does not exist is left out."""
        return await queries.balances(self._database, list(accounts), at=at)

    async def find(self, ids: Iterable[TransferId]) -> dict[TransferId, Posting]:
        """Return what became of each id that the ledger has seen."""
        return await queries.find(self._database, list(ids))


async def expire_due(ledger: PostgresLedger, *, limit: int = EXPIRE_ROWS_MAX) -> int:
    """Release up to `limit` lapsed holds and return how many.

    A worker calls it again while it returns `limit`.
    """
    return await ledger.expire_due(limit=limit)
