"""The commit lane: callers that arrive together share one durable commit.

There is no timer. Whoever arrives while a batch is under way is in the next one, so that batches are small
when there is little to do and large when there is much. Where enough have gathered, a second batch may be
under way on a connection of its own (`commits_max`), so that the database works while this process makes the
next ones ready; the two keep each other's order by locks, as two processes do. A batch is one transaction:

    guards -> transfers -> rows of other domains -> commit

and in the usual case one exchange with the database: sent as if every guard held and no transfer could be
refused, by statements that raise when that is not so. Then guards and transfers are looked at first, and
what follows is sent after. When a batch fails
with an error of the database it is tried once more (two processes may have met), and then its units are
committed one by one, so that only the unit at fault is told. While the database works on a full batch, the
next full one is packed; and a batch is sent before the callers of the one before it are told.

When the connection breaks while the commit is under way, the lane finds out what happened: it takes a lock
that the lost transaction must have held, so the transaction is over, and looks for a transfer of the batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import psycopg

from holdfast.base.clock import Clock, SystemClock
from holdfast.base.errors import HoldfastError, Unavailable
from holdfast.base.limits import (
    BATCH_TRANSFERS_MAX,
    LANE_BATCH_UNITS_MAX,
    LANE_OVERLAP_UNITS_MIN,
    LANE_QUEUE_UNITS_MAX,
    LINKED_TRANSFERS_MAX,
)
from holdfast.domains.ledger.checks import check_transfer
from holdfast.domains.ledger.errors import ChainTooLong, CommitUnknown, LaneFull, WriteRejected
from holdfast.domains.ledger.lane_batch import (
    BEGIN,
    COMMIT,
    NO_UNIT,
    NOTHING,
    Batch,
    Job,
    Owners,
    fail,
    guards,
    writes,
)
from holdfast.domains.ledger.model import Outcome, Posting, Unit, UnitOutcome
from holdfast.domains.ledger.store import posting, reading
from holdfast.domains.ledger.store.batch import Group, Plan
from holdfast.platform.db import Connection, Database, DatabaseUnavailable
from holdfast.platform.exchange import Command, Rows, exchange

_FIND_OUT_TRIES: Final = 5
_FIND_OUT_PAUSE_S: Final = 1.0
_TRIES_MAX: Final = 2
_GUESS_LOST: Final = frozenset({posting.NEEDS_A_CLOSER_LOOK, "23505"})
"""What is raised by a batch sent in one go that needs a closer look: by posting, or by a guard's index."""
_CAUTIOUS_BATCHES: Final = 16
"""After a refusal, so many batches are not sent with their commit.

Refusals come in crowds, and a lost guess costs a batch.
"""
_ROLLBACK: Final[Command] = ("rollback", ())


class _ConnectionLost(Exception):
    """The connection broke. `committing`: the commit was sent, so it may have happened."""

    def __init__(self, *, committing: bool) -> None:
        self.committing = committing


@dataclass(slots=True)
class _Ahead:
    """Where a batch that was made ready ahead lies. `open`: until whoever takes it has looked."""

    batch: Batch = NOTHING
    open: bool = True


class GroupCommitLane:
    """The `CommitLane` on PostgreSQL.

    One for each process is enough; several processes keep each other's order by locks.

    `batch_transfers_max` bounds the transfers of one commit (a benchmark sets it); `commits_max` how many
    are under way at a time.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock | None = None,
        *,
        batch_transfers_max: int = BATCH_TRANSFERS_MAX,
        commits_max: int = 1,
    ) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self._batch_transfers_max = batch_transfers_max
        self._queue: deque[Job] = deque()
        self._waiting_transfers = 0
        self._commits_max = commits_max
        self._runners: set[asyncio.Task[None]] = set()
        self._cautious = 0
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
        outcome, _ = await self._enqueue((Group(transfers),) if transfers else (), unit, len(transfers))
        return outcome

    async def post(self, groups: Sequence[Group]) -> list[Posting]:
        """Post chains of transfers in one durable commit; an answer for each transfer."""
        _, postings = await self._enqueue(tuple(groups), NO_UNIT, sum(len(g.transfers) for g in groups))
        return [p for group in postings for p in group]

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._runners:
            await asyncio.wait(self._runners)

    def _enqueue(
        self, groups: tuple[Group, ...], unit: Unit, count: int
    ) -> asyncio.Future[tuple[UnitOutcome, list[list[Posting]]]]:
        if len(self._queue) >= LANE_QUEUE_UNITS_MAX:
            raise LaneFull(retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[UnitOutcome, list[list[Posting]]]] = loop.create_future()
        self._queue.append(Job(groups, unit, done, count))
        self._waiting_transfers += count
        if len(self._runners) < self._commits_max and self._worth_a_commit(running=len(self._runners)):
            runner = loop.create_task(self._run())
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)
        return done

    def _worth_a_commit(self, *, running: int) -> bool:
        """Tell whether what waits is begun beside `running` batches, or left for when one of them ends."""
        return len(self._queue) >= (LANE_OVERLAP_UNITS_MIN if running else 1)

    async def _run(self) -> None:
        try:
            while self._worth_a_commit(running=len(self._runners) - 1):
                try:
                    async with self._database.connection() as connection:
                        await self._drive(connection)
                except DatabaseUnavailable as error:
                    if len(self._runners) > 1:
                        return  # another has a connection, and goes on with what waits
                    left = Batch(list(self._queue), None)
                    self._queue.clear()
                    self._waiting_transfers = 0
                    for job in left.jobs:
                        fail(job, error)
                    left.tell()
        finally:  # at once: whoever comes next must not take this one for running
            runner = asyncio.current_task()
            if runner is not None:
                self._runners.discard(runner)

    async def _drive(self, connection: Connection) -> None:
        """Commit batch after batch on one connection until nothing is left or it breaks.

        The next batch is sent before the callers of the last are told: what they do then, they do while the
        database works. Nothing else runs in between, so they wait for that sending alone.
        """
        batch, last, told = self._take(), NOTHING, NOTHING
        ahead = _Ahead()
        try:
            while batch.jobs:
                told, last, batch, ahead = last, batch, NOTHING, _Ahead()
                last.on_sent = partial(self._sent, told, ahead)
                await self._commit_batch(connection, last)
                told.tell()
                batch, ahead.open = ahead.batch, False
                if connection.closed:
                    return
                if not batch.jobs and self._worth_a_commit(running=len(self._runners) - 1):
                    batch = self._take()
        finally:
            ahead.open = False
            for lost in (batch, ahead.batch):
                for job in lost.jobs:
                    fail(job, DatabaseUnavailable())
                lost.tell()
            told.tell()
            last.tell()

    def _sent(self, told: Batch, ahead: _Ahead) -> None:
        """A batch is on its way: tell the callers of the one before, then make the next one ready."""
        told.tell()
        asyncio.get_running_loop().call_soon(self._take_ahead, ahead)

    def _take_ahead(self, ahead: _Ahead) -> None:
        """Take and pack the next batch, if a full one waits, while the database works on another."""
        if ahead.open and not ahead.batch.jobs and self._waiting_transfers >= self._batch_transfers_max:
            ahead.batch = self._take()
            ahead.batch.pack()

    def _take(self) -> Batch:
        """Take what fits one commit, in order.

        Stop before a unit that guards what an earlier one of the batch guards.
        """
        jobs: list[Job] = []
        keys: set[Hashable] = set()
        count = 0
        while self._queue and len(jobs) < LANE_BATCH_UNITS_MAX:
            job = self._queue[0]
            guards = job.unit.guards
            if jobs and count + job.count > self._batch_transfers_max:
                break
            if guards:
                own = {guard.key for guard in guards}
                if not keys.isdisjoint(own):
                    break
                keys |= own
            self._queue.popleft()
            self._waiting_transfers -= job.count
            if not job.done.cancelled():
                jobs.append(job)
                count += job.count
        return self._batch(jobs)

    def _batch(self, jobs: list[Job]) -> Batch:
        """Make a batch ready to send."""
        groups = [group for job in jobs for group in job.groups]
        plan = Plan(groups, self._clock.now()) if groups else None
        return Batch(jobs, plan)

    async def _commit_batch(self, connection: Connection, batch: Batch) -> None:
        """Commit a batch; when that fails, its jobs one by one. Every job is settled afterwards."""
        jobs = batch.jobs
        try:
            if not await self._try_commit(connection, batch):
                for job in jobs:
                    batch = self._batch([job])
                    await self._try_commit(connection, batch)
        except _ConnectionLost as lost:
            await self._after_loss([job for job in jobs if not job.settled], committing=lost.committing)
        except BaseException as error:
            unsure = CommitUnknown() if batch.committing else Unavailable()
            for job in jobs:
                fail(job, error if isinstance(error, HoldfastError) else unsure)
            if not isinstance(error, HoldfastError):
                raise

    async def _try_commit(self, connection: Connection, batch: Batch) -> bool:
        """Commit a batch and answer its jobs; False when the database refused twice.

        Raises: `_ConnectionLost`.
        """
        error: psycopg.Error | None = None
        tries = 0
        while tries < _TRIES_MAX:
            batch.forget()
            try:
                await self._attempt(connection, batch)
            except psycopg.Error as raised:
                error = raised
                await _roll_back(connection, committing=batch.committing)
                if raised.sqlstate in _GUESS_LOST and not batch.looked_at:
                    batch.looked_at = True
                    self._cautious = _CAUTIOUS_BATCHES
                else:
                    tries += 1
            else:
                self.batches += 1
                for job in batch.jobs:
                    job.settled = True
                return True
        if len(batch.jobs) == 1:
            rejected = WriteRejected(f"A row could not be written: {error}".splitlines()[0])
            rejected.__cause__ = error
            fail(batch.jobs[0], rejected)
            return True
        return False

    async def _attempt(self, connection: Connection, batch: Batch) -> None:
        """Run one transaction.

        All at once when every guard can be sent so and refusals are rare, else in two exchanges or more. What
        is guarded and moves nothing is never sent so: were the connection lost, nobody could find out.
        """
        jobs, plan = batch.jobs, batch.plan
        sure = all(plan and guard.statement.sure for job in jobs for guard in job.unit.guards)
        if sure and not batch.looked_at and (plan is None or plan.plain) and not self._cautious:
            commands = batch.pack()
            batch.expect_all_posted()
            batch.committing = True
            await batch.exchange(connection, commands)
            return
        self._cautious = max(0, self._cautious - 1)
        await self._guarded(connection, batch)
        batch.committing = True
        await exchange(connection, [*writes(jobs), COMMIT])

    async def _guarded(self, connection: Connection, batch: Batch) -> None:
        """Check guards and post, first as if every guard held; when one does not, again, step by step."""
        jobs, plan = batch.jobs, batch.plan
        checks = guards(jobs, claims=None)
        post = [] if plan is None else [(posting.POST, plan.parameters(strict=False))]
        results = await batch.exchange(connection, [BEGIN, *(command for command, _ in checks), *post])
        failed = [_mark_failed(owners, rows) for (_, owners), rows in zip(checks, results[1:], strict=False)]
        if any(failed):
            await exchange(connection, [_ROLLBACK])
            jobs, plan, results = await self._step_by_step(connection, batch)
        if plan is not None:
            await _settle(connection, jobs, plan, results[-1])

    async def _step_by_step(
        self, connection: Connection, batch: Batch
    ) -> tuple[list[Job], Plan | None, list[Rows]]:
        """Check claims only for units whose other guards hold; post only for units that are left."""
        batch.forget()
        begin = [BEGIN]
        for claims in (False, True):
            checks = guards([job for job in batch.jobs if job.guard_failed is None], claims=claims)
            results = await exchange(connection, [*begin, *(command for command, _ in checks)])
            for (_, owners), rows in zip(checks, results[len(begin) :], strict=True):
                _mark_failed(owners, rows)
            begin = []
        left = self._batch([job for job in batch.jobs if job.guard_failed is None])
        if left.plan is None:
            return left.jobs, None, []
        return (
            left.jobs,
            left.plan,
            await exchange(connection, [(posting.POST, left.plan.parameters(strict=False))]),
        )

    async def _after_loss(self, jobs: list[Job], *, committing: bool) -> None:
        """Answer jobs whose connection broke: nothing has moved, or what the tables say, or unknown."""
        seen = await self._find_out(jobs) if committing else False
        for job in jobs:
            if seen is None:
                fail(job, CommitUnknown())
            elif seen:
                job.settled = True
            else:
                fail(job, DatabaseUnavailable())

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


def _mark_failed(owners: Owners, rows: Rows) -> bool:
    """Mark the jobs whose guard does not hold; the first guard of a unit that fails is the one reported."""
    holding = {row[0] for row in rows.all()}
    if len(holding) == len(owners):
        return False
    for place, (job, position) in enumerate(owners, 1):
        if place not in holding and (job.guard_failed is None or position < job.guard_failed):
            job.guard_failed = position
    return True


async def _settle(connection: Connection, jobs: Sequence[Job], plan: Plan, posted: Rows) -> None:
    """Give each job its postings."""
    answer = posting.answer_of(posted)
    if answer.clean:
        Batch(list(jobs), plan).expect_all_posted()
        return
    answers = await posting.settle(connection, plan, answer)
    start = 0
    for job in jobs:
        job.postings = answers[start : start + len(job.groups)]
        job.moved = all(p.outcome <= Outcome.EXISTS for group in job.postings for p in group)
        start += len(job.groups)
