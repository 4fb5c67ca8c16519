"""What readers in the field get: their own shapes, their own words, newest first; feeds that parse; bars."""

from __future__ import annotations

import json
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest

from holdfast.status import badges, feeds, shapes, uptime
from holdfast.status.board import Declared, Measured, Told
from holdfast.status.graph import default
from holdfast.status.model import Impact, Stage, Standing
from holdfast.status.seal import Signer, verify_page
from holdfast.status.site import OLD_FOR, Site
from holdfast.status.words import Words
from tests.status.worlds import NOON, SINCE, board_of, later, opened, view_of

BOARD = board_of(
    (later(days=-2), "measured", opened("inc_0", {"south": "partial_outage"}, later(days=-2))),
    (
        later(days=-2, hours=6),
        "alice",
        Told("inc_0", "upd_end", "resolved", Words("It is over.", "已恢复。")),
    ),
    (NOON, "measured", Measured("north", "major_outage", 0.97)),
    (NOON, "measured", opened()),
    (later(minutes=4), "alice", Told("inc_1", "upd_2", "identified", Words("North says it is theirs."))),
)


def read(name: str) -> Any:
    return json.loads(shapes.files(view_of(BOARD, later(minutes=5)))[f"api/v2/{name}.json"])


def test_the_summary_has_what_readers_index_by_and_their_words_exactly() -> None:
    summary = read("summary")
    assert summary["page"].keys() == {"id", "name", "url", "time_zone", "updated_at"}
    assert summary["status"] == {"indicator": "minor", "description": "Minor Service Outage"}
    assert [one["id"] for one in summary["incidents"]] == ["inc_1"]
    by_id = {one["id"]: one for one in summary["components"]}
    assert by_id["north"]["status"] == "major_outage"
    assert by_id["pay-card"]["status"] == "degraded_performance"
    assert by_id["group-providers"]["components"] == ["north", "south", "harbour"]
    for one in summary["components"]:
        assert one["status"] in get_args(Standing)
        assert (one["components"] if one["group"] else []) is not None
    assert summary["status"]["indicator"] in get_args(Impact)


def test_updates_stand_newest_first_with_what_they_changed() -> None:
    (one,) = read("incidents/unresolved")["incidents"]
    assert [update["status"] for update in one["incident_updates"]] == ["identified", "investigating"]
    assert one["incident_updates"][-1]["affected_components"] == [
        {
            "code": "north",
            "name": "Card provider North",
            "old_status": "operational",
            "new_status": "major_outage",
        }
    ]
    assert one["incident_updates"][0]["affected_components"] is None
    assert (one["impact"], one["resolved_at"], one["components"][0]["id"]) == ("critical", None, "north")
    assert one["started_at"] == "2026-11-11T12:00:00.000Z"


def test_all_incidents_are_listed_newest_first_and_every_stage_is_one_of_theirs() -> None:
    every = read("incidents")["incidents"]
    assert [one["id"] for one in every] == ["inc_1", "inc_0"]
    assert every[1]["resolved_at"] == "2026-11-09T18:00:00.000Z"
    for one in every:
        assert one["status"] in get_args(Stage)


def test_what_people_do_is_told_with_its_cause_and_what_still_works() -> None:
    told = {one["id"]: one for one in read("summary")["holdfast"]["capabilities"]}
    assert told["pay-card"]["because_of"] == ["north"]
    assert "balance" in told["pay-card"]["fallback"]["en"]
    assert told["pay-balance"]["fallback"] is None
    north = next(one for one in read("components")["components"] if one["id"] == "north")
    assert (north["holdfast"]["measured"], north["holdfast"]["declared"]) == ("major_outage", "major_outage")


def test_the_feeds_are_well_formed_and_hold_what_was_said() -> None:
    made = feeds.files(view_of(BOARD, later(minutes=5)))
    atom = ET.fromstring(made["history.atom"])
    space = {"a": "http://www.w3.org/2005/Atom"}
    titles = [e.text for e in atom.findall("a:entry/a:title", space)]
    assert titles == ["North does not answer / North 无应答"] * 2
    content = atom.findtext("a:entry/a:content", namespaces=space) or ""
    assert "see &lt;all&gt;" in content
    assert '<p lang="zh-CN">正在调查。</p>' in content
    rss = ET.fromstring(made["history.rss"])
    links = [one.text for one in rss.findall("channel/item/link")]
    assert links[0] == "https://status.example.org/incidents/inc_1.html"


def test_a_bar_shows_the_worst_of_its_day_and_how_much_of_it_was_up() -> None:
    past = uptime.Past(default())
    history = past.days(uptime.periods(BOARD), later(minutes=5), SINCE)
    assert len(history["south"]) == uptime.DAYS
    there = next(day for day in history["south"] if day.date == "2026-11-09")
    assert there.standing == "partial_outage"
    assert there.share_up == pytest.approx(1 - 0.3 * 6 / 24)
    today = history["north"][-1]
    assert today.standing == "major_outage"
    assert today.share_up == pytest.approx(1 - 5 / (12 * 60 + 5))
    young = past.days([], NOON, later(days=-3, hours=-1))["north"]
    assert [day.share_up for day in young][-5:] == [None, 1.0, 1.0, 1.0, 1.0]
    assert uptime.share_up(young[:10]) is None


@pytest.fixture
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.kept(tmp_path_factory.mktemp("key") / "signing.key")


def test_each_page_is_signed_for_its_place_and_shows_what_differs_in_both_languages(signer: Signer) -> None:
    board = board_of(
        (NOON, "measured", Measured("north", "partial_outage", 0.41)),
        (NOON, "alice", Declared("north", "operational")),
    )
    files = Site(signer).files(view_of(board, later(minutes=12)), unmeasured=False)
    for path, content in files.items():
        if path.endswith(".html"):
            assert verify_page(content, signer.public_key, later(minutes=13)).path == path
    english, chinese = files["index.html"].decode(), files["zh/index.html"].decode()
    assert "these differ, for 12 min" in " ".join(english.split())
    assert "两者不一致" in chinese
    assert "41.00 %" in english


def test_a_text_of_an_operator_cannot_become_part_of_the_page(signer: Signer) -> None:
    html = Site(signer).files(view_of(BOARD, NOON), unmeasured=False)["incidents/inc_1.html"].decode()
    assert "see &lt;all&gt;" in html
    assert "<all>" not in html


def test_pages_of_what_is_over_are_made_once_until_their_signature_ages(signer: Signer) -> None:
    site = Site(signer)
    first = site.files(view_of(BOARD, later(minutes=5)), unmeasured=False)
    second = site.files(view_of(BOARD, later(minutes=6)), unmeasured=False)
    assert second["incidents/inc_0.html"] is first["incidents/inc_0.html"]
    assert second["incidents/inc_1.html"] is not first["incidents/inc_1.html"]
    aged = site.files(view_of(BOARD, later(minutes=5) + OLD_FOR / 2), unmeasured=False)
    assert aged["incidents/inc_0.html"] is not first["incidents/inc_0.html"]


def test_while_nothing_can_be_measured_the_page_says_so(signer: Signer) -> None:
    html = Site(signer).files(view_of(board_of(), NOON), unmeasured=True)
    assert "cannot measure" in html["index.html"].decode()
    assert "无法测量" in html["zh/index.html"].decode()


def test_a_badge_says_in_words_how_a_thing_stands_and_no_name_can_break_out_of_it() -> None:
    made = badges.files(view_of(BOARD, later(minutes=5)))
    north = ET.fromstring(made["badge/north.svg"])
    assert north.get("aria-label") == "Card provider North: Does not work"
    assert ET.fromstring(made["zh/badge/north.svg"]).get("aria-label") == "银行卡通道 North: 无法使用"
    assert ET.fromstring(made["badge/all.svg"]).get("aria-label") == "Wallet: Slower, or fails now and then"
    assert float(north.get("width") or 0) > 200
    bad = ET.fromstring(badges.badge('"/><script>', "operational", "en"))
    assert bad.get("aria-label") == '"/><script>: Works'
