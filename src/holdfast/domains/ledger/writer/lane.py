"""The commit lane: callers that arrive together share one durable commit. It runs in the one writer.

There is no timer. Whoever arrives while a batch is under way is in the next one, so that batches are small
when there is little to do and large when there is much. A batch is decided in memory and then is one
transaction:

    guards -> transfers -> head -> rows of other domains -> commit

While the database works on a full batch, the arrays of the next full one are made; and a batch is sent before
the callers of the one before it are told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, cast

from holdfast.base.clock import Clock
from holdfast.base.limits import (
    BATCH_TRANSFERS_MAX,
    LANE_BATCH_UNITS_MAX,
    LANE_QUEUE_UNITS_MAX,
    LEDGER_DEADLINE_S,
)
from holdfast.domains.ledger.errors import CommitUnknown, LaneFull, WriterAway
from holdfast.domains.ledger.model import Group, Posting, Unit, UnitOutcome
from holdfast.domains.ledger.rules.columns import ColumnOutcomes, Columns
from holdfast.domains.ledger.writer.batch import NO_UNIT, Answer, Batch, Job
from holdfast.domains.ledger.writer.commit import Committer
from holdfast.platform import metrics
from holdfast.platform.log import logger

_log: Final = logger(__name__)
_SWEEP_S: Final = 0.25
"""How often deadlines are looked at."""
_HALVED_UNITS: Final = 32
"""Where so many units wait, a batch takes half of them. If it took all, then those who submit again after
their answer would all wait for one commit, and the database for them: they would work in turns."""


class Lane:
    """Gathers units into batches and has them committed, in order.

    `batch_transfers_max` bounds the transfers of one commit (a benchmark sets it). `ended` is set when the
    lane commits no more, for whatever reason.
    """

    def __init__(
        self, committer: Committer, clock: Clock, *, batch_transfers_max: int = BATCH_TRANSFERS_MAX
    ) -> None:
        self.committer = committer
        self.ended = asyncio.Event()
        self._clock = clock
        self._latest = committer.head.at
        self._batch_transfers_max = batch_transfers_max
        self._queue: deque[Job] = deque()
        self._waiting_transfers = 0
        self._runner: asyncio.Task[None] | None = None
        self._under_way: list[Job] = []
        self._told: Batch | None = None
        """The batch that is committed, whose callers are told when the next one is on its way."""
        self._ahead: Batch | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()
        self._changes = 0
        """How many wait for the lane to hold still, or hold it."""

    @property
    def waiting(self) -> int:
        """Units that wait for their commit."""
        return len(self._queue)

    async def submit(self, unit: Unit, deadline_s: float = LEDGER_DEADLINE_S) -> UnitOutcome:
        """Commit `unit` and return what became of it, after the durable commit.

        Raises: `LaneFull`, `WriterAway` (nothing has moved), `CommitUnknown`, `WriteRejected`.
        """
        transfers = unit.transfers
        groups = (Group(transfers),) if transfers else ()
        return cast("UnitOutcome", await self._enqueue(groups, unit, len(transfers), deadline_s))

    async def post(self, groups: Sequence[Group], deadline_s: float = LEDGER_DEADLINE_S) -> list[Posting]:
        """Post chains of transfers in one durable commit; an answer for each. Raises: as `submit`."""
        count = sum(len(g.transfers) for g in groups)
        return cast("list[Posting]", await self._enqueue(tuple(groups), NO_UNIT, count, deadline_s))

    async def post_columns(self, columns: Columns, deadline_s: float = LEDGER_DEADLINE_S) -> ColumnOutcomes:
        """Post plain transfers in one durable commit of their own. Raises: as `submit`."""
        done = self._enqueue((), NO_UNIT, len(columns), deadline_s, columns)
        return cast("ColumnOutcomes", await done)

    @asynccontextmanager
    async def still(self) -> AsyncIterator[Committer]:
        """Hold the lane between two commits, for what changes accounts. Raises: `WriterAway`."""
        self._changes += 1
        try:
            async with self._turn:
                if self.ended.is_set():
                    raise WriterAway
                yield self.committer
        finally:
            self._changes -= 1

    async def close(self) -> None:
        """Take nothing new, commit what is waiting, then end."""
        self.ended.set()
        while self._runner is not None:
            await asyncio.wait([self._runner])
        await self._end()

    def _enqueue(
        self, groups: tuple[Group, ...], unit: Unit, count: int, deadline_s: float,
        columns: Columns | None = None,
    ) -> asyncio.Future[Answer]:  # fmt: skip
        if self.ended.is_set():
            raise WriterAway
        if len(self._queue) >= LANE_QUEUE_UNITS_MAX:
            metrics.LEDGER_FULL.add()
            raise LaneFull(retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Answer] = loop.create_future()
        self._queue.append(Job(groups, unit, done, count, loop.time() + deadline_s, columns=columns))
        self._waiting_transfers += count
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        if self._sweeping is None:
            self._sweeping = loop.call_later(_SWEEP_S, self._sweep)
        return done

    def _sweep(self) -> None:
        """Answer those whose time is over: what waits has not moved, of what is under way nobody knows."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._told is not None:
            self._told.tell()  # the next one does not get away: it waits for something to be looked up
        waiting = (*self._queue, *(self._ahead.jobs if self._ahead else ()))
        for jobs, error in ((self._under_way, CommitUnknown), (waiting, WriterAway)):
            for job in jobs:
                if job.deadline <= now and not job.done.done():
                    job.done.set_exception(error())
        busy = self._runner is not None
        self._sweeping = loop.call_later(_SWEEP_S, self._sweep) if busy else None

    async def _run(self) -> None:
        """Commit batch after batch until nothing is left."""
        told = batch = Batch([], self._latest)
        try:
            batch = self._take()
            while batch.jobs and not self.committer.ended:
                batch.on_sent, self._told = partial(self._sent, told), told
                self._under_way = batch.jobs
                if self._changes:
                    told.tell()  # whoever is committed does not wait for accounts to change
                async with self._turn:
                    await self.committer.commit(batch)
                told.tell()
                told = batch
                batch = self._next()
        except BaseException as error:
            self.committer.ended = True  # the next writer begins from what the tables say
            if not isinstance(error, Exception):
                raise
            _log.exception("the ledger's commit lane broke off")
        finally:
            self._runner = self._told = None
            self._under_way = []
            told.tell()
            batch.tell()  # what is settled of one that broke off; the rest of it waits again
            again = [*batch.jobs, *(self._ahead.jobs if self._ahead else ())]
            self._ahead = None
            self._queue.extendleft(reversed(again))
            self._waiting_transfers += sum(job.count for job in again)
            if self.committer.ended:
                await self._end()

    async def _end(self) -> None:
        self.ended.set()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for job in self._queue:
            if not job.done.done():
                job.done.set_exception(job.error or WriterAway())
        self._queue.clear()
        self._waiting_transfers = 0
        await self.committer.close()

    def _sent(self, told: Batch) -> None:
        """A batch is on its way: tell the callers of the one before, then make the next one ready."""
        told.tell()
        asyncio.get_running_loop().call_soon(self._take_ahead)

    def _take_ahead(self) -> None:
        """While the database works on a batch, catch up, and make the next one ready, if a full one waits."""
        book = self.committer.book
        book.catch_up()
        self.committer.behind.recent.catch_up()
        full = self._waiting_transfers >= self._batch_transfers_max
        full = full or bool(self._queue and self._queue[0].columns is not None)
        if full and self._ahead is None and self._runner is not None:
            self._ahead = self._take()
            self._ahead.prepare()
            self._ahead.form(book)

    def _next(self) -> Batch:
        """Return the batch that was made ready, if all its callers still wait, or take one."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return self._take()
        waiting = [job for job in ahead.jobs if not job.done.done()]
        if len(waiting) == len(ahead.jobs):
            return ahead
        return ahead.of(waiting) if waiting else self._take()

    def _take(self) -> Batch:
        """Take what fits one commit, in order, or half of it. Its time is never before that of any batch.

        Stop before a unit that guards what an earlier one of the batch guards.
        """
        jobs: list[Job] = []
        keys: set[Hashable] = set()
        count = 0
        waiting = len(self._queue)
        most = min(waiting if waiting < _HALVED_UNITS else waiting // 2, LANE_BATCH_UNITS_MAX)
        while self._queue and len(jobs) < most:
            job = self._queue[0]
            if job.done.done():  # its time was over: what it guards is nobody's concern any more
                self._queue.popleft()
                self._waiting_transfers -= job.count
                continue
            guards = job.unit.guards
            alone = job.columns is not None or (bool(jobs) and jobs[0].columns is not None)
            if jobs and (alone or count + job.count > self._batch_transfers_max):
                break
            if guards:
                own = {guard.key for guard in guards}
                if not keys.isdisjoint(own):
                    break
                keys |= own
            self._queue.popleft()
            self._waiting_transfers -= job.count
            jobs.append(job)
            count += job.count
        self._latest = max(self._latest, self._clock.now())
        return Batch(jobs, self._latest)
