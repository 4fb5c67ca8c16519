"""The service as it runs: alone, over real sockets, killed and started again."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.platform.outcomes import Row
from holdfast.status.seal import verify_folder, verify_page
from tests.status.service import Service, service
from tests.support.waiting import until

BREAK = {
    "name": {"en": "Top-up waits", "zh": "充值延迟"},
    "body": {"en": "Cards work.", "zh": "银行卡可用。"},
    "components": {"top-up": "degraded_performance"},
}


def test_a_rail_that_fails_is_public_within_seconds_with_nothing_of_the_wallet_there(tmp_path: Path) -> None:
    with service(tmp_path) as one:
        token = one.token("facts", "wallet")
        for _ in range(3):
            one.report(token, Row("pay", "north", "", "", 10, 0, 0), Row("pay", "south", "", "", 10, 0, 0))
        board = one.token("operator", "alice")
        until(lambda: "north" in one.ask("GET", "/v1/board", None, board)[1]["measured"], "it is measured")
        assert one.summary()["incidents"] == []
        began_s = time.monotonic()
        for _ in range(2):
            one.report(token, Row("pay", "north", "", "", 0, 10, 0), Row("pay", "south", "", "", 10, 0, 0))
        (incident,) = until(lambda: one.summary()["incidents"], "it is public", within_s=20)
        assert time.monotonic() - began_s < 10
        assert incident["name"] == "Card provider North does not work"
        standings = {each["id"]: each["status"] for each in one.summary()["components"]}
        assert (standings["north"], standings["pay-card"]) == ("major_outage", "degraded_performance")
        assert one.summary()["status"]["indicator"] == "minor"
        page = one.ask("GET", "/zh/index.html")[1]
        assert "无法使用" in page.decode()
        assert "谨防冒充" in page.decode()
        verify_page(page, one.key, datetime.now(UTC))


def test_operators_speak_by_command_and_by_api_and_what_they_say_outlives_a_kill(tmp_path: Path) -> None:
    with service(tmp_path) as one:
        token = one.token("operator", "alice")
        opened = one.command(
            "open", "Top-up waits", "--zh", "充值延迟", "--body", "Cards work.", "--url", one.url,
            "--component", "top-up=degraded_performance", HOLDFAST_STATUS_TOKEN=token,
        )  # fmt: skip
        assert opened.returncode == 0, opened.stderr
        id_ = json.loads(opened.stdout)["id"]
        one.kill()
        one.start()
        (incident,) = one.summary()["incidents"]
        assert (incident["id"], incident["status"]) == (id_, "investigating")
        told = {"stage": "resolved", "body": {"en": "All arrived.", "zh": "已全部到账。"}}
        assert one.ask("POST", f"/v1/incidents/{id_}/updates", told, token)[0] == 201
        until(lambda: one.summary()["incidents"] == [], "it is over", within_s=10)
        refused = one.command(
            "tell", id_, "investigating", "--body", "again", "--url", one.url, HOLDFAST_STATUS_TOKEN=token
        )
        assert refused.returncode == 1
        assert "over" in refused.stderr
        declared = one.command(
            "declare", "south", "partial_outage", "--url", one.url, HOLDFAST_STATUS_TOKEN=token
        )
        assert declared.returncode == 0, declared.stderr
        board = json.loads(one.command("board", "--url", one.url, HOLDFAST_STATUS_TOKEN=token).stdout)
        assert board["declared"]["south"]["standing"] == "partial_outage"


def test_a_window_is_planned_by_command_and_a_second_person_decides(tmp_path: Path) -> None:
    start = datetime.now(UTC) + timedelta(hours=2)
    with service(tmp_path) as one:
        alice, bob = one.token("operator", "alice"), one.token("operator", "bob")

        def run(token: str, *arguments: str) -> Any:
            done = one.command("maintenance", *arguments, "--url", one.url, HOLDFAST_STATUS_TOKEN=token)
            return json.loads(done.stdout) if done.returncode == 0 else done.stderr

        window = (
            "North moves", "--body", "Another provider does it.", "--effect", "north=cut,2,300", "--from",
            start.isoformat(), "--to", (start + timedelta(hours=1)).isoformat(), "--retry", "same_order",
        )  # fmt: skip
        assert "lead_time" in {each["code"] for each in run(alice, "check", *window)["conflicts"]}
        assert "5 working days" in run(alice, "plan", *window)
        planned = run(alice, "plan", *window, "--reason", "a leak in the roof")
        assert planned["state"] == "proposed"
        assert "second person" in run(alice, "approve", planned["id"])
        assert run(bob, "approve", planned["id"])["state"] == "scheduled"
        assert [each["id"] for each in run(bob, "list")["maintenances"]] == [planned["id"]]
        assert "It is scheduled" in run(bob, "done", planned["id"])
        assert run(bob, "cancel", planned["id"])["state"] == "cancelled"


def test_the_wallet_is_told_beforehand_to_avoid_a_rail_and_a_window_goes_by_itself(tmp_path: Path) -> None:
    with service(tmp_path) as one:
        alice, bob = one.token("operator", "alice"), one.token("operator", "bob")
        facts = one.token("facts", "wallet")
        start = datetime.now(UTC) + timedelta(seconds=5)
        asked = {
            "name": {"en": "North moves"}, "body": {"zh": "另一通道处理。"},
            "effects": [{"component": "north"}],
            "starts_at": start.isoformat(), "ends_at": (start + timedelta(seconds=2)).isoformat(),
            "reason": "a leak in the roof",
        }  # fmt: skip
        status, planned, _ = one.ask("POST", "/v1/maintenances", asked, alice)
        assert (status, planned["state"]) == (201, "proposed"), planned
        assert one.ask("POST", "/v1/facts", {"source": "s", "number": 0}, facts)[1]["planned"] == []
        approved = one.ask("POST", f"/v1/maintenances/{planned['id']}/approve", {}, bob)[1]
        assert approved["state"] == "scheduled", approved
        assert one.ask("POST", "/v1/facts", {"source": "s", "number": 1}, facts)[1]["planned"] == ["north"]
        until(lambda: _state(one, planned["id"]) == "verifying", "it starts, and is checked, by itself")
        assert one.ask("POST", "/v1/facts", {"source": "s", "number": 2}, facts)[1]["planned"] == []
        done = one.ask("POST", f"/v1/maintenances/{planned['id']}/act", {"act": "confirm"}, alice)[1]
        assert [note["moment"] for note in done["notes"]][-3:] == ["started", "verifying", "completed"]
        until(lambda: b"North moves" in one.ask("GET", "/maintenance.html")[1], "it is public")
        assert b"BEGIN:VEVENT" in one.ask("GET", "/zh/maintenance.ics")[1]


def _state(one: Service, id_: str) -> str:
    every = one.ask("GET", "/api/v2/scheduled-maintenances.json")[1]["scheduled_maintenances"]
    return next((str(each["status"]) for each in every if each["id"] == id_), "")


def test_the_published_folder_is_genuine_and_outlives_the_service_itself(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    settings = tmp_path / "status.toml"
    settings.write_text(f'title = "Tidepool"\nurl = "https://status.example.org"\nfolders = ["{copy}"]\n')
    with service(tmp_path, "--settings", str(settings)) as one:
        until((copy / "current" / "index.html").exists, "the copy is there", within_s=10)
        key = one.key
    verify_folder(copy / "current", key, datetime.now(UTC))
    assert one.command("verify", str(copy / "current"), "--key", key).returncode == 0
    page = copy / "current" / "index.html"
    assert "Tidepool" in page.read_text()
    page.write_text(page.read_text().replace("Everything works", "Send us your password"))
    refused = one.command("verify", str(page), "--key", key)
    assert refused.returncode == 1
    assert "changed since" in refused.stderr


@pytest.mark.parametrize(
    ("method", "path", "body", "role", "status", "code"),
    [
        ("POST", "/v1/incidents", BREAK, "", 401, "status_token_missing"),
        ("POST", "/v1/incidents", BREAK, "facts", 403, "status_token_wrong"),
        ("POST", "/v1/facts", {"source": "s", "number": 0}, "operator", 403, "status_token_wrong"),
        ("GET", "/v1/board", None, "", 401, "status_token_missing"),
        ("POST", "/v1/incidents", {**BREAK, "extra": 1}, "operator", 400, "status_request_wrong"),
        ("POST", "/v1/incidents", {**BREAK, "components": {}}, "operator", 400, "status_request_wrong"),
        ("POST", "/v1/incidents", {**BREAK, "body": {}}, "operator", 400, "status_request_wrong"),
        ("POST", "/v1/incidents", {**BREAK, "components": {"x": "major_outage"}}, "operator", 404,
         "status_component_unknown"),
        ("POST", "/v1/incidents", {**BREAK, "components": {"top-up": "broken"}}, "operator", 400,
         "status_request_wrong"),
        ("POST", "/v1/incidents", {**BREAK, "started_at": "2126-01-01T00:00:00Z"}, "operator", 400,
         "status_request_wrong"),
        ("POST", "/v1/incidents/inc_no/updates", {"stage": "resolved", "body": {"en": "x"}}, "operator", 404,
         "status_incident_not_found"),
        ("POST", "/v1/facts", {"source": "", "number": 0}, "facts", 400, "status_request_wrong"),
        ("POST", "/v1/facts", {"source": "s", "number": 0, "rows": [["a/b", "", "", "", 1, 0, 0]]}, "facts",
         400, "status_request_wrong"),
        ("POST", "/v1/facts", {"source": "s", "number": 0, "rows": [["a", "", "", "", -1, 0, 0]]}, "facts",
         400, "status_request_wrong"),
        ("POST", "/v1/facts", b"x" * 1_100_000, "facts", 413, "http_error"),
        ("POST", "/v1/facts", b"not json", "facts", 400, "status_request_wrong"),
        ("GET", "/../../etc/passwd", None, "", 404, "http_error"),
        ("DELETE", "/v1/incidents", None, "", 405, "http_error"),
    ],
)  # fmt: skip
def test_v5_0_0_8_2_1_what_is_wrong_or_not_allowed_is_refused_and_changes_nothing(
    running: Service, tokens: dict[str, str], method: str, path: str, body: object, role: str, status: int,
    code: str,
) -> None:  # fmt: skip
    answered, problem, headers = running.ask(method, path, body, tokens.get(role, ""))
    assert (answered, problem["code"]) == (status, code), problem
    assert headers["Content-Type"] == "application/problem+json"
    assert running.summary()["incidents"] == []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("status")) as one:
        yield one


@pytest.fixture(scope="module")
def tokens(running: Service) -> dict[str, str]:
    return {role: running.token(role, "tester") for role in ("facts", "operator")}


def test_every_file_answers_head_and_says_what_it_is(running: Service) -> None:
    for path, kind in {
        "/": "text/html; charset=utf-8",
        "/zh/": "text/html; charset=utf-8",
        "/api/v2/components.json": "application/json",
        "/history.atom": "application/atom+xml",
        "/history.rss": "application/rss+xml",
        "/key.txt": "text/plain; charset=utf-8",
        "/notices.json": "application/json",
    }.items():
        status, content, headers = running.ask("HEAD", path)
        assert (status, content, headers["Content-Type"]) == (200, b"", kind), path
        assert "aiohttp" not in headers["Server"]
    assert "default-src 'none'" in running.ask("GET", "/")[2]["Content-Security-Policy"]


def test_a_report_is_taken_once_and_a_revoked_token_is_refused_at_once(running: Service) -> None:
    token = running.token("facts", "other")
    body = {"source": "worker-9", "number": 5}
    assert running.ask("POST", "/v1/facts", body, token)[1] == {"taken": True, "planned": []}
    assert running.ask("POST", "/v1/facts", body, token)[1] == {"taken": False, "planned": []}
    data = str(running.folder / "data")
    gone = running.command("token", "--data", data, "--role", "facts", "--name", "other", "--revoke")
    assert gone.stdout.strip() == "revoked"
    assert running.ask("POST", "/v1/facts", {**body, "number": 6}, token)[0] == 403


def test_v5_0_0_14_2_4_tokens_and_keys_are_kept_for_the_owner_alone(running: Service) -> None:
    data = running.folder / "data"
    assert data.stat().st_mode & 0o077 == 0
    assert (data / "signing.key").stat().st_mode & 0o077 == 0
    token = running.token("operator", "bob")
    kept = b"".join(path.read_bytes() for path in data.glob("status.sqlite3*"))
    assert token.encode() not in kept


def test_what_probes_find_is_public_while_nobody_pays(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with service(tmp_path, "--probe", f"ledger=http://127.0.0.1:{port}/readyz") as one:
        (incident,) = until(lambda: one.summary()["incidents"], "it is public", within_s=30)
        assert incident["name"] == "Accounts and balances does not work"
        standings = {each["id"]: each["status"] for each in one.summary()["components"]}
        assert standings["pay-balance"] == standings["pay-card"] == "major_outage"
