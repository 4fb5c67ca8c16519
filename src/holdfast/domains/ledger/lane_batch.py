"""What commits together: jobs (what each caller waits for), and their batch packed for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from holdfast.domains.ledger.model import Outcome, Posting, Unit, UnitOutcome
from holdfast.domains.ledger.store import posting
from holdfast.domains.ledger.store.batch import Group, Plan
from holdfast.platform import arrays
from holdfast.platform.db import Connection
from holdfast.platform.exchange import Command, Rows, exchange
from holdfast.platform.unit import Guard, Statement, Write

BEGIN: Final[Command] = ("begin", ())
COMMIT: Final[Command] = ("commit", ())


@dataclass(slots=True, eq=False)
class Job:
    """What one caller waits for: a unit, or a list of chains that commit together."""

    groups: tuple[Group, ...]
    unit: Unit
    done: asyncio.Future[tuple[UnitOutcome, list[list[Posting]]]]
    count: int
    postings: list[list[Posting]] = field(default_factory=list)
    guard_failed: int | None = None
    moved: bool = True
    settled: bool = False
    """Its commit stands, or `error` says why not."""
    error: BaseException | None = None

    def outcome(self) -> UnitOutcome:
        """Say what became of the unit."""
        if self.guard_failed is not None:
            return UnitOutcome("conflict", guard_failed=self.guard_failed)
        return UnitOutcome(
            "committed" if self.moved else "refused", tuple(p for group in self.postings for p in group)
        )


def fail(job: Job, error: BaseException) -> None:
    """Settle a job that is not settled yet: it did not happen, or nobody knows."""
    if not job.settled:
        job.settled, job.error = True, error


@dataclass(slots=True, eq=False)
class Batch:
    """Jobs that commit together, and their transfers as arrays."""

    jobs: list[Job]
    plan: Plan | None
    committing: bool = False
    """The commit was sent, so it may have happened."""
    looked_at: bool = False
    """It was sent in one go and needs a closer look."""
    packed: list[Command] | None = None
    on_sent: Callable[[], None] | None = None
    """Called once, when the first part of the transaction is on its way."""

    async def exchange(self, connection: Connection, commands: Sequence[Command]) -> list[Rows]:
        """Run commands of this batch; call `on_sent` when they are sent. Raises: as `exchange`."""
        on_sent, self.on_sent = self.on_sent, None
        return await exchange(connection, commands, on_sent)

    def pack(self) -> list[Command]:
        """Return the whole transaction as it is sent in one go; it is made once."""
        if self.packed is None:
            checks = [command for command, _ in guards(self.jobs, claims=None, sure=True)]
            post = [] if self.plan is None else [(posting.POST, self.plan.parameters(strict=True))]
            self.packed = [BEGIN, *checks, *post, *writes(self.jobs), COMMIT]
        return self.packed

    def tell(self) -> None:
        """Tell the callers of settled jobs."""
        for job in self.jobs:
            if job.settled and not job.done.done():
                if job.error is None:
                    job.done.set_result((job.outcome(), job.postings))
                else:
                    job.done.set_exception(job.error)

    def forget(self) -> None:
        """Take back what an earlier try found out."""
        self.committing = False
        for job in self.jobs:
            job.postings, job.guard_failed, job.moved = [], None, True

    def expect_all_posted(self) -> None:
        """Fill in the answers of a batch that is kept only when every transfer is posted."""
        for job in self.jobs:
            job.postings = [
                [Posting(t.id, Outcome.POSTED, t.amount_minor or 0) for t in g.transfers] for g in job.groups
            ]


NO_UNIT: Final = Unit()
NOTHING: Final = Batch([], None)


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
        ((statement.sure if sure else statement.sql, _columns(statement, [g.row for g in theirs])), owners)
        for statement, _, theirs, owners in ordered
    ]


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
    return [(statement.sql, _columns(statement, rows)) for statement, rows in ordered]


def _columns(statement: Statement, rows: Sequence[tuple[object, ...]]) -> tuple[arrays.Packed, ...]:
    return tuple(
        arrays.column(kind, column)
        for kind, column in zip(statement.columns, zip(*rows, strict=True), strict=True)
    )
