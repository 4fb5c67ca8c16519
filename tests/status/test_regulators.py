"""From an incident to what regulators ask: measured first, told besides, assessed and reported."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pypdf
import pytest

from holdfast.platform.outcomes import Row
from holdfast.status.board import Drained, Evidenced, Numbered, Told
from holdfast.status.evidence import checked, record_of
from holdfast.status.model import Numbers, Period
from holdfast.status.rules.errors import RecordInvalid
from holdfast.status.rules.record import downtime
from holdfast.status.words import Words
from tests.status.service import service
from tests.status.test_service import BREAK
from tests.status.worlds import NOON, board_of, later, opened
from tests.support.waiting import until

OVER = Told("inc_1", "upd_2", "resolved", Words("Over."))
NUMBERS = Numbered("inc_1", (Numbers("north", 100, 60, 5, 10, ()),))


def test_what_was_measured_is_in_the_record_and_what_waits_keeps_the_clock_running() -> None:
    board = board_of(
        (NOON, "alice", opened()), (later(hours=1), "alice", OVER), (later(hours=1), "measured", NUMBERS)
    )
    record = record_of(board.incident("inc_1"), board)
    assert (record.partly_unavailable_from, record.restored, record.resolved) == (
        NOON,
        later(hours=1),
        later(hours=1),
    )
    assert record.rows is not None
    assert record.rows[0].payments_affected is not None
    assert record.rows[0].payments_affected.value == 60
    assert downtime(record, later(hours=5)) == timedelta(hours=5)
    drained = board_of(
        (NOON, "alice", opened()),
        (later(hours=1), "alice", OVER),
        (later(hours=3), "measured", Drained("inc_1")),
    )
    record = record_of(drained.incident("inc_1"), drained)
    assert record.backlog_drained == later(hours=3)
    assert downtime(record, later(hours=5)) == timedelta(hours=3)


def test_what_people_tell_wins_and_what_they_cannot_know_is_refused() -> None:
    board = board_of(
        (NOON, "alice", opened()),
        (
            later(hours=1),
            "bob",
            Evidenced("inc_1", {"media": True, "clients_affected": {"value": 7, "estimated": True}}),
        ),
    )
    record = record_of(board.incident("inc_1"), board)
    assert record.media is True
    assert record.clients_affected is not None
    assert (record.clients_affected.value, record.clients_affected.estimated) == (7, True)
    one = board.incident("inc_1")
    wrongs: tuple[dict[str, Any], ...] = (
        {"rows": []}, {"id": "x"}, {"moon": True}, {"media": "perhaps"}, {"restored": "2026-11-11T11:00:00Z"},
    )  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(RecordInvalid):
            checked(one, board, wrong)


def test_earlier_stops_of_the_same_component_count_for_the_yearly_allowance() -> None:
    board = board_of(
        (NOON, "alice", opened("inc_0")),
        (later(hours=3), "alice", Told("inc_0", "u", "resolved", Words("Over."))),
        (later(days=9), "alice", opened(at=later(days=9))),
        (later(days=9), "alice", opened("inc_2", {"south": "major_outage"}, later(days=9))),
    )  # fmt: skip
    record = record_of(board.incident("inc_1"), board)
    assert record.earlier is not None
    assert [(stop.start, stop.end) for stop in record.earlier] == [(NOON, later(hours=3))]
    assert Period("north", "major_outage", NOON, later(hours=3)) in board.incident("inc_0").periods


def test_an_operator_gets_classes_deadlines_and_the_report_with_the_wallet_gone(tmp_path: Path) -> None:
    settings = tmp_path / "status.toml"
    settings.write_text(
        '[firm]\nname = "Tidepool Payments"\nlei = "529900T8BM49AURSDO55"\nkinds = ["payment institution"]\n'
        'country = "DE"\nzone = "Europe/Berlin"\n'
    )
    with service(tmp_path, "--settings", str(settings)) as one:
        facts, alice = one.token("facts", "wallet"), one.token("operator", "alice")
        body = BREAK | {"components": {"north": "major_outage"}}
        id_ = one.ask("POST", "/v1/incidents", body, alice)[1]["id"]
        one.report(facts, Row("pay", "north", "", "", 2, 6, 1))
        one.ask("POST", f"/v1/incidents/{id_}/updates", {"template": "over"}, alice)
        until(
            lambda: one.ask("GET", f"/v1/incidents/{id_}/evidence", None, alice)[1]["record"]["rows"],
            "it is counted", within_s=20,
        )  # fmt: skip
        told = {"supports_critical_function": True, "media": True, "countries": ["DE", "FR"]}
        assert one.ask("PUT", f"/v1/incidents/{id_}/evidence", told, alice)[0] == 200
        refused = one.ask("PUT", f"/v1/incidents/{id_}/evidence", {"moon": 1}, alice)
        assert (refused[0], refused[1]["code"]) == (422, "status_record_invalid")
        found = {
            each["pack"]: each for each in one.ask("GET", f"/v1/incidents/{id_}/assessments", None, alice)[1]
        }
        assert set(found) == {"eu-dora", "uk-fca", "sg-mas", "my-bnm", "in-rbi", "cn-pboc"}
        assert found["eu-dora"]["grade"] == "major"
        assert [due["id"] for due in found["eu-dora"]["deadlines"]][:3] == [
            "initial",
            "intermediate",
            "final",
        ]
        report = one.ask("GET", f"/v1/incidents/{id_}/dora?stage=final", None, alice)[1]
        assert "Tidepool Payments" in json.dumps(report)
        pdf = one.ask("GET", f"/v1/incidents/{id_}/dora?stage=initial&format=pdf&lang=zh-CN", None, alice)[1]
        text = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages)
        assert "Tidepool Payments" in text
        assert one.ask("GET", f"/v1/incidents/{id_}/dora?stage=last", None, alice)[0] == 400
        used = one.ask("GET", "/v1/downtime", None, alice)[1]
        assert used["north"]["now"]["used_s"] == used["north"]["fullest"]["used_s"] > 0
        assert used["south"]["now"]["used_s"] == 0
        assert one.ask("GET", "/v1/recurring", None, alice)[1] == []
        for path in ("evidence", "assessments", "dora"):
            assert one.ask("GET", f"/v1/incidents/{id_}/{path}")[0] == 401
