"""The simulation can fail: every rule that is left out is noticed, in a world that is sound with it."""

from __future__ import annotations

import pytest

from tests.ledger.sim.judge import Judge, Violation
from tests.ledger.sim.mutants import EVERY, Mutant
from tests.ledger.sim.world import World

MUTANT_SEEDS = 100


def violation(seed: int, mutant: Mutant, *, broken: bool) -> str | None:
    """Live through the faults that a rule is there for, and return what did not hold."""
    world = World(seed)
    try:
        if broken:
            with mutant.breaks(world):
                world.run(mutant.storm)
        else:
            world.run(mutant.storm)
        Judge(world).judge()
    except Violation as error:
        return str(error)
    return None


@pytest.mark.parametrize("rule", EVERY)
def test_leaving_out_a_rule_is_noticed(rule: str) -> None:
    mutant = EVERY[rule]
    for seed in range(MUTANT_SEEDS):
        found = violation(seed, mutant, broken=True)
        if found is not None:
            print(f"without {rule}, seed {seed}: {found}")
            assert violation(seed, mutant, broken=False) is None
            return
    pytest.fail(f"{MUTANT_SEEDS} worlds without {rule} looked fine")
