"""Numbers and curves: what was counted is shown, kept with the incident, and written into its postmortem."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.platform.outcomes import Row
from holdfast.status import trends
from holdfast.status.board import Numbered, Told
from holdfast.status.graph import default
from holdfast.status.outcomes import Count, Probed
from holdfast.status.postmortem import draft
from holdfast.status.trends import STEP_S, STEPS, Trends
from holdfast.status.words import Words
from tests.status.service import service
from tests.status.test_service import BREAK
from tests.status.worlds import NOON, board_of, later, opened
from tests.support.waiting import until

NOON_S = int(NOON.timestamp())


def count(at_s: int, succeeded: int, failed: int, rail: str = "north", declined: int = 0) -> Count:
    return Count(at_s, "pay", rail, "", "", succeeded, failed, declined)


def test_the_last_day_is_kept_by_quarters_of_an_hour_and_no_more() -> None:
    one = Trends(default())
    start_s = NOON_S - 2 * STEPS * STEP_S
    for at_s in range(start_s, NOON_S, STEP_S // 3):
        one.take(
            [count(at_s, 9, 1)], [Probed(at_s, "ledger", "ok", 40), Probed(at_s, "ledger", "failed", 4_000)]
        )
    steps = one.of("north", NOON)
    assert len(steps) == STEPS
    assert {(step.attempts, step.failed) for step in steps} == {(30, 3)}
    assert {step.took_ms / step.probes for step in one.of("ledger", NOON)} == {40}
    assert one.of("south", NOON) == []
    assert one.of("north", later(days=2)) == []


def test_a_curve_says_in_words_what_it_shows() -> None:
    one = Trends(default())
    one.take([count(NOON_S - 3_600, 1, 3), count(NOON_S - 60, 10, 0)], [])
    drawn = str(trends.curve_of_day("North <1>", one.of("north", NOON), NOON, "en"))
    assert (
        'aria-label="North &lt;1&gt;: share of payments that succeeded, last 24 hours, lowest 25.0 %"'
        in drawn
    )
    assert drawn.count("polyline") == 1
    assert "近 24 小时" in str(trends.curve_of_day("北", one.of("north", NOON), NOON, "zh-CN"))
    assert str(trends.curve_of_day("South", one.of("south", NOON), NOON, "en")) == ""


def test_what_happened_during_an_incident_is_counted_for_what_it_touched_alone() -> None:
    counts = [
        count(NOON_S - 60, 100, 100), count(NOON_S, 1, 9, declined=5), count(NOON_S, 50, 0, "south"),
        count(NOON_S + 10, 2, 8), count(NOON_S + 600, 7, 7),
    ]  # fmt: skip
    (north,) = trends.during(default(), ["north", "ledger"], counts, NOON_S, NOON_S + 300)
    assert (north.component, north.attempts, north.failed, north.declined) == ("north", 20, 17, 5)
    assert [(p.attempts, p.failed) for p in north.points] == [(10, 9), (10, 8)]
    long = [count(NOON_S + 10 * n, 1, 1) for n in range(50_000)]
    (north,) = trends.during(default(), ["north"], long, NOON_S, NOON_S + 500_000)
    assert len(north.points) <= trends.POINTS_MAX
    assert (north.attempts, north.failed) == (100_000, 50_000)


def test_a_postmortem_begins_with_the_numbers_and_the_order_of_events_in_both_languages() -> None:
    numbers = trends.during(default(), ["north"], [count(NOON_S, 1, 3)], NOON_S, NOON_S + 60)
    board = board_of(
        (NOON, "measured", opened()),
        (later(minutes=42), "alice", Told("inc_1", "upd_2", "resolved", Words("All is well.", "已恢复。"))),
        (later(minutes=42), "measured", Numbered("inc_1", numbers)),
    )
    text = draft(board.incident("inc_1"), default())
    assert "(42 min)" in text.en
    assert "payments failed 3 / 4 (75.0 %)" in text.en
    assert text.en.index("We are looking into it &") < text.en.index("All is well.")
    assert "失败支付 3 / 4 (75.0 %)" in text.zh
    assert "根本原因：<请填写>" in text.zh


@pytest.mark.parametrize("killed", [False, True])
def test_the_numbers_of_an_incident_are_kept_when_it_ends_also_over_a_restart(
    tmp_path: Path, killed: bool
) -> None:
    with service(tmp_path) as one:
        facts, alice = one.token("facts", "wallet"), one.token("operator", "alice")
        body = BREAK | {"components": {"north": "major_outage"}}
        id_ = one.ask("POST", "/v1/incidents", body, alice)[1]["id"]
        one.report(facts, Row("pay", "north", "", "", 2, 6, 1))
        until(
            lambda: b"share of payments that succeeded" in one.ask("GET", "/")[1],
            "the curve is there",
            within_s=70,
        )
        if killed:
            one.kill()
            one.start()
        one.ask("POST", f"/v1/incidents/{id_}/updates", {"template": "over"}, alice)
        page = f"/incidents/{id_}.html"
        until(lambda: b"6 of 8 payments failed" in one.ask("GET", page)[1], "it is counted", within_s=20)
        shown = one.ask("GET", f"/v1/incidents/{id_}/postmortem", None, alice)[1]
        assert "payments failed 6 / 8" in shown["draft"]["en"]
        assert datetime.now(UTC).strftime("%Y-%m-%d") in shown["draft"]["zh"]
