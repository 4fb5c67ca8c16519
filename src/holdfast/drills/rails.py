"""Simulated rails on virtual time: the `Rail` port in front of a provider that keeps its own book.

What becomes of a request follows from the draw (`draw.py`); the provider then acts on its book as its fence
class says. The book is written ahead: a charge that a hanging request will make in 20 s is entered with that
moment, and whoever looks earlier does not see it. So a late charge needs no timer, and a cancel that comes
before it can still undo it.

Two things depend on what a policy does and are therefore not drawn: the queue of a rail with bounded
capacity, and the harm done by too many status queries. Both come on top of what was drawn, never instead of
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from holdfast.base.money import Money
from holdfast.base.values import members
from holdfast.domains.payments.ports import (
    Answer,
    Evidence,
    FenceClass,
    Op,
    Order,
    RailEvent,
    RailTraits,
    Said,
)
from holdfast.drills.draw import NEVER, Draw, Verdict
from holdfast.drills.scenario import Fault, FaultKind, RailPlan
from holdfast.drills.virtual_time import EPOCH, VirtualLoop

_OP: Final = members(Op)
_SAID: Final = members(Said)
_VERDICT: Final = members(Verdict)

Listener = Callable[[str, RailEvent], Awaitable[None]]
"""Gets what a rail reports by itself."""
Watcher = Callable[[str, int, float], None]
"""Told of each try: the rail, the payment, and when."""
_TURNED_AWAY_S = 0.02
_STORM_WINDOW_S = 1


def token(payment: int, kind: str) -> str:
    """Name a payer's instrument, so that the rail knows which payment's draw to look up."""
    return f"{payment}:{kind}"


@dataclass(slots=True)
class Entry:
    """What a provider knows of one reference. Moments are virtual seconds; `NEVER`: not, and not going to.

    `known_s`: when it has the request. `done_s`: when it holds (or, in one step, charges). `captured_s`,
    `fenced_s`.
    """

    payment: int
    amount_minor: int
    known_s: float = NEVER
    done_s: float = NEVER
    captured_s: float = NEVER
    captured_minor: int = 0
    fenced_s: float = NEVER
    returned_minor: int = 0
    refusal: Answer | None = None
    refused_s: float = NEVER
    refund_keys: frozenset[str] = frozenset()

    def charged(self, now_s: float) -> bool:
        """Return whether money had left the payer by `now_s` (given back or not)."""
        return self.captured_s <= now_s

    def kept_minor(self) -> int:
        """Return what the provider keeps of the payer's money in the end, minor units."""
        return self.captured_minor - self.returned_minor if self.captured_s < NEVER else 0


class SimulatedRail:
    """A provider behind the `Rail` port.

    `at_once`: it charges in one step whatever it could do (the baselines' way).
    """

    def __init__(self, draw: Draw, plan: RailPlan, loop: VirtualLoop, *, at_once: bool = False) -> None:
        self.plan = plan
        self.book: dict[str, Entry] = {}
        self.sends_by_second: dict[int, int] = {}
        self.listener: Listener | None = None
        self.watcher: Watcher | None = None
        self._draw = draw
        self._loop = loop
        self._one_step = plan.one_step or at_once
        self._free_s = 0.0
        self._queries: dict[int, int] = {}
        self._storms = [f for f in draw.scenario.faults if f.target == plan.name and f.queries_per_s]
        self._tasks: set[asyncio.Task[None]] = set()
        self._traits = RailTraits(
            name=plan.name,
            kind="simulated",
            fence=plan.fence,
            one_step=self._one_step,
            replay_key_s=plan.replay_key_s,
            methods=plan.methods,
            assets=(draw.scenario.asset,),
            cancel_wait_s=plan.cancel_wait_s,
            query_wait_s=plan.query_wait_s,
            expires_s=plan.expires_s,
            cost_bp=round(plan.cost_bp),
            timeout_s=plan.timeout_s,
            concurrency_max=plan.concurrency_max,
            confirms_later=plan.confirms_in is not None,
        )

    @property
    def traits(self) -> RailTraits:
        """What this rail is like."""
        return self._traits

    async def send(self, order: Order) -> Answer:
        """Carry out `order.op` as the draw has it."""
        now = self._loop.time()
        wait_s = (order.deadline_at - EPOCH).total_seconds() - now
        number, _, kind = order.token.partition(":")
        payment = int(number)
        if order.op is _OP.AUTHORIZE:
            second = int(now)
            self.sends_by_second[second] = self.sends_by_second.get(second, 0) + 1
            if self.watcher is not None:
                self.watcher(self.plan.name, payment, now)
        fate = self._draw.fate(self.plan.name, order.op, payment, kind, now)
        if not fate.sent:
            return await self._answer(Answer(_SAID.NOT_SENT, code="not_sent"), min(fate.answer_s, wait_s))
        queued = self._queue(now)
        if queued is None:
            return await self._answer(
                Answer(_SAID.NOT_DONE, code="busy", message="Turned away."), _TURNED_AWAY_S
            )
        done_s, answer_s = now + queued + fate.done_s, queued + fate.answer_s
        if self._storms and self._killed(order.op, payment, now):
            done_s, answer_s = NEVER, NEVER
        entry = self._act(order, payment, now + queued, done_s, fate.verdict)
        if answer_s > wait_s:
            self._report_later(order, entry, fate.fault)
            return await self._answer(Answer(_SAID.UNKNOWN, Evidence.TIMEOUT, code="timeout"), wait_s)
        await self._loop.sleep(answer_s)
        if fate.verdict is _VERDICT.ERROR:
            self._report_later(order, entry, fate.fault)
            return Answer(_SAID.UNKNOWN, code="http_500", message="The provider answered with an error.")
        answer = self._tell(order, entry, self._loop.time())
        if answer.said in (_SAID.PENDING, _SAID.UNKNOWN) and order.op is _OP.AUTHORIZE:
            self._report_later(order, entry, fate.fault)
        return answer

    async def _answer(self, answer: Answer, after_s: float) -> Answer:
        await self._loop.sleep(after_s)
        return answer

    def _queue(self, now: float) -> float | None:
        """Return how long the request queues, seconds.

        None when the queue is too long and it is turned away.
        """
        if self.plan.capacity_per_s is None:
            return 0.0
        waits = max(0.0, self._free_s - now)
        if waits > self.plan.queue_s:
            return None
        self._free_s = max(self._free_s, now) + 1.0 / self.plan.capacity_per_s
        return waits

    def _killed(self, op: Op, payment: int, now: float) -> bool:
        """Return whether our own status queries, beyond what the rail bears, took this request's place."""
        second = int(now)
        if op is _OP.QUERY:
            self._queries[second] = self._queries.get(second, 0) + 1
        for storm in self._storms:
            if storm.from_s <= second < storm.to_s:
                excess = self._queries.get(second - _STORM_WINDOW_S, 0) - storm.queries_per_s
                if excess > 0 and self._draw.chance(self.plan.name, payment, second) < excess / (
                    excess + storm.queries_per_s
                ):
                    return True
        return False

    # ---- the provider's book ----

    def _act(
        self, order: Order, payment: int, known_s: float, done_s: float, verdict: Verdict
    ) -> Entry | None:
        """Enter into the book what the request does, at the moment when it does it.

        None where nothing is known of it.
        """
        entry = self.book.get(order.reference)
        if order.op is _OP.AUTHORIZE:
            return self._authorize(order, entry, payment, known_s, done_s, verdict)
        if done_s == NEVER:
            return entry
        if order.op is _OP.CANCEL:
            return self._cancel(order, entry, payment, done_s)
        if entry is None:
            return None
        if order.op is _OP.CAPTURE:
            held = entry.done_s <= done_s < entry.fenced_s
            if held and entry.captured_s == NEVER:
                entry.captured_s, entry.captured_minor = done_s, order.amount.amount_minor
            elif held:
                entry.captured_s = min(entry.captured_s, done_s)
        elif order.op is _OP.REFUND and entry.charged(done_s) and order.key not in entry.refund_keys:
            entry.refund_keys |= {order.key}
            entry.returned_minor = min(entry.captured_minor, entry.returned_minor + order.amount.amount_minor)
        return entry

    def _authorize(
        self,
        order: Order,
        entry: Entry | None,
        payment: int,
        known_s: float,
        done_s: float,
        verdict: Verdict,
    ) -> Entry | None:
        refused = verdict in (_VERDICT.DECLINED, _VERDICT.NO_FUNDS)
        if done_s == NEVER and not refused:
            return entry
        if entry is not None and (entry.fenced_s < NEVER or entry.refusal is not None):
            return entry
        if entry is not None and entry.done_s < NEVER and self.plan.replay_key_s > 0:
            if entry.known_s > done_s:
                self._overtake(entry, done_s)
            return entry
        reference = order.reference
        while reference in self.book and self.plan.replay_key_s == 0:
            reference += "+"
        if entry is None or reference not in self.book:
            entry = self.book[reference] = Entry(payment, order.amount.amount_minor)
        entry.known_s = known_s if verdict is _VERDICT.ACKNOWLEDGED else done_s
        if refused:
            entry.known_s = entry.refused_s = known_s
            entry.refusal = Answer(
                _SAID.DECLINED,
                code="no_funds" if verdict is _VERDICT.NO_FUNDS else "declined",
                message="The account has no funds."
                if verdict is _VERDICT.NO_FUNDS
                else "The provider declined.",
                payer_fault=verdict is _VERDICT.NO_FUNDS,
            )
            return entry
        lapses = known_s + self.plan.expires_s if self.plan.expires_s is not None else NEVER
        if order.expires_at is not None:
            lapses = min(lapses, (order.expires_at - EPOCH).total_seconds())
        if done_s > lapses:
            entry.refusal = Answer(_SAID.DECLINED, code="expired", message="It expired unpaid.")
            entry.refused_s, entry.known_s = lapses, min(entry.known_s, lapses)
            return entry
        entry.done_s = done_s
        if self._one_step:
            entry.captured_s, entry.captured_minor = done_s, order.amount.amount_minor
        return entry

    def _overtake(self, entry: Entry, done_s: float) -> None:
        """A repetition gets through before the hanging first request.

        It is carried out, and the first meets its key.
        """
        entry.known_s = entry.done_s = done_s
        if self._one_step:
            entry.captured_s = done_s

    def _cancel(self, order: Order, entry: Entry | None, payment: int, done_s: float) -> Entry | None:
        if self.plan.fence < FenceClass.F2:
            return entry
        if entry is None or entry.known_s > done_s:
            if not self._traits.tombstones:
                return None
            if entry is None:
                entry = self.book[order.reference] = Entry(payment, order.amount.amount_minor, known_s=done_s)
        if entry.captured_s <= done_s:
            if self._traits.tombstones:
                entry.fenced_s, entry.returned_minor = min(entry.fenced_s, done_s), entry.captured_minor
            return entry
        entry.fenced_s = min(entry.fenced_s, done_s)
        entry.captured_s, entry.captured_minor = NEVER, 0
        return entry

    def _tell(self, order: Order, entry: Entry | None, now: float) -> Answer:
        """Return the provider's honest answer at `now`."""
        if order.op is _OP.CANCEL and self.plan.fence < FenceClass.F2:
            return Answer(_SAID.NOT_DONE, code="no_cancel", message="This rail has no cancel.")
        if entry is None or (entry.known_s > now and entry.fenced_s > now):
            return Answer(_SAID.NOT_FOUND, code="not_found")
        money = order.amount
        remote = f"{self.plan.name}-{order.reference}"
        if order.op is _OP.REFUND:
            if not entry.charged(now):
                return Answer(_SAID.NOT_FOUND, code="not_charged", remote_id=remote)
            return Answer(_SAID.REFUNDED, amount=money, remote_id=remote, refunded_minor=entry.returned_minor)
        return self._state(entry, now, money, remote)

    def _state(self, entry: Entry, now: float, money: Money, remote: str) -> Answer:
        if entry.refusal is not None and entry.refused_s <= now:
            return entry.refusal
        if entry.fenced_s <= now:
            return Answer(_SAID.CANCELED, remote_id=remote, refunded_minor=entry.returned_minor)
        if entry.charged(now):
            taken = Money(money.asset, entry.captured_minor)
            back = entry.returned_minor
            said = _SAID.REFUNDED if back and back == entry.captured_minor else _SAID.CAPTURED
            return Answer(said, amount=taken, remote_id=remote, refunded_minor=back)
        if entry.done_s <= now:
            return Answer(_SAID.AUTHORIZED, amount=Money(money.asset, entry.amount_minor), remote_id=remote)
        return Answer(_SAID.PENDING, remote_id=remote, code="processing")

    # ---- what it reports by itself ----

    def _report_later(self, order: Order, entry: Entry | None, fault: Fault | None) -> None:
        """Report the outcome once it is there, as often as the fault has it, in no particular order."""
        if self.listener is None or self.plan.webhook_in is None or entry is None:
            return
        if order.op is _OP.CAPTURE:
            due = entry.captured_s
        elif order.op is _OP.AUTHORIZE:
            due = entry.refused_s if entry.refusal else entry.done_s
        else:
            return
        if due == NEVER:
            return
        copies = 1
        if fault is not None:
            due = (
                max(due, float(fault.to_s))
                if fault.kind in (FaultKind.DARK, FaultKind.ACK_THEN_SILENT)
                else due
            )
            copies = fault.copies
        for copy in range(copies):
            at = due + self._draw.webhook_s(self.plan.name, entry.payment, copy)
            self._loop.call_at(max(at, self._loop.time()), self._report, order, entry)

    def _report(self, order: Order, entry: Entry) -> None:
        if self.listener is None:
            return
        now = self._loop.time()
        answer = self._state(entry, now, order.amount, f"{self.plan.name}-{order.reference}")
        if answer.said is _SAID.PENDING:
            return
        event = RailEvent(
            id=f"{self.plan.name}-{order.reference}-{answer.said.value}",
            rail=self.plan.name,
            reference=order.reference,
            remote_id=f"{self.plan.name}-{order.reference}",
            said=answer.said,
            amount=answer.amount,
            at=moment(now),
            code=answer.code,
            message=answer.message,
        )
        task = self._loop.create_task(self._hand_over(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, event: RailEvent) -> None:
        if self.listener is not None:
            await self.listener(self.plan.name, event)


def moment(seconds: float) -> datetime:
    """Return the virtual date and time of `seconds` after the start."""
    return EPOCH + timedelta(seconds=seconds)
