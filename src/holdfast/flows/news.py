"""What came back from a rail, applied to the case.

The attempt, the token, the journal, and the router's evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from holdfast.base.ids import AttemptId, RefundId, public
from holdfast.base.values import members, quick
from holdfast.domains.payments.model import Attempt, AttemptState, Evidence, Op, changed
from holdfast.domains.payments.ports import Said
from holdfast.domains.payments.rules.cascade import key_lives
from holdfast.domains.payments.rules.evidence import Heard, given_back, learn
from holdfast.domains.payments.rules.lifecycle import FINAL, GONE, attempt_after
from holdfast.domains.payments.rules.refunds import learn_refund
from holdfast.domains.payments.rules.routing import RailOutcome
from holdfast.flows import book
from holdfast.flows.desk import Desk
from holdfast.flows.draft import Draft

_OP: Final = members(Op)
_SAID: Final = members(Said)
_S: Final = members(AttemptState)

_UNSETTLED: Final = frozenset(
    {_S.UNKNOWN, _S.PENDING, _S.CAPTURING, _S.CANCELING, _S.RETURNING, _S.AUTHORIZED}
)


@quick
@dataclass(frozen=True, slots=True)
class News:
    """What came back and is not durable yet. `refund`: it speaks of that refund."""

    attempt: AttemptId
    heard: Heard
    refund: RefundId | None = None


def learn_news(desk: Desk, draft: Draft, news: News) -> None:
    """Apply `news` to the draft."""
    before = draft.case.attempt(news.attempt)
    if before is None:
        return
    if news.refund is not None:
        _learn_refund(desk, draft, before, news)
        return
    traits, rules, heard = desk.traits[before.rail], desk.settings.rules, given_back(before, news.heard)
    after = learn(before, heard, traits, rules, draft.now)
    _note(draft, before, after, heard)
    if heard.op is not None and after.state in _UNSETTLED:
        after = _next_step(desk, draft, before, after, heard)
    if after is not before:
        draft.put(after)
    if draft.case.token.holder == after.id and _frees(before, after):
        draft.free_token()
    if after.state is not before.state:
        _correct(desk, after)
    elif after.state is _S.PENDING:
        _overdue(desk, after, draft.now)


def recover(desk: Desk, draft: Draft) -> None:
    """Take what was being sent by a driver that is gone as unknown: it may have arrived (R1)."""
    for attempt in list(draft.case.attempts):
        if attempt.state is not _S.SENDING or draft.now < attempt.deadline_at:
            continue
        if desk.settings.rules.r1_sending_is_unknown_after_a_crash:
            after = attempt_after(attempt.state, "crash") or attempt.state
        else:
            after = _S.NOT_SENT
            draft.free_token()
        draft.put(
            changed(
                attempt, state=after, evidence=max(attempt.evidence, Evidence.TIMEOUT), updated_at=draft.now
            )
        )
        words = f"Whoever asked {attempt.rail} died before it answered: it may have happened"
        draft.note("recovered", words, attempt)


def _frees(before: Attempt, after: Attempt) -> bool:
    """The token is free once the attempt can no longer charge, or provably was not asked to."""
    return after.state in GONE or (before.state is _S.CAPTURING and after.state is _S.AUTHORIZED)


def _next_step(desk: Desk, draft: Draft, before: Attempt, after: Attempt, heard: Heard) -> Attempt:
    """Say when to try again to find out, or to undo.

    At once at first while the payer waits, then ever more rarely.
    """
    first = heard.op is not _OP.QUERY and not heard.repeat
    tries = before.tries + (not first) if after.state is before.state else 0
    if after.state is _S.AUTHORIZED:
        if before.state is not _S.CAPTURING:
            return after
        tries = before.tries + 1
    wait = pause(desk, draft, after, tries)
    if _acts_next(desk, after, heard, draft.now):
        wait = min(wait, timedelta(seconds=desk.settings.pauses_s[0]))
    return changed(after, tries=tries, next_at=draft.now + wait, updated_at=draft.now)


def _acts_next(desk: Desk, after: Attempt, heard: Heard, now: datetime) -> bool:
    """Whether a rail that was asked is there again, and has left something that we can do about it.

    Then there is nothing to wait for. What is done about it is followed by the usual pause when it does not
    help, so this makes one step more of each.
    """
    if heard.op is not _OP.QUERY or heard.said in _UNANSWERED:
        return False
    if after.state in (_S.CANCELING, _S.RETURNING):
        return True
    traits = desk.traits[after.rail]
    repeats = after.state is _S.CAPTURING or (after.state is _S.UNKNOWN and not traits.one_step)
    return repeats and key_lives(after, traits, now)


_UNANSWERED: Final = frozenset({_SAID.UNKNOWN, _SAID.NOT_SENT, _SAID.NOT_DONE, _SAID.PENDING})


def pause(desk: Desk, draft: Draft, attempt: Attempt, tries: int) -> timedelta:
    """Return how long to wait before step number `tries`.

    No two payments keep step, so that none storms a rail.
    """
    payment, settings = draft.case.payment, desk.settings
    deadline = payment.asked.deadline_at
    live = (
        payment.state not in FINAL
        and not payment.cancel_asked
        and deadline is not None
        and draft.now < deadline
        and not (attempt.state is _S.PENDING and desk.traits[attempt.rail].confirms_later)
    )
    if live:
        seconds = settings.live_pauses_s[min(tries, len(settings.live_pauses_s) - 1)]
    else:
        since = attempt.sent_at or attempt.created_at
        if deadline is not None and since < deadline <= draft.now:
            since = deadline  # what was tried in haste while the payer waited does not make the rest slow
        seconds = _rung(settings.pauses_s, (draft.now - since).total_seconds())
    seconds *= 0.85 + (attempt.id.int & 0xFF) / 853.0
    if attempt.expires_at is not None and draft.now < attempt.expires_at:
        seconds = min(seconds, (attempt.expires_at - draft.now).total_seconds() + 0.001)
    return timedelta(seconds=seconds)


def _rung(pauses: tuple[float, ...], elapsed_s: float) -> float:
    """Return the pause that is due once `elapsed_s` have gone by, were they spent in these pauses."""
    reached = 0.0
    for seconds in pauses:
        reached += seconds
        if reached > elapsed_s:
            return seconds
    return pauses[-1]


_WORDS: Final = {
    _SAID.AUTHORIZED: "{rail} holds {amount}",
    _SAID.CAPTURED: "{rail} charged {amount}",
    _SAID.DECLINED: "{rail} declined: {message}",
    _SAID.NOT_SENT: "{rail} could not be reached: nothing was sent",
    _SAID.NOT_DONE: "{rail} took no request just now: nothing was done",
    _SAID.PENDING: "{rail} has it and has not decided",
    _SAID.NOT_FOUND: "{rail} knows of no such payment, which proves nothing: the request may be under way",
    _SAID.CANCELED: "{rail} can no longer charge for it",
    _SAID.REFUNDED: "{rail} gave the money back",
    _SAID.UNKNOWN: "{rail} has not answered: it may have happened",
}


def _note(draft: Draft, before: Attempt, after: Attempt, heard: Heard, *, of_refund: bool = False) -> None:
    words = _WORDS[heard.said].format(
        rail=before.rail,
        amount=heard.amount or before.amount,
        message=heard.message or heard.code or "no reason given",
    )
    if heard.said is _SAID.NOT_FOUND and after.state is _S.CANCELED:
        words = f"{before.rail} knows of no such payment, and its time there is over: it can no longer charge"
    if (
        after is before
        and not of_refund
        and heard.said.value != before.state.value
        and heard.said not in _SILENT
    ):
        words += "; that is older or weaker than what is known, and changes nothing"
    if after.conflict and not before.conflict:
        words += f"; but {before.amount} was asked for, so it is not kept"
    event = "answer" if heard.op is not None else "told"
    draft.note(
        event, words, before, heard.op, said=heard.said.value, state=after.state.value, code=heard.code
    )


_SILENT: Final = frozenset({_SAID.UNKNOWN, _SAID.NOT_SENT, _SAID.NOT_DONE, _SAID.NOT_FOUND, _SAID.PENDING})


def _correct(desk: Desk, after: Attempt) -> None:
    """Tell the router what an unknown outcome turned out to be."""
    if not desk.tickets or after.state in (_S.UNKNOWN, _S.PENDING, _S.CAPTURING, _S.CANCELING):
        return
    ticket = desk.tickets.pop(after.id, None)
    if ticket is None:
        return
    outcome = RailOutcome.FAILED
    if after.state in (_S.AUTHORIZED, _S.CAPTURED):
        outcome = RailOutcome.OK
    elif after.state is _S.DECLINED and after.payer_fault:
        outcome = RailOutcome.DECLINED_BY_PAYER
    desk.router.corrected(ticket, outcome, now_s=desk.clock.monotonic_s())


def _overdue(desk: Desk, attempt: Attempt, now: datetime) -> None:
    """Tell the router that a rail has left what it took in unconfirmed for too long."""
    ticket = desk.tickets.get(attempt.id)
    since = attempt.sent_at or attempt.created_at
    if ticket is not None and (now - since).total_seconds() >= desk.settings.pending_patience_s:
        desk.router.corrected(ticket, RailOutcome.UNKNOWN, now_s=desk.clock.monotonic_s())


def _learn_refund(desk: Desk, draft: Draft, attempt: Attempt, news: News) -> None:
    before = next((r for r in draft.case.refunds if r.id == news.refund), None)
    if before is None or before.state in ("succeeded", "failed"):
        return
    after = learn_refund(draft.case, before, news.heard, draft.now)
    _note(draft, attempt, attempt, news.heard, of_refund=True)
    if after.state in ("sending", "pending"):
        tries = before.tries + (news.heard.repeat or news.heard.op is _OP.QUERY or after.state == "pending")
        after = changed(after, tries=tries, next_at=_refund_due(desk, draft.now, tries))
    else:
        after = changed(after, next_at=None)
        book.end_refund(draft, after, attempt.rail)
        draft.announce(
            f"refund.{after.state}", refund=public("ref", after.id), refund_minor=after.amount.amount_minor
        )
        if after.state == "failed":
            draft.set(refunded_minor=draft.get("refunded_minor") - after.amount.amount_minor)
    draft.put_refund(after)


def _refund_due(desk: Desk, now: datetime, tries: int) -> datetime:
    pauses = desk.settings.pauses_s
    return now + timedelta(seconds=pauses[min(tries, len(pauses) - 1)])
