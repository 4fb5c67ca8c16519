"""What befalls a world: faults drawn from its seed, one or several at a time, and then none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from holdfast.domains.ledger.store import behind
from tests.ledger.sim.world import Process, World

KINDS = (
    "stop",
    "kill",
    "cut_database",
    "break_sending",
    "stall_database",
    "terminate",
    "slow_commits",
    "slow_indexes",
    "no_indexes",
    "crash_database",
    "cut_forwarding",
    "part",
    "slow_network",
    "close_in_order",
)
QUIET_S = 0.6
STORM_S = 6.0


async def storm(world: World, kinds: Sequence[str] = (), deaf_s: float | None = None) -> None:
    """Let faults happen, of `kinds` or of those that the seed draws, and heal all of them.

    `deaf_s`: for how long at most a session goes on that the server was told to end.
    """
    await asyncio.sleep(QUIET_S)
    r = world.random
    faults = Faults(world)
    if not kinds:
        kinds = KINDS if r.random() < 0.5 else r.sample(KINDS, r.choice((1, 2, 3)))
    for _ in range(r.choice((1, 2, 4, 6, 9))):
        world.loop.later(r.uniform(0, STORM_S), faults.happen, r.choice(kinds))
    world.postgres.answers_lost = r.choice((0.0, 0.0, 0.01, 0.05))
    drawn_s = r.choice((0.0, 0.0, 0.2, 2.0))
    world.postgres.deaf_s = drawn_s if deaf_s is None else deaf_s
    await asyncio.sleep(STORM_S)
    await asyncio.sleep(faults.heal() - world.loop.time())
    while any(process.leaves for process in world.processes):
        await asyncio.sleep(0.02)


class Faults:
    """Everything that can go wrong outside. Each ends by itself, or when all is healed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._r: Random = world.random
        self._stormy = True
        self._ends_s = world.loop.time() + STORM_S

    def happen(self, kind: str) -> None:
        self._world.tell(f"FAULT {kind}")
        getattr(self, kind)()

    def _some(self) -> Process:
        """Draw a process, the writer more often than others."""
        writer = self._world.writer()
        return (
            writer if writer is not None and self._r.random() < 0.6 else self._r.choice(self._world.processes)
        )

    def _until_s(self, *lasts_s: float) -> float:
        """Draw when a fault that has begun ends: with the storm at the latest."""
        return min(self._world.loop.time() + self._r.choice(lasts_s), self._ends_s)

    def stop(self) -> None:
        self._some().stop(self._r.choice((0.05, 0.5, 1.3, 2.0, 4.0)))

    def kill(self) -> None:
        process = self._some()
        process.kill()
        self._world.loop.later(self._r.uniform(0.05, 2.5), self._start, process)

    def _start(self, process: Process) -> None:
        if not process.running:
            process.start()
            if self._stormy:
                self._world.let_in(process)

    def cut_database(self) -> None:
        database = self._some().database
        database.cut()
        database.refused_until_s = self._until_s(0.0, 0.0, 0.6, 2.0)

    def break_sending(self) -> None:
        self._some().database.breaks_sending = True

    def stall_database(self) -> None:
        self._some().database.held_until_s = self._until_s(0.1, 0.9, 2.5)

    def terminate(self) -> None:
        sessions = self._world.postgres.sessions
        if sessions:
            self._r.choice(sessions).terminate()

    def slow_commits(self) -> None:
        self._world.postgres.flush_s = self._r.choice((0.05, 0.4, 1.5))
        self._world.loop.later(self._r.uniform(0.2, 2.0), self._fast_commits)

    def _fast_commits(self) -> None:
        self._world.postgres.flush_s = 0.001

    def slow_indexes(self) -> None:
        self._world.postgres.slow_s = {behind._INDEX: self._r.choice((0.5, 2.0))}
        self._world.loop.later(self._r.uniform(1.0, 4.0), self._world.postgres.slow_s.clear)

    def no_indexes(self) -> None:
        self._world.postgres.fails.add(behind._INDEX)
        self._world.loop.later(self._r.uniform(1.0, 4.0), self._world.postgres.fails.clear)

    def crash_database(self) -> None:
        self._world.postgres.crash()
        self._world.loop.later(self._r.uniform(0.1, 1.5), self._world.postgres.restart)

    def cut_forwarding(self) -> None:
        self._world.network.cut(self._some().name)

    def part(self) -> None:
        one, other = self._r.sample(self._world.processes, 2)
        self._world.network.part(one.name, other.name, self._until_s(0.2, 1.0, 3.0))
        if self._r.random() < 0.3:
            self._world.loop.later(self._r.uniform(0, 1), self._world.network.cut, one.name, other.name)

    def slow_network(self) -> None:
        weather = self._r.choice((self._world.network.weather, *(p.weather for p in self._world.processes)))
        weather.slow_s, weather.slow_share = self._r.choice(((0.3, 0.1), (0.05, 0.5), (1.5, 0.03)))
        self._world.loop.later(self._r.uniform(0.5, 3.0), weather.calm)

    def close_in_order(self) -> None:
        process = self._some()
        if process.running and not process.gate.shut and not process.leaves:
            process.do(process.take_another_seat())

    def heal(self) -> float:
        """End every fault, and return when the last message that one delays arrives."""
        world = self._world
        world.tell("FAULTS END")
        self._stormy = False
        world.postgres.restart()
        world.postgres.flush_s, world.postgres.answers_lost = 0.001, 0.0
        world.postgres.deaf_s = 0.0
        world.postgres.slow_s = {}
        world.postgres.fails = set()
        world.network.heal()
        for process in world.processes:
            process.weather.calm()
            process.database.held_until_s = process.database.refused_until_s = 0.0
            process.database.breaks_sending = False
            world.loop.go_on(process.gate)
            self._start(process)
        latest_s = max(p.database.latest_s for p in world.processes)
        return max(world.loop.time(), latest_s, world.network.latest_s, world.postgres.latest_s)
