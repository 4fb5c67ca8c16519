"""Notices reach those who asked for them, once they confirmed, whatever fails meanwhile."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from holdfast.status.notices.genuine import check_signed
from holdfast.status.subscriptions.store import Roll
from tests.status.service import Service, service
from tests.status.subscriptions.receivers import Hooked, Letters, link_in, text_of
from tests.status.test_service import BREAK
from tests.support.waiting import until

ANN = "ann@example.org"


@pytest.fixture
def letters() -> Iterator[Letters]:
    one = Letters()
    yield one
    one.stop()


@pytest.fixture
def hooked() -> Iterator[Hooked]:
    one = Hooked()
    yield one
    one.stop()


@pytest.fixture
def running(tmp_path: Path, letters: Letters) -> Iterator[Service]:
    settings = tmp_path / "status.toml"
    settings.write_text(
        'title = "Wallet"\nwebhooks_private = true\n'
        f'[mail]\nhost = "127.0.0.1"\nport = {letters.port}\nsender = "status@example.org"\ntls = "none"\n'
    )
    with service(tmp_path, "--settings", str(settings)) as one:
        yield one


def post(url: str, body: bytes = b"") -> str:
    with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=10) as answer:
        return str(answer.read().decode())


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def form(one: Service, **fields: Any) -> str:
    return post(
        one.url + "/subscriptions", urllib.parse.urlencode({"tag": "en", **fields}, doseq=True).encode()
    )


def confirmed(one: Service, letters: Letters, address: str = ANN, **fields: Any) -> None:
    form(one, address=address, maintenance="yes", **fields)
    until(lambda: letters.to(address), "the letter is there")
    post(link_in(text_of(letters.to(address)[0])))
    letters.got.clear()


def broken(one: Service, token: str = "", **more: Any) -> str:
    token = token or one.token("operator", "alice")
    status, incident, _ = one.ask("POST", "/v1/incidents", BREAK | more, token)
    assert status == 201, incident
    return str(incident["id"])


def test_a_letter_comes_only_after_it_was_confirmed_and_no_more_after_one_click(
    running: Service, letters: Letters
) -> None:
    assert "Look into your mailbox" in form(running, address=ANN)
    (asking,) = until(lambda: letters.to(ANN), "the letter to confirm is there")
    token = running.token("operator", "alice")
    broken(running, token)
    link = link_in(text_of(asking))
    assert "One more click" in get(link)  # a program that only looks confirms nothing
    broken(running, token)
    assert len(letters.got) == 1
    assert "You are subscribed" in post(link)
    broken(running, token)
    letter = until(lambda: letters.to(ANN)[1:], "the notice is there")[0]
    assert letter["Subject"].startswith("We are looking into it: Top-up waits [HF-")
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    end = letter["List-Unsubscribe"].strip(" <>")
    assert "Your subscription has ended" in post(end, b"List-Unsubscribe=One-Click")
    broken(running, token)
    broken(running, token)
    assert len(letters.to(ANN)) == 2
    roll = Roll(running.folder / "data" / "subscribers.sqlite3")
    assert roll.counts() == {}
    roll.close()
    assert ANN.encode() not in (running.folder / "data" / "subscribers.sqlite3").read_bytes()


def test_every_letter_can_be_checked_with_the_key_alone(
    running: Service, letters: Letters, tmp_path: Path
) -> None:
    confirmed(running, letters, tag="zh-CN")
    broken(running)
    (letter,) = until(lambda: letters.to(ANN), "the notice is there")
    text = text_of(letter)
    assert "充值延迟" in text
    assert "绝不会索要密码" in text
    saved = tmp_path / "letter.txt"
    saved.write_text("> forwarded\n\n" + text)
    assert running.command("really", str(saved), "--key", running.key).returncode == 0
    saved.write_text(text.replace("银行卡可用", "请打款到新账户"))
    assert running.command("really", str(saved), "--key", running.key).returncode == 1
    later = datetime.now(UTC) + timedelta(days=400)
    assert check_signed(text, running.key, later) == ()


def test_nothing_is_lost_while_the_mail_server_is_away_and_other_channels_go_on(
    tmp_path: Path, letters: Letters, hooked: Hooked, running: Service
) -> None:
    confirmed(running, letters)
    running.ask("POST", "/subscriptions", {"kind": "webhook", "address": hooked.url})
    until(lambda: hooked.got, "the webhook is asked")
    post(hooked.got[0][2]["confirm"])
    port = letters.port
    letters.stop()
    broken(running)
    until(lambda: len(hooked.got) > 1, "the webhook is told meanwhile")
    metrics = until(lambda: _down(running), "it is known")
    assert 'holdfast_status_channel_down{channel="webhook"} 0' in metrics or "webhook" not in metrics
    again = Letters(port)
    try:
        (letter,) = until(lambda: again.to(ANN), "the letter comes", within_s=30)
        assert "Top-up waits" in letter["Subject"]
    finally:
        again.stop()


def _down(one: Service) -> str:
    metrics = str(one.ask("GET", "/metrics")[1].decode())
    return metrics if 'holdfast_status_channel_down{channel="email"} 1' in metrics else ""


def test_a_webhook_gets_statuspages_envelope_signed_per_standard_webhooks(
    running: Service, hooked: Hooked
) -> None:
    asked = {"kind": "webhook", "address": hooked.url, "wishes": {"components": ["top-up"]}}
    status, answer, _ = running.ask("POST", "/subscriptions", asked)
    assert status == 202, answer
    until(lambda: hooked.got, "it is asked to confirm")
    post(hooked.got[0][2]["confirm"])
    token = running.token("operator", "alice")
    broken(running, token, components={"refund": "major_outage"})
    id_ = broken(running, token)
    headers, raw, body = until(lambda: hooked.got[1:], "it is told")[0]
    Webhook(answer["secret"]).verify(raw.decode(), headers)
    assert (body["incident"]["id"], body["incident"]["name"]) == (id_, "Top-up waits")
    assert body["incident"]["incident_updates"][0]["body"] == "Cards work."
    assert set(body["page"]) == {"id", "status_indicator", "status_description"}
    assert {"unsubscribe", "documentation", "generated_at"} == set(body["meta"])
    proof = body["holdfast"]["notice"]["en"]
    assert check_signed(f"{proof['text']}\n{proof['signature']}", running.key, datetime.now(UTC))
    post(body["meta"]["unsubscribe"])
    broken(running, token)
    broken(running, token)
    assert len(hooked.got) == 2


def test_who_cannot_be_reached_is_tried_again_and_who_is_gone_is_forgotten_after_three(
    running: Service, letters: Letters
) -> None:
    for address in (ANN, "gone@example.org"):
        confirmed(running, letters, address)
    letters.gone.add("gone@example.org")
    token = running.token("operator", "alice")
    for _ in range(3):
        broken(running, token)
    until(lambda: len(letters.to(ANN)) == 3, "the others are told")
    counts = until(
        lambda: [
            c for c in running.ask("GET", "/v1/subscribers", None, token)[1]["subscribers"] if c["count"] == 1
        ],
        "the address that is gone is forgotten",
    )
    assert counts == [{"kind": "email", "state": "confirmed", "count": 1}]


def test_notices_that_waited_come_together(running: Service, letters: Letters, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    quiet = {
        "quiet_from": f"{now - timedelta(hours=1):%H:%M}",
        "quiet_to": f"{now + timedelta(hours=1):%H:%M}",
    }
    confirmed(running, letters, **quiet)
    confirmed(running, letters, "bob@example.org")
    token = running.token("operator", "alice")
    for _ in range(2):
        broken(running, token)
    until(lambda: len(letters.to("bob@example.org")) == 2, "the others are told")
    assert letters.to(ANN) == []
    broken(running, token, components={"top-up": "major_outage"})
    until(lambda: len(letters.to(ANN)) == 1, "what is critical wakes")
    running.kill()
    roll = Roll(running.folder / "data" / "subscribers.sqlite3")
    roll._db.execute("update held set due_s = 0")
    roll.close()
    running.start("--settings", str(tmp_path / "status.toml"))
    letter = until(lambda: letters.to(ANN)[1:], "they come")[0]
    assert letter["Subject"] == "Wallet: 2 notices"
    assert text_of(letter).count("Top-up waits") == 2


def test_maintenance_is_told_when_it_is_planned_changed_and_off(running: Service, letters: Letters) -> None:
    confirmed(running, letters)
    token = running.token("operator", "alice")
    start = datetime.now(UTC) + timedelta(days=40)
    window = {
        "name": {"en": "New lines"}, "body": {"en": "North moves house."},
        "effects": [{"component": "north"}],
        "starts_at": start.isoformat(), "ends_at": (start + timedelta(hours=1)).isoformat(),
        "reason": "the landlord", "retry": "other_way",
    }  # fmt: skip
    planned = running.ask("POST", "/v1/maintenances", window, token)[1]
    if planned["state"] == "proposed":  # a festival may lie there
        other = running.token("operator", "bob")
        running.ask("POST", f"/v1/maintenances/{planned['id']}/approve", {}, other)
    change = {"said": {"en": "Half an hour longer."}, "ends_at": (start + timedelta(hours=1.5)).isoformat()}
    assert running.ask("POST", f"/v1/maintenances/{planned['id']}/change", change, token)[0] in (200, 422)
    off = running.ask("POST", f"/v1/maintenances/{planned['id']}/act", {"act": "cancel"}, token)
    assert off[0] == 200, off
    until(
        lambda: any("will not take place" in one["Subject"] for one in letters.to(ANN)), "told that it is off"
    )
    assert letters.to(ANN)[0]["Subject"].startswith("Maintenance is planned: New lines")
    assert "pay another way" in text_of(letters.to(ANN)[0])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"kind": "email", "address": "nobody"}, 422, "status_subscription_invalid"),
        ({"kind": "apprise", "address": "json://127.0.0.1"}, 422, "status_subscription_invalid"),
        ({"kind": "pigeon", "address": "x"}, 400, "status_request_wrong"),
        (
            {"kind": "email", "address": ANN, "wishes": {"components": ["moon"]}},
            404,
            "status_component_unknown",
        ),
        ({"kind": "email", "address": ANN, "wishes": {"zone": "x/y"}}, 422, "status_subscription_invalid"),
    ],
)
def test_v5_0_0_2_2_1_wrong_wishes_are_refused_and_nobody_is_written_to(
    running: Service, letters: Letters, body: dict[str, Any], status: int, code: str
) -> None:
    answered, problem, _ = running.ask("POST", "/subscriptions", body)
    assert (answered, problem["code"]) == (status, code), problem
    assert letters.got == []


def test_v5_0_0_2_4_1_nobody_can_use_us_to_flood_others(running: Service, letters: Letters) -> None:
    answers = [form(running, address=ANN).partition("<footer>")[0] for _ in range(3)]
    assert len(set(answers)) == 1  # nor learn who is subscribed
    until(lambda: letters.to(ANN), "one letter is there")
    codes = []
    for number in range(125):
        asked = {"kind": "email", "address": f"p{number}@example.org"}
        codes.append(running.ask("POST", "/subscriptions", asked)[0])
    assert 429 in codes
    assert len(letters.to(ANN)) == 1


def test_v5_0_0_7_2_1_a_link_that_was_not_made_by_us_does_nothing(running: Service, letters: Letters) -> None:
    form(running, address=ANN)
    link = link_in(text_of(until(lambda: letters.to(ANN), "the letter is there")[0]))
    for wrong in (
        link[:-1] + ("A" if link[-1] != "A" else "B"),
        link.replace("/confirm/", "/end/"),
        link + "x",
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(wrong)
        assert refused.value.code == 404
