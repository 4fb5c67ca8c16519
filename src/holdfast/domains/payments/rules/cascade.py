"""What to do next about a payment: the protocol "Fence, Hold, Absorb" as one pure decision.

Whoever carries out a payment asks `decide` in a loop: it does one thing, writes down what it learned, and
asks again. So nothing is ever "in the middle": a driver that dies is replaced by another that asks the same
question of the same rows.

The thought behind it: a timeout is not a "no". An attempt without an answer may charge at any later moment,
so as long as it could, no other attempt may charge (the capture token), unless it is certain that the second
charge comes back (absorb). What may always be done meanwhile: hold elsewhere, because a hold is not a charge;
ask; fence.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from holdfast.base.limits import ATTEMPTS_PER_PAYMENT_MAX
from holdfast.base.values import members
from holdfast.domains.payments.model import Attempt, AttemptState, Case, Op, PaymentState, Step
from holdfast.domains.payments.ports import FenceClass, RailTraits
from holdfast.domains.payments.rules.actions import (
    Action,
    End,
    Held,
    Keep,
    Owe,
    PayFromBalance,
    Rest,
    Send,
    StandIn,
    Wait,
)
from holdfast.domains.payments.rules.lifecycle import FINAL, GONE
from holdfast.domains.payments.rules.refunds import next_refund
from holdfast.domains.payments.rules.settings import PaySettings

BALANCE_RAIL: Final = "book"
"""The rail that is our own ledger."""

STAND_IN: Final = "stand-in"
"""In `Case.shut`: the payer's stand-in limit is used up."""

_S: Final = members(AttemptState)
_ASKABLE: Final = frozenset({_S.UNKNOWN, _S.PENDING, _S.CAPTURING, _S.CANCELING})


Rails = Mapping[str, RailTraits]


def decide(case: Case, rails: Rails, settings: PaySettings, now: datetime) -> Action:
    """Return what to do next about `case` at `now`."""
    payment = case.payment
    if payment.state in FINAL:
        return _clear_up(case, rails, settings, now)
    if payment.state is PaymentState.REQUIRES_CONFIRMATION:
        return _unconfirmed(case, now)
    if not payment.cancel_asked:
        for attempt in case.attempts:
            if attempt.state is _S.CAPTURED and keepable(case, attempt):
                return Keep(attempt)
    if payment.cancel_asked or _walked_away(case, now):
        return _undo_all(case, rails, settings, now)
    return _go_on(case, rails, settings, now)


def keepable(case: Case, attempt: Attempt) -> bool:
    """Whether this charge may be the payment's one.

    Beyond doubt, for the right amount, and no other holds the token.
    """
    if attempt.conflict or attempt.undoing or not attempt.verified:
        return False
    return case.token.holder in (None, attempt.id) or case.payment.asked.funding == "absorb"


def _walked_away(case: Case, now: datetime) -> bool:
    """Past the deadline the payer is gone.

    A hold that waits for the merchant has no deadline of the payer's.
    """
    payment = case.payment
    if payment.state is PaymentState.AUTHORIZED or any(a.to_capture_minor for a in case.attempts):
        return (
            payment.state is PaymentState.AUTHORIZED
            and payment.next_step_at is not None
            and payment.next_step_at <= now
        )
    deadline = payment.asked.deadline_at
    return deadline is not None and now >= deadline


def _unconfirmed(case: Case, now: datetime) -> Action:
    deadline = case.payment.asked.deadline_at
    if case.payment.cancel_asked:
        return End("cancelled", "canceled", "Canceled before anything was started.")
    if deadline is None:
        return Rest()
    if now >= deadline:
        return End("expired", "expired", "Nobody confirmed it in time. Nothing was started.")
    return Wait(deadline, "it waits for confirmation", doubt=False)


def _go_on(case: Case, rails: Rails, settings: PaySettings, now: datetime) -> Action:
    """The payer waits: capture what is held, else cascade, else find out, else wait (R3, R4, R6, R7)."""
    absorb = case.payment.asked.funding == "absorb"
    blocker = None if absorb else _blocker(case, settings)
    held = _held(case)
    if held is not None:
        if case.payment.asked.capture == "manual" and not held.to_capture_minor:
            return Held(held)
        free = blocker is None or blocker.id == held.id
        if free and (held.next_at is None or held.next_at <= now):
            return Send(
                Op.CAPTURE,
                "the money is held and nothing else can charge: capture it",
                held,
                take_token=not absorb,
            )
    onwards = _next_way(case, rails, settings, now, blocker, held)
    if isinstance(onwards, Send | PayFromBalance):
        return onwards
    doubts = _doubts(case, rails, settings, now, blocker, others_wait=held is not None or onwards is not None)
    if isinstance(doubts, Send):
        return doubts
    if absorb and doubts is not None and onwards is None and _may_stand_in(case, settings):
        return StandIn()
    pauses = [wait for wait in (doubts, onwards) if wait is not None]
    if held is not None and held.next_at is not None and held.next_at > now:
        pauses.append(Wait(held.next_at, f"{held.rail} could not be reached to capture"))
    if not pauses and not any(a.state not in GONE for a in case.attempts):
        return _nothing_kept(case)
    if not pauses:
        return _undo_all(case, rails, settings, now)
    return _earliest(pauses, case)


def _earliest(waits: list[Wait], case: Case) -> Wait:
    """The first of the waits; never past the payer's deadline, at which everything is to be undone."""
    wait = min(waits, key=lambda each: each.until)
    deadline = case.payment.asked.deadline_at
    if deadline is not None and wait.until > deadline and not any(a.to_capture_minor for a in case.attempts):
        return Wait(deadline, wait.why, doubt=wait.doubt)
    return wait


def _blocker(case: Case, settings: PaySettings) -> Attempt | None:
    """The attempt that can still charge and so keeps every other from charging: the holder of the token."""
    if not settings.rules.r6_cascade_only_with_a_free_token:
        return None
    return case.attempt(case.token.holder)


def _held(case: Case) -> Attempt | None:
    held = [a for a in case.attempts if a.state is _S.AUTHORIZED and not a.conflict]
    return min(held, key=lambda a: (a.next_at is not None, a.seq)) if held else None


def _next_way(
    case: Case,
    rails: Rails,
    settings: PaySettings,
    now: datetime,
    blocker: Attempt | None,
    held: Attempt | None,
) -> Send | PayFromBalance | Wait | None:
    """The next step of the plan that may start now (R6).

    Any when the token is free, else one that only holds.
    """
    if blocker is not None and (blocker.state is not _S.UNKNOWN or held is not None):
        return None
    if held is not None and held.tries < 2:
        return None
    if case.payment.asked.deadline_at is not None and now >= case.payment.asked.deadline_at:
        return None
    confirming = [a for a in case.attempts if a.state is _S.PENDING]
    if confirming and case.payment.asked.funding == "direct":
        return None
    if confirming and (until := _patience_until(confirming, settings)) > now:
        return Wait(until, f"{confirming[-1].rail} has it and is given a moment to confirm")
    soonest: datetime | None = None
    for step in _fresh_first(case):
        traits = rails.get(step.rail)
        if traits is None or (blocker is not None and traits.one_step):
            continue
        before, due = _readiness(case, step, settings)
        if due is None or (held is not None and before is not None):
            continue
        if step.rail in case.shut:
            due = now + timedelta(seconds=settings.live_pauses_s[0])
        if due > now:
            soonest = due if soonest is None or due < soonest else soonest
            continue
        return _start(case, step, traits, before, blocker)
    return (
        None if soonest is None else Wait(soonest, "the remaining ways are tried again shortly", doubt=False)
    )


def _patience_until(confirming: list[Attempt], settings: PaySettings) -> datetime:
    """Until when a rail that has taken a payment in may confirm it before another way funds it (R7.

    Late money goes back).
    """
    return max(a.sent_at or a.created_at for a in confirming) + timedelta(seconds=settings.pending_patience_s)


def _fresh_first(case: Case) -> tuple[Step, ...]:
    """The plan, with rails that were silent in this very payment last.

    Another card would meet the same there.
    """
    plan = case.payment.plan
    silent = {a.rail for a in case.attempts if a.state in (_S.UNKNOWN, _S.CANCELING, _S.NOT_SENT)}
    return tuple(sorted(plan, key=lambda step: step.rail in silent)) if silent else plan


def _start(
    case: Case, step: Step, traits: RailTraits, before: Attempt | None, blocker: Attempt | None
) -> Send | PayFromBalance:
    asked = case.payment.asked
    if step.rail == BALANCE_RAIL and blocker is None and asked.capture == "automatic":
        return PayFromBalance(step)
    if blocker is not None:
        why = f"{blocker.rail} has not answered: hold at {step.rail}, charge when it cannot any more"
    elif case.attempts:
        why = f"go on with {step.rail}: nothing tried before can still charge"
        if any(a.state in _ASKABLE for a in case.attempts):
            why = f"go on with {step.rail}: what has not answered can hold, but not charge"
    else:
        why = f"begin with {step.rail}: {step.reason}"
    token = traits.one_step and asked.funding == "direct"
    again = before if before is not None and before.state is _S.NOT_SENT else None
    return Send(Op.AUTHORIZE, why, again, step, take_token=token)


def _readiness(case: Case, step: Step, settings: PaySettings) -> tuple[Attempt | None, datetime | None]:
    """When this step may be tried.

    At once if it never was, after a pause if it failed for the rail's own reasons, never (None) if it is
    under way, if the payer's method was refused, or if it was tried often enough.
    """
    last: Attempt | None = None
    declines = 0
    for attempt in case.attempts:
        if attempt.method.instrument_id != step.method.instrument_id:
            continue
        if attempt.payer_fault:
            return attempt, None
        if attempt.rail == step.rail:
            last = attempt
            declines += attempt.state is not _S.NOT_SENT
    if last is None:
        return None, None if len(case.attempts) >= ATTEMPTS_PER_PAYMENT_MAX else _PAST
    pauses = settings.live_pauses_s
    if last.state is _S.NOT_SENT:
        return last, last.updated_at + timedelta(seconds=pauses[min(last.requests, len(pauses)) - 1])
    if last.state is not _S.DECLINED or declines > settings.again_after_decline:
        return last, None
    if len(case.attempts) >= ATTEMPTS_PER_PAYMENT_MAX or step.rail == BALANCE_RAIL:
        return last, None
    return last, last.updated_at + timedelta(seconds=pauses[min(declines, len(pauses)) - 1])


_PAST: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _may_stand_in(case: Case, settings: PaySettings) -> bool:
    payment = case.payment
    wanted = payment.asked.amount.amount_minor
    known = payment.asked.payer_id is not None and payment.asked.capture == "automatic"
    return known and wanted <= settings.stand_in_limit_minor and STAND_IN not in case.shut


def _doubts(
    case: Case,
    rails: Rails,
    settings: PaySettings,
    now: datetime,
    blocker: Attempt | None,
    *,
    others_wait: bool,
) -> Send | Wait | None:
    """Find out about what is in doubt; fence it when another way is ready (R4)."""
    soonest: Wait | None = None
    for attempt in case.attempts:
        if attempt.state is _S.CAPTURED or attempt.state is _S.RETURNING:
            step: Send | Wait = _give_back(attempt, now)
        elif attempt.state in _ASKABLE:
            fence = others_wait and blocker is not None and attempt.id == blocker.id and attempt.tries > 0
            step = _find_out(attempt, rails[attempt.rail], settings, now, wanted=True, fence=fence)
        elif attempt.state is _S.AUTHORIZED and attempt.conflict:
            step = _release(attempt, now)
        elif attempt.state is _S.SENDING:
            step = Wait(attempt.deadline_at, f"{attempt.rail} is being asked")
        else:
            continue
        if isinstance(step, Send):
            return step
        soonest = step if soonest is None or step.until < soonest.until else soonest
    return soonest


def _undo_all(case: Case, rails: Rails, settings: PaySettings, now: datetime) -> Action:
    """Nothing is wanted any more: release holds, fence what is in doubt, give back what was taken."""
    soonest: Wait | None = None
    for attempt in case.attempts:
        if attempt.state in GONE or attempt.id == case.payment.kept:
            continue
        if attempt.state is _S.CAPTURED and not settings.rules.r7_late_money_goes_back:
            continue
        step = _undo(attempt, rails, settings, now)
        if isinstance(step, Send):
            return step
        soonest = step if soonest is None or step.until < soonest.until else soonest
    if soonest is not None:
        return soonest
    if case.payment.cancel_asked:
        return End("undone", "canceled", "Canceled: nothing was kept.")
    if case.payment.state is PaymentState.AUTHORIZED:
        return End("undone", "hold_expired", "Nobody captured it in time: the hold was released.")
    return _nothing_kept(case)


def _undo(attempt: Attempt, rails: Rails, settings: PaySettings, now: datetime) -> Send | Wait:
    if attempt.state is _S.AUTHORIZED:
        return _release(attempt, now)
    if attempt.state in (_S.CAPTURED, _S.RETURNING):
        return _give_back(attempt, now)
    if attempt.state is _S.SENDING:
        return Wait(attempt.deadline_at, f"{attempt.rail} is being asked")
    return _find_out(attempt, rails[attempt.rail], settings, now, wanted=False, fence=True)


def _clear_up(case: Case, rails: Rails, settings: PaySettings, now: datetime) -> Action:
    """The payment is final; what is left of other attempts is released, fenced or given back (R7)."""
    payment = case.payment
    if payment.stood_in_minor:
        for attempt in case.attempts:
            if attempt.state is _S.CAPTURED and keepable(case, attempt):
                return Keep(attempt)
        onward = _fund_what_was_advanced(case, rails, settings, now)
        if onward is not None:
            return onward
    if not settings.rules.r9_release_what_is_held and payment.state is PaymentState.SUCCEEDED:
        return Rest()
    refund = next_refund(case, rails, now)
    if isinstance(refund, Send):
        return refund
    action = _undo_all(case, rails, settings, now)
    if not isinstance(action, Wait) or refund is None:
        return (refund or Rest()) if isinstance(action, End) else action
    return action if action.until <= refund.until else refund


def _fund_what_was_advanced(case: Case, rails: Rails, settings: PaySettings, now: datetime) -> Action | None:
    held = _held(case)
    if held is not None and (held.next_at is None or held.next_at <= now):
        return Send(Op.CAPTURE, "fund what the wallet has paid ahead", held)
    doubts = _doubts(case, rails, settings, now, None, others_wait=False)
    if doubts is not None:
        return doubts
    if held is not None and held.next_at is not None and held.next_at > now:
        return Wait(held.next_at, f"{held.rail} could not be reached to capture")
    return Owe()


def _nothing_kept(case: Case) -> End:
    """Say why in the words of the last thing that the payer can do something about."""
    declines = [a for a in case.attempts if a.state is _S.DECLINED]
    faults = [a for a in declines if a.payer_fault] or declines
    if faults:
        last = faults[-1]
        return End("nothing_kept", last.code or "declined", last.message or "It was declined.")
    if any(a.conflict for a in case.attempts):
        return End(
            "nothing_kept", "amount_conflict", "The provider charged another amount; it was given back."
        )
    return End(
        "nothing_kept", "rails_unavailable", "No provider could be reached in time. Nothing was charged."
    )


def _release(attempt: Attempt, now: datetime) -> Send | Wait:
    if attempt.next_at is not None and attempt.next_at > now:
        return Wait(attempt.next_at, f"release the hold at {attempt.rail}")
    return Send(Op.CANCEL, f"release the hold at {attempt.rail}: it is not needed", attempt)


def _give_back(attempt: Attempt, now: datetime) -> Send | Wait:
    """Ask first whether the charge really stands, then give it back, and ask again when no answer came."""
    if attempt.next_at is not None and attempt.next_at > now:
        return Wait(attempt.next_at, f"give back what {attempt.rail} charged")
    ask = attempt.tries % 2 == 1 if attempt.state is _S.RETURNING else not attempt.verified
    if ask:
        return Send(Op.QUERY, f"ask {attempt.rail} whether its charge still stands", attempt)
    repeat = attempt.state is _S.RETURNING
    return Send(Op.REFUND, f"{attempt.rail} charged what is not kept: give it back", attempt, repeat=repeat)


def _find_out(
    attempt: Attempt, traits: RailTraits, settings: PaySettings, now: datetime, *, wanted: bool, fence: bool
) -> Send | Wait:
    """One step to learn what became of an attempt, or to fence it: cheapest first, taking turns (R4)."""
    rail = attempt.rail
    if attempt.next_at is not None and attempt.next_at > now:
        return Wait(attempt.next_at, f"{rail} has not answered")
    turn = attempt.tries % 2 == 0
    backup = traits.backup and attempt.tries % 4 == 0
    if attempt.state is _S.CAPTURING:
        if turn and key_lives(attempt, traits, now):
            why = f"ask {rail} to capture again, with the same key: it happens once"
            return Send(Op.CAPTURE, why, attempt, repeat=True, use_backup=backup)
        return Send(Op.QUERY, f"ask {rail} whether it captured", attempt)
    if attempt.state is _S.CANCELING or (fence and _can_cancel(attempt, traits, settings)):
        if turn or attempt.state is not _S.CANCELING:
            earliest = (attempt.sent_at or attempt.created_at) + timedelta(seconds=traits.cancel_wait_s)
            if earliest > now:
                return Wait(earliest, f"{rail} takes no cancel so soon")
            repeat = attempt.state is _S.CANCELING
            return Send(
                Op.CANCEL, f"fence {rail}: after its word it can no longer charge", attempt, repeat=repeat
            )
        return Send(Op.QUERY, f"ask {rail} what became of it", attempt)
    may_start = wanted or not traits.one_step
    query_at = _query_at(attempt, traits)
    repeats = attempt.state is _S.UNKNOWN and may_start and key_lives(attempt, traits, now)
    if repeats and (turn or query_at > now):
        why = f"ask {rail} again with the same key: it charges once at most"
        return Send(Op.AUTHORIZE, why, attempt, repeat=True, use_backup=backup)
    if query_at > now:
        return Wait(query_at, f"{rail} takes no query so soon")
    return Send(Op.QUERY, f"ask {rail} what became of it", attempt)


def _query_at(attempt: Attempt, traits: RailTraits) -> datetime:
    """From when the rail lets itself be asked about this attempt.

    Asking more often can take the place of payments.
    """
    since = attempt.sent_at or attempt.created_at
    if attempt.last_op is Op.QUERY and attempt.updated_at > since:
        since = attempt.updated_at
    return since + timedelta(seconds=traits.query_wait_s)


def key_lives(attempt: Attempt, traits: RailTraits, now: datetime) -> bool:
    """Whether the rail still knows the key: past that, repeating would be a new request."""
    if attempt.expires_at is not None and now >= attempt.expires_at:
        return False
    since = attempt.sent_at or attempt.created_at
    return traits.replay_key_s > 0 and (now - since).total_seconds() < traits.replay_key_s


def _can_cancel(attempt: Attempt, traits: RailTraits, settings: PaySettings) -> bool:
    """Whether a cancel of this attempt would fence.

    With a tombstone always, else only what the rail is known to have.
    """
    known = attempt.remote_id is not None or not settings.rules.r3_cancel_fences_only_what_is_known
    return traits.tombstones or (traits.fence >= FenceClass.F3 and known)
