"""What the ledger offers to flows, so that another engine can stand behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from holdfast.base.ids import AccountId, TransferId
from holdfast.domains.ledger.model import Balance, NewAccount, NewTransfer, Posting, Unit, UnitOutcome


class CommitLane(Protocol):
    """Commits units durably; callers that arrive together share one commit."""

    async def submit(self, unit: Unit) -> UnitOutcome:
        """Commit `unit` and return what became of it, after the durable commit.

        Units of one lane take effect as if one by one in the order of submission. Raises: `Unavailable`
        (nothing has moved: the queue is full, or no connection could be had before anything was sent),
        `OutcomeUnknown` (the connection broke during commit: ask by id).
        """
        ...


class Ledger(Protocol):
    """Posting and reading. Every amount is in minor units of the accounts' asset."""

    async def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Open accounts; opening one again with the same content does nothing. Raises: `AccountExists`."""
        ...

    async def set_limits(self, limits: Mapping[AccountId, int]) -> None:
        """Set by how much the rule of accounts may be exceeded from now on: a credit limit, minor units."""
        ...

    async def post(self, transfers: Sequence[NewTransfer]) -> list[Posting]:
        """Post transfers in order, in one durable commit; `linked` ones as chains; an answer for each."""
        ...

    async def post_together(self, transfers: Sequence[NewTransfer]) -> list[Posting]:
        """Post transfers in order, all of them or none, as many as one commit takes; an answer for each."""
        ...

    async def balances(
        self, accounts: Sequence[AccountId], *, at: datetime | None = None
    ) -> dict[AccountId, Balance]:
        """Return balances now, or as they stood at `at`; an account that does not exist is left out."""
        ...

    async def find(self, ids: Sequence[TransferId]) -> dict[TransferId, Posting]:
        """Return what became of each id that the ledger has seen."""
        ...
