"""A batch as arrays: which accounts it touches, what it adds to each, how its transfers hang together.

The arrays are made with numpy, in a handful of passes over all transfers, since at 1,000 transfers to a
commit the loop over Python objects is what costs. Accounts are ascending by number (the order in which they
are locked); positions and indexes that go to the database count from 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.base.limits import BATCH_TRANSFERS_MAX
from holdfast.domains.ledger.model import NewTransfer, TransferKind
from holdfast.domains.ledger.rules import ASSET_NUMBERS, UNKNOWN_ASSET
from holdfast.platform import arrays
from holdfast.platform.arrays import Packed

Integers = npt.NDArray[np.int64]
PLAIN_AMOUNT_MAX: Final = 2**62 // BATCH_TRANSFERS_MAX
"""Larger amounts are decided one by one: the sum of a whole batch of these still fits 64 bits."""
KIND_NUMBERS: Final[dict[TransferKind, int]] = {
    "posted": 0,
    "pending": 1,
    "post_pending": 2,
    "void_pending": 3,
    "expire_pending": 4,
}
BALANCING_NUMBERS: Final = {None: None, "debit": 1, "credit": 2}
NIL: Final = bytes(16)


class Group(NamedTuple):
    """Transfers that succeed or fail together. `unfinished`: the caller's list ended inside a chain."""

    transfers: tuple[NewTransfer, ...]
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class Sums:
    """What a list of transfers adds to each account, aligned with `Touched.numbers`.

    `last` is a position, -1 for none.
    """

    debits: Integers
    credits: Integers
    debit_holds: Integers
    credit_holds: Integers
    entries: Integers
    last: Integers


class Touched:
    """The accounts that a list of transfers touches, and where each is touched."""

    __slots__ = ("_order", "_starts", "count", "index", "numbers")

    def __init__(self, transfers: Sequence[NewTransfer]) -> None:
        self.count = len(transfers)
        keys = np.empty(2 * self.count, np.int64)
        keys[0::2] = [t.debit for t in transfers]
        keys[1::2] = [t.credit for t in transfers]
        order = np.argsort(keys, kind="stable")
        ascending = keys[order]
        first = np.empty(len(keys), np.bool_)
        first[:1] = True
        np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
        self._order = order
        self._starts = np.flatnonzero(first)
        self.numbers: Integers = ascending[self._starts]
        self.index = np.empty(len(keys), np.int64)
        self.index[order] = np.cumsum(first) - 1

    def any_of(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Tell for each account whether a flagged transfer touches it."""
        return np.logical_or.reduceat(flags[self._order >> 1], self._starts)

    def assets(self, assets: Integers) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Return the asset that each account is used in, and whether its transfers disagree."""
        by_account = assets[self._order >> 1]
        low = np.minimum.reduceat(by_account, self._starts)
        return low, low != np.maximum.reduceat(by_account, self._starts)

    def sums(self, posted: Integers, pending: Integers, counts: npt.NDArray[np.bool_]) -> Sums:
        """Add up what each transfer changes.

        `posted` and `pending`, the same on both its sides, where it `counts`.
        """
        sides = np.zeros((4, 2 * self.count), np.int64)
        sides[0, 0::2] = posted
        sides[1, 1::2] = posted
        sides[2, 0::2] = pending
        sides[3, 1::2] = pending
        added = np.add.reduceat(sides[:, self._order], self._starts, axis=1)
        counted = counts[self._order >> 1]
        entries = np.add.reduceat(counted.astype(np.int64), self._starts)
        position = np.where(counted, self._order >> 1, -1)
        last = np.maximum.reduceat(position, self._starts)
        return Sums(added[0], added[1], added[2], added[3], entries, last)


def previous(index: Integers) -> Integers:
    """Return for each side of each transfer the position of the transfer before it on that account, from 1.

    0 for none.
    """
    order = np.argsort(index, kind="stable")
    ascending = index[order]
    same = ascending[1:] == ascending[:-1]
    result = np.zeros(len(index), np.int64)
    result[order[1:][same]] = (order[:-1][same] >> 1) + 1
    return result


@dataclass(frozen=True, slots=True)
class Row:
    """A decided transfer, as it will be stored.

    `released`: what it takes off the pending sums of both accounts.
    """

    transfer: NewTransfer
    amount: int
    kind: int
    released: int = 0


def columns_of(
    rows: Sequence[NewTransfer],
    ids: Sequence[bytes],
    amounts: Sequence[int],
    kinds: Sequence[int],
    index: Integers,
) -> tuple[Packed | None, ...]:
    """Return the columns of the transfers to store, in the order of the functions' parameters."""
    prev = previous(index)
    return (
        arrays.uuids(b"".join(ids)),
        arrays.bigints([t.debit for t in rows]),
        arrays.bigints([t.credit for t in rows]),
        arrays.smallints([ASSET_NUMBERS[t.asset] for t in rows]),
        arrays.bigints(amounts),
        arrays.smallints(kinds),
        arrays.integers([t.code for t in rows]),
        arrays.integers(index[0::2] + 1),
        arrays.integers(index[1::2] + 1),
        arrays.integers(prev[0::2]),
        arrays.integers(prev[1::2]),
        _optional("timestamptz", [t.expires_at for t in rows]),
        _optional("jsonb", [dict(t.metadata) if t.metadata else None for t in rows]),
    )


def _optional(kind: str, values: list[Any]) -> Packed | None:
    return arrays.column(kind, values) if any(v is not None for v in values) else None


class Plan:
    """A batch before anything is known of its accounts.

    `special` marks what needs a decision of its own (it settles a hold, balances, repeats an id, is
    malformed, or is huge); the others are `plain`, and `advance` is what they add to the accounts if none of
    them is refused.
    """

    __slots__ = (
        "advance",
        "assets",
        "groups",
        "ids",
        "now",
        "plain",
        "repeated",
        "special",
        "touched",
        "transfers",
        "wanted",
    )

    def __init__(self, groups: Sequence[Group], now: datetime) -> None:
        self.groups = groups
        self.now = now
        self.transfers: list[NewTransfer] = [t for group in groups for t in group.transfers]
        numbers = [t.id.int for t in self.transfers]
        self.ids = [number.to_bytes(16, "big") for number in numbers]
        self.repeated = _repeated(numbers)
        self.touched = Touched(self.transfers)
        posted, pending, special, self.plain = self._classify()
        self.special = np.array(special, np.bool_)
        assets = np.array([ASSET_NUMBERS.get(t.asset, UNKNOWN_ASSET) for t in self.transfers], np.int64)
        self.assets, mixed = self.touched.assets(assets)
        self.wanted = mixed if self.plain else mixed | self.touched.any_of(self.special)
        self.advance = self.touched.sums(
            np.array(posted, np.int64), np.array(pending, np.int64), ~self.special
        )

    def _classify(self) -> tuple[list[int], list[int], list[bool], bool]:
        """Return what each transfer adds to posted and pending sums in advance, and which are special."""
        now, repeated = self.now, self.repeated
        seen: set[int] = set()
        posted: list[int] = []
        pending: list[int] = []
        special: list[bool] = []
        for group in self.groups:
            for t in group.transfers:
                amount, kind = t.amount_minor, t.kind
                move = hold = 0
                if (
                    type(amount) is int
                    and 0 < amount <= PLAIN_AMOUNT_MAX
                    and t.balancing is None
                    and t.pending_id is None
                    and t.debit != t.credit
                    and t.asset in ASSET_NUMBERS
                    and not group.unfinished
                    and not (repeated and t.id.int in seen)
                ):
                    if kind == "posted" and t.expires_at is None:
                        move = amount
                    elif kind == "pending" and (t.expires_at is None or t.expires_at > now):
                        hold = amount
                if repeated and t.id.int in repeated:
                    seen.add(t.id.int)
                posted.append(move)
                pending.append(hold)
                special.append(not move and not hold)
        return posted, pending, special, True not in special

    def parameters(self, *, strict: bool) -> tuple[bytes | None, ...]:
        """Return the parameters of `ledger.post_v1`.

        `strict`: it raises unless nothing in the batch can fail.
        """
        s = self.advance
        ids = self.ids
        if self.plain:
            kinds = [KIND_NUMBERS[t.kind] for t in self.transfers]
            amounts = [t.amount_minor or 0 for t in self.transfers]
            columns = columns_of(self.transfers, ids, amounts, kinds, self.touched.index)
        else:
            columns = _NO_COLUMNS
        held = bool(s.debit_holds.any() or s.credit_holds.any())
        return (
            arrays.time(self.now),
            arrays.boolean(self.plain),
            arrays.boolean(strict),
            arrays.bigints(self.touched.numbers),
            arrays.smallints(self.assets),
            arrays.bigints(s.debits),
            arrays.bigints(s.credits),
            arrays.bigints(s.debit_holds) if held else None,
            arrays.bigints(s.credit_holds) if held else None,
            arrays.integers(s.entries),
            arrays.uuids(b"".join([ids[i] if i >= 0 else NIL for i in s.last.tolist()])),
            arrays.column("boolean", self.wanted.tolist()) if self.wanted.any() else None,
            min(ids),
            max(ids),
            *columns,
        )


def _repeated(ids: list[int]) -> frozenset[int]:
    distinct = set(ids)
    if len(distinct) == len(ids):
        return frozenset()
    counts = Counter(ids)
    return frozenset(i for i in distinct if counts[i] > 1)


_NONE: Final[list[int]] = []
_NO_COLUMNS: Final = (
    arrays.uuids(b""),
    arrays.bigints(_NONE),
    arrays.bigints(_NONE),
    arrays.smallints(_NONE),
    arrays.bigints(_NONE),
    arrays.smallints(_NONE),
    arrays.integers(_NONE),
    arrays.integers(_NONE),
    arrays.integers(_NONE),
    arrays.integers(_NONE),
    arrays.integers(_NONE),
    None,
    None,
)


class Settlement:
    """What was decided of a planned batch.

    The rows to store, the ids that stay refused, the corrections to the sums.
    """

    __slots__ = ("_plan", "refused", "rows")

    def __init__(
        self, plan: Plan, rows: Sequence[tuple[int, Row]], refused: Sequence[tuple[UUID, int]]
    ) -> None:
        self._plan = plan
        self.rows = rows
        self.refused = refused

    def parameters(self) -> tuple[bytes | None, ...]:
        """Return the parameters of `ledger.finish_v1`."""
        plan, touched = self._plan, self._plan.touched
        count = touched.count
        posted, pending = np.zeros(count, np.int64), np.zeros(count, np.int64)
        stands = np.zeros(count, np.bool_)
        for position, row in self.rows:
            stands[position] = True
            posted[position] = row.amount if row.kind in (0, 2) else 0
            pending[position] = row.amount if row.kind == 1 else -row.released
        final, advance = touched.sums(posted, pending, stands), plan.advance
        differs = [
            final.debits - advance.debits, final.credits - advance.credits,
            final.debit_holds - advance.debit_holds, final.credit_holds - advance.credit_holds,
            advance.entries - final.entries,
        ]  # fmt: skip
        changed = np.flatnonzero(np.any(differs, axis=0) | (final.last != advance.last))
        ids = plan.ids
        last = b"".join([ids[i] if i >= 0 else NIL for i in final.last[changed].tolist()])
        rows = [row for _, row in self.rows]
        places = np.flatnonzero(stands)
        index = np.empty(2 * len(rows), np.int64)
        index[0::2] = touched.index[2 * places]
        index[1::2] = touched.index[2 * places + 1]
        columns = columns_of(
            [r.transfer for r in rows],
            [ids[p] for p in places.tolist()],
            [r.amount for r in rows],
            [r.kind for r in rows],
            index,
        )
        return (
            arrays.time(plan.now),
            arrays.bigints(touched.numbers),
            arrays.integers(final.entries),
            arrays.bigints(touched.numbers[changed]),
            *(arrays.bigints(d[changed]) for d in differs[:4]),
            arrays.integers(differs[4][changed]),
            arrays.uuids(last),
            *columns,
            _optional("smallint", [BALANCING_NUMBERS[r.transfer.balancing] for r in rows]),
            _optional("bigint", [_asked(r) for r in rows]),
            _optional("uuid", [r.transfer.pending_id for r in rows]),
            arrays.uuids(arrays.uuid_bytes(i for i, _ in self.refused)) if self.refused else None,
            arrays.smallints([o for _, o in self.refused]) if self.refused else None,
        )


def _asked(row: Row) -> int | None:
    asked = row.transfer.amount_minor
    if asked is None:
        return -1
    return None if asked == row.amount else asked
