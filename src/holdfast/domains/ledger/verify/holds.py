"""Follows what is reserved, from each pending transfer to the one that settles or releases it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.domains.ledger.store.proof import EXTRA
from holdfast.domains.ledger.verify.hashes import METADATA
from holdfast.domains.ledger.verify.report import Report

Rows = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Hold = tuple[int, int, int, int, int, int, int]
"""Number, debit, credit, amount, when its time is over, how much more it may be settled for, how it ends."""
_POSTED, _PENDING, _POST, _VOID, _EXPIRE, _SETTLE = range(6)
_BALANCING, _ASKED, _HELD, _PENDING_ID, _EXPIRES_AT, _OVER, _SETTLES = (1 << bit for bit in range(7))
LAPSES, SETTLES, UNKNOWN = _EXPIRE, _SETTLE, -1
"""How a hold ends by itself: as the kind of transfer that ends it, or as is not known here."""
MOST: Final = 2**53 - 1
_ALL_OF_IT: Final = -1
_NEVER: Final = 2**63 - 1
_SHOWN_MAX: Final = 3


class Holds:
    """The holds that are open, by the id of the pending transfer."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._open: dict[bytes, Hold] = {}

    def follow(self, rows: Rows, numbers: Ints, extras: Rows, positions: Ints) -> Ints:
        """Take in transfers, in order, and return what each takes off the pending sums of its accounts.

        `numbers`: the batch of each. `positions`: where among `rows` each of `extras` belongs.
        """
        released = np.zeros(len(rows), np.int64)
        kind = rows["kind"].astype(np.int64)
        if not kind.any() and not len(extras):
            return released
        full = np.zeros(len(rows), EXTRA)
        full[positions] = extras
        self._shape(rows, numbers, full, kind)
        self._opened(rows, full, np.flatnonzero(kind == _PENDING))
        settling = np.flatnonzero((kind >= _POST) & (kind <= _SETTLE))
        if len(settling):
            released[settling] = self._settled(rows[settling], numbers[settling], full[settling])
        return released

    def pass_over(self, settled: Iterable[bytes], opened: Mapping[bytes, Hold]) -> None:
        """Take note of what a segment that is not read settled, and of what it opened and left open."""
        for i in settled:
            self._open.pop(i, None)
        self._open.update(opened)

    def _find(self, wrong: Flags, rows: Rows, numbers: Ints, words: str) -> None:
        for i in np.flatnonzero(wrong)[:_SHOWN_MAX].tolist():
            self._report.find(int(numbers[i]), f"transfer {UUID(bytes=rows['id'][i].tobytes())} {words}")

    def _shape(self, rows: Rows, numbers: Ints, extras: Rows, kind: Ints) -> None:
        """Check that each transfer has what its kind has, and nothing else."""
        has = extras["has"].astype(np.int64) & ~METADATA
        asked, amount = extras["asked"].astype(np.int64), rows["amount"].astype(np.int64)
        allowed = np.select(
            [kind == _POSTED, kind == _PENDING],
            [_BALANCING | _ASKED, _BALANCING | _ASKED | _EXPIRES_AT | _OVER | _SETTLES],
            _ASKED | _HELD | _PENDING_ID,
        )
        due = np.where(kind >= _POST, _HELD | _PENDING_ID, 0)
        wrong = (kind < _POSTED) | (kind > _SETTLE) | (has & ~allowed != 0) | (has & due != due)
        wrong |= (has & _BALANCING != 0) & ((extras["balancing"] < 1) | (extras["balancing"] > 2))
        more = (has & _BALANCING != 0) & (asked > amount)
        wrong |= (has & _ASKED != 0) & ~more & ~((kind >= _POST) & (asked == _ALL_OF_IT))
        wrong |= (has & _EXPIRES_AT != 0) & (extras["expires_at"] <= rows["at"])
        wrong |= (has & _OVER != 0) & ((extras["over"] < 1) | (extras["over"] > MOST))
        wrong |= (has & _SETTLES != 0) & ((extras["settles"] != 1) | (has & _EXPIRES_AT == 0))
        self._find(wrong, rows, numbers, "does not have what its kind has")

    def _opened(self, rows: Rows, extras: Rows, where: Ints) -> None:
        if not len(where):
            return
        opened, more = rows[where], extras[where]
        expires = np.where(more["has"] & _EXPIRES_AT, more["expires_at"].astype(np.int64), _NEVER)
        ends = np.where(more["has"] & _SETTLES, SETTLES, LAPSES)
        columns = [opened[name].tolist() for name in ("seq", "debit", "credit", "amount")]
        columns += [expires.tolist(), more["over"].tolist(), ends.tolist()]
        self._open.update(zip(opened["id"].tolist(), zip(*columns, strict=True), strict=True))

    def _settled(self, rows: Rows, numbers: Ints, extras: Rows) -> Ints:
        """Close the holds that `rows` settle or release, and return what each had reserved."""
        take = self._open.pop
        nothing = (_NEVER, 0, 0, 0, 0, 0, UNKNOWN)
        found = [take(pending, nothing) for pending in extras["pending_id"].tolist()]
        seq, debit, credit, reserved, expires, over, end = np.array(found, np.int64).T
        missing = seq >= rows["seq"].astype(np.int64)
        self._find(missing, rows, numbers, "settles a hold that is not open")
        kind, amount = rows["kind"].astype(np.int64), rows["amount"].astype(np.int64)
        all_of_it = (kind != _POST) | ((extras["has"] & _ASKED != 0) & (extras["asked"] == _ALL_OF_IT))
        wrong = (debit != rows["debit"]) | (credit != rows["credit"]) | (extras["held"] != reserved)
        wrong |= (amount - reserved > over) | (all_of_it & (amount != reserved))
        self._find(wrong & ~missing, rows, numbers, "does not fit the hold that it settles")
        by_itself = kind >= _EXPIRE
        late = np.where(by_itself, expires > rows["at"], expires <= rows["at"])
        self._find(late & ~missing, rows, numbers, "settles its hold at a time when it must not")
        otherwise = by_itself & (end != kind) & (end != UNKNOWN)
        self._find(otherwise & ~missing, rows, numbers, "ends its hold as that does not end by itself")
        return np.where(missing, 0, reserved)
