"""Logs show what happened and never what must not be seen."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from holdfast.base.secret import Secret
from holdfast.platform.log import mask, mask_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("paid with 4242424242424242 today", "paid with ***4242 today"),
        ("paid with 4242 4242 4242 4242", "paid with ***4242"),
        ("3782-822463-10005", "***0005"),
        ("order 4242424242424241 is not a card", "order 4242424242424241 is not a card"),
        ("at 1763856000000 ms", "at 1763856000000 ms"),
        ("Authorization: Bearer eyJhbGciOi.abc.def", "Authorization: Bearer ***"),
        ("basic dXNlcjpwYXNz", "basic ***"),
        ("key sk_test_51Habcdef used", "key sk_test_*** used"),
        ("hk_live_9ZZZZZ", "hk_live_***"),
        ("secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "secret whsec_***"),
        ("postgresql://holdfast:hunter2@db:5432/x", "postgresql://holdfast:***@db:5432/x"),
        ("host=db password=hunter2 user=x", "host=db password=*** user=x"),
        ('{"token": "abc123", "n": 1}', '{"token": "***", "n": 1}'),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "***"),
        ("pay_01JD8Z0000000000000000000A succeeded", "pay_01JD8Z0000000000000000000A succeeded"),
        ("0190f5c4-7a4e-7b6c-8d5f-1a2b3c4d5e6f", "0190f5c4-7a4e-7b6c-8d5f-1a2b3c4d5e6f"),
    ],
)
def test_text_that_looks_like_a_secret_is_masked_and_other_text_is_not(text: str, shown: str) -> None:
    assert mask_text(text) == shown


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("authorization", "anything", "***"),
        ("X-Authorization", "anything", "***"),
        ("secret_key", "x", "***"),
        ("password", "", ""),
        ("cvc", 123, "***"),
        ("card_number", "4000", "***"),
        ("set_cookie", "a=b", "***"),
        ("amount_minor", 123, 123),
        ("card", 4242424242424242, "***4242"),
        ("anything", Secret("hidden"), "***"),
        ("headers", {"Authorization": "x", "accept": "y"}, {"Authorization": "***", "accept": "y"}),
        ("list", ["sk_live_abcdef", {"token": "t"}], ["sk_live_***", {"token": "***"}]),
        ("body", b"pan=4242424242424242", "pan=***4242"),
    ],
)
def test_fields_are_masked_by_name_and_by_what_is_in_them(name: str, value: object, shown: object) -> None:
    assert mask(value, name=name) == shown


PROGRAM = """
import logging
from holdfast.base.secret import Secret
from holdfast.platform import log
log.configure("info", {form!r}, mode="production", process="server")
log.logger("a.b").info("paid", card="4242424242424242", secret_key=Secret("sk_live_zzzzzz"), amount_minor=5)
log.logger("a.b").debug("not shown")
logging.getLogger("some.library").warning("calling with Bearer abcdefghijk")
try:
    raise ValueError("password=hunter22")
except ValueError:
    log.logger("a.b").exception("failed")
"""


def run(form: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(form=form)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == ""
    for hidden in ("4242424242424242", "zzzzzz", "abcdefghijk", "hunter22", "not shown"):
        assert hidden not in done.stderr
    return done.stderr.splitlines()


def test_in_production_each_line_is_json_with_time_level_process_and_facts_and_no_secret() -> None:
    paid, library, failed = (json.loads(line) for line in run("auto"))
    assert paid["event"] == "paid"
    assert paid["level"] == "info"
    assert paid["process"] == "server"
    assert paid["amount_minor"] == 5
    assert paid["card"] == "***4242"
    assert paid["timestamp"].endswith("Z")
    assert library["event"] == "calling with Bearer ***"
    assert library["logger"] == "some.library"
    assert "ValueError" in failed["exception"]


def test_as_text_each_event_is_a_readable_line() -> None:
    lines = run("text")
    assert "paid" in lines[0]
    assert "amount_minor=5" in lines[0]
    assert "\x1b" not in "".join(lines), "colours belong on a terminal only"
