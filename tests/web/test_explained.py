"""The journal of a payment in plain words, in both languages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.domains.payments.model import JournalEntry, Step
from holdfast.domains.payments.ports import Op, Said
from holdfast.web.explained import HEARD, SENT, explained
from holdfast.web.locale import Language
from tests.web.test_view import CARD, T, at, attempt, payment

NORTH, SOUTH = attempt(0, "north", "unknown", 0, 4), attempt(1, "south", "captured", 4, 5)
PLANNED = replace(payment("succeeded", 5), plan=(Step("north", CARD, "-"), Step("south", CARD, "-")))


def entry(event: str, who: object = None, op: Op | None = None, **facts: object) -> JournalEntry:
    id_ = None if who is None else (NORTH if who == "north" else SOUTH).id
    return JournalEntry(PLANNED.id, 0, at(1), id_, op, event, "as it was written", facts)


def told(*journal: JournalEntry, tag: str = "en") -> list[str]:
    return [line.words for line in explained(PLANNED, [NORTH, SOUTH], journal, Language(tag))]


def test_every_request_and_every_answer_has_words() -> None:
    assert SENT.keys() == set(Op)
    assert HEARD.keys() == set(Said)


def test_going_around_a_silent_rail_names_it_and_says_why_that_is_safe() -> None:
    lines = told(
        entry("plan"),
        entry("send", "north", Op.AUTHORIZE),
        entry("answer", "north", Op.AUTHORIZE, said="unknown", state="unknown"),
        entry("send", "south", Op.AUTHORIZE),
        entry("answer", "south", Op.AUTHORIZE, said="authorized", state="authorized"),
    )
    assert lines == [
        "The plan: Visa ending 4242 at North, then Visa ending 4242 at South.",
        "Ask North to hold the amount.",
        "North has not answered: it may have happened.",
        "North has not answered. Go on with South, in a way that can never charge twice.",
        "South holds the amount.",
    ]


def test_a_rail_that_is_passed_over_is_named() -> None:
    assert told(entry("plan"), entry("passed_over", rail="north"))[1] == (
        "North has not been answering lately, so it is passed over for now."
    )


def test_asking_again_says_that_the_key_is_the_same() -> None:
    lines = told(*[entry("send", "north", Op.AUTHORIZE)] * 2)
    assert lines[1] == "Ask North again with the same key: it charges once at most."


def test_a_message_that_repeats_an_answer_is_left_out_and_a_new_one_is_not() -> None:
    answered = entry("answer", "south", Op.CAPTURE, said="captured", state="captured")
    repeated = entry("told", "south", said="captured", state="captured")
    fresh = entry("told", "south", said="refunded", state="returned")
    assert told(answered, repeated, fresh) == ["South has charged.", "South gave the money back."]


def test_a_name_in_latin_letters_stands_apart_from_chinese() -> None:
    assert told(entry("plan"), tag="zh-CN") == [
        "计划：Visa 尾号 4242（北方通道）；然后 Visa 尾号 4242（南方通道）。"
    ]


def test_what_is_not_known_here_is_shown_as_it_was_written() -> None:
    assert told(entry("moonrise"), entry("moonrise", "north")) == ["as it was written"] * 2


def test_lines_tell_how_long_after_the_beginning_they_were() -> None:
    assert [line.after_s for line in explained(PLANNED, [], [entry("created")], Language("en"))] == [1.0]
    assert PLANNED.created_at == T


@pytest.mark.parametrize("said", list(Said))
def test_no_answer_reads_the_same_in_both_languages(said: Said) -> None:
    one = entry("answer", "north", Op.QUERY, said=said.value, state="unknown")
    assert told(one) != told(one, tag="zh-CN")
