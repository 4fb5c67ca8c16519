"""What must hold of a world, whatever befell it.

Everything that was committed is done again, in its order, by the sequential model; every answer is compared
with that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.base.ids import AccountId
from holdfast.base.limits import WRITER_LEASE_S
from holdfast.base.money import ASSETS_BY_NUMBER
from holdfast.domains.ledger.model import Group, NewAccount, Outcome
from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.rules.rulebook import OWN_KINDS, RULE_NUMBERS
from tests.ledger.rehash import leaves
from tests.ledger.sequential import STAYS_REFUSED, SequentialLedger
from tests.ledger.sim.callers import Call, answers_of
from tests.ledger.sim.postgres import Commit
from tests.ledger.sim.statements import WRITERS, Account, BatchRow, CommitNote, Head, Transfer
from tests.ledger.sim.world import PROBES_S, World, waits

LATE_S = 0.6
"""By how much an answer may come after its deadline: deadlines are looked at every quarter of a second, and
messages take their time."""
SERVES_WITHIN_S = WRITER_LEASE_S + 1.0
EVERYBODY_WITHIN_S = SERVES_WITHIN_S + 2.0
"""Who had another to follow looks for the new writer, and perhaps waits for answers that will not come."""
Answers = list[tuple[Outcome, int]]
_RULES = {number: rule for rule, number in RULE_NUMBERS.items()}


class Violation(AssertionError):
    """What must hold does not."""


def holds(condition: object, rule: str) -> None:
    if not condition:
        raise Violation(rule)


@dataclass(frozen=True, slots=True)
class Happened:
    """A call as it was committed: when, as the how manieth commit, and what the model answers."""

    at_s: float
    place: int
    answers: Answers


class Judge:
    """Looks at a world that is over. Raises: `Violation`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = SequentialLedger()
        self.happened: dict[int, Happened] = {}
        """By the number of the call."""
        self._begins = {call.key: call for call in world.asking.calls if call.key is not None}
        self._head = Head(0, 0, 0, -1, datetime.fromisoformat("1970-01-01T00:00:00+00:00"), b"")
        self._notes: dict[str, Happened] = {}
        self._entries: Counter[int] = Counter()
        self._marks = self._marks_by_seq()

    def judge(self) -> None:
        holds(not self.world.alarms, f"nothing is called an error: {self.world.alarms[:3]}")
        for place, commit in enumerate(self.world.commits):
            self._commit(place, commit)
        self._spans()
        for call in self.world.asking.calls:
            self._answer(call)
        self._last_writer()
        self._in_time()

    # What was committed

    def _commit(self, place: int, commit: Commit) -> None:
        rows = commit.rows
        note = next((n for n in commit.noted if isinstance(n, CommitNote)), None)
        head: Head | None = rows.get(("head", 1))
        if head is not None and note is None:
            holds(head.epoch > self._head.epoch, "a fence names a later epoch")
            holds(head == self._head._replace(epoch=head.epoch), "a fence moves nothing else")
            self._head = head
        if note is not None:
            assert head is not None
            self._batch(place, commit, note, head)
        accounts = [row for (table, _), row in rows.items() if table == "accounts"]
        if accounts:
            writes = commit.session == f"{WRITERS}{self._head.epoch}"
            holds(writes, f"only the writer changes accounts, not {commit.session}")
            self._accounts(accounts)

    def _accounts(self, rows: Iterable[Account]) -> None:
        model = self.model
        for row in rows:
            if row.number not in model.accounts:
                asset = ASSETS_BY_NUMBER[row.asset].code
                model.open(NewAccount(AccountId(row.number), row.code, asset, _RULES[row.rule]))
            model.limits[row.number] = row.limit
            (model.closed.add if row.closed else model.closed.discard)(row.number)

    def _batch(self, place: int, commit: Commit, note: CommitNote, head: Head) -> None:
        """One commit of a writer follows from the one before."""
        before = self._head
        holds(
            note.epoch == before.epoch, f"epoch {note.epoch} commits after epoch {before.epoch} was elected"
        )
        holds(commit.session == f"{WRITERS}{note.epoch}", "a writer commits under its own epoch")
        holds(note.commits == before.commits + 1 == head.commits, "every commit follows the one before")
        transfers = sorted(row for (table, _), row in commit.rows.items() if table == "transfers")
        refused = {i: row for (table, i), row in commit.rows.items() if table == "refusals"}
        batches = [row for (table, _), row in commit.rows.items() if table == "batches"]
        names = [n for n in commit.noted if isinstance(n, str)]
        noted = self.world.decisions.get((commit.owner, note.commits))
        answers: Answers = []
        if noted is not None:
            holds(noted.now >= before.at, "time never goes back")
            answers = self._replay(noted.groups, noted.now, commit, place)
            self._compare(noted.groups, answers, transfers, refused)
        for name in names:
            holds(name not in self._notes, f"{name} is written once")
            self._notes[name] = Happened(commit.at_s, place, [])
        if batches:
            [batch] = batches
            self._chained(batch, transfers, refused, head)
        else:
            holds(not transfers and not refused, "transfers have their batch")
        for t in transfers:
            self._entries.update((t.debit, t.credit))
        self._head = head
        for account, row in self._marks.pop(head.seq, {}).items():
            self._mark(account, row)

    def _replay(self, groups: Iterable[Group], now: datetime, commit: Commit, place: int) -> Answers:
        """Do what a commit did, and note what becomes of each call in it."""
        answers: Answers = []
        call: Call | None = None
        theirs: Answers = []
        left = 0
        for group in groups:
            first = group.transfers[0]
            if first.kind in OWN_KINDS:
                answers += self._lapse(group, now)
                continue
            if not left:
                call = self._begins.get(first.id)
                holds(call is not None, f"{first.id} begins what somebody asked for")
                assert call is not None
                left, theirs = len(call.groups), []
                holds(call.number not in self.happened, f"call {call.number} happens once")
                self.happened[call.number] = Happened(commit.at_s, place, theirs)
            transfers = list(group.transfers)
            decided = (
                self.model.open_chain(transfers) if group.unfinished else self.model.chain(transfers, now)
            )
            theirs += decided
            answers += decided
            left -= 1
        holds(not left, "a call is committed whole")
        return answers

    def _lapse(self, group: Group, now: datetime) -> Answers:
        [t] = group.transfers
        assert t.pending_id is not None
        amount = self.model.reservations[t.pending_id].amount
        settles = self.model.made[t.pending_id][0].settles
        holds(settles == (t.kind == "settle_pending"), f"a hold ends by itself as was asked for, not by {t}")
        if not self.model.lapse(t.pending_id, now):
            return [(Outcome.PENDING_EXPIRED, 0)]
        self.model.made[t.id] = (t, amount)
        return [(Outcome.POSTED, amount)]

    def _compare(
        self, groups: Iterable[Group], answers: Answers, rows: list[Transfer], refused: dict[UUID, Any]
    ) -> None:
        """The tables say what the model says."""
        asked = [t for group in groups for t in group.transfers]
        posted = [(t.id, a) for t, (o, a) in zip(asked, answers, strict=True) if o is Outcome.POSTED]
        stored = [(r.id, r.amount) for r in rows]
        holds(posted == stored, f"what is posted is what the model posts: {stored}, not {posted}")
        kept = [
            (t.id, int(o))
            for t, (o, _) in zip(asked, answers, strict=True)
            if o in STAYS_REFUSED and t.kind not in OWN_KINDS
        ]
        ordered = sorted(refused.items(), key=lambda item: item[1][1])
        holds(kept == [(i, row[3]) for i, row in ordered], "what stays refused is what the model refuses")

    def _chained(self, batch: BatchRow, rows: list[Transfer], refused: dict[UUID, Any], head: Head) -> None:
        before = self._head
        holds(batch.number == before.batch + 1 == head.batch, "batches are numbered without gaps")
        holds(batch.first_seq > before.seq, "numbers of transfers rise")
        holds([r.seq for r in rows] == list(range(batch.first_seq, batch.first_seq + len(rows))), "by one")
        ordered = sorted((row[1], i.bytes, row[3]) for i, row in refused.items())
        digest = chain.batch_hash(
            before.hash, number=batch.number, first_seq=batch.first_seq, at=batch.at, transfers=len(rows),
            refusals=len(refused), root=chain.root_of(leaves(list(map(tuple, rows)))),
            refused=chain.refused_hash((i, outcome) for _, i, outcome in ordered),
        )  # fmt: skip
        holds(batch.hash == digest == head.hash, "every batch chains from the one before")

    def _marks_by_seq(self) -> dict[int, dict[int, Any]]:
        found: dict[int, dict[int, Any]] = {}
        for (account, seq), row in self.world.postgres.tables.get("marks", {}).items():
            found.setdefault(seq, {})[account] = row
        return found

    def _spans(self) -> None:
        """Each account that a span touches has a mark in it, at or after its last transfer there.

        And nothing was written to a segment after it was sealed.
        """
        tables = self.world.postgres.tables
        for number, segment in tables.get("segments", {}).items():
            if segment.last_seq is not None:
                end = number + 1 << self.world.segment_bits
                last_seq = max((seq for seq in tables.get("transfers", {}) if seq < end), default=-1)
                holds(segment.last_seq == last_seq, f"segment {number} ends where it was sealed")
        spans: dict[int, list[int]] = {}
        for number, segment in sorted(tables.get("segments", {}).items()):
            if segment.marked:
                spans.setdefault(segment.span, []).append(number)
        marked = [number for numbers in spans.values() for number in numbers]
        holds(marked == list(range(len(marked))), "segments are marked in order")
        low = -1
        for span, numbers in spans.items():
            holds(numbers[0] == span, "a span begins with its first segment")
            end = (numbers[-1] + 1 << self.world.segment_bits) - 1
            last: dict[int, int] = {}
            for seq, t in sorted(tables.get("transfers", {}).items()):
                if low < seq <= end:
                    last[t.debit] = last[t.credit] = seq
            for account, at in last.items():
                there = any(a == account and at <= seq <= end for a, seq in tables.get("marks", {}))
                holds(there, f"account {account} has a mark at the end of the span of segment {span}")
            low = end

    def _mark(self, account: int, row: tuple[int, ...]) -> None:
        b = self.model.sums[account]
        sums = (b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending)
        holds(row == (self._entries[account], *sums), f"the mark of {account} is its balance then")

    # What was answered

    def _answer(self, call: Call) -> None:
        if call.ended_s is None:
            holds(not waits(call), f"{_what(call)} is answered")
        happened = self._found(call)
        if happened is not None:
            holds(happened.at_s >= call.began_s, "nothing happens before it was asked for")
        if call.answer in (None, "unknown", "given up"):
            return
        holds(call.answer != "odd", f"{_what(call)} is answered by a definite answer: {call.error!r}")
        if call.answer == "done":
            self._done(call, happened)
            return
        holds(call.answer != "refused", f"{_what(call)} is not refused: {call.error!r}")
        holds(happened is None, f"{_what(call)} was answered by {call.error!r} and did not happen")
        if call.answer == "rejected":
            holds(call.forbidden, f"{_what(call)} has nothing that a table rejects: {call.error!r}")

    def _found(self, call: Call) -> Happened | None:
        if call.unit is not None:
            ways = [self._notes.get(f"{call.note} {how}") for how in ("done", "refused")]
            holds(None in ways, f"{_what(call)} ends one way")
            note, transfers = next(filter(None, ways), None), self.happened.get(call.number)
            if call.groups:
                same = (note is None) == (transfers is None) and (
                    note is None or transfers is None or note.place == transfers.place
                )
                holds(same, f"transfers and rows of {_what(call)} commit together")
            return note
        return self.happened.get(call.number)

    def _done(self, call: Call, happened: Happened | None) -> None:
        if call.kind in ("post", "columns"):
            if happened is None:
                raise Violation(f"{_what(call)} was answered and is lost")
            assert call.ended_s is not None
            holds(happened.at_s <= call.ended_s, f"{_what(call)} was answered before it was durable")
            got = answers_of(call)
            holds(
                got == happened.answers, f"{_what(call)} was answered {got}, by the model {happened.answers}"
            )
        elif call.unit is not None:
            self._unit_done(call, happened)

    def _unit_done(self, call: Call, happened: Happened | None) -> None:
        status = call.result.status
        if status == "conflict":
            holds(happened is None, f"{_what(call)} was answered by a conflict and did not happen")
            holds(self._conflicts(call), f"a guard of {_what(call)} did not hold")
            return
        if happened is None:
            raise Violation(f"{_what(call)} was answered and is lost")
        holds(self._guarded(call, self.world.commits[happened.place]), f"the guards of {_what(call)} held")
        how = "done" if status == "committed" else "refused"
        holds(f"{call.note} {how}" in self._notes, f"{_what(call)} was answered {status}")
        if call.groups:
            wanted = self.happened[call.number].answers
            holds(answers_of(call) == wanted, f"{_what(call)}: {answers_of(call)}, by the model {wanted}")
            moved = all(o in (Outcome.POSTED, Outcome.EXISTS) for o, _ in wanted)
            holds(moved == (status == "committed"), f"{_what(call)} is {status} by its transfers")

    def _guarded(self, call: Call, commit: Commit) -> bool:
        """Tell whether what a unit guards was so: a claim is new, a version is the one that was asked for."""
        assert call.unit is not None
        before = commit.before or {}
        for guard in call.unit.guards:
            name = guard.row[0]
            if guard.claims:
                if ("claims", name) not in commit.rows or before["claims", name] is not None:
                    return False
            elif call.result.status == "committed" and before.get(("versions", name)) != guard.row[1]:
                return False
        return True

    def _conflicts(self, call: Call) -> bool:
        """Tell whether the guard that is said not to have held can have failed before the answer."""
        assert call.unit is not None
        assert call.ended_s is not None
        guard = call.unit.guards[call.result.guard_failed]
        table = "claims" if guard.claims else "versions"
        changes = [
            c for c in self.world.commits if (table, guard.row[0]) in c.rows and c.at_s <= call.ended_s
        ]
        if guard.claims:
            return bool(changes)
        versions = {1, *(c.rows[table, guard.row[0]] for c in changes)}
        return versions != {guard.row[1]}

    # The end

    def _last_writer(self) -> None:
        lane = self.world.last
        if lane is None:
            raise Violation("there is a writer at the end")
        book, model = lane.committer.book, self.model
        head = lane.committer.head
        known = Head(head.epoch, head.commits, head.batch, head.seq, head.at, head.hash)
        holds(known == self._head, "the last writer knows where the ledger stands")
        holds(set(book.places.numbers.tolist()) == set(model.accounts), "the last writer knows every account")
        for place, number in enumerate(book.places.numbers.tolist()):
            balance = book.balance(number)
            holds(balance == model.balance(number), f"{number}: in memory {balance}, {model.balance(number)}")
            facts = (int(book.limit[place]), bool(book.closed[place]), int(book.entries[place]))
            wanted = (model.limits[number], number in model.closed, self._entries[number])
            holds(facts == wanted, f"limit, closing and entries of {number}: {facts}, not {wanted}")
        still = {i: r.amount for i, r in model.reservations.items() if r.fate == "open"}
        holds({i: h.amount for i, h in book.holds.items()} == still, "the last writer knows every open hold")

    def _in_time(self) -> None:
        for call in self.world.asking.calls:
            if call.ended_s is not None:
                late_s = call.ended_s - call.began_s - call.deadline_s - self._stopped_s(call)
                holds(late_s <= LATE_S, f"{_what(call)} was answered {late_s:.2f} s after its deadline")
        served = self.served_s()
        first_s = min(served.values(), default=PROBES_S)
        holds(first_s <= SERVES_WITHIN_S, f"a writer serves {first_s:.2f} s after the faults have ended")

        for process in self.world.processes:
            late_s = served.get(process.name, PROBES_S)
            holds(late_s <= EVERYBODY_WITHIN_S, f"{process.name} is served {late_s:.2f} s after the faults")
        for name, took_s in self.world.closings:
            holds(took_s is not None, f"{name} closes its seat in the end")

    def served_s(self) -> dict[str, float]:
        """Return how long after the last fault each process was served."""
        found: dict[str, float] = {}
        for call in self.world.asking.calls:
            if call.probe and call.answer == "done" and call.ended_s is not None:
                found.setdefault(call.process, call.ended_s - self.world.healed_s)
        return found

    def _stopped_s(self, call: Call) -> float:
        """Return for how long who asked was stopped meanwhile."""
        assert call.ended_s is not None
        stops = self.world.process(call.process).stops
        return sum(max(0.0, min(end, call.ended_s) - max(begin, call.began_s)) for begin, end in stops)


def _what(call: Call) -> str:
    return f"call {call.number} ({call.kind} in {call.process} at {call.began_s:.3f} s)"
