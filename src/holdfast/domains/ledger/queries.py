"""Reading the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from holdfast.base.ids import AccountId, TransferId
from holdfast.domains.ledger.model import Balance, Posting
from holdfast.domains.ledger.store import accounts as account_store
from holdfast.domains.ledger.store import reading
from holdfast.platform.db import Database


async def balances(
    database: Database, numbers: Sequence[AccountId], *, at: datetime | None = None
) -> dict[AccountId, Balance]:
    """Return balances now, or as they stood at `at`; an account that does not exist is left out."""
    async with database.connection() as connection:
        return await account_store.balances(connection, numbers)


async def find(database: Database, ids: Sequence[TransferId]) -> dict[TransferId, Posting]:
    """Return what became of each id that the ledger has seen."""
    async with database.connection() as connection:
        return await reading.find(connection, ids)
