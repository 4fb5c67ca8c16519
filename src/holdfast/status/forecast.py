"""When it will be back: which incidents need an estimate now, made from the board, and how past ones did.

An incident gets one when it opens, when it reaches another stage, and when the time by which it should have
been over has passed; never just because time went by.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from holdfast.status.board import Board, Estimated
from holdfast.status.estimate.remaining import Estimate, Record, chance_of, estimate, record
from holdfast.status.estimate.survival import Past
from holdfast.status.model import Given, Incident

ESTIMATES_MAX: Final = 50
"""Estimates of one incident: what needs more cannot be estimated."""


def due(board: Board, now: datetime) -> list[Estimated]:
    """Return the estimates that are to be given now."""
    wanting = [one for one in board.open if _wanting(one, now)]
    if not wanting:
        return []
    past = _past(board, now)
    chances = [chance_of(made, real_s) for made, real_s in _ended(board)]
    return [Estimated(one.id, _given(one, now, past, chances)) for one in wanting]


def so_far(board: Board) -> Record:
    """Return how the estimates of all incidents that are over did."""
    return record(_ended(board))


def _wanting(one: Incident, now: datetime) -> bool:
    if not one.periods or len(one.estimates) >= ESTIMATES_MAX:
        return False
    last = one.estimate
    return last is None or last.stage != one.stage or now > last.most_at


def _given(one: Incident, now: datetime, past: list[Past], chances: list[float]) -> Given:
    elapsed_s = (now - one.started_at).total_seconds()
    made = estimate(past, one.periods[0].component, one.cause, elapsed_s, chances)
    half_at, most_at = (now + timedelta(seconds=span_s) for span_s in (made.half_s, made.most_s))
    return Given(now, one.stage, half_at, most_at, made.alike, made.curve_s)


def _past(board: Board, now: datetime) -> list[Past]:
    """Return how long incidents lasted, and those that go on have so far, oldest first."""
    return [
        Past(
            ((one.resolved_at or now) - one.started_at).total_seconds(),
            one.resolved_at is not None,
            one.periods[0].component,
            one.cause,
        )
        for one in board.incidents.values()
        if one.periods and one.merged_into is None
    ]


def _ended(board: Board) -> Iterable[tuple[Estimate, float]]:
    """Return past estimates with the seconds from when they were made until the end."""
    for one in board.incidents.values():
        if one.resolved_at is None or one.merged_into is not None:
            continue
        for given in one.estimates:
            half_s, most_s = ((at - given.at).total_seconds() for at in (given.half_at, given.most_at))
            made = Estimate(half_s, most_s, given.alike, given.curve_s)
            yield made, (one.resolved_at - given.at).total_seconds()
