"""The ledger of downtime: trailing windows, overlaps, planned stops, and what falls out when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.status.rules.downtime import Stop, later, ledger, merged, worst
from holdfast.status.rules.errors import RecordInvalid

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALLOWED_S = 4 * 3600.0


def stop(ago_h: float, hours: float, *, planned: bool = False) -> Stop:
    start = NOW - ago_h * HOUR
    return Stop(start, start + hours * HOUR, planned)


@pytest.mark.parametrize(
    ("stops", "used_h"),
    [
        ((), 0),
        ((stop(10, 1),), 1),
        ((stop(10, 1), stop(10, 1)), 1),
        ((stop(10, 2), stop(9, 2)), 3),
        ((stop(10, 1), stop(9, 1)), 2),
        ((stop(10, 3), stop(9, 1)), 3),
        ((stop(10, 1, planned=True),), 0),
        ((stop(10, 2), stop(10, 5, planned=True)), 2),
        ((Stop(NOW - 3 * HOUR),), 3),
        ((stop(-1, 1),), 0),
        ((stop(365 * 24 + 1, 2),), 1),
        ((stop(365 * 24 + 2, 2),), 0),
    ],
)
def test_overlaps_count_once_and_planned_or_old_or_future_stops_not_at_all(
    stops: tuple[Stop, ...], used_h: float
) -> None:
    found = ledger(stops, NOW, ALLOWED_S)
    assert (found.used_s, found.left_s) == (used_h * 3600, ALLOWED_S - used_h * 3600)


@pytest.mark.parametrize(("seconds", "exceeded"), [(-1, False), (0, False), (1, True)])
def test_the_allowance_is_exceeded_just_above_it(seconds: int, exceeded: bool) -> None:
    found = ledger((Stop(NOW - 5 * HOUR, NOW - HOUR + timedelta(seconds=seconds)),), NOW, ALLOWED_S)
    assert found.exceeded is exceeded
    assert found.left_s == max(-seconds, 0)


def test_the_ledger_says_when_the_oldest_begins_to_fall_out_and_is_out() -> None:
    found = ledger((stop(48, 2), stop(10, 1)), NOW, ALLOWED_S)
    assert found.relief_at == datetime(2027, 5, 30, 0, tzinfo=UTC)
    assert found.oldest_out_at == datetime(2027, 5, 30, 2, tzinfo=UTC)
    assert ledger((stop(48, 2), stop(10, 1)), found.oldest_out_at, ALLOWED_S).used_s == 3600
    assert ledger((), NOW, ALLOWED_S).relief_at is None


def test_the_worst_window_may_lie_in_the_past() -> None:
    stops = (stop(400 * 24, 3), stop(300 * 24, 2), stop(24, 1))
    assert ledger(stops, NOW, ALLOWED_S).used_s == 3 * 3600
    found = worst(stops, NOW, ALLOWED_S)
    assert (found.used_s, found.exceeded) == (5 * 3600, True)


def test_a_year_after_29_february_is_28_february() -> None:
    assert later(datetime(2028, 2, 29, tzinfo=UTC), 12) == datetime(2029, 2, 28, tzinfo=UTC)


def test_periods_that_touch_are_one() -> None:
    assert len(merged((stop(10, 1), stop(9, 1), stop(2, 1)), NOW)) == 2


def test_a_stop_that_ends_before_it_starts_or_has_no_zone_is_refused() -> None:
    with pytest.raises(RecordInvalid):
        Stop(NOW, NOW - HOUR)
    with pytest.raises(RecordInvalid):
        Stop(datetime(2026, 1, 1))  # noqa: DTZ001
