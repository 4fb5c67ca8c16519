"""Many plain transfers as arrays, for whoever moves hundreds of thousands at a time.

They go the way of all others, and are checked and decided alike; only that no object is made for each. One
whose account is in doubt, or whose id may have been seen, has the whole batch looked at as objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt

from holdfast.base.ids import AccountId, TransferId, uuid_of
from holdfast.base.limits import BATCH_TRANSFERS_MAX
from holdfast.domains.ledger.errors import BatchTooLarge, TransferInvalid
from holdfast.domains.ledger.model import Group, NewTransfer, Posting
from holdfast.domains.ledger.rules.plan import PLAIN_AMOUNT_MAX, Integers, Plan, Sums, Touched, repeated
from holdfast.domains.ledger.rules.rulebook import ASSET_NUMBERS
from holdfast.domains.ledger.rules.seen import numbers_of

_CODE_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Columns:
    """Transfers that move money at once, all of one asset; amounts in minor units, ids 16 bytes each."""

    ids: bytes
    debits: Integers
    credits: Integers
    amounts: Integers
    asset: str
    code: int = 0

    def __len__(self) -> int:
        return len(self.ids) // 16

    def groups(self) -> list[Group]:
        """Return the transfers as objects, each by itself."""
        accounts = zip(self.debits.tolist(), self.credits.tolist(), strict=True)
        return [
            Group((self._transfer(i, d, c, a),))
            for i, (d, c), a in zip(numbers_of(self.ids), accounts, self.amounts.tolist(), strict=True)
        ]

    def _transfer(self, i: int, debit: int, credit: int, amount: int) -> NewTransfer:
        debited, credited = AccountId(debit), AccountId(credit)
        return NewTransfer(TransferId(uuid_of(i)), debited, credited, self.asset, amount, code=self.code)

    def check(self) -> None:
        """Raises: `BatchTooLarge`, `TransferInvalid` naming the first that no ledger could store."""
        count = len(self)
        if count > BATCH_TRANSFERS_MAX:
            raise BatchTooLarge(f"{count} transfers are more than {BATCH_TRANSFERS_MAX}.")
        if len(self.ids) % 16 or {len(self.debits), len(self.credits), len(self.amounts)} != {count}:
            raise TransferInvalid("The columns are not of one length.")
        if self.asset not in ASSET_NUMBERS or not 0 <= self.code <= _CODE_MAX:
            raise TransferInvalid(f"There is no asset {self.asset!r}, or no code {self.code}.")
        bad = (self.amounts <= 0) | (self.amounts > PLAIN_AMOUNT_MAX) | (self.debits == self.credits)
        bad |= (self.debits <= 0) | (self.credits <= 0)
        if bad.any():
            raise TransferInvalid(f"Transfer {int(np.flatnonzero(bad)[0])} is not well formed.")


@dataclass(frozen=True, slots=True)
class ColumnOutcomes:
    """What became of columns: for each transfer the number of its `Outcome`, and what it moved."""

    outcomes: npt.NDArray[np.uint8]
    amounts: Integers

    @staticmethod
    def of(postings: Sequence[Posting]) -> ColumnOutcomes:
        """Return answers as columns."""
        return ColumnOutcomes(
            np.array([p.outcome for p in postings], np.uint8),
            np.array([p.amount_minor for p in postings], np.int64),
        )


class ColumnPlan(Plan):
    """A plan made from columns. What needs an object for each transfer is made when it is asked for."""

    def __init__(self, columns: Columns, now: datetime) -> None:
        count = len(columns)
        self._columns = columns
        self.now = now
        self.raw_ids = columns.ids
        keys = np.empty(2 * count, np.int64)
        keys[0::2], keys[1::2] = columns.debits, columns.credits
        self.touched = Touched(keys)
        self.repeated = self._repeated()
        self.special = np.zeros(count, np.bool_)
        if self.repeated:
            self.special[:] = [i in self.repeated for i in self.ids]
        self.plain, self.extras, self.terms = not self.repeated, bool(self.repeated), False
        self.assets_each = np.full(count, ASSET_NUMBERS[columns.asset], np.int64)
        self.assets = np.full(len(self.touched.numbers), ASSET_NUMBERS[columns.asset], np.int64)
        self.wanted = self.touched.any_of(self.special)
        self.amounts = np.where(self.special, 0, columns.amounts)
        self.holds = np.zeros(count, np.int64)
        self.advance: Sums = self.touched.sums(self.amounts, self.holds, ~self.special)

    def _repeated(self) -> frozenset[int]:
        """Return the ids that stand twice."""
        both = np.frombuffer(self.raw_ids, ">u8").astype(np.uint64)
        high, low = both[0::2], both[1::2]
        order = np.lexsort((low, high))
        high, low = high[order], low[order]
        twice = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
        return repeated(self.ids) if twice.any() else frozenset()

    @cached_property
    def ids(self) -> list[int]:  # type: ignore[override]
        """The ids as 128-bit numbers."""
        return numbers_of(self.raw_ids)

    @cached_property
    def groups(self) -> list[Group]:  # type: ignore[override]
        """The transfers as objects, each by itself."""
        return self._columns.groups()

    @cached_property
    def transfers(self) -> list[NewTransfer]:  # type: ignore[override]
        """The transfers as objects."""
        return [group.transfers[0] for group in self.groups]

    def codes(self) -> Integers:
        """Return the reason code of each transfer."""
        return np.full(len(self._columns), self._columns.code, np.int64)
