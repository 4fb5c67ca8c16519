"""The draw and the oracle: one world for every policy, and a measure that is neither kind nor harsh."""

from __future__ import annotations

import statistics

import pytest

from holdfast.domains.payments.ports import Op
from holdfast.drills.baselines import NAMES, run_baseline
from holdfast.drills.draw import NEVER, Draw, Verdict, key_of, mix_array, uniform
from holdfast.drills.judge import in_time
from holdfast.drills.oracle import completable
from holdfast.drills.reading import load
from tests.drills.worlds import HEAD, ONE_STEP, PAYERS, RAIL, fault, tiny


def test_the_same_seed_draws_the_same_world_in_any_order_of_asking() -> None:
    scenario = load("visa-europe-2018").scaled(0.01)
    one, two = Draw(scenario, 5), Draw(scenario, 5)
    asked = [(p, at) for p in range(0, len(one.arrive_s), 7) for at in (200.0, 201.5, 202.0)]
    forwards = [one.fate("visa", Op.AUTHORIZE, p, "visa", at) for p, at in asked]
    backwards = [two.fate("visa", Op.AUTHORIZE, p, "visa", at) for p, at in reversed(asked)][::-1]
    assert forwards == backwards
    assert one.arrive_s == two.arrive_s
    assert one.amount_minor == two.amount_minor
    assert Draw(scenario, 6).arrive_s != one.arrive_s


def test_a_single_draw_is_the_same_as_one_of_many() -> None:
    key = key_of(99, "anything")
    many = mix_array(key, 1000)
    assert [uniform(key, i) for i in range(1000)] == many.tolist()
    assert statistics.fmean(many.tolist()) == pytest.approx(0.5, abs=0.03)


def test_traffic_follows_its_rate_and_its_surges() -> None:
    surge = "\n[[traffic.surges]]\nfrom_s = 20\nto_s = 40\ntimes = 10.0\n"
    scenario = tiny(surge, PAYERS, RAIL, head=HEAD.replace("per_second = 5", "per_second = 50"))
    came = Draw(scenario, 1).arrive_s
    assert came == sorted(came)
    during = sum(20 <= at < 40 for at in came)
    assert during == pytest.approx(10_000, rel=0.05)
    assert len(came) - during == pytest.approx(2000, rel=0.1)


def test_shares_and_latencies_come_out_as_the_scenario_says() -> None:
    scenario = tiny(
        PAYERS.replace("share = 1.0", "share = 1.0\nno_funds = 0.2"), RAIL + "success_rate = 0.9\n"
    )
    draw = Draw(scenario, 3)
    count = range(20_000)
    assert sum(draw.accepts(p, "north") for p in count) == pytest.approx(18_000, rel=0.02)
    latencies = sorted(draw.fate("north", Op.CAPTURE, p, "card", 1.0).answer_s for p in count)
    assert latencies[10_000] == pytest.approx(0.2, rel=0.05)
    assert latencies[19_800] == pytest.approx(0.6, rel=0.1)


def test_a_second_chance_is_drawn_anew_but_a_payers_refusal_stays() -> None:
    scenario = tiny(
        PAYERS.replace("share = 1.0", "share = 1.0\nno_funds = 0.5"), RAIL, fault("dark", share=0.5)
    )
    draw = Draw(scenario, 3)
    for payment in range(50):
        fates = [draw.fate("north", Op.AUTHORIZE, payment, "card", float(at)) for at in range(60)]
        answered = {fate.answer_s < NEVER for fate in fates}
        assert answered == {True, False}
        verdicts = {fate.verdict for fate in fates if fate.answer_s < NEVER}
        assert verdicts == {Verdict.GOOD if draw.funds(payment, "card") else Verdict.NO_FUNDS}


BOTH = PAYERS.replace('["card"]', '["card", "bank"]')
DARK_EARLY = HEAD.replace("duration_s = 60", "duration_s = 10")


@pytest.mark.parametrize(
    ("name", "parts", "share"),
    [
        ("nothing is wrong", (PAYERS, RAIL), 1.0),
        ("the only rail is dark throughout", (PAYERS, RAIL, fault("dark")), 0.0),
        (
            "the dark rail carries out what it takes, in one step",
            (PAYERS.replace("card", "bank"), ONE_STEP, fault("dark", "instant", carried_out=1.0)),
            1.0,
        ),
        (
            "a dark rail in two steps: held without an answer, and captured without an answer",
            (PAYERS, RAIL, fault("dark", carried_out=1.0)),
            1.0,
        ),
        ("the dark rail is back before anybody gives up", (PAYERS, RAIL, fault("dark", to_s=9)), 1.0),
        ("the rail is dark beyond the last deadline", (PAYERS, RAIL, fault("dark", to_s=100)), 0.0),
        ("another rail takes the other instrument", (BOTH, RAIL, ONE_STEP, fault("dark")), 1.0),
        (
            "no funds anywhere: the payer's own refusal",
            (PAYERS.replace("share = 1.0", "share = 1.0\nno_funds = 1.0"), RAIL),
            0.0,
        ),
        (
            "the wallet's balance needs no rail",
            (PAYERS.replace('["card"]', '["card", "balance"]'), RAIL, fault("dark")),
            1.0,
        ),
        (
            "an empty balance does not help",
            (PAYERS.replace('["card"]', '["balance", "card"]\nno_funds = 1.0'), RAIL),
            0.0,
        ),
        ("the rail will not have these payments", (PAYERS, RAIL + "success_rate = 0.0\n"), 0.0),
        (
            "a hanging rail charges after the deadline",
            (PAYERS, RAIL, fault("hang", hold_s=30, carried_out=1.0)),
            0.0,
        ),
        (
            "a hanging rail charges within the deadline",
            (PAYERS.replace("card", "bank"), ONE_STEP, fault("hang", "instant", hold_s=10, carried_out=1.0)),
            1.0,
        ),
        (
            "what was acknowledged is carried out too late",
            (PAYERS.replace("card", "bank"), ONE_STEP, fault("ack_then_silent", "instant")),
            0.0,
        ),
        ("every name lookup fails", (PAYERS, RAIL, fault("unresolvable")), 0.0),
        ("every try is declined", (PAYERS, RAIL, fault("decline_spike")), 0.0),
        ("answers are 5 s late, never lost", (PAYERS, RAIL, fault("gray", late_share=1.0)), 1.0),
        ("half the requests are lost: some second is good", (PAYERS, RAIL, fault("dark", share=0.5)), 1.0),
    ],
)
def test_the_oracle_says_what_was_possible(name: str, parts: tuple[str, ...], share: float) -> None:
    possible = completable(Draw(tiny(*parts, head=DARK_EARLY), 11))
    assert len(possible) > 20
    assert sum(possible) == pytest.approx(share * len(possible), abs=0), name


@pytest.mark.parametrize("name", ["visa-europe-2018", "upi-2025-04-12", "aws-2025-10"])
def test_no_ordinary_system_beats_the_oracle_on_what_it_calls_impossible(name: str) -> None:
    draw = Draw(load(name).scaled(0.01), 4)
    possible = completable(draw)
    for policy in NAMES:
        run = run_baseline(policy, draw)
        late = draw.scenario.deadline_s
        beaten = [p for p, end in enumerate(run.done_s) if end <= draw.arrive_s[p] + late and not possible[p]]
        assert not beaten, f"{policy} completed {beaten[:5]}, seed 4"


def test_a_cascade_on_timeout_keeps_double_charges_where_timeouts_are_ambiguous() -> None:
    scenario = tiny(BOTH, RAIL, ONE_STEP, fault("dark", carried_out=1.0))
    draw = Draw(scenario, 2)
    blind, retry, single = (run_baseline(name, draw) for name in ("blind", "retry", "single"))
    assert blind.double_charges_kept == len(draw.arrive_s)
    assert in_time(blind.done_s, draw) == len(draw.arrive_s)
    assert retry.double_charges_kept == len(draw.arrive_s)
    assert single.double_charges_kept == 0
    assert single.charged_without_sale == len(draw.arrive_s)


def test_a_provable_failure_to_send_costs_no_system_a_double_charge() -> None:
    draw = Draw(tiny(BOTH, RAIL, ONE_STEP, fault("unresolvable")), 2)
    assert [run_baseline(name, draw).double_charges_kept for name in NAMES] == [0, 0, 0]


def test_a_load_of_status_queries_is_no_part_of_what_was_drawn() -> None:
    quiet = Draw(tiny(PAYERS, RAIL, fault("status_query_storm", share=0.0, queries_per_s=1)), 2)
    assert all(completable(quiet))
