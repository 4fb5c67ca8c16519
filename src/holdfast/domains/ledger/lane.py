"""The commit lane: callers that arrive together share one durable commit.

There is no timer. One batch is under way at a time; whoever arrives meanwhile is in the next one, so that batches are
small when there is little to do and large when there is much. A batch is one transaction:

    guards -> transfers -> rows of other domains -> commit

and in the usual case, where every guard holds and no transfer can be refused, two exchanges with the database. When
a batch fails with an error of the database it is tried once more (two processes may have met), and then its units are
committed one by one, so that only the unit at fault is told.

When the connection breaks while the commit is under way, the lane finds out what happened: it takes a lock that the lost
transaction must have held, so the transaction is over, and looks for a transfer of the batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import psycopg

from holdfast.base.clock import Clock, SystemClock
from holdfast.base.errors import HoldfastError, Unavailable
from holdfast.base.limits import BATCH_TRANSFERS_MAX, LANE_BATCH_UNITS_MAX, LANE_QUEUE_UNITS_MAX, LINKED_TRANSFERS_MAX
from holdfast.domains.ledger.checks import check_transfer
from holdfast.domains.ledger.errors import ChainTooLong, CommitUnknown, LaneFull, WriteRejected
from holdfast.domains.ledger.model import Outcome, Posting, Unit, UnitOutcome
from holdfast.domains.ledger.store import posting, reading
from holdfast.domains.ledger.store.batch import Group, Plan
from holdfast.platform import arrays
from holdfast.platform.db import Connection, Database, DatabaseUnavailable
from holdfast.platform.unit import Guard, Statement, Write

_FIND_OUT_TRIES: Final = 5
_FIND_OUT_PAUSE_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Job:
    """What one caller waits for: a unit, or a list of chains that commit together."""

    groups: tuple[Group, ...]
    unit: Unit
    done: asyncio.Future[tuple[UnitOutcome, list[list[Posting]]]]
    count: int
    postings: list[list[Posting]] = field(default_factory=list)
    guard_failed: int | None = None

    def outcome(self) -> UnitOutcome:
        """Say what became of the unit."""
        if self.guard_failed is not None:
            return UnitOutcome("conflict", guard_failed=self.guard_failed)
        answers = tuple(p for group in self.postings for p in group)
        moved = all(p.outcome <= Outcome.EXISTS for p in answers)
        return UnitOutcome("committed" if moved else "refused", answers)


class _ConnectionLost(Exception):  # noqa: N818 - told apart from errors of the database by whoever catches it
    """The connection broke. `committing`: the commit was sent, so it may have happened."""

    def __init__(self, *, committing: bool) -> None:
        self.committing = committing


class GroupCommitLane:
    """The `CommitLane` on PostgreSQL. One for each process is enough; several processes keep each other's order by locks."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self._queue: deque[Job] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._committing = False
        self.batches = 0
        """Batches committed so far, for metrics."""

    @property
    def waiting(self) -> int:
        """Units that wait for their commit."""
        return len(self._queue)

    async def submit(self, unit: Unit) -> UnitOutcome:
        """Commit `unit` and return what became of it, after the durable commit.

        Raises: `Unavailable`, `OutcomeUnknown`, `WriteRejected`, `TransferInvalid`, `ChainTooLong`.
        """
        transfers = unit.transfers
        if len(transfers) > LINKED_TRANSFERS_MAX:
            raise ChainTooLong(f"A unit has at most {LINKED_TRANSFERS_MAX} transfers.")
        for t in transfers:
            check_transfer(t)
        outcome, _ = await self._enqueue((Group(transfers),) if transfers else (), unit)
        return outcome

    async def post(self, groups: Sequence[Group]) -> list[Posting]:
        """Post chains of transfers in one durable commit; an answer for each transfer."""
        _, postings = await self._enqueue(tuple(groups), Unit())
        return [p for group in postings for p in group]

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._runner is not None and not self._runner.done():
            await asyncio.wait([self._runner])

    def _enqueue(self, groups: tuple[Group, ...], unit: Unit) -> asyncio.Future[tuple[UnitOutcome, list[list[Posting]]]]:
        if len(self._queue) >= LANE_QUEUE_UNITS_MAX:
            raise LaneFull(retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[UnitOutcome, list[list[Posting]]]] = loop.create_future()
        self._queue.append(Job(groups, unit, done, sum(len(g.transfers) for g in groups)))
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run())
        return done

    async def _run(self) -> None:
        while self._queue:
            try:
                async with self._database.connection() as connection:
                    while self._queue and not connection.closed:
                        await self._commit_batch(connection, self._take())
            except DatabaseUnavailable as error:
                for job in self._queue:
                    _fail(job, error)
                self._queue.clear()

    def _take(self) -> list[Job]:
        """Take what fits one commit, in order; stop before a unit that guards what an earlier one of the batch guards."""
        batch: list[Job] = []
        keys: set[Hashable] = set()
        count = 0
        while self._queue and len(batch) < LANE_BATCH_UNITS_MAX:
            job = self._queue[0]
            guards = job.unit.guards
            if batch and count + job.count > BATCH_TRANSFERS_MAX:
                break
            if guards:
                own = {guard.key for guard in guards}
                if not keys.isdisjoint(own):
                    break
                keys |= own
            self._queue.popleft()
            if not job.done.cancelled():
                batch.append(job)
                count += job.count
        return batch

    async def _commit_batch(self, connection: Connection, jobs: list[Job]) -> None:
        """Commit `jobs` together; when that fails, one by one. Every job has its answer afterwards."""
        try:
            if not await self._try_commit(connection, jobs):
                for job in jobs:
                    if connection.closed:
                        _fail(job, DatabaseUnavailable())
                    elif not await self._try_commit(connection, [job]):
                        _fail(job, WriteRejected())
        except _ConnectionLost as lost:
            await self._after_loss([job for job in jobs if not job.done.done()], committing=lost.committing)
        except BaseException as error:
            for job in jobs:
                _fail(job, error if isinstance(error, HoldfastError) else Unavailable())
            if not isinstance(error, HoldfastError):
                raise

    async def _try_commit(self, connection: Connection, jobs: list[Job]) -> bool:
        """Commit `jobs` and answer them; False when the database refused twice. Raises: `_ConnectionLost`."""
        error: psycopg.Error | None = None
        for _ in range(2):
            self._committing = False
            for job in jobs:
                job.postings, job.guard_failed = [], None
            try:
                await self._attempt(connection, jobs)
            except psycopg.Error as raised:
                error = raised
                await _roll_back(connection, committing=self._committing)
            else:
                self.batches += 1
                _answer(jobs)
                return True
        if len(jobs) == 1:
            rejected = WriteRejected(f"A row could not be written: {error}".splitlines()[0])
            rejected.__cause__ = error
            _fail(jobs[0], rejected)
            return True
        return False

    async def _attempt(self, connection: Connection, jobs: list[Job]) -> None:
        """Run one transaction. First as if every guard held; when one does not, again, step by step."""
        guarded = any(job.unit.guards for job in jobs)
        plan = self._plan(jobs)
        if guarded or plan is not None:
            async with connection.pipeline():
                await connection.execute("begin")
                checks = [await _check(connection, *c) for c in _guards(jobs, claims=None)] if guarded else []
                posted = await _post(connection, plan)
            if guarded and any([await _failed(check, jobs) for check in checks]):  # noqa: C419 - each marks its jobs
                await connection.execute("rollback")
                plan, posted = await self._step_by_step(connection, jobs)
            await _settle(connection, [job for job in jobs if job.guard_failed is None], plan, posted)
        else:
            await connection.execute("begin")
        self._committing = True
        async with connection.pipeline():
            for statement, rows in _writes(jobs):
                await connection.execute(statement.sql, _columns(statement, rows), prepare=True)
            await connection.execute("commit")
        self._committing = False

    async def _step_by_step(
        self, connection: Connection, jobs: list[Job]
    ) -> tuple[Plan | None, psycopg.AsyncCursor[tuple[object, ...]] | None]:
        for job in jobs:
            job.guard_failed = None
        await connection.execute("begin")
        for claims in (False, True):
            left = [job for job in jobs if job.guard_failed is None]
            async with connection.pipeline():
                checks = [await _check(connection, *c) for c in _guards(left, claims=claims)]
            for check in checks:
                await _failed(check, left)
        plan = self._plan([job for job in jobs if job.guard_failed is None])
        return plan, await _post(connection, plan)

    def _plan(self, jobs: Iterable[Job]) -> Plan | None:
        groups = [group for job in jobs for group in job.groups]
        return Plan(groups, self._clock.now()) if groups else None

    async def _after_loss(self, jobs: list[Job], *, committing: bool) -> None:
        """Answer jobs whose connection broke: nothing has moved, or what the tables say, or unknown."""
        seen = await self._find_out(jobs) if committing else False
        for job in jobs:
            if seen is None:
                _fail(job, CommitUnknown())
            elif seen:
                _answer([job])
            else:
                _fail(job, DatabaseUnavailable())

    async def _find_out(self, jobs: list[Job]) -> bool | None:
        """Tell whether a lost commit happened; None when it cannot be told."""
        ids = [p.id for job in jobs for group in job.postings for p in group if p.outcome is Outcome.POSTED]
        accounts = {t.id: t.debit for job in jobs for group in job.groups for t in group.transfers}
        for attempt in range(_FIND_OUT_TRIES if ids else 0):
            if attempt:
                await self._clock.sleep(_FIND_OUT_PAUSE_S)
            try:
                async with self._database.transaction() as connection:
                    return await reading.stands_once_settled(connection, ids[0], accounts[ids[0]])
            except (psycopg.Error, Unavailable):
                continue
        return None


def _fail(job: Job, error: BaseException) -> None:
    if not job.done.done():
        job.done.set_exception(error)


def _answer(jobs: Iterable[Job]) -> None:
    for job in jobs:
        if not job.done.done():
            job.done.set_result((job.outcome(), job.postings))


async def _roll_back(connection: Connection, *, committing: bool) -> None:
    """Raises: `_ConnectionLost` when there is nothing left to roll back on."""
    if not connection.closed:
        try:
            await connection.execute("rollback")
        except psycopg.Error:
            pass
        else:
            return
    await connection.close()
    raise _ConnectionLost(committing=committing)


Check = tuple[psycopg.AsyncCursor[tuple[object, ...]], list[tuple[Job, int]]]


def _guards(jobs: Iterable[Job], *, claims: bool | None) -> list[tuple[Statement, list[Guard], list[tuple[Job, int]]]]:
    """Group guards by statement, those that claim last. `claims` None: all of them."""
    found: dict[str, tuple[Statement, bool, list[Guard], list[tuple[Job, int]]]] = {}
    for job in jobs:
        for position, guard in enumerate(job.unit.guards):
            if claims is None or guard.claims == claims:
                entry = found.setdefault(guard.statement.name, (guard.statement, guard.claims, [], []))
                entry[2].append(guard)
                entry[3].append((job, position))
    ordered = sorted(found.values(), key=lambda e: (e[1], e[0].rank, e[0].name))
    return [(statement, guards, owners) for statement, _, guards, owners in ordered]


async def _check(
    connection: Connection, statement: Statement, guards: Sequence[Guard], owners: list[tuple[Job, int]]
) -> Check:
    columns = _columns(statement, [guard.row for guard in guards])
    return await connection.execute(statement.sql, columns, prepare=True), owners


async def _failed(check: Check, jobs: Sequence[Job]) -> bool:
    """Mark the jobs whose guard does not hold; the first guard of a unit that fails is the one reported."""
    cursor, owners = check
    holding = {row[0] for row in await cursor.fetchall()}
    failed = [owner for position, owner in enumerate(owners, 1) if position not in holding]
    for job, position in failed:
        if job.guard_failed is None or position < job.guard_failed:
            job.guard_failed = position
    return bool(failed and jobs)


async def _post(connection: Connection, plan: Plan | None) -> psycopg.AsyncCursor[tuple[object, ...]] | None:
    if plan is None:
        return None
    return await connection.execute(posting.POST, plan.parameters(), prepare=True, binary=True)


async def _settle(
    connection: Connection, jobs: Sequence[Job], plan: Plan | None, posted: psycopg.AsyncCursor[tuple[object, ...]] | None
) -> None:
    """Give each job its postings."""
    if plan is None or posted is None:
        return
    row = await posted.fetchone()
    answer = posting.answer_of(row or ())
    if answer.clean:
        answers = [[Posting(t.id, Outcome.POSTED, t.amount_minor or 0) for t in g.transfers] for g in plan.groups]
    else:
        answers = await posting.settle(connection, plan, answer)
    start = 0
    for job in jobs:
        job.postings = answers[start : start + len(job.groups)]
        start += len(job.groups)


def _writes(jobs: Iterable[Job]) -> list[tuple[Statement, list[tuple[object, ...]]]]:
    found: dict[str, tuple[Statement, list[tuple[object, ...]]]] = {}
    for job in jobs:
        writes: Sequence[Write] = ()
        if job.guard_failed is None:
            moved = all(p.outcome <= Outcome.EXISTS for group in job.postings for p in group)
            writes = job.unit.writes if moved else job.unit.writes_if_refused
        for write in writes:
            entry = found.get(write.statement.name)
            if entry is None:
                entry = found[write.statement.name] = (write.statement, [])
            entry[1].append(write.row)
    return sorted(found.values(), key=lambda e: (e[0].rank, e[0].name))


def _columns(statement: Statement, rows: Sequence[tuple[object, ...]]) -> tuple[arrays.Packed, ...]:
    return tuple(arrays.column(kind, column) for kind, column in zip(statement.columns, zip(*rows, strict=True), strict=True))


