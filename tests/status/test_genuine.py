"""Is this really you? What is ours can be told from what only looks like it."""

from __future__ import annotations

import pytest

from holdfast.status.graph import default
from holdfast.status.notices.genuine import Official, Verdict, check, code_of, digest_of
from holdfast.status.notices.letters import letter
from holdfast.status.notices.told import Notice
from holdfast.status.words import TAGS
from tests.status.worlds import NOON, board_of, opened

OFFICIAL = Official(("example.org",), ("help@example.org",), ("+86 400 123 4567",))
ONE = board_of((NOON, "alice", opened())).incident("inc_1")
LETTERS = {
    tag: letter("Wallet", "https://status.example.org", Notice(ONE, ONE.updates[0]), default(), tag)
    for tag in TAGS
}
CODE = LETTERS["en"].code
NOTICES = {CODE: frozenset(digest_of(one.text) for one in LETTERS.values())}
ENGLISH = LETTERS["en"].text


@pytest.mark.parametrize("tag", TAGS)
def test_a_notice_as_it_was_sent_is_ours_whatever_a_mail_program_did_to_it(tag: str) -> None:
    text = LETTERS[tag].text  # type: ignore[index]
    for shown in (
        text,
        text.upper(),
        text.replace("\n", "\r\n\r\n"),
        "From: Wallet\nDear reader,\n" + text + "\n-- \nSent from my phone",
    ):
        assert check(shown, OFFICIAL, NOTICES).verdict == "ours", shown


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (ENGLISH.replace("We are looking into it", "Send us your password"), "altered"),
        (f"Your account is locked. Code {CODE}", "altered"),
        ("Your refund waits. Code HF-0000-0000", "altered"),
        (ENGLISH + "\nhttps://status.example.org.evil.net/login", "foreign"),
        (ENGLISH + "\nCall +86 400 765 4321", "foreign"),
        ("Write to help@examp1e.org", "foreign"),
        ("https://wallet.example.org/pay", "ours"),
        ("help@example.org", "ours"),
        ("+86-400-123-4567", "ours"),
        ("evil-example.org is at https://evil-example.org", "foreign"),
        ("Please call me back.", "unknown"),
        ("", "unknown"),
        ("https://[::1", "foreign"),
    ],
)
def test_what_only_looks_like_ours_is_told_apart(text: str, verdict: Verdict) -> None:
    assert check(text, OFFICIAL, NOTICES).verdict == verdict


def test_codes_are_short_and_say_which_notice_they_are_of() -> None:
    codes = {code_of(f"upd_{number}") for number in range(10_000)}
    assert len(codes) == 10_000
    assert all(len(code) == 12 for code in codes)
    assert check(CODE.lower().replace("-", ""), OFFICIAL, NOTICES).verdict == "altered"


def test_a_letter_says_what_we_never_ask_for() -> None:
    assert "never ask for a password" in ENGLISH
    assert "绝不会索要密码" in LETTERS["zh-CN"].text
