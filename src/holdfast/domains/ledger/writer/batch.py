"""What commits together: jobs (what each caller waits for), and their batch packed for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import numpy as np

from holdfast.base.ids import AccountId
from holdfast.domains.ledger.model import Balance, Group, Outcome, Posting, Unit, UnitOutcome
from holdfast.domains.ledger.rules.book import Book, Decided
from holdfast.domains.ledger.rules.columns import ColumnOutcomes, ColumnPlan, Columns
from holdfast.domains.ledger.rules.plan import Plan
from holdfast.domains.ledger.rules.standing import Standing, all_of
from holdfast.domains.ledger.store import append
from holdfast.platform import arrays
from holdfast.platform.exchange import Command, Rows
from holdfast.platform.unit import Guard, Statement, UnitStatus, Write

BEGIN: Final[Command] = ("begin", ())
COMMIT: Final[Command] = ("commit", ())
ROLLBACK: Final[Command] = ("rollback", ())


Answer = list[Posting] | UnitOutcome | ColumnOutcomes


@dataclass(slots=True, eq=False)
class Job:
    """What one caller waits for: a unit, or a list of chains that commit together.

    `deadline`: the moment of the event loop's clock at which the caller is answered at the latest.
    """

    groups: tuple[Group, ...]
    unit: Unit
    done: asyncio.Future[Answer]
    count: int
    deadline: float
    postings: list[Posting] = field(default_factory=list)
    guard_failed: int | None = None
    moved: bool = True
    settled: bool = False
    """Its commit stands, or `error` says why not."""
    error: BaseException | None = None
    balances: Mapping[AccountId, Balance] = field(default_factory=dict)
    columns: Columns | None = None
    """Transfers as arrays instead: such a job is a batch by itself."""
    column_outcomes: ColumnOutcomes | None = None

    def answer(self) -> Answer:
        """Say what became of it, in the form in which it was asked for."""
        if self.column_outcomes is not None:
            return self.column_outcomes
        return self.postings if self.unit is NO_UNIT else self.outcome()

    def outcome(self) -> UnitOutcome:
        """Say what became of the unit."""
        if self.guard_failed is not None:
            return UnitOutcome("conflict", guard_failed=self.guard_failed)
        status: UnitStatus = "committed" if self.moved else "refused"
        return UnitOutcome(status, tuple(self.postings), balances=self.balances)


def fail(job: Job, error: BaseException) -> None:
    """Settle a job that is not settled yet: it did not happen, or nobody knows."""
    if not job.settled:
        job.settled, job.error = True, error


@dataclass(slots=True, eq=False)
class Batch:
    """Jobs that commit together, and their transfers as arrays. `sure`: no guard needs a look beforehand."""

    jobs: list[Job]
    now: datetime
    plan: Plan | None = None
    sure: bool = True
    standing: Standing | None = None
    """All its transfers, as they stand if none is refused."""
    formed: append.Formed | None = None
    """The same, hashed and packed."""
    suspects: tuple[list[int], list[UUID]] | None = None
    """What must be looked up first, if it is known already."""
    on_sent: Callable[[], None] | None = None
    """Called once, when the first part of the transaction is on its way to the database."""

    @property
    def alone(self) -> bool:
        """Whether nothing of other domains commits with its transfers."""
        return all(job.unit is NO_UNIT for job in self.jobs)

    def of(self, jobs: list[Job]) -> Batch:
        """Return a batch of some of these jobs."""
        return Batch(jobs, self.now)

    def sent_once(self) -> Callable[[], None] | None:
        """Return `on_sent`, the first time."""
        on_sent, self.on_sent = self.on_sent, None
        return on_sent

    def prepare(self) -> None:
        """Make the arrays, if it was not done before: whatever needs no balance."""
        if self.plan is None:
            self.sure = all(guard.statement.sure for job in self.jobs for guard in job.unit.guards)
            columns = self.jobs[0].columns if self.jobs else None
            groups = [group for job in self.jobs for group in job.groups]
            if columns is not None:
                self.plan = ColumnPlan(columns, self.now)
            elif groups:
                self.plan = Plan(groups, self.now)

    def form(self, book: Book) -> None:
        """Hash and pack all transfers, as if none were refused: most batches are so.

        And see which ids are suspect; all batches before this one must be decided.
        """
        if self.plan is not None and self.plan.plain:
            self.suspects = book.suspects(self.plan)
            self.standing = all_of(self.plan)
            self.formed = append.form(self.standing, terms=self.plan.terms, alone=self.alone)

    def settle(self, decided: Decided | None) -> None:
        """Give each job its postings, if what was decided is kept."""
        columns = self.jobs[0].columns if self.jobs else None
        if columns is not None and decided is not None:
            self.jobs[0].column_outcomes = (
                ColumnOutcomes(np.zeros(len(columns), np.uint8), columns.amounts)
                if decided.answers is None
                else ColumnOutcomes.of(decided.answers)
            )
            return
        if decided is None or decided.answers is None:
            for job in self.jobs:
                job.moved = True
                job.postings = [
                    Posting(t.id, Outcome.POSTED, t.amount_minor or 0)
                    for group in job.groups
                    for t in group.transfers
                ]
            return
        start = 0
        for job in self.jobs:
            job.postings = decided.answers[start : start + job.count]
            job.moved = all(p.outcome <= Outcome.EXISTS for p in job.postings)
            start += job.count

    def note_balances(self, decided: Decided, book: Book) -> None:
        """Tell those who asked for it what is on their accounts after their own transfers."""
        row = 0
        for job in self.jobs:
            row += sum(p.outcome is Outcome.POSTED for p in job.postings)
            if job.unit.balances:
                touched = {n for t in job.unit.transfers for n in (t.debit, t.credit)}
                job.balances = book.balances_after(decided, row, touched)

    def tell(self) -> None:
        """Tell the callers of settled jobs."""
        for job in self.jobs:
            if job.settled and not job.done.done():
                if job.error is None:
                    job.done.set_result(job.answer())
                else:
                    job.done.set_exception(job.error)


NO_UNIT: Final = Unit()
"""The unit of a job that is only a list of chains: it is answered by its postings."""
Owners = list[tuple[Job, int]]


def guards(jobs: Iterable[Job], *, claims: bool | None, sure: bool = False) -> list[tuple[Command, Owners]]:
    """Group guards by statement, those that claim last. `claims` None: all of them. `sure`: as they raise."""
    found: dict[str, tuple[Statement, bool, list[Guard], Owners]] = {}
    for job in jobs:
        for position, guard in enumerate(job.unit.guards):
            if claims is None or guard.claims == claims:
                entry = found.setdefault(guard.statement.name, (guard.statement, guard.claims, [], []))
                entry[2].append(guard)
                entry[3].append((job, position))
    ordered = sorted(found.values(), key=lambda e: (e[1], e[0].rank, e[0].name))
    return [
        (
            (
                statement.sure if sure else statement.sql,
                arrays.columns(statement.columns, [g.row for g in theirs]),
            ),
            owners,
        )
        for statement, _, theirs, owners in ordered
    ]


def mark_failed(owners: Owners, rows: Rows) -> bool:
    """Mark the jobs whose guard does not hold; the first guard of a unit that fails is the one reported."""
    holding = {row[0] for row in rows.all()}
    if len(holding) == len(owners):
        return False
    for place, (job, position) in enumerate(owners, 1):
        if place not in holding and (job.guard_failed is None or position < job.guard_failed):
            job.guard_failed = position
    return True


def writes(jobs: Iterable[Job]) -> list[Command]:
    """Group the rows to write by statement, in the order of rank."""
    found: dict[str, tuple[Statement, list[tuple[object, ...]]]] = {}
    for job in jobs:
        due: Sequence[Write] = ()
        if job.guard_failed is None:
            due = job.unit.writes if job.moved else job.unit.writes_if_refused
        for write in due:
            entry = found.get(write.statement.name)
            if entry is None:
                entry = found[write.statement.name] = (write.statement, [])
            entry[1].append(write.row)
    ordered = sorted(found.values(), key=lambda e: (e[0].rank, e[0].name))
    return [(statement.sql, arrays.columns(statement.columns, rows)) for statement, rows in ordered]
