"""Where the books keep each account: from its number to its place, for many at once.

An open-addressed table with linear probing, at most half full. A number is hashed by the golden ratio
(Knuth, The Art of Computer Programming 3, section 6.4). With a million accounts a dictionary is looked up one
cold line of memory after the other; here the processor fetches many at a time.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from holdfast.domains.ledger.rules.plan import Integers

_BITS_MIN: Final = 11
_FACTOR: Final = 0x9E3779B97F4A7C15
_WORD: Final = 2**64 - 1
_EMPTY: Final = -1
_FEW: Final = 256
"""Up to so many accounts at a time a loop over those asked for lately is faster."""
_LATELY_MAX: Final = 1 << 16


class Places:
    """The places of accounts, 0, 1, 2 … in the order in which they were added. No number is added twice."""

    def __init__(self) -> None:
        self._bits = _BITS_MIN
        self._slots = np.full(1 << self._bits, _EMPTY, np.int32)
        self._numbers = np.zeros(1 << self._bits - 1, np.int64)
        self._count = 0
        self._lately: dict[int, int] = {}

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        return self.get(number) is not None

    def __getitem__(self, number: int) -> int:
        """Return the place of an account. Raises: `KeyError`."""
        place = self.get(number)
        if place is None:
            raise KeyError(number)
        return place

    @property
    def numbers(self) -> Integers:
        """The accounts' numbers, by place."""
        return self._numbers[: self._count]

    def add(self, numbers: Integers) -> None:
        """Add accounts at the next places."""
        first, end = self._count, self._count + len(numbers)
        if end > len(self._numbers):
            while end > 1 << self._bits - 1:
                self._bits += 1
            self._numbers = np.pad(self._numbers, (0, (1 << self._bits - 1) - len(self._numbers)))
            self._slots = np.full(1 << self._bits, _EMPTY, np.int32)
            first = 0
        self._numbers[self._count : end] = numbers
        self._count = end
        self._enter(np.arange(first, end, dtype=np.int32))

    def _enter(self, places: np.typing.NDArray[np.int32]) -> None:
        at = self._hashed(self._numbers[places])
        while len(places):
            free = self._slots[at] == _EMPTY
            self._slots[at[free]] = places[free]  # of several for one slot the last stays
            left = self._slots[at] != places
            places, at = places[left], at[left] + 1 & (1 << self._bits) - 1

    def find(self, numbers: Integers) -> Integers:
        """Return the place of each account, -1 for one that there is not."""
        if len(numbers) <= _FEW:
            return np.array([self._found(number) for number in numbers.tolist()], np.int64)
        found = np.full(len(numbers), _EMPTY, np.int64)
        at = self._hashed(numbers)
        left = np.arange(len(numbers))
        while len(left):
            places = self._slots[at]
            wanted = numbers[left]
            hit = (places != _EMPTY) & (self._numbers[places] == wanted)
            found[left[hit]] = places[hit]
            on = (places != _EMPTY) & ~hit
            left, at = left[on], at[on] + 1 & (1 << self._bits) - 1
        return found

    def get(self, number: int) -> int | None:
        """Return the place of one account, None when there is none."""
        place = self._found(number)
        return None if place == _EMPTY else place

    def _found(self, number: int) -> int:
        place = self._lately.get(number)
        if place is None:
            place = self._looked_up(number)
            if place != _EMPTY:
                if len(self._lately) >= _LATELY_MAX:
                    self._lately.clear()
                self._lately[number] = place
        return place

    def _looked_up(self, number: int) -> int:
        at = (number * _FACTOR & _WORD) >> 64 - self._bits
        while (place := int(self._slots[at])) != _EMPTY:
            if self._numbers[place] == number:
                return place
            at = at + 1 & (1 << self._bits) - 1
        return _EMPTY

    def _hashed(self, numbers: Integers) -> Integers:
        words = numbers.view(np.uint64) * np.uint64(_FACTOR) >> np.uint64(64 - self._bits)
        return words.astype(np.int64)
