"""Carrying a batch to the tables, as the one writer: decide in memory, append, commit, or take it all back.

In the usual case a batch is one exchange with the database, sent as if every guard held, by statements that
raise when that is not so; then guards are looked at first, and what follows is decided and sent after. When a
batch fails with an error of the database it is tried once more, and then its units are committed one by one,
so that only the unit at fault is told.

The head's row fences: a commit names its epoch and the commit before it. When the connection breaks while a
commit is under way, the lost session is ended, the head is read, and so it is known whether the commit
happened. The committer is at its end then: whoever owns it begins again from what the tables say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import psycopg

from holdfast.base.errors import Broken, HoldfastError
from holdfast.base.ids import AccountId, uuid_of
from holdfast.domains.ledger.errors import CommitUnknown, WriterAway, WriteRejected
from holdfast.domains.ledger.model import Balance
from holdfast.domains.ledger.rules.book import NOT_LOOKED, Book, Decided
from holdfast.domains.ledger.store import append, lookup, seats
from holdfast.domains.ledger.store.head import Head
from holdfast.domains.ledger.writer.batch import (
    BEGIN,
    COMMIT,
    ROLLBACK,
    Batch,
    fail,
    guards,
    mark_failed,
    writes,
)
from holdfast.domains.ledger.writer.behind import Behind
from holdfast.platform import metrics
from holdfast.platform.db import Connection, gone
from holdfast.platform.exchange import Command, Rows, Script, exchange, run_script

_FIND_OUT_TRIES: Final = 10
_FIND_OUT_PAUSE_S: Final = 0.5
_TRIES_MAX: Final = 2
_UNIQUE: Final = "23505"
"""What a guard's index raises, for a batch sent in one go that needs a closer look."""


class Committer:
    """Commits one batch after the other on one connection, which it owns.

    `connect` opens another session of the same writer. Once `ended`, it commits no more.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        connection: Connection,
        book: Book,
        head: Head,
        behind: Behind,
    ) -> None:
        self.book = book
        self.head = head
        self.connection = connection
        self.behind = behind
        self.ended = False
        self.batches = 0
        """Batches committed so far, for metrics."""
        self.under_way: Decided | None = None
        """What is decided and not committed yet."""
        self._connect = connect

    async def commit(self, batch: Batch) -> None:
        """Commit a batch; when that fails, its jobs one by one. Every job is settled afterwards."""
        try:
            if not await self._try(batch):
                for job in batch.jobs:
                    if not self.ended:
                        await self._try(batch.of([job]))
        except BaseException as error:
            self.ended = True
            for job in batch.jobs:
                fail(job, error if isinstance(error, HoldfastError) else CommitUnknown())
            if not isinstance(error, HoldfastError):
                raise
        finally:
            if self.ended:
                for job in batch.jobs:
                    fail(job, WriterAway())

    def balances(self, numbers: Iterable[AccountId]) -> dict[AccountId, Balance]:
        """Return balances as they are committed; an account that does not exist is left out."""
        if self.under_way is not None:
            return self.book.balances_after(self.under_way, 0, numbers)
        found = {number: self.book.balance(number) for number in numbers}
        return {number: balance for number, balance in found.items() if balance is not None}

    async def close(self) -> None:
        """Commit no more."""
        self.ended = True
        await self.connection.close()

    async def _try(self, batch: Batch) -> bool:
        """Commit a batch and settle its jobs; False when the database refused it twice."""
        if gone(self.connection):
            self.ended = True
            return True
        batch.prepare()
        careful = not batch.sure
        tries = 0
        error: psycopg.Error | None = None
        while tries < _TRIES_MAX:
            for job in batch.jobs:
                job.guard_failed = None
            attempt = _Attempt(self, batch)
            try:
                await (attempt.careful() if careful else attempt.at_once())
            except Broken as raised:  # a row that cannot be packed: nothing was sent of it
                if not await self._back(attempt):
                    self.ended = True
                    return True
                if len(batch.jobs) == 1:
                    fail(batch.jobs[0], raised)
                return len(batch.jobs) == 1
            except psycopg.Error as raised:
                error = raised
                if not await self._after_failure(attempt, raised):
                    return True
                if raised.sqlstate == _UNIQUE and not careful:
                    careful = True
                else:
                    tries += 1
            else:
                self._keep(attempt)
                return True
        if len(batch.jobs) == 1:
            rejected = WriteRejected(f"A row could not be written: {error}".splitlines()[0])
            rejected.__cause__ = error
            fail(batch.jobs[0], rejected)
            return True
        return False

    def _keep(self, attempt: _Attempt) -> None:
        self.batches += 1
        self.under_way = None
        metrics.LEDGER_COMMIT_S.observe(asyncio.get_running_loop().time() - attempt.started_s)
        self.head = attempt.after
        for job in attempt.batch.jobs:
            job.settled = True
        if attempt.decided is not None:
            self.behind.note(self.book, attempt.decided, self.head)
            metrics.LEDGER_BATCH.observe(len(attempt.decided.rows))

    async def _back(self, attempt: _Attempt) -> bool:
        """Roll a transaction back, and take back what was decided; False when the connection is gone."""
        if self.connection.closed:
            return False
        try:
            await exchange(self.connection, [ROLLBACK])
        except psycopg.Error:
            return False
        attempt.undo()
        return True

    async def _after_failure(self, attempt: _Attempt, error: psycopg.Error) -> bool:
        """Take back what was decided; False when all is over and the jobs are settled."""
        deposed = error.sqlstate == append.DEPOSED
        if not deposed and await self._back(attempt):
            return True
        happened = False if deposed or not attempt.committing else await self._find_out(attempt.after)
        for job in attempt.batch.jobs:
            if happened:
                job.settled = True
            else:
                fail(job, CommitUnknown() if happened is None else WriterAway())
        self.ended = True
        return False

    async def _find_out(self, after: Head) -> bool | None:
        """Tell whether a lost commit happened; None when it cannot be told."""
        for attempt in range(_FIND_OUT_TRIES):
            if attempt:
                await asyncio.sleep(_FIND_OUT_PAUSE_S)
            try:
                connection = await self._connect()
            except (psycopg.Error, HoldfastError):
                continue
            try:
                return await seats.committed(connection, after.epoch, after.commits)
            except psycopg.Error:
                continue
            finally:
                await connection.close()
        return None


class _Attempt:
    """One try to commit a batch."""

    __slots__ = ("_whole", "after", "batch", "committing", "decided", "started_s")

    def __init__(self, whole: Committer, batch: Batch) -> None:
        self._whole = whole
        self.batch = batch
        self.decided: Decided | None = None
        self.after = whole.head
        self.committing = False
        """The commit was sent, so it may have happened."""
        self.started_s = asyncio.get_running_loop().time()

    def undo(self) -> None:
        """Take back what was decided."""
        if self.decided is not None:
            self._whole.book.undo(self.decided)
            self.decided = self._whole.under_way = None

    async def at_once(self) -> None:
        """Decide, and send the whole transaction in one exchange."""
        jobs = self.batch.jobs
        checks = [command for command, _ in guards(jobs, claims=None, sure=True)]
        made = await self._decide(self.batch, every=False)
        self.committing = True
        if isinstance(made, Script):
            await run_script(self._whole.connection, made, self.batch.sent_once())
        else:
            await self._exchange([BEGIN, *checks, *made, *writes(jobs), COMMIT])

    async def careful(self) -> None:
        """Look at guards first, then decide what is left, and send that."""
        batch = self.batch
        checks = guards(batch.jobs, claims=None)
        results = await self._exchange([BEGIN, *(command for command, _ in checks)])
        failed = [mark_failed(owners, rows) for (_, owners), rows in zip(checks, results[1:], strict=True)]
        if any(failed):
            await self._exchange([ROLLBACK])
            await self._step_by_step()
            batch = batch.of([job for job in batch.jobs if job.guard_failed is None])
            batch.prepare()
        made = await self._decide(batch, every=True)
        if isinstance(made, Script):
            raise Broken("a script begins the transaction itself")
        self.committing = True
        await self._exchange([*made, *writes(batch.jobs), COMMIT])

    async def _step_by_step(self) -> None:
        """Check claims only for units whose other guards hold."""
        jobs = self.batch.jobs
        for job in jobs:
            job.guard_failed = None
        begin = [BEGIN]
        for claims in (False, True):
            checks = guards([job for job in jobs if job.guard_failed is None], claims=claims)
            results = await self._exchange([*begin, *(command for command, _ in checks)])
            for (_, owners), rows in zip(checks, results[len(begin) :], strict=True):
                mark_failed(owners, rows)
            begin = []

    async def _decide(self, batch: Batch, *, every: bool) -> list[Command] | Script:
        """Decide a batch and return what appends it. `every`: look up all its ids, in a transaction."""
        whole, plan = self._whole, batch.plan
        first_seq, early = whole.head.seq + 1, []
        if plan is not None:
            suspects, pending = batch.suspects or whole.book.suspects(plan)
            wanted = plan.ids if every else suspects
            looked = NOT_LOOKED
            if wanted or pending:
                looked = await lookup.look_up(whole.connection, map(uuid_of, wanted), pending)
            first_seq = await whole.behind.room(first_seq, plan.touched.count)
            if early := whole.book.seen.early(suspects, plan.now):
                whole.book.seen.add_early(early)
            self.decided = whole.under_way = whole.book.decide(plan, looked, batch.standing)
        batch.settle(self.decided)
        if self.decided is not None and any(job.unit.balances for job in batch.jobs):
            batch.note_balances(self.decided, whole.book)
        formed = batch.formed if self.decided is not None and self.decided.answers is None else None
        alone = not every and batch.alone
        made, self.after = append.commands(whole.head, self.decided, first_seq, early, formed, alone=alone)
        return made

    async def _exchange(self, commands: Sequence[Command]) -> list[Rows]:
        return await exchange(self._whole.connection, commands, self.batch.sent_once())
