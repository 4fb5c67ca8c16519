"""The writer is broken off at each await and at each statement, and nothing is lost, doubled or wrong.

A scenario of mixed calls is lived through once for each of its steps; see `every_step`. `make test` takes
some of the steps, `make soak` all of them.
"""

from __future__ import annotations

from unittest.mock import patch

import pytest

from holdfast.domains.ledger.store.head import Head
from holdfast.domains.ledger.writer.commit import Committer
from tests.ledger.sim.every_step import Fault, Where, broken, steps_of

SEED = 1
SOAK_SEEDS = range(1, 9)
EVERY = 5
"""`make test` takes each fifth step."""
FAULTS: list[tuple[Where, Fault]] = [
    ("step", "kill"),
    ("step", "stop"),
    ("statement", "kill"),
    ("statement", "cut"),
    ("statement", "lose the answer"),
    ("statement", "crash the database"),
]
WHO = pytest.mark.parametrize("second", [False, True], ids=["the writer", "the one that takes over"])
WHAT = pytest.mark.parametrize(("where", "fault"), FAULTS, ids=[f"{f} at a {w}" for w, f in FAULTS])


@WHO
@WHAT
def test_a_writer_can_be_broken_off_anywhere(where: Where, fault: Fault, second: bool) -> None:
    steps = steps_of(SEED, where, fault, second=second)
    assert steps > 30
    found = broken(SEED, where, fault, range(0, steps, EVERY), second=second)
    assert not found, "\n".join(found)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SOAK_SEEDS)
@WHO
@WHAT
def test_a_writer_can_be_broken_off_everywhere(where: Where, fault: Fault, second: bool, seed: int) -> None:
    steps = steps_of(seed, where, fault, second=second)
    found = broken(seed, where, fault, range(steps), second=second)
    assert not found, "\n".join(found[:20])


def test_a_writer_that_guesses_is_noticed() -> None:
    """One that takes a commit whose answer was lost for one that did not happen."""

    async def guess(_: Committer, __: Head) -> bool:
        return False

    steps = steps_of(SEED, "statement", "lose the answer")
    with patch.object(Committer, "_find_out", guess):
        assert broken(SEED, "statement", "lose the answer", range(steps))
