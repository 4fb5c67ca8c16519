"""The life cycle: one table, whole and without traps."""

from __future__ import annotations

import pytest

from holdfast.base.errors import Broken
from holdfast.domains.payments.model import AttemptState, PaymentState
from holdfast.domains.payments.rules.lifecycle import (
    ATTEMPT,
    FINAL,
    GONE,
    PAYMENT,
    Line,
    attempt_after,
    payment_after,
)


def edges(lines: tuple[Line, ...]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in lines:
        for state in line.states.split():
            found.setdefault(state, set()).add(line.becomes)
    return found


def reached(lines: tuple[Line, ...], start: str) -> set[str]:
    ways, seen, todo = edges(lines), {start}, [start]
    while todo:
        for after in ways.get(todo.pop(), set()) - seen:
            seen.add(after)
            todo.append(after)
    return seen


def test_every_state_of_a_payment_can_be_reached() -> None:
    assert reached(PAYMENT, "new") == {"new"} | {state.value for state in PaymentState}


def test_every_state_of_an_attempt_can_be_reached() -> None:
    assert reached(ATTEMPT, "new") == {"new"} | {state.value for state in AttemptState}


@pytest.mark.parametrize("state", sorted(set(PaymentState) - FINAL))
def test_a_payment_that_is_not_over_can_end_well_and_badly(state: PaymentState) -> None:
    ends = reached(PAYMENT, state.value)
    assert "succeeded" in ends
    assert {"failed", "canceled"} & ends


@pytest.mark.parametrize("state", sorted(set(AttemptState) - GONE))
def test_an_attempt_that_may_hold_money_has_a_way_to_give_it_up(state: AttemptState) -> None:
    assert {gone.value for gone in GONE} & reached(ATTEMPT, state.value)


def test_a_payment_that_is_over_stays_over() -> None:
    assert not FINAL & {PaymentState(state) for state in edges(PAYMENT) if state != "new"}


def test_what_the_table_does_not_foresee_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(Broken):
        payment_after(PaymentState.FAILED, "captured")


def test_an_unanswered_request_is_unknown_and_never_declined() -> None:
    assert attempt_after(AttemptState.SENDING, "authorize:unknown") is AttemptState.UNKNOWN


def test_a_repeat_that_was_not_sent_says_nothing_of_the_first() -> None:
    assert attempt_after(AttemptState.UNKNOWN, "repeat:not_sent") is None


def test_old_news_of_a_hold_changes_no_charge() -> None:
    for state in (
        AttemptState.CAPTURING,
        AttemptState.CAPTURED,
        AttemptState.CANCELED,
        AttemptState.RETURNED,
    ):
        assert attempt_after(state, "told:authorized") is None


def test_every_line_says_what_follows() -> None:
    assert all(line.follows for line in PAYMENT + ATTEMPT)
