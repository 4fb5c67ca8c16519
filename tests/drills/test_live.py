"""The live drill: a whole platform, providers that fail as in the scenario, a server killed at work."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.drills.live import live_drill
from holdfast.drills.reading import load
from holdfast.drills.report import to_html
from tests.drills.test_drills import STABLE


@pytest.mark.timeout(420)
def test_with_a_provider_failing_and_the_server_killed_every_payment_ends_right() -> None:
    words: list[str] = []
    scenario = load("visa-europe-2018")
    figures: dict[str, Any] = live_drill(scenario, seed=1, tell=words.append)
    told = {name: value for name, value in figures.items() if name not in ("timeline", "about")}
    assert set(figures) == STABLE
    assert "kill -9 of the server" in words
    assert figures["double_charges_kept"] == 0, told
    assert figures["money_lost_minor"] == 0, told
    assert figures["books_balanced"] is True, told
    assert figures["announced_twice"] == 0, told
    assert figures["findings"] == [], told
    assert figures["attempted"] >= 20, told
    ended = figures["completed_in_deadline"] + figures["completed_later"] + figures["declined"]
    assert ended <= figures["attempted"]
    assert figures["continuity"] >= 0.9, told
    assert figures["recover_s"] is not None, told
    assert "kill -9" in to_html(figures)
    *faults, killed = figures["about"]["faults"]
    assert killed["kind"] == "kill_server"
    assert [(one["rail"], one["kind"], one["share"]) for one in faults] == [
        (one.target, one.kind.value, one.share) for one in scenario.faults
    ]
    assert sum(word == "north fails as visa did: gray" for word in words) == len(faults) > 1
    assert sum(word == "north is mended: gray" for word in words) == len(faults)
