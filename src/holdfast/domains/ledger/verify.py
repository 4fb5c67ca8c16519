"""Proves, from the tables alone, that nothing was altered. Shares no code with posting.

It reads every transfer in order, once, and checks that

- each batch's hash is that of its rows and of the batch before it on its chain, and no position of a chain is
  missing;
- each transfer fits its accounts and its hold, and names the transfer before it on both accounts;
- no account ever broke its rule, after any transfer;
- each balance, count and newest transfer is what its transfers add up to, the open holds are those that
  nothing settled;
- every asset sums to zero.

What a hash chain cannot prove by itself is that its newest batches were not cut off together with everything
that follows from them. The report gives the head of each chain: kept elsewhere, it is what a later proof is
held against.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.domains.ledger.store.proof import Rows, Tables

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_SLOTS: Final = 8192
_NIL: Final = bytes(16)
_MOST: Final = 2**53 - 1
_TURNOVER_MOST: Final = 2**61
_FINDINGS_MAX: Final = 50
_OIDS: Final = {
    "id": 2950, "debit": 20, "credit": 20, "asset": 21, "amount": 20, "kind": 21, "code": 23,
    "expires_at": 1184, "metadata": 3802, "balancing": 21, "asked": 20, "pending_id": 2950, "outcome": 21,
}  # fmt: skip
_HASHED: Final = ("id", "debit", "credit", "asset", "amount", "kind", "code")
_EXTRA_PLACES: Final = {"expires_at": 5, "metadata": 6, "balancing": 2, "asked": 3, "pending_id": 4}
Ints = npt.NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold. `batch`: the batch where it shows, None when it is in the balances."""

    batch: int | None
    words: str


@dataclass(slots=True)
class Report:
    """What was read and what was found. `heads`: chain to position and hash of its newest batch."""

    transfers: int = 0
    batches: int = 0
    refusals: int = 0
    accounts: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    heads: dict[int, tuple[int, str]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """True when everything holds."""
        return not self.findings

    @property
    def first_broken_batch(self) -> int | None:
        """The lowest batch in which something does not hold."""
        return min((f.batch for f in self.findings if f.batch is not None), default=None)


def verify(dsn: str, progress: Callable[[int, int], None] | None = None) -> Report:
    """Verify the ledger behind `dsn`; `progress` is called with transfers read and transfers in all."""
    started = time.perf_counter()
    tables = Tables(dsn)
    with tables.opened():
        proof = _Proof(tables, progress or (lambda _done, _all: None))
        proof.run()
    proof.report.seconds = time.perf_counter() - started
    return proof.report


class _Ahead(Generic[T]):
    """An iterator whose next value can be looked at."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source
        self.next: T | None = next(source, None)

    def take(self) -> T:
        value = self.next
        if value is None:
            raise StopIteration
        self.next = next(self._source, None)
        return value


class _Proof:
    def __init__(self, tables: Tables, progress: Callable[[int, int], None]) -> None:
        self._tables = tables
        self._progress = progress
        self.report = Report()
        self._chains: dict[int, tuple[int, bytes]] = {}
        self._extras = _Ahead(tables.extras())
        self._refusals = _Ahead(tables.refusals())
        self._batches = _Ahead(tables.batches())
        self._open: dict[bytes, tuple[int, int, int, int, Any]] = {}
        self._books = _Books(tables.balances(), self._find)

    def _find(self, batch: int | None, words: str) -> None:
        if len(self.report.findings) < _FINDINGS_MAX:
            self.report.findings.append(Finding(batch, words))

    def run(self) -> None:
        total, lacking = self._tables.counts()
        if lacking:
            self._find(None, f"{lacking} accounts have no balance")
        left: Rows | None = None
        for chunk in self._tables.transfers():
            rows = chunk if left is None or not len(left) else np.concatenate((left, chunk))
            cut = _last_batch_start(rows)
            self._chunk(rows[:cut])
            left = rows[cut:]
            self._progress(self.report.transfers, total)
        if left is not None and len(left):
            self._chunk(left)
        self._batches_without_transfers(None)
        self._finish()
        self._progress(self.report.transfers, total)

    def _chunk(self, rows: Rows) -> None:
        """Check whole batches of transfers, in order."""
        if not len(rows):
            return
        seq = rows["seq"].astype(np.int64)
        numbers = seq >> 13
        starts = np.concatenate(([0], np.flatnonzero(numbers[1:] != numbers[:-1]) + 1, [len(rows)]))
        raw = {name: np.ascontiguousarray(rows[name + "_raw"]).tobytes() for name in _HASHED}
        sizes = {name: rows.dtype[name + "_raw"].itemsize for name in _HASHED}
        released = np.zeros(len(rows), np.int64)
        for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            number = int(numbers[start])
            self._batches_without_transfers(number)
            extras = self._extras_of(number)
            columns = {name: raw[name][start * sizes[name] : end * sizes[name]] for name in _HASHED}
            if self._batches.next is None or self._batches.next[0] != number:
                self._find(number, f"batch {number} is missing, and its transfers are there")
            else:
                self._batch(self._batches.take(), rows[start:end], columns, extras)
            self._holds(number, rows[start:end], extras, released[start:end])
        self._books.add(rows, numbers, released)
        self.report.transfers += len(rows)

    def _batches_without_transfers(self, before: int | None) -> None:
        """Check batches that hold only refusals, up to `before`."""
        while self._batches.next is not None and (before is None or self._batches.next[0] < before):
            empty = dict.fromkeys(_HASHED, b"")
            self._batch(self._batches.take(), None, empty, {})

    def _extras_of(self, number: int) -> dict[int, tuple[Any, ...]]:
        found = {}
        while self._extras.next is not None and self._extras.next[0] >> 13 <= number:
            row = self._extras.take()
            found[row[0] & (_SLOTS - 1)] = row
        return found

    def _batch(
        self,
        batch: tuple[Any, ...],
        rows: Rows | None,
        columns: dict[str, bytes],
        extras: dict[int, tuple[Any, ...]],
    ) -> None:
        number, chain, position, at, transfers, refusals, stored = batch
        count = 0 if rows is None else len(rows)
        before, previous = self._chains.get(chain, (0, b""))
        if position != before + 1:
            self._find(number, f"batch {number}: chain {chain} goes from position {before} to {position}")
        refused = self._refused(number)
        if count != transfers or len(refused) != refusals:
            self._find(
                number,
                f"batch {number} has {count} transfers and {len(refused)} refusals, "
                f"not {transfers} and {refusals}",
            )
        moment = (at - _EPOCH) // timedelta(microseconds=1)
        if rows is not None:
            places = rows["seq"].astype(np.int64) & (_SLOTS - 1)
            if not np.array_equal(places, np.arange(count)):
                self._find(number, f"batch {number}: the positions of its transfers are not 0 to {count - 1}")
            if not (rows["at"] == moment).all():
                self._find(number, f"batch {number}: a transfer bears another time than the batch")
        digest = hashlib.sha256(previous + struct.pack("!qhqq", number, chain, position, moment))
        for name in _HASHED:
            digest.update(_array_head(_OIDS[name], count, nulls=False))
            digest.update(columns[name])
        for name, place in _EXTRA_PLACES.items():
            digest.update(
                _optional(
                    name, [extras[i][place] if i in extras else None for i in range(count)] if extras else []
                )
            )
        digest.update(_optional("id", [r[1] for r in refused]))
        digest.update(_optional("outcome", [r[2] for r in refused]))
        if digest.digest() != bytes(stored):
            self._find(number, f"batch {number} was altered: its rows do not give its hash")
        self._chains[chain] = (position, bytes(stored))
        self.report.batches += 1
        self.report.refusals += len(refused)

    def _refused(self, number: int) -> list[tuple[Any, ...]]:
        found = []
        while self._refusals.next is not None and self._refusals.next[0] >> 13 <= number:
            row = self._refusals.take()
            if row[0] >> 13 < number:
                self._find(row[0] >> 13, f"batch {row[0] >> 13} is missing, and its refusals are there")
            else:
                found.append(row)
        return found

    def _holds(self, number: int, rows: Rows, extras: dict[int, tuple[Any, ...]], released: Ints) -> None:
        """Follow what is reserved.

        Fill in what each settling or releasing transfer takes off the pending sums.
        """
        for i in np.flatnonzero(rows["kind"] != 0).tolist():
            row = rows[i]
            kind, debit, credit, amount = (
                int(row["kind"]),
                int(row["debit"]),
                int(row["credit"]),
                int(row["amount"]),
            )
            extra = extras.get(i)
            if kind == 1:
                expires = extra[5] if extra else None
                self._open[row["id"].tobytes()] = (debit, credit, int(row["asset"]), amount, expires)
                continue
            hold = self._open.pop(extra[4].bytes, None) if extra and extra[4] else None
            if hold is None:
                self._find(
                    number, f"batch {number}: transfer {_text(row['id'])} settles a hold that is not open"
                )
                continue
            released[i] = hold[3]
            if hold[:2] != (debit, credit) or amount > hold[3] or (kind != 2 and amount != hold[3]):
                self._find(
                    number,
                    f"batch {number}: transfer {_text(row['id'])} does not fit the hold that it settles",
                )

    def _finish(self) -> None:
        if self._extras.next is not None or self._refusals.next is not None:
            self._find(None, "there are transfers or refusals of a batch that is missing")
        held = {row[0].bytes: (row[1], row[2], row[3], row[4], row[5]) for row in self._tables.holds()}
        for name in sorted(held.keys() ^ self._open.keys())[:5]:
            self._find(
                None,
                f"the hold {UUID(bytes=name)} is {'open though settled' if name in held else 'missing'}",
            )
        if any(self._open[name] != hold for name, hold in held.items() if name in self._open):
            self._find(None, "an open hold differs from its pending transfer")
        self._books.compare()
        self.report.accounts = len(self._books.table)
        self.report.heads = {
            chain: (position, head.hex()) for chain, (position, head) in sorted(self._chains.items())
        }


class _Books:
    """What the transfers add up to, account by account."""

    def __init__(self, table: Rows, find: Callable[[int | None, str], None]) -> None:
        self.table = table
        self._find = find
        self._numbers = table["number"].astype(np.int64)
        self._asset = table["asset"].astype(np.int64)
        self._rule = table["rule"].astype(np.int64)
        count = len(table)
        self._sums = np.zeros((4, count), np.int64)
        self._entries = np.zeros(count, np.int64)
        self._last = np.zeros(count, "V16")

    def add(self, rows: Rows, numbers: Ints, released: Ints) -> None:
        """Add transfers, in order."""
        debit, credit = rows["debit"].astype(np.int64), rows["credit"].astype(np.int64)
        keys = np.empty(2 * len(rows), np.int64)
        keys[0::2], keys[1::2] = debit, credit
        place = np.searchsorted(self._numbers, keys)
        place[place == len(self._numbers)] = 0
        known = self._numbers[place] == keys if len(self._numbers) else np.zeros(len(keys), np.bool_)
        if not known.all():
            where = int(np.flatnonzero(~known)[0])
            self._find(
                int(numbers[where >> 1]),
                f"batch {numbers[where >> 1]}: a transfer names account {keys[where]}, which has no balance",
            )
            return
        wrong = self._asset[place] != np.repeat(rows["asset"].astype(np.int64), 2)
        if wrong.any():
            number = int(numbers[int(np.flatnonzero(wrong)[0]) >> 1])
            self._find(number, f"batch {number}: a transfer is in another asset than its account")
        kind, amount = rows["kind"].astype(np.int64), rows["amount"].astype(np.int64)
        posted = np.where((kind == 0) | (kind == 2), amount, 0)
        pending = np.where(kind == 1, amount, 0) - released
        if ((amount <= 0) | (amount > _MOST)).any():
            number = int(numbers[int(np.flatnonzero((amount <= 0) | (amount > _MOST))[0])])
            self._find(number, f"batch {number}: an amount is out of bounds")
        self._follow(rows, numbers, place, posted, pending)

    def _follow(self, rows: Rows, numbers: Ints, place: Ints, posted: Ints, pending: Ints) -> None:
        """Check pointers and rules along each account, then add the sums."""
        order = np.argsort(place, kind="stable")
        account, row = place[order], order >> 1
        is_debit = (order & 1) == 0
        first = np.empty(len(order), np.bool_)
        first[:1] = True
        np.not_equal(account[1:], account[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        ids = np.ascontiguousarray(rows["id"])
        named = np.where(is_debit, _halves(rows["debit_prev"])[:, row], _halves(rows["credit_prev"])[:, row])
        due = np.empty_like(named)
        due[:, 1:] = _halves(ids)[:, row[:-1]]
        due[:, starts] = _halves(self._last[account[starts]])
        off = (named != due).any(axis=0)
        if off.any():
            number = int(numbers[row[off]].min())
            self._find(number, f"batch {number}: a transfer does not name the one before it on its account")
        ends = np.concatenate((starts[1:], [len(order)])) - 1
        touched = account[starts]
        sides = np.where(is_debit, 1, 0)
        changes = np.stack(
            (posted[row] * sides, posted[row] * (1 - sides), pending[row] * sides, pending[row] * (1 - sides))
        )
        running = np.cumsum(changes, axis=1)
        base = self._sums[:, account] - np.repeat(
            running[:, starts] - changes[:, starts], np.diff(np.append(starts, len(order))), axis=1
        )
        after = running + base
        rule = self._rule[account]
        over = (rule == 1) & (after[0] + after[2] > after[1]) & (changes[0] + changes[2] > 0)
        over |= (rule == 2) & (after[1] + after[3] > after[0]) & (changes[1] + changes[3] > 0)
        over |= (after < 0).any(axis=0) | (after > _TURNOVER_MOST).any(axis=0)
        over |= (after[0] + after[2] - after[1] > _MOST) | (after[1] + after[3] - after[0] > _MOST)
        if over.any():
            number = int(numbers[row[over]].min())
            self._find(number, f"batch {number}: an account broke its rule, or its bounds")
        self._sums[:, touched] = after[:, ends]
        self._entries[touched] += ends - starts + 1
        self._last[touched] = ids[row[ends]]

    def compare(self) -> None:
        """Compare with the balances that are stored."""
        names = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")
        for i, name in enumerate(names):
            off = np.flatnonzero(self.table[name].astype(np.int64) != self._sums[i])
            for place in off[:3].tolist():
                self._find(
                    None,
                    f"account {self._numbers[place]}: {name} is {self.table[name][place]}, "
                    f"its transfers give {self._sums[i][place]}",
                )
        if (self.table["entries"].astype(np.int64) != self._entries).any() or (
            self.table["last"] != self._last
        ).any():
            place = int(
                np.flatnonzero((self.table["entries"] != self._entries) | (self.table["last"] != self._last))[
                    0
                ]
            )
            self._find(
                None,
                f"account {self._numbers[place]}: its count or newest transfer is not what they give",
            )
        if (self.table["same"] == 0).any():
            place = int(np.flatnonzero(self.table["same"] == 0)[0])
            self._find(None, f"account {self._numbers[place]} is described differently beside its balance")
        for asset in np.unique(self._asset).tolist():
            t = self.table[self._asset == asset]
            for left, right in (("debits_posted", "credits_posted"), ("debits_pending", "credits_pending")):
                if sum(t[left].tolist()) != sum(t[right].tolist()):
                    self._find(None, f"asset {asset} does not sum to zero: {left} and {right} differ")


def _last_batch_start(rows: Rows) -> int:
    """Return where the last batch of `rows` begins: the rest of it may be in the next chunk."""
    if not len(rows):
        return 0
    numbers = rows["seq"].astype(np.int64) >> 13
    return int(np.searchsorted(numbers, numbers[-1]))


def _halves(sixteens: Any) -> npt.NDArray[np.uint64]:  # noqa: ANN401
    return np.ascontiguousarray(sixteens).view(np.uint64).reshape(-1, 2).T


def _array_head(oid: int, count: int, *, nulls: bool) -> bytes:
    return struct.pack("!iiIii", 1, int(nulls), oid, count, 1) if count else struct.pack("!iiI", 0, 0, oid)


def _optional(name: str, values: list[Any]) -> bytes:
    """A column that is left out of the hash when no row has a value."""
    if all(v is None for v in values):
        return b""
    parts = [_array_head(_OIDS[name], len(values), nulls=any(v is None for v in values))]
    for v in values:
        if v is None:
            parts.append(struct.pack("!i", -1))
        else:
            body = _element(name, v)
            parts.append(struct.pack("!i", len(body)) + body)
    return b"".join(parts)


def _element(name: str, value: Any) -> bytes:  # noqa: ANN401
    if name in ("id", "pending_id"):
        return bytes(value.bytes)
    if name == "expires_at":
        return struct.pack("!q", (value - _EPOCH) // timedelta(microseconds=1))
    if name == "metadata":
        return b"\x01" + str(value).encode()
    return struct.pack("!q" if name == "asked" else "!h", value)


def _text(sixteen: Any) -> str:  # noqa: ANN401
    return str(UUID(bytes=sixteen.tobytes()))
