"""The books in memory: every balance and every open hold, and what a batch of transfers makes of them.

Accounts live in arrays, each at its `place`. Most batches are decided with numpy at once: an account whose
credits before the batch cover all its debits with the batch cannot be overdrawn in any order, so nothing that
touches only such accounts can be refused for want of money. What touches another account, settles a hold,
balances, or repeats an id, is walked by the `Rulebook`, in order, on just the accounts that matter. The
outcome is that of posting one by one, always.

A decision is applied at once, and taken back by `undo` when its commit does not come about.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.limits import AMOUNT_MINOR_MAX, MARK_ENTRIES, TURNOVER_MINOR_MAX
from holdfast.base.money import ASSETS_BY_NUMBER
from holdfast.domains.ledger.model import Balance, NewTransfer, Outcome, Posting
from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.rules.places import Places
from holdfast.domains.ledger.rules.plan import Flags, Integers, Plan
from holdfast.domains.ledger.rules.rulebook import (
    CREDITS_BOUND,
    DEBITS_BOUND,
    KEPT,
    KIND_NUMBERS,
    OWN_KINDS,
    Books,
    Hold,
    Looked,
    Rulebook,
)
from holdfast.domains.ledger.rules.seen import Seen
from holdfast.domains.ledger.rules.standing import POSTING, Extra, Standing, all_of, change, extras_of

_PLACES_MIN: Final = 1024


NOT_LOOKED: Final = Looked()


@dataclass(slots=True, eq=False)
class Decided:
    """What a batch comes to. `answers` None: every transfer was posted, with the amount asked for.

    `rows` are the transfers that stand, as they are hashed; `extras` those among them that have more, by
    position; `refused` the ids that stay refused. The rest is what `undo` needs.
    """

    plan: Plan
    answers: list[Posting] | None
    rows: npt.NDArray[np.void]
    extras: dict[int, Extra]
    refused: list[tuple[UUID, int]]
    places: Integers
    added: Integers
    entries: Integers
    holds: list[tuple[UUID, Hold, bool]]

    @property
    def writes(self) -> bool:
        """Whether there is anything for the ledger's tables."""
        return bool(len(self.rows) or self.refused)


@dataclass(frozen=True, slots=True)
class Marks:
    """Balances of accounts after transfer `seq`, and how many transfers had touched each by then.

    `sums`: four rows, debits and credits posted, debits and credits pending.
    """

    seq: int
    accounts: Integers
    entries: Integers
    sums: Integers


class Book:
    """Accounts, balances, holds. Not safe for threads; one batch at a time is decided and not yet kept."""

    def __init__(self, since: datetime, early: Iterable[int] = ()) -> None:
        self.count = 0
        self.places = Places()
        self.holds: dict[UUID, Hold] = {}
        self.seen = Seen(since, early)
        self._unseen: list[tuple[bytes, datetime]] = []
        """Ids decided lately, to be noted as seen before the next are looked at."""
        self._expiring: list[tuple[datetime, UUID]] = []
        self.sums = np.zeros((4, _PLACES_MIN), np.int64)
        self.entries = np.zeros(_PLACES_MIN, np.int64)
        self.marked = np.zeros(_PLACES_MIN, np.int64)
        self.limit = np.zeros(_PLACES_MIN, np.int64)
        self.asset = np.zeros(_PLACES_MIN, np.int16)
        self.rule = np.zeros(_PLACES_MIN, np.int8)
        self.closed = np.zeros(_PLACES_MIN, np.bool_)

    def _grow(self, capacity: int) -> None:
        more = capacity - len(self.entries)
        self.sums = np.pad(self.sums, ((0, 0), (0, more)))
        for name in ("entries", "marked", "limit", "asset", "rule", "closed"):
            setattr(self, name, np.pad(getattr(self, name), (0, more)))

    def open(self, numbers: Integers, assets: Integers, rules: Integers) -> None:
        """Add accounts at the next places, with nothing on them."""
        end = self.count + len(numbers)
        if end > len(self.entries):
            self._grow(max(end, 2 * len(self.entries)))
        self.places.add(numbers)
        self.asset[self.count : end] = assets
        self.rule[self.count : end] = rules
        self.count = end

    def balance(self, number: int) -> Balance | None:
        """Return the balance of an account as decided so far."""
        place = self.places.get(number)
        return None if place is None else Balance(*self.sums[:, place].tolist())

    def catch_up(self) -> None:
        """Do what can wait after a batch was decided, and not until the next one's `suspects`."""
        for raw, now in self._unseen:
            self.seen.add(raw, now)
        self._unseen.clear()

    def suspects(self, plan: Plan) -> tuple[list[int], list[UUID]]:
        """Return what must be looked up before a batch is decided, when all before it are decided.

        Ids that may have been seen, and holds to settle that are not open.
        """
        self.catch_up()
        pending: list[UUID] = []
        if not plan.plain:
            holds = self.holds
            pending = [
                t.pending_id for t in plan.transfers if t.pending_id is not None and t.pending_id not in holds
            ]
        return self.seen.maybe(plan.raw_ids, plan.now), pending

    def decide(self, plan: Plan, looked: Looked = NOT_LOOKED, standing: Standing | None = None) -> Decided:
        """Decide a batch and apply it. `standing`: what `all_of` said of it, if it was asked before."""
        places = self.places.find(plan.touched.numbers)
        unsure = self._unsure(plan, places)
        if plan.plain and not looked.known and not looked.refused and not unsure.any():
            decided = Decided(
                plan,
                None,
                *(standing or all_of(plan)),
                [],
                places,
                plan.advance.added,
                plan.advance.entries,
                [],
            )
        else:
            decided = self._walk(plan, places, unsure, looked)
        self._apply(decided)
        return decided

    def _unsure(self, plan: Plan, places: Integers) -> Flags:
        """Tell of which accounts a look in order is needed."""
        at = np.maximum(places, 0)
        before, added = self.sums[:, at], plan.advance.added
        new_debits, new_credits = added[0] + added[2], added[1] + added[3]
        debits, credits_ = before[0] + before[2] + new_debits, before[1] + before[3] + new_credits
        rule, limit = self.rule[at], self.limit[at]
        unsure: Flags = (places < 0) | self.closed[at] | (self.asset[at] != plan.assets) | plan.wanted
        unsure |= (rule == DEBITS_BOUND) & (debits > before[1] + limit) & (new_debits > 0)
        unsure |= (rule == CREDITS_BOUND) & (credits_ > before[0] + limit) & (new_credits > 0)
        unsure |= (debits - before[1] > AMOUNT_MINOR_MAX) | (credits_ - before[0] > AMOUNT_MINOR_MAX)
        unsure |= (debits > TURNOVER_MINOR_MAX) | (credits_ > TURNOVER_MINOR_MAX)
        return unsure

    def _walk(self, plan: Plan, places: Integers, unsure: Flags, looked: Looked) -> Decided:
        doubtful = set(plan.touched.numbers[unsure].tolist())
        walked = _walked(plan, looked, doubtful)
        book = self._rulebook(plan, walked, doubtful, looked)
        answers: list[Posting] = []
        kept: list[tuple[int, int, int]] = []
        refused: list[tuple[UUID, int]] = []
        position = 0
        for group, needed in zip(plan.groups, walked, strict=True):
            if needed:
                decisions = book.decide_chain(group.transfers, plan.now, unfinished=group.unfinished)
            else:
                decisions = [(Outcome.POSTED, t.amount_minor or 0) for t in group.transfers]
            for t, (outcome, amount) in zip(group.transfers, decisions, strict=True):
                if outcome is Outcome.POSTED:
                    held = book.holds[t.pending_id].amount if t.pending_id is not None else 0
                    kept.append((position, amount, held))
                elif outcome in KEPT and t.kind not in OWN_KINDS:
                    refused.append((t.id, int(outcome)))
                position += 1
            answers += [Posting(t.id, o, a) for t, (o, a) in zip(group.transfers, decisions, strict=True)]
        return self._composed(plan, places, answers, kept, refused)

    def _composed(
        self, plan: Plan, places: Integers, answers: list[Posting],
        kept: list[tuple[int, int, int]], refused: list[tuple[UUID, int]],
    ) -> Decided:  # fmt: skip
        count = len(plan.transfers)
        posted, pending = np.zeros(count, np.int64), np.zeros(count, np.int64)
        stands = np.zeros(count, np.bool_)
        transfers, held = [], {}
        for place, (position, amount, released) in enumerate(kept):
            t = plan.transfers[position]
            transfers.append(t)
            stands[position] = True
            if t.kind == "posted" or t.kind == "post_pending" or t.kind == "settle_pending":
                posted[position] = amount
            if released:
                pending[position] = -released
                held[place] = released
            elif t.kind == "pending":
                pending[position] = amount
        sums = plan.touched.sums(posted, pending, stands)
        rows = np.zeros(len(kept), chain.FIXED)
        if kept:
            rows["id"] = np.frombuffer(plan.raw_ids, "V16")[stands]
            rows["code"] = [t.code for t in transfers]
            rows["debit"], rows["credit"] = plan.touched.keys[0::2][stands], plan.touched.keys[1::2][stands]
            rows["amount"] = [amount for _, amount, _ in kept]
            rows["asset"] = plan.assets_each[stands]
            rows["kind"] = [KIND_NUMBERS[t.kind] for t in transfers]
        extras = extras_of(transfers, [amount for _, amount, _ in kept], held) if plan.extras else {}
        return Decided(plan, answers, rows, extras, refused, places, sums.added, sums.entries, [])

    def _rulebook(self, plan: Plan, walked: Sequence[bool], doubtful: set[int], looked: Looked) -> Rulebook:
        """Return what the walk needs: accounts that it meets, ids that are known, holds that it settles.

        An account that cannot refuse is there without its sums and its rule.
        """
        book = Rulebook()
        for group, needed in zip(plan.groups, walked, strict=True):
            for t in group.transfers if needed else ():
                for number in (t.debit, t.credit):
                    if number not in book.accounts and number in self.places:
                        book.accounts[number] = self._books(number, whole=number in doubtful)
                hold = None if t.pending_id is None else self.holds.get(t.pending_id)
                if hold is not None and t.pending_id is not None:
                    book.holds[t.pending_id] = Hold(
                        hold.debit, hold.credit, hold.asset, hold.amount, hold.expires_at, "open",
                        hold.over, hold.settles,
                    )  # fmt: skip
        book.known.update(looked.known)
        book.refused.update(looked.refused)
        for i, hold in looked.holds.items():
            book.holds.setdefault(i, hold)
        return book

    def _books(self, number: int, *, whole: bool) -> Books:
        place = self.places[number]
        if not whole:
            return Books(int(self.asset[place]))
        books = Books(
            int(self.asset[place]), int(self.rule[place]),
            closed=bool(self.closed[place]), limit=int(self.limit[place]),
        )  # fmt: skip
        (
            books.debits_posted,
            books.credits_posted,
            books.debits_pending,
            books.credits_pending,
        ) = self.sums[:, place].tolist()
        return books

    def _apply(self, decided: Decided) -> None:
        there = decided.places >= 0
        if not there.all():
            decided.places = decided.places[there]
            decided.added, decided.entries = decided.added[:, there], decided.entries[there]
        self.sums[:, decided.places] += decided.added
        self.entries[decided.places] += decided.entries
        if (decided.rows["kind"] != 0).any():
            self._hold(decided)
        self._unseen.append((decided.plan.raw_ids, decided.plan.now))

    def _hold(self, decided: Decided) -> None:
        """Note what is reserved and what is released, in order."""
        for position in np.flatnonzero(decided.rows["kind"] != 0).tolist():
            row, extra = decided.rows[position], decided.extras.get(position)
            if row["kind"] == KIND_NUMBERS["pending"]:
                i = UUID(bytes=row["id"].tobytes())
                hold = Hold(
                    int(row["debit"]), int(row["credit"]), int(row["asset"]), int(row["amount"]), None
                )
                if extra is not None:
                    hold.expires_at = extra.expires_at
                    hold.over, hold.settles = extra.over or 0, extra.settles is True
                self.reserve(i, hold)
                decided.holds.append((i, hold, True))
            elif extra is not None and extra.pending_id is not None:
                decided.holds.append((extra.pending_id, self.holds.pop(extra.pending_id), False))

    def reserve(self, i: UUID, hold: Hold) -> None:
        """Note an open hold."""
        self.holds[i] = hold
        if hold.expires_at is not None:
            heapq.heappush(self._expiring, (hold.expires_at, i))

    def balances_after(self, decided: Decided, row: int, numbers: Iterable[int]) -> dict[AccountId, Balance]:
        """Return the balances of accounts before the transfers from position `row` of a batch on.

        The batch was decided last. An account that does not exist is left out.
        """
        found = {}
        later = decided.rows[row:]
        for number in numbers:
            place = self.places.get(number)
            if place is None:
                continue
            sums = self.sums[:, place].copy()
            for side, name in ((0, "debit"), (1, "credit")):
                for position in np.flatnonzero(later[name] == number).tolist():
                    posted, pending = change(later[position], decided.extras.get(row + position))
                    sums[side] -= posted
                    sums[side + 2] -= pending
            found[AccountId(number)] = Balance(*sums.tolist())
        return found

    def undo(self, decided: Decided) -> None:
        """Take back a batch that was decided last and is not kept."""
        self.sums[:, decided.places] -= decided.added
        self.entries[decided.places] -= decided.entries
        for i, hold, reserved in reversed(decided.holds):
            if reserved:
                del self.holds[i]
            else:
                self.reserve(i, hold)

    def marks(self, decided: Decided, seq: int) -> Marks | None:
        """Return the balances worth writing down after a batch that is kept; `seq`: its last transfer."""
        places = decided.places
        due = places[self.entries[places] - self.marked[places] >= MARK_ENTRIES]
        return self._marks(due, seq) if len(due) else None

    @property
    def unmarked(self) -> int:
        """How many accounts changed since their last mark."""
        return int(np.count_nonzero(self.entries > self.marked))

    def all_marks(self, seq: int) -> Marks:
        """Return the balances of all accounts that changed since their last mark."""
        return self._marks(np.flatnonzero(self.entries > self.marked), seq)

    def _marks(self, places: Integers, seq: int) -> Marks:
        self.marked[places] = self.entries[places]
        return Marks(seq, self.places.numbers[places], self.entries[places], self.sums[:, places])

    def due(self, now: datetime, limit: int) -> list[NewTransfer]:
        """Return the transfers that would end the holds whose time is over, oldest first.

        Those that settle themselves are settled, the others released.
        """
        found: list[tuple[datetime, UUID]] = []
        while self._expiring and len(found) < limit:
            when, i = self._expiring[0]
            hold = self.holds.get(i)
            if hold is None or hold.expires_at != when:
                heapq.heappop(self._expiring)
            elif when <= now:
                found.append(heapq.heappop(self._expiring))
            else:
                break
        for entry in found:
            heapq.heappush(self._expiring, entry)
        return [
            NewTransfer(
                expiry_id(i), AccountId(self.holds[i].debit), AccountId(self.holds[i].credit),
                ASSETS_BY_NUMBER[self.holds[i].asset].code, None,
                kind="settle_pending" if self.holds[i].settles else "expire_pending",
                pending_id=TransferId(i),
            )
            for _, i in dict.fromkeys(found)
        ]  # fmt: skip

    def replay(self, debits: Integers, credits_: Integers, amounts: Integers) -> None:
        """Apply transfers of kind `posted` that stand already."""
        for side, numbers in ((0, debits), (1, credits_)):
            at = self.places.find(numbers)
            np.add.at(self.sums[side], at, amounts)
            np.add.at(self.entries, at, 1)

    def replay_others(
        self, debits: Integers, credits_: Integers, amounts: Integers, kinds: Integers, held: Integers
    ) -> None:
        """Apply transfers of other kinds that stand already, but for which holds they leave open."""
        reserved = np.where(kinds == KIND_NUMBERS["pending"], amounts, -held)
        moved = np.where(np.isin(kinds, list(POSTING)), amounts, 0)
        for side, numbers in ((0, debits), (1, credits_)):
            at = self.places.find(numbers)
            np.add.at(self.sums[side], at, moved)
            np.add.at(self.sums[2 + side], at, reserved)
            np.add.at(self.entries, at, 1)


def expiry_id(pending: UUID) -> TransferId:
    """Return the id under which a hold lapses, or settles itself.

    The same whoever notices, and near the hold's own in time.
    """
    return TransferId(UUID(int=pending.int ^ ((1 << 62) - 1)))


def _walked(plan: Plan, looked: Looked, doubtful: set[int]) -> list[bool]:
    """Tell which groups must be decided in order.

    Those that touch an account that could refuse, or a known id.
    """
    flags = plan.special.tolist()
    settled = set() if plan.plain else {t.pending_id for t in plan.transfers}
    known, refused, repeated = looked.known, looked.refused, plan.repeated
    result = []
    position = 0
    for group in plan.groups:
        needed = False
        for t in group.transfers:
            needed = (
                needed
                or flags[position]
                or t.debit in doubtful
                or t.credit in doubtful
                or t.id in known
                or t.id in refused
                or t.id.int in repeated
                or t.id in settled
            )
            position += 1
        result.append(needed)
    return result
