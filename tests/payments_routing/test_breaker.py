"""When calls to a rail stop, and how they begin again."""

from __future__ import annotations

from holdfast.domains.payments.rules.breaker import Breaker, BreakerSettings

SETTINGS = BreakerSettings(
    window=20, window_s=120, calls_min=8, unknown_share_max=0.5, slow_share_max=0.75, slow_s=5, cool_down_s=5
)


def calls(
    breaker: Breaker, count: int, *, now_s: float = 0.0, unknown: bool = False, latency_s: float = 0.2
) -> None:
    for _ in range(count):
        entered = breaker.enter(now_s)
        if entered is not None:
            breaker.leave(now_s, probe=entered == "probe", unknown=unknown, latency_s=latency_s)


def opened() -> Breaker:
    breaker = Breaker(SETTINGS)
    calls(breaker, 8, unknown=True)
    assert breaker.state(0.0) == "open"
    return breaker


def test_no_number_of_declines_opens_it() -> None:
    breaker = Breaker(SETTINGS)
    calls(breaker, 1000)
    assert breaker.state(0.0) == "closed"


def test_no_number_of_calls_that_could_not_be_sent_opens_it() -> None:
    breaker = Breaker(SETTINGS)
    for _ in range(50):
        assert breaker.enter(0.0) == "call"
        breaker.leave(0.0, probe=False, unknown=False, latency_s=0.01, sent=False)
    assert breaker.state(0.0) == "closed"


def test_half_of_the_latest_calls_unknown_open_it_and_say_why() -> None:
    breaker = Breaker(SETTINGS)
    calls(breaker, 10)
    calls(breaker, 9, unknown=True)
    assert breaker.state(0.0) == "closed"
    calls(breaker, 1, unknown=True)
    assert breaker.state(0.0) == "open"
    assert breaker.why == "10 of its last 20 calls brought no answer"
    assert breaker.enter(4.9) is None


def test_few_calls_prove_nothing() -> None:
    breaker = Breaker(SETTINGS)
    calls(breaker, 7, unknown=True)
    assert breaker.state(0.0) == "closed"


def test_slow_answers_open_it() -> None:
    breaker = Breaker(SETTINGS)
    calls(breaker, 8, latency_s=6.0)
    assert breaker.why == "8 of its last 8 answers took 5 s or longer"


def test_what_happened_long_ago_does_not_count() -> None:
    breaker = Breaker(SETTINGS)
    calls(breaker, 7, unknown=True, now_s=0.0)
    calls(breaker, 7, unknown=True, now_s=121.0)
    assert breaker.state(121.0) == "closed"


def test_after_its_cool_down_exactly_one_probe_is_let_through() -> None:
    breaker = opened()
    assert breaker.waited_s(4.9) is None
    assert breaker.state(5.0) == "half_open"
    assert breaker.waited_s(7.0) == 2.0
    assert breaker.enter(7.0) == "probe"
    assert breaker.enter(7.0) is None
    assert breaker.waited_s(7.0) is None


def test_a_probe_that_answers_in_time_closes_it_and_earlier_calls_are_forgotten() -> None:
    breaker = opened()
    breaker.enter(5.0)
    breaker.leave(5.2, probe=True, unknown=False, latency_s=0.2)
    assert breaker.state(5.2) == "closed"
    assert breaker.why == ""
    calls(breaker, 7, unknown=True, now_s=6.0)
    assert breaker.state(6.0) == "closed"


def test_each_probe_without_answer_doubles_the_cool_down_up_to_its_bound() -> None:
    breaker = opened()
    now_s, pauses = 5.0, []
    for _ in range(6):
        assert breaker.enter(now_s) == "probe"
        breaker.leave(now_s, probe=True, unknown=True, latency_s=1.0)
        pause = 1.0
        while breaker.state(now_s + pause) == "open":
            pause += 1.0
        pauses.append(pause)
        now_s += pause
    assert pauses == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def test_a_probe_that_is_slow_or_cannot_be_sent_is_no_recovery() -> None:
    for slow, sent in ((6.0, True), (0.1, False)):
        breaker = opened()
        breaker.enter(5.0)
        breaker.leave(5.0, probe=True, unknown=False, latency_s=slow, sent=sent)
        assert breaker.state(14.9) == "open"


def test_calls_that_were_under_way_when_it_opened_change_nothing_when_they_end() -> None:
    breaker = opened()
    breaker.leave(6.0, probe=False, unknown=False, latency_s=0.1)
    breaker.leave(6.0, probe=False, unknown=True, latency_s=10.0)
    assert breaker.state(6.0) == "half_open"


def test_a_probe_that_was_never_made_gives_its_place_back() -> None:
    breaker = opened()
    assert breaker.enter(5.0) == "probe"
    breaker.abandon(probe=True)
    assert breaker.enter(5.0) == "probe"
