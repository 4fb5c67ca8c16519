"""Carrying out a payment: ask the rules what to do, write it down, do it, write down what came of it, ask again.

No transaction is open while a rail is asked. What a rail answered becomes durable together with the next decision, so a
payment by card takes three commits: opened and about to ask, held and about to capture, captured and the merchant paid. A crash
between an answer and its commit loses only the answer, and the rail is asked again with the same key.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

from holdfast.base.ids import AttemptId, RefundId, public
from holdfast.base.limits import RAIL_CALL_TIMEOUT_S_MAX
from holdfast.domains.payments.model import (
    Attempt,
    AttemptState,
    Case,
    Evidence,
    Op,
    PaymentState,
    Refund,
    SendRecord,
    Step,
)
from holdfast.domains.payments.ports import Answer, Order, Said
from holdfast.domains.payments.rules import cascade, refunds
from holdfast.domains.payments.rules.cascade import BALANCE_RAIL
from holdfast.domains.payments.rules.evidence import Heard, heard, learn
from holdfast.domains.payments.rules.lifecycle import FINAL, GONE, attempt_after, payment_after
from holdfast.domains.payments.rules.routing import RailOutcome, Ticket
from holdfast.flows import book, chart
from holdfast.flows.desk import Desk
from holdfast.flows.draft import Draft

_S: Final = AttemptState


@dataclass(frozen=True, slots=True)
class News:
    """What came back and is not durable yet. `refund`: it speaks of that refund and not of the attempt."""

    attempt: AttemptId
    heard: Heard
    refund: RefundId | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose record is in the draft."""

    order: Order
    attempt: AttemptId
    repeat: bool
    ticket: Ticket | None
    refund: RefundId | None = None


async def carry(desk: Desk, draft: Draft, *, until: datetime | None, patience_s: float) -> Case:
    """Carry the payment on until it is final, must wait longer than `patience_s`, or `until` has come.

    Whatever happens afterwards, the case as committed last is returned and a worker finds the rest by its next step. Raises:
    `Unavailable` when nothing could be committed any more: a worker goes on once the lease has run out.
    """
    driver = draft.case.payment.driver
    news: News | None = None
    while True:
        draft.now = desk.clock.now()
        if news is not None:
            apply_news(desk, draft, news)
        action = next_action(desk, draft)
        request: Request | None = None
        if isinstance(action, cascade.Send | refunds.SendRefund):
            if until is not None and draft.now >= until:
                action = cascade.Wait(draft.now, "the caller has waited long enough")
            else:
                request = prepare(desk, draft, action)
                if request is None:
                    continue
        wait = action if isinstance(action, cascade.Wait) else None
        stays = wait is not None and _stays(wait, draft.now, until, patience_s)
        if wait is not None and stays and not draft.dirty:
            await desk.clock.sleep((wait.until - draft.now).total_seconds())
            draft.case.shut.clear()
            continue
        done = request is None and not stays and settle(desk, draft, action)
        if not (request is not None and not desk.settings.rules.r1_journal_before_send):
            outcome = await draft.commit()
            if outcome.status != "committed":
                draft, mine = await _again(desk, draft, driver, refused=outcome.status == "refused")
                if request is not None and request.ticket is not None:
                    desk.router.finished(request.ticket, RailOutcome.NOT_SENT, latency_s=0.0, now_s=desk.clock.monotonic_s())
                if not mine:
                    return await _leave(desk, draft, news)
                continue
        news = None
        if done:
            return draft.case
        if request is not None:
            news = await _ask(desk, request, draft.case)


def _stays(wait: cascade.Wait, now: datetime, until: datetime | None, patience_s: float) -> bool:
    if until is not None and wait.until >= until:
        return False
    return (wait.until - now).total_seconds() <= patience_s
