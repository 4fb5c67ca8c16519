"""The record: what is refused, its clocks, and sums of which a part is not known."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from holdfast.status.rules.errors import RecordInvalid
from holdfast.status.rules.record import (
    Bounds,
    Figure,
    Record,
    began,
    costs_eur,
    downtime,
    duration,
    largest,
    outage_bounds,
    recovered,
    share,
    total,
)
from tests.status.rules.worlds import T0, at, cost, quiet


@pytest.mark.parametrize(
    "facts",
    [
        {"occurred": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"partly_unavailable_from": T0, "restored": at(hours=-1)},
        {"partly_unavailable_from": T0, "backlog_drained": at(hours=-1)},
        {"occurred": T0, "resolved": at(hours=-1)},
        {"unavailable": False, "partly_unavailable_from": T0},
        {"backlog": False, "backlog_drained": T0},
    ],
)
def test_evidence_that_contradicts_itself_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(RecordInvalid):
        Record(id="x", **facts)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_figure_is_a_number_from_0_on(value: float) -> None:
    with pytest.raises(RecordInvalid):
        Figure(value)


def test_an_empty_record_knows_nothing() -> None:
    record = Record(id="x")
    assert duration(record, T0) is None
    assert downtime(record, T0) is None
    assert recovered(record) is None
    assert costs_eur(record) == total(()) == Bounds()


def test_duration_runs_from_occurrence_else_from_the_earliest_trace_until_resolved() -> None:
    assert duration(Record(id="x", occurred=T0, detected=at(hours=1)), at(hours=5)) == timedelta(hours=5)
    traced = Record(id="x", detected=at(hours=2), first_logged=at(hours=1), resolved=at(hours=4))
    assert duration(traced, at(hours=9)) == timedelta(hours=3)
    assert began(traced) == (at(hours=1), True)


def test_downtime_ends_with_the_later_of_restored_and_drained() -> None:
    record = Record(
        id="x", partly_unavailable_from=T0, restored=at(hours=3), backlog=True, backlog_drained=at(hours=2)
    )
    assert downtime(record, at(hours=9)) == timedelta(hours=3)
    assert outage_bounds(record, at(hours=9)) == Bounds(3 * 3600, 3 * 3600)


def test_nothing_unavailable_is_no_downtime_and_not_an_unknown_one() -> None:
    assert downtime(Record(id="x", unavailable=False), T0) == timedelta()


def test_sums_shares_and_maxima_keep_what_is_not_known() -> None:
    assert total((Figure(2), None, Figure(3, estimated=True))) == Bounds(5, None, estimated=True)
    assert share(Bounds(5, None), Bounds(10, 10)) == Bounds(0.5, None)
    assert share(Bounds(0, 0), Bounds()) == Bounds(0, 0)
    assert share(Bounds(5, 5), Bounds()) == share(Bounds(5, 5), Bounds(0, 0)) == Bounds()
    assert largest((Bounds(1, 1), Bounds(2, None))) == Bounds(2, None)


def test_a_record_survives_json() -> None:
    record = quiet(costs=cost(5, estimated=True), partly_unavailable_from=T0)
    assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record
