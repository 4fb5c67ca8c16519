"""A batch as arrays: which accounts it touches, what it adds to each, which transfers need a closer look.

The arrays are made with numpy, in a handful of passes over all transfers, since at 1,000 transfers to a
commit the loop over Python objects is what costs. Nothing here knows a balance, so a plan can be made while
the batch before it is still under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from holdfast.base.limits import BATCH_TRANSFERS_MAX
from holdfast.domains.ledger.model import Group, NewTransfer
from holdfast.domains.ledger.rules.rulebook import ASSET_NUMBERS, UNKNOWN_ASSET, malformed

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
PLAIN_AMOUNT_MAX: Final = 2**62 // BATCH_TRANSFERS_MAX
"""Larger amounts are decided one by one: the sum of a whole batch of these still fits 64 bits."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What a list of transfers adds to each account, aligned with `Touched.numbers`.

    `added`: four rows, debits and credits posted, debits and credits pending; `entries`: how many touch it.
    """

    added: Integers
    entries: Integers


class Touched:
    """The accounts that a list of transfers touches, ascending by number, and where each is touched.

    `keys`: the debit and the credit account of each transfer, one after the other.
    """

    __slots__ = ("_order", "_starts", "count", "keys", "numbers")

    def __init__(self, keys: Integers) -> None:
        self.count = len(keys) // 2
        order = np.argsort(keys, kind="stable")
        ascending = keys[order]
        first = np.empty(len(keys), np.bool_)
        first[:1] = True
        np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
        self.keys: Integers = keys
        self._order = order
        self._starts = np.flatnonzero(first)
        self.numbers: Integers = ascending[self._starts]

    def any_of(self, flags: Flags) -> Flags:
        """Tell for each account whether a flagged transfer touches it."""
        return np.logical_or.reduceat(flags[self._order >> 1], self._starts)

    def assets(self, assets: Integers) -> tuple[Integers, Flags]:
        """Return the asset that each account is used in, and whether its transfers disagree."""
        if (assets == assets[0]).all():
            return np.full(len(self._starts), assets[0]), np.zeros(len(self._starts), np.bool_)
        by_account = assets[self._order >> 1]
        low = np.minimum.reduceat(by_account, self._starts)
        return low, low != np.maximum.reduceat(by_account, self._starts)

    def sums(self, posted: Integers, pending: Integers, counts: Flags) -> Sums:
        """Add up what each transfer changes.

        `posted` and `pending`, the same on both its sides, where it `counts`.
        """
        held = pending.any()
        sides = np.zeros((4 if held else 2, 2 * self.count), np.int64)
        sides[0, 0::2] = posted
        sides[1, 1::2] = posted
        if held:
            sides[2, 0::2] = pending
            sides[3, 1::2] = pending
        added = np.zeros((4, len(self._starts)), np.int64)
        added[: len(sides)] = np.add.reduceat(sides[:, self._order], self._starts, axis=1)
        if counts.all():
            entries = np.empty(len(self._starts), np.int64)
            np.subtract(self._starts[1:], self._starts[:-1], out=entries[:-1])
            entries[-1:] = 2 * self.count - self._starts[-1:]
        else:
            entries = np.add.reduceat(counts[self._order >> 1].astype(np.int64), self._starts)
        return Sums(added, entries)


class Plan:
    """A batch before anything is known of its accounts.

    `special` marks what needs a decision of its own (it settles a hold, balances, repeats an id, is
    malformed, or is huge); the others are `plain`, and `advance` is what they add to the accounts if none of
    them is refused, `amounts` what each moves then, `holds` what of it is only reserved. `wanted` marks the
    accounts that the special ones touch. `raw_ids`: the ids, 16 bytes each. `extras`: some transfer may have
    what only some have (a hold's end, metadata); `terms`: so may a hold that settles itself, or may be
    settled for more.
    """

    __slots__ = (
        "advance",
        "amounts",
        "assets",
        "assets_each",
        "extras",
        "groups",
        "holds",
        "ids",
        "now",
        "plain",
        "raw_ids",
        "repeated",
        "special",
        "terms",
        "touched",
        "transfers",
        "wanted",
    )

    def __init__(self, groups: Sequence[Group], now: datetime) -> None:
        self.groups = groups
        self.now = now
        self.transfers: list[NewTransfer] = [t for group in groups for t in group.transfers]
        self.ids = [t.id.int for t in self.transfers]
        self.raw_ids = b"".join([i.to_bytes(16, "big") for i in self.ids])
        self.repeated = repeated(self.ids)
        keys = np.empty(2 * len(self.transfers), np.int64)
        keys[0::2] = [t.debit for t in self.transfers]
        keys[1::2] = [t.credit for t in self.transfers]
        self.touched = Touched(keys)
        posted, pending, special, self.plain = self._classify()
        self.special = np.array(special, np.bool_)
        self.assets_each = self._assets()
        self.assets, mixed = self.touched.assets(self.assets_each)
        self.wanted = mixed if self.plain else mixed | self.touched.any_of(self.special)
        moves, self.holds = np.array(posted, np.int64), np.array(pending, np.int64)
        self.amounts = moves + self.holds
        self.advance = self.touched.sums(moves, self.holds, ~self.special)

    def codes(self) -> Integers | list[int]:
        """Return the reason code of each transfer."""
        return [t.code for t in self.transfers]

    def _assets(self) -> Integers:
        names = [t.asset for t in self.transfers]
        first = names[0]
        if names.count(first) == len(names):
            return np.full(len(names), ASSET_NUMBERS.get(first, UNKNOWN_ASSET), np.int64)
        return np.array([ASSET_NUMBERS.get(name, UNKNOWN_ASSET) for name in names], np.int64)

    def _classify(self) -> tuple[list[int], list[int], list[bool], bool]:
        """Return what each transfer adds to posted and pending sums in advance, and which are special."""
        now, repeated = self.now, self.repeated
        self.extras = self.terms = False
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
                    if kind == "posted" and t.expires_at is None and not t.settles and not t.over_minor:
                        move = amount
                    elif (
                        kind == "pending"
                        and (t.expires_at is None or t.expires_at > now)
                        and (not (t.settles or t.over_minor) or malformed(t, now) is None)
                    ):
                        hold = amount
                if repeated and t.id.int in repeated:
                    seen.add(t.id.int)
                if t.metadata or (not move and (t.expires_at is not None or t.over_minor)):
                    self.extras = True
                if not move and (t.settles or t.over_minor):
                    self.terms = True
                posted.append(move)
                pending.append(hold)
                special.append(not move and not hold)
        plain = True not in special
        self.extras = self.extras or not plain
        return posted, pending, special, plain


def repeated(ids: list[int]) -> frozenset[int]:
    """Return the ids that stand more than once."""
    distinct = set(ids)
    if len(distinct) == len(ids):
        return frozenset()
    counts = Counter(ids)
    return frozenset(i for i in distinct if counts[i] > 1)
