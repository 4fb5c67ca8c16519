"""Live through one world again and see all that happens in it: `python -m tests.ledger.sim.again SEED`."""

from __future__ import annotations

import sys

from tests.ledger.sim.judge import Judge
from tests.ledger.sim.postgres import Session
from tests.ledger.sim.storm import storm
from tests.ledger.sim.world import World


def again(seed: int) -> None:
    """Print what happens in a world, statement by statement, and judge it. Raises: `Violation`."""
    world = World(seed)

    def tell(what: str) -> None:
        print(f"{world.loop.now_s:10.4f} {what}")

    def statement(session: Session, sql: str) -> None:
        owner = session.owner.name if session.owner else ""
        tell(f"{owner} {session.name.removeprefix('holdfast ledger ')}: {' '.join(sql.split())[:80]}")

    world.tell, world.postgres.before_statement = tell, statement
    Judge(world.run(storm)).judge()


if __name__ == "__main__":
    again(int(sys.argv[1]))
