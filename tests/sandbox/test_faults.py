"""Which request a fault hits is drawn from the seed and the request alone; what it does shows on the wire."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from holdfast.sandbox import faults
from holdfast.sandbox.engine import Engine, read_fault
from holdfast.sandbox.faults import Fault, FaultInvalid, Kind, Mischief, Verdict
from holdfast.sandbox.magic import AMOUNTS, CARDS_BY_NUMBER, OUTAGES, Outage
from holdfast.sandbox.model import Call
from tests.sandbox.conftest import Now
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

MakeEngine = Callable[..., Engine]


def call(
    key: str, now: Now, body: bytes = b"amount=1000&currency=usd", path: str = "/v1/payment_intents"
) -> Call:
    headers = {"authorization": "Bearer sk_test_north", "idempotency-key": key}
    return Call("POST", path, "", headers, body, now())


def verdicts(engine: Engine, keys: list[str]) -> dict[str, Verdict]:
    return {key: engine.judge("north", "POST", "/v1/payment_intents", key).verdict for key in keys}


KEYS = [f"k-{number}" for number in range(2_000)]


def test_the_same_seed_hits_the_same_requests_in_whatever_order_they_come(make_engine: MakeEngine) -> None:
    shuffled = KEYS.copy()
    order_seed = Random().randrange(2**32)
    print(f"seed {order_seed}")
    Random(order_seed).shuffle(shuffled)
    told = []
    for keys in (KEYS, shuffled):
        engine = make_engine(seed=42)
        engine.set_fault({"instance": "north", "fault": "lost", "share": 0.3})
        engine.set_fault({"instance": "north", "fault": "slow", "share": 0.3, "latency_ms": 50})
        told.append(verdicts(engine, keys))
    assert told[0] == told[1]


def test_another_seed_hits_other_requests(make_engine: MakeEngine) -> None:
    told = []
    for seed in (1, 2):
        engine = make_engine(seed=seed)
        engine.set_fault({"instance": "north", "fault": "lost", "share": 0.3})
        told.append(verdicts(engine, KEYS))
    assert told[0] != told[1]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_share_is_kept(make_engine: MakeEngine, share: float) -> None:
    engine = make_engine()
    engine.set_fault({"instance": "north", "fault": "error_before", "share": share})
    hit = sum(verdict.error_before > 0 for verdict in verdicts(engine, KEYS).values())
    assert abs(hit / len(KEYS) - share) < (0.05 if 0 < share < 1 else 1e-9)


def test_two_faults_are_drawn_independently(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.set_fault({"instance": "north", "fault": "lost", "share": 0.5})
    engine.set_fault({"instance": "north", "fault": "decline", "share": 0.5})
    both = Counter((v.lost, v.decline) for v in verdicts(engine, KEYS).values())
    assert all(
        abs(both[pair] / len(KEYS) - 0.25) < 0.05
        for pair in [(a, b) for a in (True, False) for b in (True, False)]
    )


def test_a_repeated_request_is_drawn_afresh(make_engine: MakeEngine) -> None:
    """Or a key that was hit once would be hit for ever, and no repetition could find out what happened."""
    engine = make_engine()
    engine.set_fault({"instance": "north", "fault": "lost", "share": 0.5})
    repeated = [engine.judge("north", "POST", "/v1/payment_intents", "same").verdict.lost for _ in range(200)]
    assert 50 < sum(repeated) < 150


def test_a_brownout_is_the_mixture_that_is_documented(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.set_fault({"instance": "north", "fault": "brownout", "share": 0.4, "latency_ms": 70})
    told = list(verdicts(engine, KEYS).values())
    counts = {
        "error_before": sum(v.error_before == 503 for v in told),
        "slow": sum(v.delay_ms == 70 for v in told),
        "lost": sum(v.lost for v in told),
        "hang": sum(v.hang for v in told),
    }
    for name, share in (("error_before", 0.5), ("slow", 0.2), ("lost", 0.15), ("hang", 0.15)):
        assert abs(counts[name] / len(KEYS) - 0.4 * share) < 0.03, counts
    assert all(v == Verdict() for v in told if not (v.error_before or v.delay_ms or v.lost or v.hang))


@pytest.mark.parametrize(
    ("named", "hit"),
    [
        (["authorize"], {"create", "confirm"}),
        (["query"], {"retrieve", "list", "search"}),
        (["capture", "refund"], {"capture", "refund"}),
        (["confirm"], {"confirm"}),
        ([], {"create", "confirm", "retrieve", "list", "search", "capture", "refund", "cancel"}),
    ],
)
def test_a_fault_hits_the_operations_that_it_names(
    make_engine: MakeEngine, named: list[str], hit: set[str]
) -> None:
    engine = make_engine()
    engine.set_fault({"instance": "north", "fault": "lost", "operations": named})
    requests = {
        "create": ("POST", "/v1/payment_intents"),
        "confirm": ("POST", "/v1/payment_intents/pi_1/confirm"),
        "capture": ("POST", "/v1/payment_intents/pi_1/capture"),
        "cancel": ("POST", "/v1/payment_intents/pi_1/cancel"),
        "retrieve": ("GET", "/v1/payment_intents/pi_1"),
        "list": ("GET", "/v1/payment_intents"),
        "search": ("GET", "/v1/payment_intents/search"),
        "refund": ("POST", "/v1/refunds"),
    }
    assert {
        name
        for name, (method, path) in requests.items()
        if engine.judge("north", method, path, None).verdict.lost
    } == hit


def test_a_create_that_also_confirms_counts_as_a_confirmation(make_engine: MakeEngine, now: Now) -> None:
    engine = make_engine()
    engine.set_fault({"instance": "north", "fault": "lost", "operations": ["confirm"]})
    asked = call("k", now, b"amount=1000&currency=usd&payment_method=pm_card_visa&confirm=true")
    heard = engine.judge("north", asked.method, asked.path, "k")
    assert not heard.verdict.lost
    assert engine.sharpen("north", asked, heard).lost


def test_a_fault_is_over_when_its_time_is_over(make_engine: MakeEngine, now: Now) -> None:
    engine = make_engine()
    engine.set_fault({"instance": "north", "fault": "lost", "seconds": 10})
    assert engine.judge("north", "POST", "/v1/refunds", "a").verdict.lost
    now.ms += 9_999
    assert engine.judge("north", "POST", "/v1/refunds", "b").verdict.lost
    now.ms += 1
    assert not engine.judge("north", "POST", "/v1/refunds", "c").verdict.lost
    assert engine.in_force() == []


def test_a_fault_on_one_provider_leaves_the_others_alone(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.set_fault({"instance": "north", "fault": "lost"})
    assert engine.judge("north", "POST", "/v1/refunds", "a").verdict.lost
    assert not engine.judge("south", "POST", "/v1/refunds", "a").verdict.lost
    engine.set_fault({"instance": "*", "fault": "hang"})
    assert engine.judge("south", "POST", "/v1/refunds", "b").verdict.hang


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"fault": "earthquake"},
        {"fault": "lost", "share": 1.1},
        {"fault": "lost", "share": -0.1},
        {"fault": "lost", "share": "all"},
        {"fault": "lost", "share": True},
        {"fault": "lost", "share": float("nan")},
        {"fault": "slow", "latency_ms": 10**9},
        {"fault": "error_before", "status": 200},
        {"fault": "lost", "seconds": -1},
        {"fault": "lost", "until": "tomorrow"},
        {"fault": "lost", "until": "2026-01-01T00:00:00"},
        {"fault": "lost", "operations": ["teleport"]},
        {"fault": "lost", "operations": "confirm"},
        {"fault": "lost", "colour": "red"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(FaultInvalid):
        read_fault(asked, number=1, now_ms=0)


def test_webhooks_are_doubled_delayed_dropped_and_spoilt_as_asked() -> None:
    def mischief(*kinds: Kind, event: str = "evt_1", **more: Any) -> Mischief:
        them = [Fault(f"f{n}", n, "north", kind, **more) for n, kind in enumerate(kinds)]
        return faults.judge_webhook(them, seed=7, instance="north", event_id=event, now_ms=0)

    assert mischief() == Mischief()
    assert mischief(Kind.WEBHOOK_DUPLICATE).copies == 2
    assert mischief(Kind.WEBHOOK_DROP, Kind.WEBHOOK_DUPLICATE).copies == 0
    assert mischief(Kind.WEBHOOK_DELAY, latency_ms=400).delay_ms == 400
    assert mischief(Kind.BAD_SIGNATURE).bad_signature
    delays = [mischief(Kind.WEBHOOK_REORDER, event=f"evt_{n}", latency_ms=1_000).delay_ms for n in range(50)]
    assert delays != sorted(delays)
    assert 0 <= min(delays) < 200 < 800 < max(delays) <= 1_000
    assert mischief(Kind.LOST, Kind.DECLINE) == Mischief()


# on the wire


def raw(
    sandbox: Sandbox,
    instance: str = "north",
    *,
    timeout_s: float = 0.5,
    amount: int = 1_000,
    card: str = "pm_card_visa",
    order: str = "o-1",
) -> tuple[str, bytes]:
    """Send a payment without a key over a bare socket; say how it ended and what came back."""
    body = f"amount={amount}&currency=usd&payment_method={card}&confirm=true&metadata[order_id]={order}"
    path = f"/{instance}/v1/payment_intents"
    return sent(sandbox.port, path, body, "application/x-www-form-urlencoded", timeout_s)


def transfer(sandbox: Sandbox, name: str, amount: int, *, timeout_s: float = 0.5) -> tuple[str, bytes]:
    """Initiate a transfer over a bare socket."""
    asked = {"amount_minor": amount, "currency": "USD", "debtor_account": "HB-0002-FAST"}
    body = json.dumps(asked | {"expires_at": "2100-01-01T00:00:00+00:00"})
    return sent(sandbox.port, f"/harbour/v1/transfers/{name}", body, "application/json", timeout_s)


def sent(port: int, path: str, body: str, content_type: str, timeout_s: float) -> tuple[str, bytes]:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk_test_x\r\n"
        f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(timeout_s)
        sock.sendall((head + body).encode())
        came = b""
        try:
            while True:
                piece = sock.recv(65_536)
                if not piece:
                    return "closed", came
                came += piece
                if b"\r\n\r\n" in came:
                    return "answered", came
        except TimeoutError:
            return "silent", came
        except ConnectionResetError:
            return "reset", came


@pytest.mark.parametrize(
    ("fault", "end", "status", "taken"),
    [
        ("refuse", "reset", None, 0),
        ("dark", "silent", None, 0),
        ("hang", "silent", None, 0),
        ("rate_limit", "answered", 429, 0),
        ("bad_key", "answered", 401, 0),
        ("error_before", "answered", 503, 0),
        ("error_after", "answered", 500, 1_000),
        ("lost", "closed", None, 1_000),
        ("mute", "silent", None, 1_000),
        ("decline", "answered", 402, 0),
        ("wrong_amount", "answered", 200, 999),
        ("slow", "silent", None, 0),
    ],
)
def test_each_fault_looks_on_the_wire_as_it_is_described(
    sandbox: Sandbox, fault: str, end: str, status: int | None, taken: int
) -> None:
    sandbox.fault("north", fault)
    how, came = raw(sandbox)
    assert how == end, came
    if status is None:
        assert came == b""
    else:
        assert came.startswith(f"HTTP/1.1 {status} ".encode())
    assert sandbox.kept_minor("north") == taken


def test_a_slow_provider_answers_after_its_latency(sandbox: Sandbox) -> None:
    sandbox.fault("north", "slow", latency_ms=300)
    began = time.monotonic()
    how, came = raw(sandbox, timeout_s=5)
    assert (how, came[:12]) == ("answered", b"HTTP/1.1 200")
    assert 0.3 <= time.monotonic() - began < 3


def test_a_provider_that_hangs_does_not_hold_up_its_neighbour(sandbox: Sandbox) -> None:
    sandbox.fault("north", "hang")
    with socket.create_connection(("127.0.0.1", sandbox.port)) as waiting:
        waiting.sendall(b"GET /north/v1/payment_intents HTTP/1.1\r\nhost: x\r\n\r\n")
        assert raw(sandbox, "south")[0] == "answered"


def test_every_kind_of_failure_is_in_the_table_of_descriptions() -> None:
    assert set(faults.DESCRIPTIONS) == set(Kind)
    assert all(english and chinese for english, chinese in faults.DESCRIPTIONS.values())


async def test_a_second_request_with_a_key_in_use_is_told_so(sandbox: Sandbox) -> None:
    sandbox.fault("north", "slow", latency_ms=400)

    async def ask() -> tuple[int, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
        body = b"amount=1000&currency=usd"
        writer.write(
            b"POST /north/v1/payment_intents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk_test_x\r\n"
            b"idempotency-key: same\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ")[1]), json.loads(answer.partition(b"\r\n\r\n")[2])

    answers = await asyncio.gather(ask(), ask())
    assert sorted(status for status, _ in answers) == [200, 409]
    refused = next(doc for status, doc in answers if status == 409)
    assert refused["error"]["code"] == "idempotency_key_in_use"


# magic cards and amounts


@pytest.mark.parametrize(
    "kind", [k.value for k in faults.Kind if k.value in ("refuse", "lost", "error_before")]
)
def test_an_outage_card_fails_its_first_request_and_the_repetition_finds_out(
    sandbox: Sandbox, kind: str
) -> None:
    def pay(key: str) -> tuple[str, int]:
        body = (
            f"amount=1000&currency=usd&payment_method=pm_card_outage_{kind}&confirm=true&metadata[order_id]=o-1"
        ).encode()
        head = (
            f"POST /north/v1/payment_intents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk_test_x\r\n"
            f"idempotency-key: {key}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", sandbox.port)) as sock:
            sock.settimeout(5)
            sock.sendall(head.encode() + body)
            try:
                came = sock.recv(65_536)
            except ConnectionResetError:
                return "reset", 0
            return ("answered", int(came.split(b" ")[1])) if came else ("closed", 0)

    first = {"refuse": ("reset", 0), "lost": ("closed", 0), "error_before": ("answered", 503)}[kind]
    assert pay("k-1") == first
    assert pay("k-1") == ("answered", 200)
    assert until(lambda: len(sandbox.ledger("north", "o-1")["charges"]) == 1, "charged once")


ENDS: dict[Kind, tuple[str, int | None, int]] = {
    Kind.REFUSE: ("reset", None, 0),
    Kind.HANG: ("silent", None, 0),
    Kind.SLOW: ("silent", None, 0),
    Kind.RATE_LIMIT: ("answered", 429, 0),
    Kind.BAD_KEY: ("answered", 401, 0),
    Kind.ERROR_BEFORE: ("answered", 503, 0),
    Kind.ERROR_AFTER: ("answered", 500, 1),
    Kind.LOST: ("closed", None, 1),
    Kind.MUTE: ("silent", None, 1),
    Kind.WRONG_AMOUNT: ("answered", 200, 1),
    Kind.DARK: ("silent", None, 0),
    Kind.DECLINE: ("answered", 402, 0),
    **dict.fromkeys(faults.WEBHOOK_KINDS, ("answered", 200, 1)),
}
"""How a request ends on the wire at once, with which status, and how many charges the book then has.

All kinds but the brownout, which is a mixture.
"""


def end(told: tuple[str, bytes]) -> tuple[str, int | None]:
    how, came = told
    return how, int(came.split(b" ")[1]) if how == "answered" else None


def test_every_kind_of_failure_has_a_card_and_an_amount_of_its_own() -> None:
    assert Counter(outage.kind for outage in OUTAGES) == Counter(Kind)
    assert [outage.number for outage in OUTAGES] == list(range(1, len(Kind) + 1))
    assert set(ENDS) == set(Kind) - {Kind.BROWNOUT}


def test_without_keys_every_magic_amount_fails_in_a_row_and_again(sandbox: Sandbox) -> None:
    told, charges = [], 0
    amounts = [minor for minor, outage in AMOUNTS.items() if outage.kind in ENDS]
    for minor in amounts * 2:
        told.append(end(raw(sandbox, amount=minor, timeout_s=0.3)))
        charges += ENDS[AMOUNTS[minor].kind][2]
    assert told == [ENDS[AMOUNTS[minor].kind][:2] for minor in amounts * 2]
    # those that are slow act after the caller has left
    slow = 2 * sum(outage.kind is Kind.SLOW for outage in OUTAGES)
    assert charges <= len(sandbox.ledger("north")["charges"]) <= charges + slow
    kept = {row["kept_minor"] for row in sandbox.ledger("north")["charges"]}
    wrong = next(minor for minor, outage in AMOUNTS.items() if outage.kind is Kind.WRONG_AMOUNT)
    assert wrong not in kept
    assert wrong - 1 in kept


def test_without_keys_every_magic_card_fails_in_a_row_and_again(sandbox: Sandbox) -> None:
    tokens = [outage.token for outage in OUTAGES if outage.kind in ENDS] * 2
    told = [end(raw(sandbox, card=token, timeout_s=0.3)) for token in tokens]
    kinds = {outage.token: outage.kind for outage in OUTAGES}
    assert told == [ENDS[kinds[token]][:2] for token in tokens]


def test_a_magic_amount_fails_a_transfer_once_and_the_repetition_finds_out(sandbox: Sandbox) -> None:
    """At the bank the path names the transfer, so the same request is the same transfer."""
    for outage in OUTAGES:
        if outage.kind not in ENDS:
            continue
        how, status, done = ENDS[outage.kind]
        declined = outage.kind is Kind.DECLINE
        first = (how, 202) if status == 200 or declined else (how, status)
        name = f"t-{outage.number}"
        assert end(transfer(sandbox, name, outage.amount_minor, timeout_s=0.3)) == first, outage
        if outage.kind is Kind.SLOW:
            continue
        again = (
            ("silent", None) if outage.kind is Kind.DARK else ("answered", 200 if done or declined else 202)
        )
        assert end(transfer(sandbox, name, outage.amount_minor, timeout_s=0.3)) == again, outage


def test_a_card_and_an_amount_that_both_fail_add_up(make_engine: MakeEngine, now: Now) -> None:
    verdict = magic(make_engine(), now, "k", amount=300_003, card="pm_card_outage_lost")
    assert (verdict.delay_ms, verdict.lost) == (2_000, True)


def magic(engine: Engine, now: Now, key: str, *, amount: int = 1_000, card: str = "pm_card_visa") -> Verdict:
    """Return what happens to a payment; `key` empty: it has none."""
    form = f"amount={amount}&currency=usd&payment_method={card}&confirm=true"
    asked = call(key, now, form.encode())
    heard = engine.judge("north", asked.method, asked.path, key or None)
    return engine.sharpen("north", asked, heard)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in faults.WEBHOOK_KINDS])
def test_with_a_key_a_repetition_meets_only_darkness_brownouts_and_declines_again(
    make_engine: MakeEngine, now: Now, kind: Kind
) -> None:
    engine = make_engine()
    card = f"pm_card_outage_{kind.value}"
    told = [magic(engine, now, "k", card=card) for _ in range(40)]
    if kind is Kind.BROWNOUT:
        assert len({*told}) > 2
    elif kind in (Kind.DARK, Kind.DECLINE):
        assert len({*told}) == 1
        assert told[0] != Verdict()
    else:
        assert told[0] != Verdict()
        assert set(told[1:]) == {Verdict()}


def test_a_brownout_card_hits_half_with_the_mixture_and_the_same_by_seed(
    make_engine: MakeEngine, now: Now
) -> None:
    told = []
    for seed in (5, 5, 6):
        engine = make_engine(seed=seed)
        told.append([magic(engine, now, key, amount=300_012) for key in KEYS])
    assert told[0] == told[1] != told[2]
    counts = Counter(
        next((name for name in ("error_before", "delay_ms", "lost", "hang") if getattr(v, name)), "")
        for v in told[0]
    )
    for name, share in (("", 0.5), ("error_before", 0.25), ("delay_ms", 0.1), ("lost", 0.075)):
        assert abs(counts[name] / len(KEYS) - share) < 0.04, counts


# identity without a key


def test_without_a_key_the_same_bodies_meet_the_same_faults_in_whatever_order_they_come(
    make_engine: MakeEngine, now: Now
) -> None:
    amounts = list(range(1_000, 1_400)) * 2
    shuffled = amounts.copy()
    order_seed = Random().randrange(2**32)
    print(f"seed {order_seed}")
    Random(order_seed).shuffle(shuffled)
    told = []
    for order in (amounts, shuffled):
        engine = make_engine(seed=42)
        for kind in ("lost", "refuse"):
            engine.set_fault({"instance": "north", "fault": kind, "share": 0.3})
        met: dict[int, list[Verdict]] = {amount: [] for amount in order}
        for amount in order:
            met[amount].append(magic(engine, now, "", amount=amount))
        told.append(dict(sorted(met.items())))
    assert told[0] == told[1]
    assert any(first != second for first, second in told[0].values()), "a repetition is drawn afresh"
    for name in ("lost", "refuse"):
        hit = sum(getattr(verdict, name) for pair in told[0].values() for verdict in pair)
        assert abs(hit / len(amounts) - 0.3) < 0.06


def test_without_a_key_a_confirmation_of_the_same_payment_is_a_repetition(
    make_engine: MakeEngine, now: Now
) -> None:
    engine = make_engine()
    told = []
    for path in ("pi_1", "pi_1", "pi_2"):
        asked = call("", now, b"payment_method=pm_card_outage_lost", f"/v1/payment_intents/{path}/confirm")
        heard = engine.judge("north", "POST", asked.path, None)
        told.append(engine.sharpen("north", asked, heard).lost)
    assert told == [True, False, True]


def test_a_request_that_is_refused_or_left_in_the_dark_counts_as_hit_once(
    make_engine: MakeEngine, now: Now
) -> None:
    engine = make_engine()
    engine.set_fault({"instance": "north", "fault": "refuse"})
    assert engine.judge("north", "POST", "/v1/payment_intents", None).verdict.refuse
    assert engine.judge("north", "GET", "/v1/payment_intents/pi_1", None).verdict.refuse
    assert (engine.counts["north"].requests, engine.counts["north"].hit) == (2, 2)


def test_darkness_over_confirmations_alone_also_covers_a_create_that_confirms(sandbox: Sandbox) -> None:
    sandbox.fault("north", "dark", operations=["confirm"])
    assert raw(sandbox, timeout_s=0.3) == ("silent", b"")
    assert sandbox.kept_minor("north") == 0


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda one: one.kind.value)
def test_an_outage_is_asked_for_by_the_number_of_its_card_too(sandbox: Sandbox, outage: Outage) -> None:
    assert CARDS_BY_NUMBER[outage.card_number].token == outage.token
    made = sent(
        sandbox.port,
        "/north/v1/payment_methods",
        f"type=card&card[number]={outage.card_number}",
        "application/x-www-form-urlencoded",
        5,
    )
    method = json.loads(made[1].partition(b"\r\n\r\n")[2])
    if outage.kind in ENDS:
        assert end(raw(sandbox, card=method["id"], timeout_s=0.3)) == ENDS[outage.kind][:2]
