"""One short scenario, broken off at each of its steps, one world for each.

A step is what a process does between two awaits; a statement is one that it has the database run. First the
scenario is lived through undisturbed and its steps are counted, then it is lived through again and again,
each time with a fault at the next one. Whoever is left takes over, what is left to ask is asked, and the
judge compares everything with the sequential model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from tests.ledger.sim.judge import Judge
from tests.ledger.sim.postgres import Session
from tests.ledger.sim.world import Process, World

Where = Literal["step", "statement"]
Fault = Literal["kill", "stop", "cut", "lose the answer", "crash the database"]
_CALLS = 12
_PAUSE_S = 0.05
_RESTARTS_S = 0.3
_STOPS_S = 1.9
_HEALS_S = 2.0
"""After so long everything that was broken works again."""


class Scenario:
    """Calls from two processes, and a fault at the `at`th step of the one that writes; `at` < 0: at none.

    `second`: the writer is killed in the middle, and the fault befalls the one that takes over.
    """

    def __init__(self, seed: int, where: Where, fault: Fault, at: int = -1, *, second: bool = False) -> None:
        self._where = where
        self._fault = fault
        self._at = at
        self._second = second
        self.counted = 0
        self._victim: Process | None = None
        self.world = World(seed, processes=3 if second else 2, callers=0)
        for process in self.world.processes:
            process.patience_s = 0.0 if process is self._heir else 0.2

    @property
    def _heir(self) -> Process:
        return self.world.processes[1 if self._second else 0]

    def run(self) -> Scenario:
        """Live through it. Raises: `Violation`."""
        self.world.run(self._act)
        Judge(self.world).judge()
        return self

    async def _act(self, world: World) -> None:
        if not self._second:
            self._watch(world.processes[0])
        asked = []
        for number in range(_CALLS):
            if self._second and number == _CALLS // 3:
                world.processes[0].kill()
                self._watch(world.processes[1])
            running = [p for p in world.processes if p.running and not p.gate.shut]
            process = running[number % len(running)]
            asked.append(process.do(world.make(world.asking.draw(process.name), process)))
            await asyncio.sleep(_PAUSE_S if number % 3 else 0.0)
        await asyncio.sleep(_PAUSE_S)
        self._unwatch()
        await asyncio.sleep(_HEALS_S)
        for process in world.processes:
            if not process.running:
                process.start()

    def _watch(self, victim: Process) -> None:
        self._victim = victim
        if self._where == "step":
            victim.gate.before_step = self._count
        else:
            self.world.postgres.before_statement = self._count_statement

    def _unwatch(self) -> None:
        self.world.postgres.before_statement = None
        if self._victim is not None:
            self._victim.gate.before_step = None

    def _count_statement(self, session: Session, _: str) -> None:
        if self._victim is not None and session.owner is self._victim.gate:
            self._count(session)

    def _count(self, session: Session | None = None) -> None:
        if self.counted == self._at and self._victim is not None:
            self._unwatch()
            self._befall(self._victim, session)
        self.counted += 1

    def _befall(self, victim: Process, session: Session | None) -> None:
        world = self.world
        later: Callable[..., object] = world.loop.later
        if self._fault == "kill":
            victim.kill()
            later(_RESTARTS_S, self._restart, victim)
        elif self._fault == "stop":
            victim.stop(_STOPS_S)
        elif self._fault == "cut":
            if session is not None:
                session.end()
        elif self._fault == "lose the answer":
            world.postgres.answers_lost = 1.0
        else:
            world.postgres.crash()
            later(_RESTARTS_S, world.postgres.restart)

    def _restart(self, victim: Process) -> None:
        if not victim.running:
            victim.start()


def steps_of(seed: int, where: Where, fault: Fault, *, second: bool = False) -> int:
    """Return how many steps there are at which something can happen."""
    return Scenario(seed, where, fault, second=second).run().counted


def broken(seed: int, where: Where, fault: Fault, every: range, *, second: bool = False) -> list[str]:
    """Live through the scenario with the fault at each of some steps, and return what did not hold."""
    found = []
    for at in every:
        try:
            Scenario(seed, where, fault, at, second=second).run()
        except Exception as error:  # noqa: BLE001 - whatever it is, how to repeat it is what is wanted
            how = f"Scenario({seed}, {where!r}, {fault!r}, {at}, second={second}).run()"
            found.append(f"{how}: {type(error).__name__}: {error}")
    return found
