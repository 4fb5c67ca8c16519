"""Which ids have been posted lately, so that nearly no new id must be looked up in the tables.

Two Bloom filters (B. H. Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970), an older
and a newer one, that take turns: an id that is in neither, and whose own time lies after the older one was
begun, was never posted. Any other id may have been, and is looked up. An id has a time of its own when it is
a UUID of version 7; one whose time lies ahead of the writer's clock is noted as `early` with its batch and
kept in a set for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from holdfast.base.limits import CLOCK_AHEAD_MS_MAX, SEEN_IDS_MAX

_BITS: Final = 28
"""32 MiB for each filter; with `SEEN_IDS_MAX` ids one in 100,000 new ids is looked up in vain."""
_SHIFT: Final = 64 - _BITS
_ODD: Final = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
"""Odd multipliers: three independent hashes of an id by its high bits after multiplication."""
_MASK: Final = 2**64 - 1
_FEW_BYTES: Final = 48 * 16
"""Up to so many ids at a time a loop is faster than numpy."""
_VERSION_7: Final = 7


class Seen:
    """The ids posted since `since` (the clock of the writer when it began)."""

    def __init__(self, since: datetime, early: Iterable[int] = ()) -> None:
        self._older = _Filter()
        self._newer = _Filter()
        self._older_since_ms = self._newer_since_ms = _ms(since)
        self._early = set(early)
        self._last: tuple[bytes, npt.NDArray[np.uint64], npt.NDArray[np.uint64]] | None = None

    def maybe(self, raw: bytes, now: datetime) -> list[int]:
        """Return those ids that may have been posted before, as UUIDs' 128-bit numbers.

        `raw`: the ids' bytes, one after the other.
        """
        floor, ceiling = self._older_since_ms + CLOCK_AHEAD_MS_MAX, _ms(now) + CLOCK_AHEAD_MS_MAX
        early = self._early
        if len(raw) <= _FEW_BYTES:
            older, newer = self._older, self._newer
            return [
                i
                for i in numbers_of(raw)
                if not (
                    floor < i >> 80 <= ceiling
                    and (i >> 76) & 15 == _VERSION_7
                    and i not in newer
                    and i not in older
                    and i not in early
                )
            ]
        high, places = self._hashed(raw)
        time = high >> np.uint64(16)
        suspect = (time <= floor) | (time > ceiling) | ((high >> np.uint64(12)) & np.uint64(15) != _VERSION_7)
        suspect |= self._newer.has(places) | self._older.has(places)
        found = [int.from_bytes(raw[16 * p : 16 * p + 16]) for p in np.flatnonzero(suspect).tolist()]
        return found + [i for i in numbers_of(raw) if i in early and i not in found] if early else found

    def early(self, suspects: Sequence[int], now: datetime) -> list[int]:
        """Return those of `suspects` whose own time lies ahead of `now` by more than clocks differ."""
        ceiling = _ms(now) + CLOCK_AHEAD_MS_MAX
        return [i for i in suspects if i >> 80 > ceiling and (i >> 76) & 15 == _VERSION_7]

    def add(self, raw: bytes, now: datetime) -> None:
        """Note ids that are being posted. It does no harm when they are not, after all."""
        if self._newer.count >= SEEN_IDS_MAX:
            self._older, self._newer = self._newer, _Filter()
            self._older_since_ms, self._newer_since_ms = self._newer_since_ms, _ms(now)
        self._newer.count += len(raw) // 16
        if len(raw) <= _FEW_BYTES:
            self._newer.add_few(numbers_of(raw))
        else:
            self._newer.add(self._hashed(raw)[1])

    def add_early(self, early: Sequence[int]) -> None:
        """Note ids whose own time lies ahead, for good."""
        self._early.update(early)

    def _hashed(self, raw: bytes) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Return the high halves of ids, and their places in a filter; those of the last list are kept."""
        if self._last is None or self._last[0] is not raw:
            both = np.frombuffer(raw, ">u8").astype(np.uint64)
            high = both[0::2]
            self._last = raw, high, _places(high, both[1::2])
        return self._last[1:]


def numbers_of(raw: bytes) -> list[int]:
    """Return ids, 16 bytes each, as 128-bit numbers."""
    return [int.from_bytes(raw[at : at + 16]) for at in range(0, len(raw), 16)]


class _Filter:
    """One Bloom filter. Its memory is taken up as it fills."""

    __slots__ = ("_bits", "_bytes", "count")

    def __init__(self) -> None:
        self._bits = np.zeros(2**_BITS // 8, np.uint8)
        self._bytes = self._bits.data
        self.count = 0

    def __contains__(self, i: int) -> bool:
        bits, folded = self._bytes, (i ^ i >> 64) & _MASK
        for odd in _ODD:
            place = (folded * odd & _MASK) >> _SHIFT
            if not bits[place >> 3] & 1 << (place & 7):
                return False
        return True

    def add_few(self, ids: Sequence[int]) -> None:
        bits = self._bytes
        for i in ids:
            folded = (i ^ i >> 64) & _MASK
            for odd in _ODD:
                place = (folded * odd & _MASK) >> _SHIFT
                bits[place >> 3] |= 1 << (place & 7)

    def has(self, places: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Tell for each column of places whether all its bits are set."""
        found: npt.NDArray[np.bool_] = (self._bits[places >> np.uint64(3)] & _bit(places) != 0).all(axis=0)
        return found

    def add(self, places: npt.NDArray[np.uint64]) -> None:
        np.bitwise_or.at(self._bits, (places >> np.uint64(3)).ravel(), _bit(places).ravel())


def _places(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    folded = high ^ low
    return np.stack([folded * np.uint64(odd) >> np.uint64(_SHIFT) for odd in _ODD])


def _bit(places: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    return np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8), dtype=np.uint8)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
