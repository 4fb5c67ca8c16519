"""The process: what a provider has done stays done however the process ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sandbox import Sandbox, running_sandbox
from tests.support.waiting import until


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path / "books", "--seed", "5") as sandbox:
        yield sandbox


def post(sandbox: Sandbox, path: str, body: str, key: str = "", instance: str = "north") -> Any:
    headers = {"authorization": "Bearer sk_test_x", "content-type": "application/x-www-form-urlencoded"}
    if key:
        headers["idempotency-key"] = key
    request = urllib.request.Request(sandbox.at(instance) + path, body.encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


PAY = "amount=1000&currency=usd&payment_method=pm_card_visa&confirm=true&metadata[order_id]=o-1"


def test_killing_the_process_un_charges_nobody(own: Sandbox) -> None:
    for number in range(5):
        made = post(own, "/v1/payment_intents", PAY, key=f"k-{number}")
        own.kill()
        own.start()
        again = post(own, "/v1/payment_intents", PAY, key=f"k-{number}")
        assert again["id"] == made["id"], "the key is remembered too"
        assert own.kept_minor("north") == 1_000 * (number + 1)


def test_faults_webhook_addresses_and_what_is_due_survive(own: Sandbox) -> None:
    own.hooks("harbour", "http://127.0.0.1:9/gone")
    own.fault("south", "hang", share=0.25, operations=["capture"], note="on purpose")
    body = json.dumps(
        {
            "amount_minor": 700,
            "currency": "USD",
            "debtor_account": "HB-0001-OK",
            "expires_at": "2100-01-01T00:00:00+00:00",
        }
    ).encode()
    headers = {"authorization": "Bearer sk_test_x", "content-type": "application/json"}
    request = urllib.request.Request(own.at("harbour") + "/v1/transfers/t-1", body, headers)
    urllib.request.urlopen(request, timeout=10).close()
    own.kill()
    own.start()
    state = own.control("GET", "state")
    (fault,) = state["faults"]
    assert (fault["instance"], fault["fault"], fault["share"], fault["operations"], fault["note"]) == (
        "south", "hang", 0.25, ["capture"], "on purpose",
    )  # fmt: skip
    assert state["instances"][2]["webhook_urls"] == ["http://127.0.0.1:9/gone"]
    until(lambda: own.kept_minor("harbour", "t-1") == 700, "the transfer settles after the restart")


def test_it_stops_in_an_orderly_way_even_while_connections_hang(own: Sandbox) -> None:
    own.fault("north", "dark")
    with socket.create_connection(("127.0.0.1", own.port)) as waiting:
        waiting.sendall(b"GET /north/v1/payment_intents HTTP/1.1\r\nhost: x\r\n\r\n")
        assert own.stop() == 0
        assert waiting.recv(10) == b""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
    command = [sys.executable, "-c", "from holdfast.cli import main; main()", "sandbox", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=clean | environment, timeout=60, check=False
    )


def test_a_port_that_is_taken_is_named_with_the_remedy(own: Sandbox, tmp_path: Path) -> None:
    ended = run("--port", str(own.port), "--data", str(tmp_path / "other"))
    assert ended.returncode == 1
    assert str(own.port) in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_refuses_to_run_in_production(tmp_path: Path) -> None:
    ended = run(
        "--port", "0", "--data", str(tmp_path), HOLDFAST_MODE="production", HOLDFAST_DSN="postgresql://x/y"
    )
    assert ended.returncode == 1
    assert "production" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("--door", "north", 2),
        ("--door", "north=x", 2),
        ("--door", "west=0", 1),
        ("--instance", "west", 2),
        ("--instance", "west=telex", 2),
        ("--instance", "_control=stripe", 2),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, option: str, value: str, code: int) -> None:
    ended = run("--port", "0", "--data", str(tmp_path), option, value)
    assert ended.returncode == code
    assert value.partition("=")[0] in ended.stderr
    assert "Traceback" not in ended.stderr


def test_more_instances_can_be_served(tmp_path: Path) -> None:
    with running_sandbox(tmp_path, "--instance", "west=stripe", "--door", "west=0") as sandbox:
        assert [one["name"] for one in sandbox.control("GET", "state")["instances"]][-1] == "west"
        assert post(sandbox, "/v1/payment_intents", PAY, instance="west")["status"] == "succeeded"
        assert sandbox.kept_minor("west") == 1_000
        request = urllib.request.Request(
            f"http://127.0.0.1:{sandbox.doors['west']}/v1/payment_intents",
            headers={"authorization": "Bearer sk_test_x"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert len(json.loads(answer.read())["data"]) == 1
