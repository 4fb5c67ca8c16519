"""Judges a drill.

What was completed against what was possible, what it cost, and how fast the trouble was seen.

Every figure is defined here, and told in `docs/reference/drills.md`. Seconds are simulated seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.base.values import quick
from holdfast.drills.baselines import PolicyRun
from holdfast.drills.draw import NEVER, Draw

STEP_S: Final = 5
"""Width of a bar of the timelines."""
WINDOW_S: Final = 5
BEFORE_S: Final = 30
"""How far before the first fault the usual share of traffic is measured."""
MOVED: Final = 0.5
"""Traffic has moved when the faulty rail's share of first tries has fallen to this part of what it was."""
RECOVERED: Final = 0.99
RECOVER_WINDOW_S: Final = 30
TRIES_MIN: Final = 20
"""A share over fewer first tries is chance."""


@quick
@dataclass(frozen=True, slots=True)
class FirstTry:
    """Where a payment was tried first, and when."""

    at_s: float
    rail: str
    elsewhere: bool
    """Whether the payer could have been sent to another rail instead."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What routing believed of a rail at a moment.

    Its success rate, how sure it is, whether the breaker let calls through.
    """

    at_s: float
    success_rate: float
    spread: float
    closed: bool


def continuity(done: Sequence[float], draw: Draw, possible: Sequence[bool]) -> float:
    """Return completed within the deadline ÷ completable; 1 when nothing was completable."""
    most = sum(possible)
    return in_time(done, draw) / most if most else 1.0


def in_time(done: Sequence[float], draw: Draw) -> int:
    """Return how many payments succeeded by their deadline."""
    deadline_s = draw.scenario.deadline_s
    return sum(end <= at + deadline_s for end, at in zip(done, draw.arrive_s, strict=True))


def first_fault(draw: Draw) -> tuple[float, set[str]] | None:
    """Return when the first fault begins and which rails begin to fail then; None when nothing fails."""
    faults = draw.scenario.faults
    if not faults:
        return None
    start = min(fault.from_s for fault in faults)
    return float(start), {fault.target for fault in faults if fault.from_s == start}


def last_fault_end_s(draw: Draw) -> float:
    """Return when the last fault is over, or the traffic if nothing fails."""
    return float(max((fault.to_s for fault in draw.scenario.faults), default=draw.scenario.duration_s))


def detected_s(draw: Draw, seen: Mapping[str, Sequence[Seen]]) -> float | None:
    """Return the seconds from the start of the first fault until routing believed that something is wrong.

    That is: the breaker of a failing rail is not closed, or its believed success rate lies more than three
    standard deviations (as it was then) under what was believed just before the fault. None: never believed,
    or the rail was not in use.
    """
    start = first_fault(draw)
    if start is None:
        return None
    start_s, rails = start
    found: list[float] = []
    for rail in rails:
        moments = seen.get(rail, ())
        before = [moment for moment in moments if moment.at_s < start_s]
        usual = before[-1].success_rate if before else None
        for moment in moments:
            if moment.at_s < start_s:
                continue
            doubted = usual is not None and moment.success_rate < usual - 3 * moment.spread
            if doubted or not moment.closed:
                found.append(moment.at_s - start_s)
                break
    return round(min(found), 3) if found else None


def moved_s(draw: Draw, tries: Sequence[FirstTry]) -> float | None:
    """Return the seconds from the start of the first fault until new payments went elsewhere.

    Of the payments that have another rail to go to: the first whole second at which the failing rails' share
    of the first tries of the last 5 s is at most half of their share in the 30 s before the fault. None: it
    never was, or they had no share.
    """
    start = first_fault(draw)
    if start is None:
        return None
    start_s, rails = start
    times = [one.at_s for one in tries if one.elsewhere]
    there = [one.rail in rails for one in tries if one.elsewhere]
    counted = [0]
    for hit in there:
        counted.append(counted[-1] + hit)

    def share(from_s: float, to_s: float) -> float | None:
        low, high = bisect_right(times, from_s), bisect_right(times, to_s)
        return (counted[high] - counted[low]) / (high - low) if high - low >= TRIES_MIN else None

    usual = share(start_s - BEFORE_S, start_s)
    if not usual:
        return None
    for second in range(int(start_s) + 1, draw.scenario.duration_s + 1):
        now = share(max(start_s, second - WINDOW_S), second)
        if now is not None and now <= usual * MOVED:
            return round(second - start_s, 3)
    return None


def recovered_s(draw: Draw, done: Sequence[float], possible: Sequence[bool]) -> float | None:
    """Return the seconds from the start of the first fault until payments completed as usual again.

    That is: the first whole second from which the payments arriving in the next 30 s reach a continuity of
    0.99; 0 when those that arrive with the fault already do. None: never.
    """
    start = first_fault(draw)
    if start is None:
        return None
    good, most = [0], [0]
    deadline_s = draw.scenario.deadline_s
    for at, end, could in zip(draw.arrive_s, done, possible, strict=True):
        good.append(good[-1] + (end <= at + deadline_s))
        most.append(most[-1] + could)
    begin = int(start[0])
    for second in range(begin, max(begin + 1, draw.scenario.duration_s - RECOVER_WINDOW_S + 1)):
        low = bisect_right(draw.arrive_s, second - 1e-9)
        high = bisect_right(draw.arrive_s, second + RECOVER_WINDOW_S)
        if most[high] > most[low] and good[high] - good[low] >= RECOVERED * (most[high] - most[low]):
            return float(second - begin)
    return None


def judge_baseline(run: PolicyRun, draw: Draw, possible: Sequence[bool]) -> dict[str, float | int]:
    """Return a baseline's figures."""
    return {
        "continuity": round(continuity(run.done_s, draw, possible), 6),
        "completed_in_deadline": in_time(run.done_s, draw),
        "double_charges_kept": run.double_charges_kept,
        "charged_without_sale": run.charged_without_sale,
    }


def per_step(times: Sequence[float], draw: Draw, until_s: float | None = None) -> list[int]:
    """Return how many of `times` fall into each step of the timeline."""
    steps = int((until_s or draw.scenario.duration_s) // STEP_S) + 1
    counts = [0] * steps
    for at in times:
        if at < NEVER and 0 <= at / STEP_S < steps:
            counts[int(at / STEP_S)] += 1
    return counts


def completed_per_step(done: Sequence[float], draw: Draw) -> list[int]:
    """Return, by the step in which payments came, how many were completed in time."""
    deadline_s = draw.scenario.deadline_s
    came = [at for at, end in zip(draw.arrive_s, done, strict=True) if end <= at + deadline_s]
    return per_step(came, draw)


def percentiles_ms(waits_s: Sequence[float]) -> dict[str, int]:
    """Return the 50th, 90th and 99th percentile of some waits, milliseconds; nothing when there are none."""
    ordered = sorted(waits_s)
    last = len(ordered) - 1
    shares = (50, 90, 99) if ordered else ()
    return {f"p{p}": round(ordered[min(last, len(ordered) * p // 100)] * 1000) for p in shares}
