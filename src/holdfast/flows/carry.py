"""Carrying out a payment.

Ask the rules what to do, write it down, do it, write down what came of it, ask again.

No transaction is open while a rail is asked. What a rail answered becomes durable together with the next
decision, so a payment by card takes three commits: opened and about to ask, held and about to capture,
captured and the merchant paid. A crash between an answer and its commit loses only the answer, and the rail
is asked again with the same key.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NoReturn

from holdfast.domains.ledger.model import UnitOutcome
from holdfast.domains.payments.errors import BookingRefused, KeyClaimed
from holdfast.domains.payments.model import Attempt, AttemptState, Case, Payment, Step, changed
from holdfast.domains.payments.rules.actions import Action, PayFromBalance, Send, StandIn, Wait
from holdfast.domains.payments.rules.cascade import STAND_IN, decide
from holdfast.flows import book
from holdfast.flows.desk import Desk
from holdfast.flows.draft import Answer, Draft
from holdfast.flows.news import News, learn_news, recover
from holdfast.flows.request import Request, ask, prepare
from holdfast.flows.settle import balance_attempt, settle

_OVERTAKEN_TRIES: Final = 3
_WAIT_S_MIN: Final = 0.001


def declined_for_funds(attempt: Attempt) -> Attempt:
    """Return a payment from balance as one that the balance did not cover."""
    return changed(
        attempt,
        state=AttemptState.DECLINED,
        captured_minor=0,
        payer_fault=True,
        verified=False,
        code="insufficient_funds",
        message="The balance does not cover it.",
    )


class _OvertakenError(Exception):
    """Somebody else has taken the payment over."""


class Carrier:
    """Carries one payment, for as long as it has the right to.

    `until`: when the caller wants an answer, however it stands. `patience_s`: a longer pause is left to a
    worker. `answer` builds the writes that keep the caller's answer; they go into the commit after which
    the carrier stops.
    """

    def __init__(
        self,
        desk: Desk,
        draft: Draft,
        *,
        until: datetime | None = None,
        patience_s: float = 1.0,
        answer: Answer | None = None,
    ) -> None:
        self._desk = desk
        self._draft = draft
        self._until = until
        self._patience_s = patience_s
        self._answer = answer
        self._driver = draft.case.payment.driver
        self._news: News | None = None

    @property
    def is_open(self) -> bool:
        """Whether the payment is durable."""
        return not self._draft.fresh

    @property
    def payment(self) -> Payment:
        """The payment as committed last."""
        return self._draft.case.payment

    async def run(self) -> Case:
        """Carry it on until it is final, or until it is to be left to a worker.

        Return the case as committed last.

        Raises: `Unavailable`, `OutcomeUnknown`: a worker goes on once the lease has run out.
        """
        desk = self._desk
        try:
            while True:
                draft = self._draft
                draft.now = desk.clock.now()
                if self._news is not None:
                    learn_news(desk, draft, self._news)
                recover(desk, draft)
                action = decide(draft.case, desk.traits, desk.settings, draft.now)
                if isinstance(action, Send) and not self._out_of_time():
                    await self._send(action)
                elif isinstance(action, Wait) and self._worth_waiting(action):
                    await self._wait(action)
                elif await self._settle(action):
                    return self._draft.case
        except _OvertakenError:
            return self._draft.case

    def _out_of_time(self) -> bool:
        return self._until is not None and self._draft.now >= self._until

    def _worth_waiting(self, wait: Wait) -> bool:
        if self._until is not None and wait.until >= self._until:
            return False
        return (wait.until - self._draft.now).total_seconds() <= self._patience_s

    async def _send(self, action: Send) -> None:
        draft, desk = self._draft, self._desk
        request = prepare(desk, draft, action)
        if request is None:
            return
        if desk.settings.rules.r1_journal_before_send:
            book.balance_strays(draft)
            if not await self._commit(request):
                return
        self._news = await ask(desk, request)

    async def _wait(self, wait: Wait) -> None:
        draft = self._draft
        if draft.dirty:
            book.balance_strays(draft)
            if not await self._commit():
                return
        await self._desk.clock.sleep(max(_WAIT_S_MIN, (wait.until - draft.now).total_seconds()))
        draft.case.shut.clear()

    async def _settle(self, action: Action) -> bool:
        """Write down where the payment stands; True when this carrier is done with it."""
        draft = self._draft
        if isinstance(action, Send):
            action = Wait(draft.now, "the caller has waited long enough; a worker goes on")
        done = settle(self._desk, draft, action)
        if done:
            draft.answer = self._answer
        return await self._commit(action=action) and done

    async def _commit(self, request: Request | None = None, action: Action | None = None) -> bool:
        """Commit the draft.

        False: it was not to be, and the case was read again (raises when it is not ours any more).
        """
        draft = self._draft
        outcome = await draft.commit()
        if outcome.status == "committed":
            self._news = None
            return True
        if request is not None and request.ticket is not None:
            self._desk.router.abandoned(request.ticket)
        await self._read_again(outcome, action)
        return False

    async def _read_again(self, outcome: UnitOutcome, action: Action | None) -> None:
        desk, before = self._desk, self._draft
        if before.fresh:
            raise KeyClaimed
        case = await desk.book.case(before.case.payment.id)
        if case is None:
            raise _OvertakenError
        case.shut, case.passed_over = before.case.shut, before.case.passed_over
        self._draft = Draft(desk, case)
        if isinstance(action, PayFromBalance) and outcome.status == "refused":
            self._not_enough(action.step)
        elif isinstance(action, StandIn) and outcome.guard_failed:
            case.shut.add(STAND_IN)
        elif outcome.status == "refused":
            self._cannot_be_booked(outcome)
        if case.payment.driver != self._driver:
            await self._leave()

    def _cannot_be_booked(self, outcome: UnitOutcome) -> NoReturn:
        """What a rail did finds no room in the ledger: it is tried again once the lease is over."""
        refusals = ", ".join(p.outcome.name for p in outcome.postings if not p.outcome.moved)
        self._desk.alert("booking_refused", self.payment.id, f"the ledger says {refusals}")
        raise BookingRefused

    def _not_enough(self, step: Step) -> None:
        """The balance does not cover it: that way is closed, the next one is tried."""
        draft = self._draft
        attempt = balance_attempt(self._desk, draft, step)
        draft.put(declined_for_funds(attempt))
        draft.note("answer", "The balance does not cover it", attempt)

    async def _leave(self) -> None:
        """Tell whoever has it now what came back, and stop."""
        for _ in range(_OVERTAKEN_TRIES if self._news is not None else 0):
            draft = self._draft
            if self._news is not None:
                learn_news(self._desk, draft, self._news)
            book.balance_strays(draft)
            if not draft.dirty or (await draft.commit()).status == "committed":
                break
            case = await self._desk.book.case(draft.case.payment.id)
            if case is None:
                break
            self._draft = Draft(self._desk, case)
        raise _OvertakenError
