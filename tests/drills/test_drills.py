"""Whole drills in simulated mode, at a part of their traffic (`make soak` runs them in full)."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from holdfast.base.errors import Refused
from holdfast.cli import root
from holdfast.drills import pictures, report
from holdfast.drills.reading import built_in, load
from holdfast.drills.run import drill
from tests.drills.worlds import ONE_STEP, PAYERS, RAIL, fault, tiny
from tests.support.browser import running_browser

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
    assert "Money lost: 0.00 USD. Books balanced" in result.output
    assert (tmp_path / "pages" / "aws-2025-10.json").read_bytes() == file.read_bytes()
    page = Page()
    page.feed((tmp_path / "pages" / "aws-2025-10.html").read_text(encoding="utf-8"))
    page.is_whole_and_can_be_read_aloud()


def test_the_list_names_every_scenario() -> None:
    result = CliRunner().invoke(root, ["drill", "list"])
    assert result.exit_code == 0
    assert all(name in result.output for name in built_in())
    assert len(result.output.splitlines()) <= 2 * len(built_in()) + 2
    assert not any(line.endswith(" ") for line in result.output.splitlines())


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(option: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(root, ["drill", "run", "aws-2025-10", option, str(tmp_path / "file" / "x")])
    assert isinstance(result.exception, Refused)
    assert re.match(
        rf"The folder {tmp_path}/file.* cannot be made: .*Choose another", result.exception.message
    )
    assert result.output == ""


def test_looking_whether_a_place_can_be_written_changes_no_file(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    for name in ("old.json", "new.json"):
        report.refuse_unwritable(tmp_path / "folder" / ".." / name)
    assert {path.name for path in tmp_path.iterdir()} == {"old.json", "folder"}
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *(
            (["--scale", scale], "is not a number from 0.001 to 10")
            for scale in ("nan", "inf", "0", "-1", "x")
        ),
        (["--scale", "0.5", "--live"], "--scale is for simulated drills"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(options: list[str], says: str) -> None:
    result = CliRunner().invoke(root, ["drill", "run", "aws-2025-10", *options])
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())


def test_without_a_terminal_progress_is_told_line_by_line_and_not_in_the_results() -> None:
    result = CliRunner().invoke(root, ["drill", "run", "aws-2025-10", "--scale", "0.005"])
    told = result.stderr.splitlines()
    assert sum(line.startswith("Holdfast: ") for line in told) >= 10
    assert told[-1] == "The same through three ordinary systems: 100 %"
    assert "payments: " not in result.stdout


def moments_of(**figures: object) -> dict[str, tuple[str, str]]:
    usual: dict[str, object] = {
        "mode": "simulated", "about": {"faults": [{}]}, "detect_s": 5.0, "moved_s": 3, "recover_s": 40.0,
        "backlog_s": 600.0, "timeline": {"first_tries": {"north": [90, 90]}},
    }  # fmt: skip
    return {one.name.en: (one.value.en, one.value.zh) for one in report.moments(usual | figures)}


def test_what_was_measured_is_named_in_order_and_said_in_words_where_there_is_no_figure() -> None:
    usual = moments_of()
    assert list(usual) == ["detected", "moved", "recovered", "settled"]
    assert [en for en, _ in usual.values()] == ["5 s", "3 s", "40 s", "10 min"]
    assert [zh for _, zh in usual.values()] == ["5 秒", "3 秒", "40 秒", "10 分钟"]
    assert moments_of(recover_s=0.0)["recovered"] == ("not needed", "无需")
    assert moments_of(recover_s=0.0, moved_s=None)["moved"][0] == "not needed"
    assert moments_of(moved_s=None)["moved"][0] == "never"
    few = {"first_tries": {"north": [9, 9]}}
    assert moments_of(moved_s=None, timeline=few)["moved"][0] == "too few to tell"
    assert moments_of(detect_s=None, backlog_s=None)["detected"] == ("never", "始终没有")
    assert moments_of(backlog_s=0.0)["settled"][0] == "at once"
    assert list(moments_of(mode="live")) == ["recovered", "settled"]
    assert moments_of(about={"faults": []}) == {}


def test_few_payments_are_drawn_in_wider_steps_and_many_as_they_are() -> None:
    assert pictures.steps_together([875.0] * 120) == 1
    assert pictures.steps_together([17.0] * 120) == 7
    assert 120 // pictures.steps_together([1.0] * 120) >= 16
    assert pictures.steps_together([]) == 1
    assert pictures.per_second([10, 20, 30], 5, 2) == [3.0, 6.0]
    assert [pictures.axis_text(value) for value in (0, 2.5, 9000, 22_500, 3e6)] == [
        "0", "2.5", "9000", "22.5k", "3M"
    ]  # fmt: skip


def test_the_page_opens_in_the_language_of_who_opens_it_and_can_be_switched(tmp_path: Path) -> None:
    figures = drill(load("aws-2025-10").scaled(0.005), beside=False)
    page = report.write_html(figures, tmp_path)
    with running_browser() as browser:
        for locale, lang, says in (("zh-CN", "zh-CN", "来源："), ("de-DE", "en", "Source:")):
            tab = browser.new_page(locale=locale, viewport={"width": 390, "height": 800})
            tab.goto(page.as_uri())
            assert tab.evaluate("document.documentElement.lang") == lang
            assert tab.get_by_text(says).is_visible()
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390
            tick = tab.locator(".tick").first.evaluate(
                "one => parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a"
            )
            assert tick >= 11, "the axes can be read on a narrow screen"
            tab.get_by_text("English" if lang == "zh-CN" else "中文").click()
            assert tab.evaluate("document.documentElement.lang") != lang
            assert tab.get_by_text(says).is_hidden()


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
            assert tag not in ("link", "img", "iframe"), f"<{tag}>: the page is to stand alone"
            assert "src" not in attributes, f"<{tag} src>: the page is to stand alone"
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
