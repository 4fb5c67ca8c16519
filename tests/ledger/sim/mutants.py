"""Ways to break the writer's protocol, one rule each: what the judge must notice.

Some leave out a condition of the schema, the others a step of the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from holdfast.domains.ledger.errors import CommitUnknown, WriterAway
from holdfast.domains.ledger.forward import line
from holdfast.domains.ledger.rules.book import Book
from holdfast.domains.ledger.rules.seen import Seen
from holdfast.domains.ledger.store import seats
from holdfast.domains.ledger.store.head import Head
from holdfast.domains.ledger.writer import batch, lane
from holdfast.domains.ledger.writer.commit import Committer
from tests.ledger.sim.storm import storm
from tests.ledger.sim.world import World

Breaks = Callable[[World], Any]


class Mutant(NamedTuple):
    """How the rule is left out, and the faults that it is there for."""

    breaks: Breaks
    kinds: tuple[str, ...]
    deaf_s: float | None = None

    async def storm(self, world: World) -> None:
        await storm(world, self.kinds, self.deaf_s)


@contextmanager
def _schema(world: World, *rules: str) -> Iterator[None]:
    world.postgres.broken = frozenset(rules)
    yield


def _without_epoch(world: World) -> Any:
    """A commit need not name the epoch that was elected last."""
    return _schema(world, "fence_epoch")


def _without_fence(world: World) -> Any:
    """A commit need name neither the epoch nor the commit before it."""
    return _schema(world, "fence_epoch", "fence_commits", "notes")


def _without_lease(world: World) -> Any:
    """Whoever looks takes the seat, whether the writer lives or not."""
    return _schema(world, "lease")


def _without_ending_sessions(world: World) -> Any:
    """Who finds out whether a commit happened leaves the lost session alone."""
    return _schema(world, "end_own")


def _without_finding_out(_: World) -> Any:
    """A commit whose answer was lost counts as one that did not happen."""

    async def find_out(self: Committer, after: Head) -> bool:
        return False

    return patch.object(Committer, "_find_out", find_out)


def _without_doubt(_: World) -> Any:
    """What was sent and not answered counts as not sent."""
    return patch.object(line, "CommitUnknown", lambda *_: WriterAway())


def _without_undo(_: World) -> Any:
    """What was decided for a commit that failed is not taken back."""
    return patch.object(Book, "undo", lambda *_: None)


def _without_fence_of_accounts(_: World) -> Any:
    """Accounts and segments change whoever writes by now."""

    async def nothing(*_: object) -> None:
        return

    return patch.object(seats, "hold", nothing)


def _without_seen(_: World) -> Any:
    """Ids count as new."""
    return patch.object(Seen, "maybe", lambda *_: [])


def _without_waiting_for_the_commit(_: World) -> Any:
    """Callers are told when their batch is sent."""

    async def commit(self: Committer, of: batch.Batch) -> None:
        try:
            await real(self, of)
        finally:
            for job in of.jobs:
                if isinstance(job.error, CommitUnknown | WriterAway):
                    job.error = None
                    job.settled = True

    real = Committer.commit
    return patch.object(Committer, "commit", commit)


def _without_time(_: World) -> Any:
    """Each writer stamps by its own clock, also when that lags behind the last batch."""

    def take(self: lane.Lane) -> batch.Batch:
        made = real(self)
        return batch.Batch(made.jobs, self._clock.now())

    real = lane.Lane._take
    return patch.object(lane.Lane, "_take", take)


EVERY: dict[str, Mutant] = {
    "the epoch in a commit": Mutant(_without_epoch, ("stall_database", "slow_network"), 6.0),
    "the fence": Mutant(_without_fence, ("stall_database", "slow_network"), 6.0),
    "the lease": Mutant(_without_lease, ("stop",)),
    "ending the lost session": Mutant(_without_ending_sessions, ("break_sending",)),
    "finding out": Mutant(_without_finding_out, ("break_sending",)),
    "doubt after sending": Mutant(_without_doubt, ("cut_forwarding",)),
    "taking back": Mutant(_without_undo, ("slow_commits",)),
    "the fence of accounts": Mutant(_without_fence_of_accounts, ("stop",), 6.0),
    "knowing ids": Mutant(_without_seen, ("kill",)),
    "waiting for the commit": Mutant(_without_waiting_for_the_commit, ("cut_database", "kill")),
    "time that never goes back": Mutant(_without_time, ("kill", "close_in_order")),
}
