"""The newest transfers in the writer's memory: whose they are, for as long as no index says it.

Where much is written, a segment's history is indexed only when it is full. Until then an account's transfers
in it would be found by reading all of it; here they are found among the numbers of the accounts alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.base.ids import AccountId
from holdfast.base.limits import SEGMENT_TRANSFERS_MAX
from holdfast.domains.ledger.model import Balance, Newest
from holdfast.domains.ledger.rules.plan import Integers
from holdfast.domains.ledger.rules.standing import Extra, change
from holdfast.domains.ledger.store.segments import first_of, segment_of

_AT_ONCE: Final = 1 << 18
"""Rows looked at before others have their turn: a third of a millisecond."""


@dataclass(slots=True)
class _Segment:
    """The transfers of one segment from its first on. Memory is taken as it fills: 48 bytes for each.

    `posted`, `pending`: what each adds to the sums of its accounts, minor units.
    """

    debits: Integers
    credits: Integers
    posted: Integers
    pending: Integers
    ids: npt.NDArray[np.void]
    count: int = 0

    @classmethod
    def empty(cls) -> _Segment:
        one, two, three, four = (np.empty(SEGMENT_TRANSFERS_MAX, np.int64) for _ in range(4))
        return cls(one, two, three, four, np.empty(SEGMENT_TRANSFERS_MAX, "V16"))

    def add(self, rows: npt.NDArray[np.void], extras: Mapping[int, Extra]) -> None:
        start, end = self.count, self.count + len(rows)
        for column, name in ((self.debits, "debit"), (self.credits, "credit"), (self.ids, "id")):
            column[start:end] = rows[name]
        self.posted[start:end] = rows["amount"]
        self.pending[start:end] = 0
        for place in np.flatnonzero(rows["kind"] != 0).tolist():
            both = change(rows[place], extras.get(place))
            self.posted[start + place], self.pending[start + place] = both
        self.count = end

    def touching(self, account: int, start: int, end: int) -> Integers:
        """Return the places from `start` to before `end` of an account's transfers, newest first."""
        window = slice(start, end)
        found = np.flatnonzero((self.debits[window] == account) | (self.credits[window] == account))
        return found[::-1] + start

    def added(self, account: int, places: Integers) -> Integers:
        """Return what the transfers at some places add to an account's four sums."""
        debit, posted, pending = self.debits[places] == account, self.posted[places], self.pending[places]
        return np.array([of[side].sum() for of in (posted, pending) for side in (debit, ~debit)], np.int64)


class Recent:
    """Remembers the committed transfers of segments that are not indexed yet, if it saw them begin."""

    def __init__(self) -> None:
        self._segments: dict[int, _Segment] = {}
        self._waiting: list[tuple[npt.NDArray[np.void], Mapping[int, Extra], int]] = []

    def add(self, rows: npt.NDArray[np.void], extras: Mapping[int, Extra], first_seq: int) -> None:
        """Take in transfers of one batch, the first of which has the number `first_seq`."""
        self._waiting.append((rows, extras, first_seq))

    def catch_up(self) -> None:
        """Do what can wait after `add`, and not until somebody asks."""
        for rows, extras, first_seq in self._waiting:
            self._add(rows, extras, first_seq)
        self._waiting.clear()

    def _add(self, rows: npt.NDArray[np.void], extras: Mapping[int, Extra], first_seq: int) -> None:
        number = segment_of(first_seq)
        place = first_seq - first_of(number)
        segment = self._segments.get(number)
        if segment is None and place == 0:
            segment = self._segments[number] = _Segment.empty()
        if segment is not None and segment.count == place:
            segment.add(rows, extras)

    def forget(self, number: int) -> None:
        """Drop a segment: it is indexed."""
        self.catch_up()
        self._segments.pop(number, None)

    async def newest(self, account: AccountId, balance: Balance, upto: int, below: int, limit: int) -> Newest:
        """Return up to `limit` transfers of an account, numbered less than `below`.

        `balance` is what it has after `upto`, the newest transfer of all.
        """
        self.catch_up()
        segments = dict(sorted(self._segments.items(), reverse=True))
        found: list[tuple[int, UUID]] = []
        later = np.zeros(4, np.int64)
        for number, segment in segments.items():
            first = first_of(number)
            end = min(segment.count, upto + 1 - first)
            while end > 0 and len(found) < limit:
                start = max(0, end - _AT_ONCE)
                places = segment.touching(account, start, end)
                later += segment.added(account, places[places >= below - first])
                places = places[places < below - first][: limit - len(found)]
                found += [
                    (first + place, UUID(bytes=segment.ids[place].tobytes())) for place in places.tolist()
                ]
                end = start
                await asyncio.sleep(0)
        then = None
        if found and all(n in segments for n in range(segment_of(found[0][0]), segment_of(upto) + 1)):
            then = Balance(*(np.array(balance.sums) - later).tolist())
        return Newest(upto, then, tuple(segments), tuple(found))
