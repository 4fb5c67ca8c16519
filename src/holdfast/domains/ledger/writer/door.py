"""What the writer does for its own process, and for those that forward to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import psycopg

from holdfast.base.clock import Clock
from holdfast.base.ids import AccountId
from holdfast.base.limits import EXPIRE_ROWS_MAX, HISTORY_SCAN_ROWS_MAX
from holdfast.base.tasks import undisturbed
from holdfast.domains.ledger.errors import AccountExists, AccountMissing, WriterAway
from holdfast.domains.ledger.model import Balance, Group, NewAccount, Newest, Outcome
from holdfast.domains.ledger.rules.places import Places
from holdfast.domains.ledger.rules.rulebook import ASSET_NUMBERS, RULE_NUMBERS
from holdfast.domains.ledger.store import accounts as account_store
from holdfast.domains.ledger.store import seats
from holdfast.domains.ledger.writer.commit import Committer
from holdfast.domains.ledger.writer.lane import Lane


class WritersDoor:
    """The `Door` of the writer itself. `sure` tells whether no other process can have become the writer."""

    def __init__(self, lane: Lane, clock: Clock, sure: Callable[[], bool]) -> None:
        self.lane = lane
        self._clock = clock
        self._sure = sure
        self.submit = lane.submit
        self.post = lane.post

    async def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Open accounts. Raises: `AccountExists`, `WriterAway`."""
        await undisturbed(self._open(accounts))

    async def close_accounts(self, numbers: Sequence[AccountId], closed: bool) -> None:
        """Close or reopen accounts. Raises: `AccountMissing`, `WriterAway`."""
        await undisturbed(self._close(numbers, closed))

    async def set_limits(self, limits: Mapping[AccountId, int]) -> None:
        """Set credit limits, minor units. Raises: `AccountMissing`, `WriterAway`."""
        await undisturbed(self._limit(limits))

    async def expire_due(self, limit: int) -> int:
        """Release, or settle, up to `limit` holds whose time is over, oldest first, and return how many."""
        due = self.lane.committer.book.due(self._clock.now(), min(limit, EXPIRE_ROWS_MAX))
        if not due:
            return 0
        postings = await self.lane.post([Group((t,)) for t in due])
        return sum(p.outcome is Outcome.POSTED for p in postings)

    async def balances(self, numbers: Sequence[AccountId]) -> dict[AccountId, Balance]:
        """Return committed balances; an account that does not exist is left out. Raises: `WriterAway`."""
        return self._committer().balances(numbers)

    async def newest(self, account: AccountId, below: int, limit: int) -> Newest:
        """Return what is remembered of an account: up to `limit` transfers, numbered less than `below`.

        Raises: `WriterAway`, `AccountMissing`.
        """
        committer, recent = self._committer(), self.lane.committer.behind.recent
        balance = committer.balances([account]).get(account)
        if balance is None:
            raise AccountMissing
        return await recent.newest(
            account, balance, committer.head.seq, below, min(limit, HISTORY_SCAN_ROWS_MAX)
        )

    def _committer(self) -> Committer:
        """Return the committer, if no other process can have become the writer. Raises: `WriterAway`."""
        if self.lane.ended.is_set() or not self._sure():
            raise WriterAway
        return self.lane.committer

    async def _open(self, accounts: Sequence[NewAccount]) -> None:
        async with self.lane.still() as writer:
            book, now = writer.book, self._clock.now()
            fresh = _fresh(accounts, book.places)
            async with _whole(writer) as connection:
                await account_store.find_clash(connection, accounts)
                if fresh:
                    await account_store.open_accounts(connection, fresh, book.count, now)
                    limits = {a.number: a.limit_minor for a in fresh if a.limit_minor}
                    await account_store.set_limits(connection, limits, writer.head.seq + 1, now)
            first = book.count
            book.open(
                np.array([a.number for a in fresh], np.int64),
                np.array([ASSET_NUMBERS[a.asset] for a in fresh], np.int64),
                np.array([RULE_NUMBERS[a.rule] for a in fresh], np.int64),
            )
            book.limit[first : book.count] = [a.limit_minor for a in fresh]

    async def _close(self, numbers: Sequence[AccountId], closed: bool) -> None:
        async with self.lane.still() as writer:
            places = _places(numbers, writer.book.places)
            async with _whole(writer) as connection:
                await account_store.close_accounts(connection, numbers, closed=closed)
            writer.book.closed[places] = closed

    async def _limit(self, limits: Mapping[AccountId, int]) -> None:
        async with self.lane.still() as writer:
            places = _places(list(limits), writer.book.places)
            async with _whole(writer) as connection:
                now = self._clock.now()
                await account_store.set_limits(connection, limits, writer.head.seq + 1, now)
            writer.book.limit[places] = list(limits.values())


def _fresh(accounts: Sequence[NewAccount], places: Places) -> list[NewAccount]:
    """Return the accounts that are not there. Raises: `AccountExists` when two of them contradict."""
    fresh: dict[int, NewAccount] = {}
    names: dict[str, int] = {}
    for account in accounts:
        same = fresh.setdefault(account.number, account)
        if (
            replace(same, limit_minor=account.limit_minor) != account
            or names.setdefault(account.code, account.number) != account.number
        ):
            raise AccountExists(f"Account {account.number} or the name {account.code!r} is given twice.")
    return [account for number, account in fresh.items() if number not in places]


def _places(numbers: Sequence[AccountId], places: Places) -> list[int]:
    """Raises: `AccountMissing`."""
    if any(number not in places for number in numbers):
        raise AccountMissing
    return [places[number] for number in numbers]


@contextlib.asynccontextmanager
async def _whole(writer: Committer):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Lend the writer's connection inside one transaction that only the writer can commit.

    When it fails for any reason of the database the writer is at its end, since it cannot know what the
    tables say. Raises: `WriterAway`.
    """
    try:
        async with writer.connection.transaction():
            await seats.hold(writer.connection, writer.head.epoch)
            yield writer.connection
    except (psycopg.Error, WriterAway) as error:
        await writer.close()
        raise WriterAway from error
