"""The bank's own protocol, as its reference page describes it."""

from __future__ import annotations

import csv
import io
import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.sandbox import Sandbox
from tests.support.waiting import until

FAR = "2100-01-01T00:00:00+00:00"


def ask(
    sandbox: Sandbox, method: str, path: str, body: object = None, key: str = "sk_test_x"
) -> tuple[int, Any]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(sandbox.at("harbour") + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status, raw = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, raw = error.code, error.read()
    return status, json.loads(raw) if raw[:1] == b"{" else raw.decode()


def wanted(**more: object) -> dict[str, object]:
    return {
        "amount_minor": 1_000,
        "currency": "USD",
        "debtor_account": "HB-0001-OK",
        "expires_at": FAR,
    } | more


def test_a_transfer_is_received_and_then_settled(sandbox: Sandbox) -> None:
    status, made = ask(sandbox, "POST", "/v1/transfers/t-1", wanted())
    assert (status, made["status"], made["amount_minor"]) == (202, "received", 1_000)
    settled = until(
        lambda: (doc := ask(sandbox, "GET", "/v1/transfers/t-1")[1])["status"] == "settled" and doc,
        "it settles",
    )
    assert settled["transfer_id"] == made["transfer_id"]
    assert not [name for name in settled if name.startswith("_")]


def test_the_same_transfer_again_is_the_same_transfer(sandbox: Sandbox) -> None:
    _, first = ask(sandbox, "POST", "/v1/transfers/t-1", wanted())
    status, again = ask(sandbox, "POST", "/v1/transfers/t-1", wanted(expires_at="2101-01-01T00:00:00+00:00"))
    assert (status, again["transfer_id"], again["expires_at"]) == (
        200,
        first["transfer_id"],
        first["expires_at"],
    )


@pytest.mark.parametrize(
    "other", [{"amount_minor": 999}, {"currency": "EUR"}, {"debtor_account": "HB-0002-FAST"}], ids=str
)
def test_another_transfer_with_the_same_id_is_refused(sandbox: Sandbox, other: dict[str, object]) -> None:
    ask(sandbox, "POST", "/v1/transfers/t-1", wanted())
    status, error = ask(sandbox, "POST", "/v1/transfers/t-1", wanted(**other))
    assert (status, error["error"]["code"]) == (409, "reference_conflict")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "amount_invalid"),
        (b"[]", "amount_invalid"),
        (b"{", "amount_invalid"),
        (wanted(amount_minor=0), "amount_invalid"),
        (wanted(amount_minor=-5), "amount_invalid"),
        (wanted(amount_minor=1.5), "amount_invalid"),
        (wanted(amount_minor=True), "amount_invalid"),
        (wanted(amount_minor=2**53), "amount_invalid"),
        (wanted(currency="usd"), "currency_invalid"),
        (wanted(debtor_account="DE00"), "account_invalid"),
        (wanted(expires_at="soon"), "expires_at_invalid"),
        (wanted(expires_at="2100-01-01T00:00:00"), "expires_at_invalid"),
    ],
)
def test_a_transfer_that_makes_no_sense_is_refused_and_leaves_no_trace(
    sandbox: Sandbox, body: object, code: str
) -> None:
    status, error = ask(sandbox, "POST", "/v1/transfers/t-1", body)
    assert (status, error["error"]["code"]) == (422, code)
    assert ask(sandbox, "GET", "/v1/transfers/t-1")[0] == 404


def test_an_id_that_is_too_odd_is_refused(sandbox: Sandbox) -> None:
    assert ask(sandbox, "POST", f"/v1/transfers/{quote('a b')}", wanted())[0] == 422
    assert ask(sandbox, "POST", f"/v1/transfers/{'x' * 121}", wanted())[0] == 422


def test_a_request_after_its_expiry_is_rejected_for_good(sandbox: Sandbox) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    for body in (wanted(expires_at=past), wanted()):
        _, doc = ask(sandbox, "POST", "/v1/transfers/t-1", body)
        assert (doc["status"], doc["reason"]) == ("rejected", "TM01")
    assert sandbox.kept_minor("harbour") == 0


def test_what_never_settles_expires(sandbox: Sandbox) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    ask(sandbox, "POST", "/v1/transfers/t-1", wanted(debtor_account="HB-0004-NEVER", expires_at=soon))
    doc = until(
        lambda: (doc := ask(sandbox, "GET", "/v1/transfers/t-1")[1])["status"] != "received" and doc,
        "it ends",
    )
    assert (doc["status"], doc["reason"]) == ("expired", "AB05")


def test_a_return_gives_back_once_and_never_too_much(sandbox: Sandbox) -> None:
    ask(sandbox, "POST", "/v1/transfers/t-1", wanted(debtor_account="HB-0004-NEVER"))
    status, error = ask(sandbox, "POST", "/v1/transfers/t-1/returns/r-1", {"amount_minor": 1})
    assert (status, error["error"]["code"]) == (409, "not_settled")
    ask(sandbox, "POST", "/v1/transfers/t-2", wanted(debtor_account="HB-0002-FAST"))
    until(lambda: ask(sandbox, "GET", "/v1/transfers/t-2")[1]["status"] == "settled", "it settles")
    back = "/v1/transfers/t-2/returns/r-1"
    assert ask(sandbox, "POST", back, {"amount_minor": 400})[0] == 202
    assert ask(sandbox, "POST", back, {"amount_minor": 400})[0] == 200
    assert ask(sandbox, "POST", back, {"amount_minor": 500})[0] == 409
    assert ask(sandbox, "POST", "/v1/transfers/t-2/returns/r-2", {"amount_minor": 601})[0] == 422
    assert ask(sandbox, "POST", "/v1/transfers/t-2/returns/r-2", {"amount_minor": 0})[0] == 422
    assert ask(sandbox, "POST", "/v1/transfers/none/returns/r-2", {"amount_minor": 1})[0] == 404
    until(lambda: ask(sandbox, "GET", "/v1/transfers/t-2")[1]["returned_minor"] == 400, "it is returned")
    assert sandbox.kept_minor("harbour", "t-2") == 600


def test_the_settlement_file_counts_and_sums_its_lines(sandbox: Sandbox) -> None:
    for name in ("t-1", "t-2"):
        ask(sandbox, "POST", f"/v1/transfers/{name}", wanted(debtor_account="HB-0002-FAST"))
    until(lambda: sandbox.kept_minor("harbour") == 2_000, "both settle")
    status, text = ask(sandbox, "GET", "/v1/settlement")
    rows = list(csv.reader(io.StringIO(text)))
    assert status == 200
    assert rows[0] == ["kind", "end_to_end_id", "transfer_id", "amount_minor", "currency", "at"]
    assert {row[1] for row in rows[1:-1]} == {"t-1", "t-2"}
    assert rows[-1][:4] == ["trailer", "2", "", "2000"]
    assert ask(sandbox, "GET", "/v1/settlement?from=yesterday")[0] == 422


def test_only_test_keys_open_the_door(sandbox: Sandbox) -> None:
    assert ask(sandbox, "GET", "/v1/transfers/t-1", key="sk_live_x")[0] == 401
    assert ask(sandbox, "POST", "/v1/transfers/t-1", wanted(), key="nothing")[0] == 401
    assert sandbox.ledger("harbour")["charges"] == []


def test_what_is_not_there_is_not_there(sandbox: Sandbox) -> None:
    assert ask(sandbox, "GET", "/v1/unknown")[0] == 404
    assert ask(sandbox, "DELETE", "/v1/transfers/t-1")[0] == 404
