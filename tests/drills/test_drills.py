"""Whole drills in simulated mode, at a part of their traffic (`make soak` runs them in full)."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from holdfast.cli import root
from holdfast.drills import report
from holdfast.drills.reading import built_in, load
from holdfast.drills.run import drill
from tests.drills.worlds import ONE_STEP, PAYERS, RAIL, fault, tiny

SCALE = 0.02
BOTH = PAYERS.replace('["card"]', '["bank", "card"]')


def holds(figures: dict[str, Any]) -> None:
    """Check the bars, with what the auditor found and the seed when they are missed."""
    told = {name: value for name, value in figures.items() if name not in ("timeline", "about")}
    assert figures["double_charges_kept"] == 0, told
    assert figures["money_lost_minor"] == 0, told
    assert figures["books_balanced"] is True, told
    assert figures["announced_twice"] == 0, told
    assert figures["in_doubt"] == 0, told
    assert figures["findings"] == [], told
    assert figures["continuity"] >= 0.99, told
    assert figures["completed_in_deadline"] <= figures["oracle_completable"], told
    assert figures["passed"] is True, told


@pytest.mark.parametrize("name", sorted(built_in()))
def test_every_outage_of_the_catalogue_is_held_and_a_blind_cascade_keeps_double_charges(name: str) -> None:
    figures: dict[str, Any] = drill(load(name).scaled(SCALE), beside=False)
    holds(figures)
    blind = figures["baselines"]["blind"]
    assert blind["double_charges_kept"] > 0
    assert figures["baselines"]["retry"]["double_charges_kept"] > 0
    assert figures["baselines"]["single"]["continuity"] < figures["continuity"]


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(built_in()))
def test_every_outage_is_held_at_its_full_traffic(name: str) -> None:
    holds(drill(load(name)))


def test_the_same_seed_gives_the_same_report_byte_for_byte_and_another_seed_another() -> None:
    scenario = load("aws-2025-10").scaled(0.005)
    one = report.to_json(drill(scenario, seed=7))
    again = report.to_json(drill(scenario, seed=7, beside=False))
    other = report.to_json(drill(scenario, seed=8, beside=False))
    assert one == again
    assert one != other


def test_late_money_is_found_and_given_back_before_the_books_are_closed() -> None:
    late = fault("ack_then_silent", "instant", from_s=0, to_s=40, backlog_s=60, copies=3)
    figures: dict[str, Any] = drill(tiny(BOTH, RAIL, ONE_STEP, late), beside=False)
    holds(figures)
    assert figures["baselines"]["blind"]["double_charges_kept"] > figures["attempted"] / 2


def test_what_a_dark_rail_charged_without_a_word_is_given_back_or_kept_but_never_lost() -> None:
    dark = fault("dark", "instant", from_s=5, to_s=50, carried_out=0.5)
    drops = ONE_STEP + "expires_s = 120\n"
    figures: dict[str, Any] = drill(tiny(BOTH, RAIL, drops, dark), beside=False)
    holds(figures)


def test_a_quiet_day_completes_everything_and_has_nothing_to_detect() -> None:
    figures: dict[str, Any] = drill(tiny(BOTH, RAIL, ONE_STEP), beside=False)
    holds(figures)
    assert figures["continuity"] == 1.0
    assert figures["detect_s"] is None
    assert figures["recover_s"] is None
    assert all(one["double_charges_kept"] == 0 for one in figures["baselines"].values())


STABLE = {
    "continuity", "attempted", "completed_in_deadline", "completed_later", "oracle_completable", "declined",
    "in_doubt", "double_charges_kept", "money_lost_minor", "asset", "books_balanced", "announced_twice",
    "detect_s", "moved_s", "recover_s", "backlog_s", "baselines", "waits_ms", "passed", "findings",
    "scenario",
    "mode", "seed", "about", "timeline",
}  # fmt: skip


def test_the_command_writes_the_documented_keys_and_a_page_and_tells_what_came_of_it(tmp_path: Path) -> None:
    file = tmp_path / "drill.json"
    arguments = ["drill", "run", "aws-2025-10", "--scale", "0.01", "--seed", "3"]
    result = CliRunner().invoke(root, [*arguments, "--json", str(file), "--report", str(tmp_path / "pages")])
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert result.exit_code == (0 if figures["passed"] else 3), result.output
    assert set(figures) == STABLE
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "drills.md").read_text(encoding="utf-8")
    for key in STABLE:
        assert f"`{key}`" in reference or f"`{key}." in reference, f"{key} is not documented"
    assert figures["seed"] == 3
    assert set(figures["baselines"]) == {"single", "retry", "blind"}
    assert "blind cascade" in result.output
    assert "Books balanced" in result.output
    assert (tmp_path / "pages" / "aws-2025-10.json").read_bytes() == file.read_bytes()
    page = Page()
    page.feed((tmp_path / "pages" / "aws-2025-10.html").read_text(encoding="utf-8"))
    page.is_whole_and_can_be_read_aloud()


def test_the_list_names_every_scenario() -> None:
    result = CliRunner().invoke(root, ["drill", "list"])
    assert result.exit_code == 0
    assert all(name in result.output for name in built_in())


class Page(HTMLParser):
    """Looks whether a report needs nothing from elsewhere, and whether its pictures say what they show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "br", "line", "rect", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "rect", "polyline"):
            assert self.open.pop() == tag, f"</{tag}> closes another element"

    def is_whole_and_can_be_read_aloud(self) -> None:
        assert self.open == []
        for tag, attributes in self.tags:
            assert tag not in ("script", "link", "img", "iframe"), f"<{tag}>: the page is to stand alone"
            assert not any(str(value).startswith("http") for value in attributes.values())
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        pictures = [
            attributes for tag, attributes in self.tags if tag == "svg" and attributes.get("role") == "img"
        ]
        assert len(pictures) == 3
        for picture in pictures:
            told = str(picture["aria-labelledby"]).split()
            assert len(told) == 2
            assert set(told) <= set(ids)
        assert sum(tag == "table" for tag, _ in self.tags) >= len(pictures)
        languages = [attributes.get("lang") for _, attributes in self.tags]
        assert languages.count("zh-CN") == languages.count("en") - 1, "the page itself, and each text in both"
