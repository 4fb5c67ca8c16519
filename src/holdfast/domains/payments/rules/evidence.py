"""What a piece of news makes of an attempt.

Knowledge only grows: none < timeout < the rail's answer < a signed message < the settlement file. News that
agrees with what is known raises its strength; news that contradicts it counts only when it is strictly
stronger; old news (a message about the hold that arrives after the charge) changes nothing, because the life
cycle has no way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from holdfast.base.money import Money
from holdfast.base.values import members, quick
from holdfast.domains.payments.model import Attempt, AttemptState, Evidence, Op, changed
from holdfast.domains.payments.ports import Answer, RailTraits, Said
from holdfast.domains.payments.rules.lifecycle import attempt_after
from holdfast.domains.payments.rules.settings import Rules

_SAID: Final = members(Said)
_OP: Final = members(Op)
_S: Final = members(AttemptState)


@quick
@dataclass(frozen=True, slots=True)
class Heard:
    """One piece of news of an attempt.

    `op` is the request that it answers; None: a message, or a line of a file.

    `repeat`: the request was sent before, so that "not sent" says nothing of the first time. `asked_at`:
    when the request was journaled.
    """

    op: Op | None
    said: Said
    evidence: Evidence
    asked_at: datetime
    repeat: bool = False
    remote_id: str | None = None
    code: str = ""
    message: str = ""
    amount: Money | None = None
    refunded_minor: int = 0
    payer_fault: bool = False


def heard(op: Op, answer: Answer, *, asked_at: datetime, repeat: bool) -> Heard:
    """Return an answer as news."""
    return Heard(
        op,
        answer.said,
        Evidence.TIMEOUT if answer.said is _SAID.UNKNOWN else answer.evidence,
        asked_at,
        repeat,
        answer.remote_id,
        answer.code,
        answer.message,
        answer.amount,
        answer.refunded_minor,
        answer.payer_fault,
    )


_OF_A_HOLD: Final = (_SAID.AUTHORIZED, _SAID.CAPTURED)


def event_of(attempt: Attempt, news: Heard, traits: RailTraits, rules: Rules) -> str:
    """Return the name of `news` in the life cycle's table."""
    said = news.said
    if said is _SAID.NOT_FOUND and _not_found_is_final(attempt, news, traits, rules):
        return "expired"
    if (
        said is _SAID.REFUNDED
        and news.amount is not None
        and news.amount.amount_minor < attempt.captured_minor
    ):
        return "told:partly_refunded"
    if said is _SAID.UNKNOWN and not rules.r2_no_answer_is_unknown:
        return f"{news.op or 'told'}:declined"
    if news.op is None or news.op is _OP.QUERY:
        return f"told:{said}"
    if news.op is _OP.AUTHORIZE and news.repeat:
        return f"repeat:{said}"
    if news.repeat and said in (_SAID.NOT_SENT, _SAID.NOT_DONE):
        return "repeat:nothing"
    return f"{news.op}:{said}"


def _not_found_is_final(attempt: Attempt, news: Heard, traits: RailTraits, rules: Rules) -> bool:
    """Whether "no such payment" proves that this attempt can never charge."""
    if news.op is _OP.CANCEL:
        return not rules.r3_cancel_fences_only_what_is_known
    if news.op is not _OP.QUERY:
        return False
    if not rules.r3_not_found_is_no_fence:
        return True
    if attempt.state is _S.CAPTURING:
        return False
    return (
        traits.expires_s is not None
        and attempt.expires_at is not None
        and news.asked_at >= attempt.expires_at
    )


def given_back(attempt: Attempt, news: Heard) -> Heard:
    """Return news of a charge that stands, with all of it given back, as news that it was given back.

    A rail may answer a refund with an error, keep that answer for its key, and have done it: then only asking
    tells.
    """
    if attempt.state is not _S.RETURNING or news.said is not _SAID.CAPTURED or news.op is not _OP.QUERY:
        return news
    if not 0 < attempt.captured_minor <= news.refunded_minor:
        return news
    return changed(news, said=_SAID.REFUNDED, amount=Money(attempt.amount.asset, news.refunded_minor))


def learn(attempt: Attempt, news: Heard, traits: RailTraits, rules: Rules, now: datetime) -> Attempt:
    """Return the attempt as it stands after `news`; the very same object when the news changes nothing."""
    event = event_of(attempt, news, traits, rules)
    after = attempt_after(attempt.state, event)
    sure = after is not None
    if after is None and news.said is _SAID.CAPTURED:
        after = _contradicted(attempt, news)
    if not rules.r5_evidence_only_strengthens:
        after = _naively(news) or after
    if after is None:
        return _noted(attempt, news, now)
    return _moved(attempt, after, news, rules, now, sure=sure)


def _contradicted(attempt: Attempt, news: Heard) -> AttemptState | None:
    """A charge that turns up on an attempt thought over is believed only from a stronger source."""
    return attempt_after(attempt.state, "stronger:captured") if news.evidence > attempt.evidence else None


def _naively(news: Heard) -> AttemptState | None:
    return {
        _SAID.AUTHORIZED: _S.AUTHORIZED,
        _SAID.CAPTURED: _S.CAPTURED,
        _SAID.DECLINED: _S.DECLINED,
        _SAID.CANCELED: _S.CANCELED,
        _SAID.NOT_FOUND: _S.CANCELED if news.op is not _OP.REFUND else None,
    }.get(news.said)


def _noted(attempt: Attempt, news: Heard, now: datetime) -> Attempt:
    """News that changes no state may still tell the rail's id, strengthen knowledge, or confirm a charge."""
    remote_id = attempt.remote_id or news.remote_id
    agrees = news.said.value == attempt.state.value
    evidence = max(attempt.evidence, news.evidence) if agrees else attempt.evidence
    verified = attempt.verified or (
        news.op is _OP.QUERY and news.said is _SAID.CAPTURED and attempt.state is _S.CAPTURED
    )
    if (remote_id, evidence, verified) == (attempt.remote_id, attempt.evidence, attempt.verified):
        return attempt
    return changed(attempt, remote_id=remote_id, evidence=evidence, verified=verified, updated_at=now)


def _moved(
    attempt: Attempt, after: AttemptState, news: Heard, rules: Rules, now: datetime, *, sure: bool
) -> Attempt:
    taken = attempt.captured_minor
    conflict = attempt.conflict
    if news.said in _OF_A_HOLD and news.amount is not None:
        wanted = attempt.amount.amount_minor
        if news.said is _SAID.CAPTURED and attempt.to_capture_minor:
            wanted = attempt.to_capture_minor
        same = news.amount.asset == attempt.amount.asset and news.amount.amount_minor == wanted
        conflict = conflict or (not same and rules.r5_amounts_must_agree)
    if after is _S.CAPTURED:
        taken = attempt.to_capture_minor or attempt.amount.amount_minor
        if (
            news.amount is not None
            and news.amount.asset == attempt.amount.asset
            and rules.r5_amounts_must_agree
        ):
            taken = news.amount.amount_minor
    return changed(
        attempt,
        state=after,
        evidence=max(attempt.evidence, news.evidence)
        if rules.r5_evidence_only_strengthens
        else news.evidence,
        remote_id=attempt.remote_id or news.remote_id,
        code=news.code or attempt.code,
        message=news.message or attempt.message,
        updated_at=now,
        captured_minor=taken,
        conflict=conflict,
        payer_fault=news.payer_fault,
        verified=after is _S.CAPTURED and (sure or news.op is _OP.QUERY),
        tries=attempt.tries if after is attempt.state else 0,
        next_at=None,
    )
