"""Providers and the network before them, on virtual time, drawn from a seed.

A `Provider` keeps its own book, which nobody else writes: it is what the invariants are checked against. A
`SimRail` is how a request gets there: it may be refused, lost, delayed beyond any time-out, or arrive twice;
so may the answer. Messages of the provider arrive late, twice, and in any order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from holdfast.base.clock import Clock
from holdfast.base.money import Money
from holdfast.domains.payments.model import Op
from holdfast.domains.payments.ports import (
    Answer,
    FenceClass,
    Order,
    RailEvent,
    RailTraits,
    Said,
    SettlementRow,
)


@dataclass(slots=True)
class Record:
    """What a provider knows of one reference.

    `state`: pending, authorized, captured, declined, canceled, refunded.
    """

    state: str
    amount: Money
    captured_minor: int = 0
    refunded_minor: int = 0
    payer_fault: bool = False

    @property
    def net_minor(self) -> int:
        return self.captured_minor - self.refunded_minor


@dataclass(slots=True)
class Weather:
    """How the network and the provider behave now; all are shares from 0 to 1. `calm()` heals everything."""

    refuse: float = 0.0
    lose_request: float = 0.0
    lose_answer: float = 0.0
    delay_request: float = 0.0
    duplicate: float = 0.0
    busy: float = 0.0
    decline: float = 0.0
    wrong_amount: float = 0.0
    hurt_messages: float = 0.0
    slow_s: float = 40.0

    def calm(self) -> None:
        for name in (
            "refuse",
            "lose_request",
            "lose_answer",
            "delay_request",
            "duplicate",
            "busy",
            "hurt_messages",
        ):
            setattr(self, name, 0.0)


@dataclass(slots=True)
class Provider:
    """One provider's own book. `watch` is told of each reference whose charge has just changed."""

    traits: RailTraits
    clock: Clock
    random: Random
    weather: Weather
    watch: Callable[[str, str], None]
    tell: Callable[[RailEvent], None]
    records: dict[str, Record] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    rows: list[SettlementRow] = field(default_factory=list)
    told: int = 0

    def receive(self, order: Order) -> Answer:
        """Carry out a request that has arrived."""
        # A provider without keys still numbers refunds by our own number, as it numbers charges by
        # our reference.
        keyed = order.op is Op.REFUND or (self.traits.replay_key_s > 0 and order.op is not Op.QUERY)
        if keyed and order.key in self.answers:
            return self.answers[order.key]
        if self.random.random() < self.weather.busy and order.op is not Op.QUERY:
            return Answer(Said.NOT_DONE, code="busy")
        answer: Answer = getattr(self, f"_{order.op.value}")(order)
        if keyed and answer.said is not Said.NOT_FOUND:
            self.answers[order.key] = answer
        return answer

    def settle_later(self) -> None:
        """Decide what was left pending."""
        for reference, record in self.records.items():
            if record.state == "pending":
                self._charge(reference, record)

    def _authorize(self, order: Order) -> Answer:
        record = self.records.get(order.reference)
        if record is not None:
            return (
                self._state(record)
                if self.traits.replay_key_s
                else Answer(Said.UNKNOWN, code="duplicate_order")
            )
        if order.expires_at is not None and self.clock.now() >= order.expires_at:
            return Answer(Said.DECLINED, code="expired")
        amount = order.amount
        if self.random.random() < self.weather.wrong_amount and amount.amount_minor > 1:
            amount = Money(amount.asset, amount.amount_minor - 1)
        record = self.records[order.reference] = Record("pending", amount)
        if self.random.random() < self.weather.decline:
            record.state = "declined"
            record.payer_fault = self.random.random() < 0.4
            self._announce(order.reference, record)
        elif not self.traits.one_step:
            record.state = "authorized"
            self._announce(order.reference, record)
        elif not self.traits.confirms_later:
            self._charge(order.reference, record)
        return self._state(record)

    def _charge(self, reference: str, record: Record, amount_minor: int | None = None) -> None:
        record.state = "captured"
        record.captured_minor = amount_minor or record.amount.amount_minor
        self._row(reference, "charge", record.captured_minor, record)
        self._announce(reference, record)
        self.watch(self.traits.name, reference)

    def _capture(self, order: Order) -> Answer:
        record = self.records.get(order.reference)
        if record is None:
            return Answer(Said.NOT_FOUND)
        if record.state == "authorized":
            wanted = min(order.amount.amount_minor, record.amount.amount_minor)
            self._charge(order.reference, record, wanted)
        return self._state(record)

    def _cancel(self, order: Order) -> Answer:
        record = self.records.get(order.reference)
        if self.traits.fence <= FenceClass.F1:
            return Answer(Said.NOT_DONE, code="not_offered")
        if record is None:
            if self.traits.fence is not FenceClass.F2:
                return Answer(Said.NOT_FOUND)
            self.records[order.reference] = Record("canceled", order.amount)
            return Answer(Said.CANCELED)
        if record.state == "captured" and self.traits.fence is FenceClass.F2:
            self._give_back(order.reference, record, record.net_minor)
            record.state = "canceled"
            return Answer(Said.CANCELED)
        if record.state in ("authorized", "pending"):
            record.state = "canceled"
            self._announce(order.reference, record)
        return self._state(record)

    def _refund(self, order: Order) -> Answer:
        record = self.records.get(order.reference)
        if record is None:
            return Answer(Said.NOT_FOUND)
        if order.amount.amount_minor > record.net_minor:
            gone = record.state in ("canceled", "refunded")
            return Answer(Said.CANCELED) if gone else Answer(Said.DECLINED, code="too_much")
        self._give_back(order.reference, record, order.amount.amount_minor)
        if record.net_minor == 0:
            record.state = "refunded"
        self._announce(order.reference, record)
        return Answer(Said.REFUNDED, refunded_minor=record.refunded_minor)

    def _query(self, order: Order) -> Answer:
        record = self.records.get(order.reference)
        return Answer(Said.NOT_FOUND) if record is None else self._state(record)

    def _give_back(self, reference: str, record: Record, minor: int) -> None:
        record.refunded_minor += minor
        if minor:
            self._row(reference, "return", minor, record)
        self.watch(self.traits.name, reference)

    def _state(self, record: Record) -> Answer:
        said = Said(record.state)
        amount = record.amount if said is Said.AUTHORIZED else None
        if said is Said.CAPTURED:
            amount = Money(record.amount.asset, record.captured_minor)
        return Answer(
            said,
            amount=amount,
            remote_id=f"{self.traits.name}-{id(record)}",
            refunded_minor=record.refunded_minor,
            payer_fault=record.payer_fault,
        )

    def _row(self, reference: str, kind: str, minor: int, record: Record) -> None:
        money = Money(record.amount.asset, minor)
        self.rows.append(SettlementRow(self.traits.name, reference, "", kind, money, self.clock.now()))

    def _announce(self, reference: str, record: Record) -> None:
        self.told += 1
        said = Said(record.state)
        minor = record.captured_minor if said is Said.CAPTURED else record.amount.amount_minor
        if said is Said.REFUNDED or record.refunded_minor:
            said, minor = Said.REFUNDED, record.refunded_minor
        event_id = f"{self.traits.name}-{self.told}"
        amount = Money(record.amount.asset, minor)
        self.tell(RailEvent(event_id, self.traits.name, reference, None, said, amount, self.clock.now()))


class SimRail:
    """A rail as the flows see it: a provider behind a network."""

    def __init__(
        self, provider: Provider, clock: Clock, random: Random, sending: Callable[[str, Order], None]
    ) -> None:
        self.provider = provider
        self._clock = clock
        self._random = random
        self._sending = sending

    @property
    def traits(self) -> RailTraits:
        return self.provider.traits

    async def send(self, order: Order) -> Answer:
        weather, random, loop = self.provider.weather, self._random, asyncio.get_running_loop()
        left_s = (order.deadline_at - self._clock.now()) / timedelta(seconds=1)
        if left_s <= 0 or random.random() < weather.refuse:
            return Answer(Said.NOT_SENT, code="refused")
        self._sending(self.traits.name, order)
        back: asyncio.Future[Answer] = loop.create_future()
        if random.random() >= weather.lose_request:
            late = random.random() < weather.delay_request
            delay_s = random.uniform(0.0, weather.slow_s) if late else random.uniform(0.001, 0.05)
            loop.call_later(delay_s, self._arrive, order, back)
        timer = loop.call_later(left_s, _give_up, back)
        try:
            return await back
        finally:
            timer.cancel()

    def _arrive(self, order: Order, back: asyncio.Future[Answer]) -> None:
        answer = self.provider.receive(order)
        weather = self.provider.weather
        if answer.said is not Said.NOT_DONE and self._random.random() < weather.duplicate:
            again_s = self._random.uniform(0.0, weather.slow_s)
            asyncio.get_running_loop().call_later(again_s, self.provider.receive, order)
        if self._random.random() < weather.lose_answer:
            return
        delay_s = self._random.uniform(0.001, 0.05)
        asyncio.get_running_loop().call_later(delay_s, _answer, back, answer)


def _answer(back: asyncio.Future[Answer], answer: Answer) -> None:
    if not back.done():
        back.set_result(answer)


def _give_up(back: asyncio.Future[Answer]) -> None:
    if not back.done():
        back.set_result(Answer(Said.UNKNOWN, code="timeout"))


def draw_traits(name: str, random: Random) -> RailTraits:
    """Draw what a rail is like.

    Every fence class, one step or two, with keys or without, patient or hasty.
    """
    f = FenceClass
    fence = random.choice((f.F0, f.F1, f.F2, f.F2, f.F3, f.F3, f.F4, f.F4, f.F4))
    one_step = fence is not FenceClass.F4
    return RailTraits(
        name=name,
        kind="sim",
        fence=fence,
        one_step=one_step,
        replay_key_s=random.choice((0, 5, 86_400)) if one_step else 86_400,
        methods=("card",),
        assets=("CNY",),
        cancel_wait_s=random.choice((0.0, 0.0, 3.0)) if fence is FenceClass.F2 else 0.0,
        expires_s=random.choice((15.0, 60.0)) if fence is FenceClass.F1 else None,
        backup=random.random() < 0.2,
        timeout_s=random.choice((0.5, 2.0)),
        confirms_later=fence is FenceClass.F1 and random.random() < 0.3,
    )


def draw_weather(random: Random) -> Weather:
    """Draw how bad it is: fine, rough, or a storm."""
    force = random.choice((0.0, 0.15, 0.35, 0.7))
    return Weather(
        refuse=random.choice((0.0, force)) * 0.6,
        lose_request=random.choice((0.0, force)) * 0.6,
        lose_answer=random.choice((0.0, force)),
        delay_request=random.choice((0.0, force)),
        duplicate=random.choice((0.0, force)) * 0.5,
        busy=random.choice((0.0, force)) * 0.3,
        decline=random.choice((0.0, 0.2, 0.5)),
        wrong_amount=random.choice((0.0, 0.0, 0.0, 0.1)),
        hurt_messages=random.choice((0.0, force)),
        slow_s=random.choice((3.0, 40.0)),
    )
