"""The same traffic and the same draw through what most systems do, with the charges that each keeps twice.

All three charge in one step, as payment interfaces do by default, on the payer's own order of instruments and
the scenario's order of rails, with each rail's timeout:

* `single`: one rail, one try. What is not answered is shown as failed.
* `retry`: the same rail again after 1 s, 2 s and 4 s whenever no definite answer came, each time as a new
  order with a new key, as integrations do that make a fresh order per try. (With the same key it would be
  safe, on rails that keep keys.)
* `blind`: on any error or timeout, and on a decline that is not the payer's own, the next way to pay, in
  order, until the deadline: the cascade of orchestrators that take a timeout for a no.

None of them asks afterwards what became of the requests that it gave up, so what arrives late stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

from holdfast.base.money import Money, asset
from holdfast.domains.payments.ports import Op, Order, Said
from holdfast.drills.draw import NEVER, Draw
from holdfast.drills.rails import SimulatedRail, moment, token
from holdfast.drills.reading import BALANCE
from holdfast.drills.virtual_time import VirtualLoop, run

RETRY_PAUSES_S = (1.0, 2.0, 4.0)
BALANCE_TAKES_S = 0.05
NAMES = ("single", "retry", "blind")


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """What a policy made of the traffic.

    `done_s`: when each payment was told to have succeeded, `NEVER` if not.

    `kept`: how many charges stay with each payment in the end. `charged_without_sale`: payments told to have
    failed that keep a charge.
    """

    name: str
    done_s: tuple[float, ...]
    kept: tuple[int, ...]

    @property
    def double_charges_kept(self) -> int:
        """Payments that keep more than one charge."""
        return sum(kept > 1 for kept in self.kept)

    @property
    def charged_without_sale(self) -> int:
        """Payments that were told to have failed and keep a charge."""
        return sum(kept > 0 and done == NEVER for kept, done in zip(self.kept, self.done_s, strict=True))


class _Ordinary:
    """An ordinary payment system in front of the simulated rails."""

    def __init__(self, draw: Draw, loop: VirtualLoop) -> None:
        self.draw = draw
        self.loop = loop
        self.asset = asset(draw.scenario.asset)
        self.rails = {
            plan.name: SimulatedRail(draw, plan, loop, at_once=True) for plan in draw.scenario.rails
        }
        self.from_balance = [0] * len(draw.arrive_s)
        self._orders = count(1)

    def ways(self, payment: int) -> list[tuple[str, str]]:
        """Return (rail, kind) in the payer's order, the balance being a way of its own."""
        ways: list[tuple[str, str]] = []
        for kind in self.draw.methods(payment):
            if kind == BALANCE:
                ways.append((BALANCE, BALANCE))
            else:
                ways += [(plan.name, kind) for plan in self.draw.scenario.rails if kind in plan.methods]
        return ways

    async def charge(self, payment: int, way: tuple[str, str]) -> Said:
        """Charge in one step and return what came back; `PENDING` is awaited until the rail's timeout."""
        rail, kind = way
        if rail == BALANCE:
            await self.loop.sleep(BALANCE_TAKES_S)
            if not self.draw.funds(payment, BALANCE):
                return Said.DECLINED
            self.from_balance[payment] += 1
            return Said.CAPTURED
        reference = f"order-{next(self._orders)}"
        until_s = self.loop.time() + self.rails[rail].plan.timeout_s
        money = Money(self.asset, self.draw.amount_minor[payment])

        async def ask(op: Op) -> Said:
            order = Order(op, reference, f"{reference}-{op}", money, token(payment, kind), moment(until_s))
            return (await self.rails[rail].send(order)).said

        said = await ask(Op.AUTHORIZE)
        while said is Said.PENDING and self.loop.time() + 1.0 < until_s:
            await self.loop.sleep(1.0)
            said = await ask(Op.QUERY)
        return said

    async def single(self, payment: int) -> bool:
        """One rail, one try."""
        return await self.charge(payment, self.ways(payment)[0]) is Said.CAPTURED

    async def retry(self, payment: int) -> bool:
        """The same rail again, as a new order."""
        way = self.ways(payment)[0]
        until_s = self.loop.time() + self.draw.scenario.deadline_s
        for pause_s in (*RETRY_PAUSES_S, NEVER):
            said = await self.charge(payment, way)
            if said in (Said.CAPTURED, Said.DECLINED):
                return said is Said.CAPTURED
            if self.loop.time() + pause_s >= until_s:
                break
            await self.loop.sleep(pause_s)
        return False

    async def blind(self, payment: int) -> bool:
        """The next way on anything but success."""
        until_s = self.loop.time() + self.draw.scenario.deadline_s
        for way in self.ways(payment):
            if await self.charge(payment, way) is Said.CAPTURED:
                return True
            if self.loop.time() >= until_s:
                break
        return False


def run_baseline(name: str, draw: Draw) -> PolicyRun:
    """Send all the traffic through the policy `name`; return what is left when all that is late is there."""
    loop = VirtualLoop(shuffle=False)
    system = _Ordinary(draw, loop)
    pay: Callable[[int], Awaitable[bool]] = getattr(system, name)
    done_s = [NEVER] * len(draw.arrive_s)

    async def serve(payment: int) -> None:
        if await pay(payment):
            done_s[payment] = loop.time()

    async def main() -> None:
        tasks: set[asyncio.Task[None]] = set()
        for payment, at in enumerate(draw.arrive_s):
            if at > loop.time():
                await loop.sleep(at - loop.time())
            task = loop.create_task(serve(payment))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.wait(tasks)

    run(main(), loop)
    kept = system.from_balance
    for rail in system.rails.values():
        for entry in rail.book.values():
            kept[entry.payment] += entry.kept_minor() > 0
    return PolicyRun(name, tuple(done_s), tuple(kept))
