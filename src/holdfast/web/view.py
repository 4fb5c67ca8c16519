"""What a payment looks like, worked out from its rows alone: no database, no clock, no template.

Times are laid on a line from the first moment of the payment to now (or to its last change once all is
settled), as parts of a thousand of its width, so that a page can draw it without computing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from holdfast.domains.payments.model import Attempt, AttemptState, JournalEntry, Payment, PaymentState
from holdfast.domains.payments.ports import Op
from holdfast.web import words
from holdfast.web.locale import Language

SCALE: Final = 1000
SPAN_S_MIN: Final = 1.0
"""A payment that took less is still drawn on a line of this length, seconds."""

WAITING_AFTER: Final = timedelta(seconds=1.5)
"""From then on a request that has no answer is shown as waited for."""

_MARK_MIN: Final = 8
"""Narrowest part of a bar, thousandths: narrower could not be seen."""

_TICK_STEPS_S: Final = (
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
    6 * 3600.0,
    86400.0,
)
_TICKS_MAX: Final = 6

SETTLED: Final = frozenset(
    {
        AttemptState.CAPTURED,
        AttemptState.CANCELED,
        AttemptState.DECLINED,
        AttemptState.NOT_SENT,
        AttemptState.RETURNED,
    }
)
"""States of an attempt in which nothing more is awaited."""

_STATES: Final = frozenset(state.value for state in AttemptState)
_BY_SENDING: Final = {
    Op.CAPTURE: AttemptState.CAPTURING,
    Op.CANCEL: AttemptState.CANCELING,
    Op.REFUND: AttemptState.RETURNING,
}
_SILENT: Final = frozenset({AttemptState.UNKNOWN, AttemptState.CANCELING})
_NOTHING_HEARD: Final = frozenset({AttemptState.UNKNOWN, AttemptState.CANCELING, AttemptState.NOT_SENT})
OWN_BALANCE: Final = "book"
"""The rail that is the wallet's own balance."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of an attempt's bar, in thousandths of the line."""

    tone: str
    start: int
    width: int


@dataclass(frozen=True, slots=True)
class Track:
    """One attempt as it is drawn. `live`: its last piece still grows."""

    rail: str
    method: str
    tone: str
    label: str
    sentence: str
    lasted_s: float
    pieces: tuple[Piece, ...]
    live: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the line of time."""

    at: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Story:
    """All that the page shows of a payment."""

    id: str
    tone: str
    title: str
    sentence: str
    tracks: tuple[Track, ...]
    ticks: tuple[Tick, ...]
    legend: tuple[tuple[str, str], ...]
    """What each colour of the bars means: tone and words."""
    lasted_s: float
    span_s: float
    settled: bool
    final: bool
    position: str
    """Changes when anything that the page shows may have changed."""


def rail_name(rail: str, language: Language) -> str:
    """Return what people call a rail."""
    return language.say(words.RAILS[rail]) if rail in words.RAILS else rail


def settled(payment: Payment, attempts: Sequence[Attempt]) -> bool:
    """Tell whether nothing more is awaited, on any rail."""
    return payment.final and all(one.state in SETTLED for one in attempts)


def position(payment: Payment, journal: Sequence[JournalEntry]) -> str:
    """Return a text that changes whenever the payment did."""
    return f"{payment.version}.{len(journal)}"


def story(
    public_id: str,
    payment: Payment,
    attempts: Sequence[Attempt],
    journal: Sequence[JournalEntry],
    *,
    now: datetime,
    language: Language,
) -> Story:
    """Lay out a payment as it stands at `now`."""
    tries = sorted(attempts, key=lambda one: one.seq)
    done = settled(payment, tries)
    changes = [payment.updated_at, *(one.updated_at for one in tries)]
    end = max(changes) if done else max(now, *changes)
    begin = payment.created_at
    span_s = max(SPAN_S_MIN, (end - begin).total_seconds())
    tone, title, sentence = _headline(payment, tries, journal, end, language)
    tracks = tuple(_track(one, journal, begin, span_s, end, language) for one in tries)
    drawn = {tone for track in tracks for tone in _seen(track.pieces)}
    return Story(
        id=public_id,
        tone=tone,
        title=title,
        sentence=sentence,
        tracks=tracks,
        ticks=_ticks(span_s),
        legend=tuple((tone, language.say(said)) for tone, said in words.LEGEND.items() if tone in drawn),
        lasted_s=_lasted_s(payment, end),
        span_s=span_s,
        settled=done,
        final=payment.final,
        position=position(payment, journal),
    )


def _seen(pieces: Sequence[Piece]) -> set[str]:
    """Return the tones of the pieces that are not wholly under the next one."""
    nexts = [*(piece.start for piece in pieces[1:]), SCALE + 1]
    return {piece.tone for piece, after in zip(pieces, nexts, strict=True) if after > piece.start}


def _lasted_s(payment: Payment, end: datetime) -> float:
    until = payment.updated_at if payment.final else end
    return max(0.0, (until - payment.created_at).total_seconds())


def _headline(
    payment: Payment,
    tries: Sequence[Attempt],
    journal: Sequence[JournalEntry],
    now: datetime,
    language: Language,
) -> tuple[str, str, str]:
    undoing = payment.cancel_asked and not payment.final
    said = words.UNDOING if undoing else words.PAYMENTS[payment.state]
    sentence = language.say(said.sentence)
    if not payment.final:
        sentence = sentence if undoing else _waited_for(payment, tries, now, language) or sentence
        return said.tone, language.say(said.label), sentence
    silent = next((rail_name(one.rail, language) for one in tries if one.state in _SILENT), None)
    failed = next(
        (rail_name(one.rail, language) for one in tries if one.state is not AttemptState.CAPTURED), None
    )
    passed = next(
        (rail_name(str(one.facts["rail"]), language) for one in journal if one.event == "passed_over"), None
    )
    if payment.state is PaymentState.SUCCEEDED and silent:
        sentence = language.say(words.PAID_STRAY, rail=silent)
    elif payment.state is PaymentState.SUCCEEDED and failed:
        sentence = language.say(words.PAID_AROUND, rail=failed)
    elif payment.state is PaymentState.SUCCEEDED and passed:
        sentence = language.say(words.PAID_PAST, rail=passed)
    return said.tone, language.say(said.label), sentence


def _waited_for(payment: Payment, tries: Sequence[Attempt], now: datetime, language: Language) -> str | None:
    """Say who is waited for and what happens next; None when nobody is."""
    mute = [one for one in tries if _mute(one, now)]
    names = list(dict.fromkeys(rail_name(one.rail, language) for one in mute))
    if payment.state is PaymentState.PENDING:
        names += [rail_name(one.rail, language) for one in tries if one.state is AttemptState.PENDING]
        return language.say(words.WAITED_FOR, rails=_listed(names, language)) if names else None
    if payment.state is not PaymentState.PROCESSING or not names:
        return None
    tried = {(one.rail, one.method.instrument_id) for one in tries}
    if len(mute) < len(tries):
        return language.say(words.CARRYING_ON, rail=_listed(names, language))
    if any((step.rail, step.method.instrument_id) not in tried for step in payment.plan):
        return language.say(words.WAITING.sentence, rail=_listed(names, language))
    return language.say(words.ASKING_ON, rails=_listed(names, language))


def _mute(attempt: Attempt, now: datetime) -> bool:
    """Tell whether nothing is known of a try because its rail does not answer."""
    asked_before = attempt.state is AttemptState.SENDING and attempt.requests > 1
    return attempt.state in _NOTHING_HEARD or asked_before or _long_sent(attempt, now)


def _listed(names: Sequence[str], language: Language) -> str:
    first, *more = names
    for name in more:
        first = language.say(words.AND, first=first, last=name)
    return first


def _track(
    attempt: Attempt,
    journal: Sequence[JournalEntry],
    begin: datetime,
    span_s: float,
    end: datetime,
    language: Language,
) -> Track:
    said = _said(attempt, end)
    rail = rail_name(attempt.rail, language)
    live = attempt.state not in SETTLED
    until = end if live else attempt.updated_at
    moments = _stretches(attempt, journal, until)
    edges = [at for at, _ in moments] + [until]

    def place(at: datetime) -> int:
        return min(SCALE, max(0, round((at - begin) / timedelta(seconds=span_s) * SCALE)))

    pieces = []
    for (start, stop), (_, tone) in zip(pairwise(edges), moments, strict=True):
        left = min(place(start), SCALE - _MARK_MIN)
        pieces.append(Piece(tone, left, max(_MARK_MIN, place(stop) - left)))
    return Track(
        rail=rail,
        method=attempt.method.label,
        tone=said.tone,
        label=language.say(said.label),
        sentence=language.say(_sentence(attempt, said), rail=rail),
        lasted_s=max(0.0, (until - attempt.created_at).total_seconds()),
        pieces=tuple(pieces),
        live=live,
    )


def _said(attempt: Attempt, now: datetime) -> words.Said:
    return words.WAITING if _long_sent(attempt, now) else words.ATTEMPTS[attempt.state]


def _long_sent(attempt: Attempt, now: datetime) -> bool:
    return attempt.state is AttemptState.SENDING and now - attempt.updated_at > WAITING_AFTER


def _sentence(attempt: Attempt, said: words.Said) -> str:
    own = words.BALANCE.get(attempt.state) if attempt.rail == OWN_BALANCE else None
    return said.sentence if own is None else own


def _stretches(
    attempt: Attempt, journal: Sequence[JournalEntry], until: datetime
) -> list[tuple[datetime, str]]:
    """Return when the attempt's bar takes on each tone: a request that is waited for long turns to doubt."""
    states = _states(attempt, journal)
    tones = [(at, words.ATTEMPTS[state].tone) for at, state in states]
    first_ends = tones[1][0] if len(tones) > 1 else until
    if first_ends - attempt.created_at > WAITING_AFTER:
        tones.insert(1, (attempt.created_at + WAITING_AFTER, words.WAITING.tone))
    return [one for place, one in enumerate(tones) if place == 0 or one[1] != tones[place - 1][1]]


def _states(attempt: Attempt, journal: Sequence[JournalEntry]) -> list[tuple[datetime, AttemptState]]:
    """Return when the attempt entered each state: what its journal tells, ending in the state that it has."""
    told = [(attempt.created_at, AttemptState.SENDING)]
    for entry in journal:
        named = _state_by(entry) if entry.attempt_id == attempt.id else None
        if named is not None and named != told[-1][1]:
            told.append((max(entry.at, told[-1][0]), named))
    if told[-1][1] != attempt.state:
        told.append((max(attempt.updated_at, told[-1][0]), attempt.state))
    return told


def _state_by(entry: JournalEntry) -> AttemptState | None:
    """Return the state that a line of the journal brings about, if any."""
    if entry.event == "send":
        return None if entry.op is None else _BY_SENDING.get(entry.op)
    named = entry.facts.get("state")
    return AttemptState(named) if isinstance(named, str) and named in _STATES else None


def _ticks(span_s: float) -> tuple[Tick, ...]:
    step = next((one for one in _TICK_STEPS_S if span_s / one <= _TICKS_MAX), _TICK_STEPS_S[-1])
    count = min(_TICKS_MAX, int(span_s / step))
    return tuple(Tick(round(n * step / span_s * SCALE), n * step) for n in range(count + 1))
