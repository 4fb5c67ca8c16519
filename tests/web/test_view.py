"""How a payment is told: from its rows alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import uuid4

import pytest

from holdfast.base.ids import AttemptId, InstrumentId, MerchantId, PayerId, PaymentId
from holdfast.base.money import Money, asset
from holdfast.domains.payments.model import (
    Attempt,
    AttemptState,
    JournalEntry,
    Method,
    NewPayment,
    Payment,
    PaymentState,
    Step,
)
from holdfast.domains.payments.ports import Evidence
from holdfast.web import view, words
from holdfast.web.locale import LOCALES, Language

T = datetime(2026, 11, 23, 8, tzinfo=UTC)
AMOUNT = Money(asset("CNY"), 26_800)
CARD = Method(InstrumentId(uuid4()), "card", "Visa ending 4242", "pm_card_visa")
ENGLISH = Language("en")


def at(seconds: float) -> datetime:
    return T + timedelta(seconds=seconds)


def payment(state: str, changed_s: float) -> Payment:
    asked = NewPayment(MerchantId(uuid4()), PayerId(uuid4()), AMOUNT, (CARD,))
    return Payment(PaymentId(uuid4()), asked, PaymentState(state), 0, 0, 3, T, at(changed_s))


def attempt(seq: int, rail: str, state: str, from_s: float, to_s: float) -> Attempt:
    return Attempt(
        AttemptId(uuid4()), PaymentId(uuid4()), seq, rail, CARD, AMOUNT, AttemptState(state), Evidence.QUERY,
        f"ref{seq}", None, "", "", at(from_s), at(to_s), at(30),
    )  # fmt: skip


def entered(attempt: Attempt, when_s: float, state: str) -> JournalEntry:
    return JournalEntry(attempt.payment_id, 0, at(when_s), attempt.id, None, "changed", "", {"state": state})


def test_every_state_has_words_and_nothing_in_doubt_is_called_failed() -> None:
    assert words.ATTEMPTS.keys() == set(AttemptState)
    assert words.PAYMENTS.keys() == set(PaymentState)
    maybe_charged = [words.ATTEMPTS[s] for s in AttemptState if s not in view.SETTLED] + [
        words.PAYMENTS[s] for s in PaymentState if s not in (PaymentState.FAILED, PaymentState.CANCELED)
    ]
    for said, tag in product(maybe_charged, LOCALES):
        label = Language(tag).say(said.label).lower()
        assert not any(word in label for word in ("fail", "declin", "not paid", "失败", "拒", "未付款"))
        assert said.tone != "refused"


def test_a_payment_that_went_around_a_silent_rail_says_so_and_says_once() -> None:
    north, south = attempt(0, "north", "canceled", 0.1, 6), attempt(1, "south", "captured", 4, 4.5)
    told = view.story("pay_x", payment("succeeded", 4.5), [south, north], [], now=at(60), language=ENGLISH)
    assert told.title == "Paid"
    assert "North did not come through" in told.sentence
    assert "once" in told.sentence
    assert [track.rail for track in told.tracks] == ["North", "South"]
    assert told.settled
    assert told.span_s == pytest.approx(6), "what is settled stops the clock"
    assert told.lasted_s == pytest.approx(4.5), "and the payment itself took until it was paid"


def test_a_paid_payment_with_a_silent_rail_left_is_not_settled_and_promises_the_return() -> None:
    north, south = attempt(0, "north", "unknown", 0.1, 4), attempt(1, "south", "captured", 4, 4.5)
    told = view.story("pay_x", payment("succeeded", 4.5), [north, south], [], now=at(9), language=ENGLISH)
    assert not told.settled
    assert told.final
    assert "North is still silent" in told.sentence


def test_bars_lie_on_one_line_of_time_within_its_bounds() -> None:
    north, south = attempt(0, "north", "unknown", 0, 5), attempt(1, "south", "captured", 5, 6)
    journal = [entered(north, 5, "unknown"), entered(south, 5.5, "authorized")]
    told = view.story("pay_x", payment("pending", 6), [north, south], journal, now=at(10), language=ENGLISH)
    first, second = told.tracks
    assert [(p.tone, p.start, p.width) for p in first.pieces] == [("busy", 0, 150), ("doubt", 150, 850)]
    assert [(p.tone, p.start) for p in second.pieces] == [("busy", 500), ("held", 550), ("kept", 600)]
    assert first.live
    assert not second.live


@pytest.mark.parametrize("state", list(AttemptState))
@pytest.mark.parametrize("now_s", [0.0, 0.01, 3.0, 4e6])
def test_any_attempt_at_any_time_can_be_drawn(state: AttemptState, now_s: float) -> None:
    one = attempt(0, "somewhere", state.value, 0, min(now_s, 5))
    told = view.story("pay_x", payment("processing", 0), [one], [], now=at(now_s), language=ENGLISH)
    for piece in told.tracks[0].pieces:
        assert piece.start >= 0
        assert piece.width > 0
        assert piece.start + piece.width <= view.SCALE
    assert told.tracks[0].rail == "somewhere"
    assert all(0 <= tick.at <= view.SCALE for tick in told.ticks)


def test_the_position_moves_with_the_payment_and_with_its_journal() -> None:
    before = payment("processing", 0)
    north = attempt(0, "north", "sending", 0, 0)
    line = entered(north, 1, "unknown")
    seen = {
        view.position(before, []),
        view.position(before, [line]),
        view.position(replace(before, version=4), [line]),
    }
    assert len(seen) == 3


def waiting(*tries: Attempt, state: str = "processing", tag: str = "en", plan: tuple[Step, ...] = ()) -> str:
    """Return what a page says, ten seconds on, of a payment that is not over."""
    it = replace(payment(state, 0), plan=plan)
    return view.story("pay_x", it, tries, [], now=at(10), language=Language(tag)).sentence


def test_who_is_silent_is_named_with_what_happens_next() -> None:
    silent_north, silent_south = attempt(0, "north", "unknown", 0, 4), attempt(1, "south", "sending", 4, 4)
    both = (Step("north", CARD, "-"), Step("south", CARD, "-"))
    assert "North is taking long to answer" in waiting(attempt(0, "north", "sending", 0, 0), plan=both)
    assert "North does not answer. Carrying on" in waiting(silent_north, attempt(1, "south", "sending", 9, 9))
    said = waiting(silent_north, silent_south, plan=both)
    assert said.startswith("No answer so far from North and South.")
    assert "another way" in said
    said = waiting(silent_north, silent_south, state="pending")
    assert "North and South" in said
    assert "once at most" in said
    assert "北方通道和南方通道" in waiting(silent_north, silent_south, state="pending", tag="zh-CN")


def test_who_said_no_is_not_waited_for() -> None:
    assert "North" not in waiting(attempt(0, "north", "declined", 0, 1), attempt(1, "south", "sending", 9, 9))


def test_a_payment_that_is_being_cancelled_promises_the_return_and_asks_for_nothing() -> None:
    it = replace(payment("pending", 5), cancel_asked=True)
    told = view.story("pay_x", it, [attempt(0, "north", "unknown", 0, 4)], [], now=at(10), language=ENGLISH)
    assert told.title == "Being undone"
    assert "goes back to you" in told.sentence


def test_the_balance_is_no_provider_that_charges() -> None:
    told = view.story(
        "pay_x",
        payment("succeeded", 0),
        [attempt(0, "book", "captured", 0, 0)],
        [],
        now=at(9),
        language=ENGLISH,
    )
    assert [track.sentence for track in told.tracks] == ["Paid from your balance."]
    assert [tone for tone, _ in told.legend] == ["kept"], "what cannot be seen is not explained"
    assert ENGLISH.lasted(told.tracks[0].lasted_s) == "at once"


def test_every_colour_of_the_bars_has_words() -> None:
    assert words.LEGEND.keys() >= {said.tone for said in (*words.ATTEMPTS.values(), words.WAITING)}
    north, south = attempt(0, "north", "canceled", 0.1, 6), attempt(1, "south", "captured", 4, 4.5)
    told = view.story("pay_x", payment("succeeded", 4.5), [south, north], [], now=at(60), language=ENGLISH)
    assert {tone for tone, _ in told.legend} == {p.tone for track in told.tracks for p in track.pieces}
