"""The keys of a scenario file, as one table: what may stand where, with bounds, default and meaning.

`reading.py` reads by this table, refuses what is not in it, and a test holds `docs/reference/drills.md` to
it.
"""

# ruff: noqa: E501 - one key, one line

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from holdfast.base.money import ASSETS
from holdfast.domains.payments.ports import FenceClass
from holdfast.drills.scenario import FaultKind

Shape = Literal["text", "whole", "number", "yes_no", "texts", "spread", "share"]
REQUIRED: Final = object()


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `default` is `REQUIRED`, or what holds when it is left out; bounds are inclusive."""

    name: str
    shape: Shape
    meaning: str
    default: object = REQUIRED
    low: float = 0.0
    high: float = 1e12
    choices: tuple[str, ...] = ()


DRILL: Final = (
    Key("name", "text", "short name, as typed after `holdfast drill run`"),
    Key("title", "text", "one line"),
    Key("title_zh", "text", "the same in Chinese", ""),
    Key("source", "text", "where the figures come from"),
    Key("cause", "text", "what stopped the wallet", "technical", choices=("technical", "security", "maintenance", "regulatory")),
    Key("story", "text", "what happened, and what this drill makes of it"),
    Key("story_zh", "text", "the same in Chinese", ""),
    Key("seed", "whole", "every draw follows from it; `--seed` replaces it", high=2**53),
    Key("duration_s", "whole", "for how long payments arrive, simulated seconds", low=10, high=86_400),
    Key("deadline_s", "whole", "how long a payer waits; later is too late", low=1, high=600),
    Key("funding", "text", "how Holdfast is set: `direct` (a rail's charge pays the merchant) or `absorb` (rails fund the payer's balance, which pays the merchant, so that late money can be given back)", "absorb", choices=("direct", "absorb")),
    Key("drain_s", "whole", "how long the drill goes on after the last arrival, at most, for what is in doubt to end", 14_400, high=604_800),
)  # fmt: skip

TRAFFIC: Final = (
    Key("per_second", "number", "payments a second, before surges", low=0.01, high=100_000),
    Key("asset", "text", "what is paid in", "EUR", choices=tuple(ASSETS)),
    Key("amount_min_minor", "whole", "smallest amount, minor units", 100, low=1, high=2**40),
    Key(
        "amount_max_minor",
        "whole",
        "largest amount, minor units; amounts are spread evenly between",
        20_000,
        low=1,
        high=2**40,
    ),
)

SURGE: Final = (
    Key("from_s", "whole", "when it begins"),
    Key("to_s", "whole", "when it ends"),
    Key("times", "number", "how many times the usual rate; surges that overlap multiply", low=0.0, high=1000),
)

PAYERS: Final = (
    Key("share", "share", "share of the payers; the shares are brought to a sum of 1"),
    Key("methods", "texts", "what they carry, in their own order; `balance` is the wallet's own"),
    Key(
        "no_funds",
        "share",
        "how often an instrument has no funds: the payer's own refusal, held against no rail",
        0.0,
    ),
)

RAILS: Final = (
    Key("name", "text", "how faults and the report name it"),
    Key("methods", "texts", "kinds of instrument that it takes"),
    Key("fence", "text", "what it offers against a late charge (F0 none, F1 query or expiry, F2 cancel with tombstone, F3 cancel of an object, F4 hold and capture apart)", choices=tuple(f.name for f in FenceClass)),
    Key("one_step", "yes_no", "true when it charges at once instead of holding first", False),
    Key("success_rate", "share", "share of payments accepted when nothing is wrong; the same payment is refused again when tried again", 1.0),
    Key("latency", "spread", "from request to answer: `{ median_ms = 300, p99_ms = 1500 }`"),
    Key("cost_bp", "number", "what a payment costs, hundredths of a percent", 0, high=10_000),
    Key("timeout_s", "number", "how long we wait for an answer", 5.0, low=0.1, high=60),
    Key("replay_key_s", "whole", "for how long a repeated key gets the first answer (0: the rail has no keys)", 86_400),
    Key("cancel_wait_s", "number", "shortest pause between a request and its cancel", 0.0, high=3600),
    Key("query_wait_s", "number", "shortest pause before a status query, and between two of one payment", 0.0, high=3600),
    Key("expires_s", "number", "after this long the rail itself drops what it has not carried out (left out: never)", None, low=1, high=604_800),
    Key("capacity_per_s", "number", "requests served in a second; more queue (left out: no bound)", None, low=0.1, high=1e6),
    Key("queue_s", "number", "longest queue before requests are turned away", 2.0, high=600),
    Key("concurrency_max", "whole", "requests that we let be under way there at once", 1024, low=1, high=100_000),
    Key("confirms_in", "spread", "how long it takes to confirm what it accepted (left out: it answers at once)", None),
    Key("webhook_in", "spread", "how long after the fact it reports an outcome that no answer told (left out: it never does)", None),
)  # fmt: skip

FAULTS: Final = (
    Key("target", "text", "the rail"),
    Key("kind", "text", "what is wrong", choices=tuple(k.value for k in FaultKind)),
    Key("share", "share", "share of the requests hit, drawn anew every second", 1.0),
    Key("from_s", "whole", "when it begins"),
    Key("to_s", "whole", "when it ends"),
    Key("carried_out", "share", "share of the requests hit that the provider carries out although the caller is not told", 0.0),
    Key("late_share", "share", "`gray`: share of the answers hit that come late instead of never", 0.0),
    Key("late_s", "number", "`gray`: how late", 5.0, high=86_400),
    Key("hold_s", "number", "`hang`: how long a request is held", 30.0, high=86_400),
    Key("times", "number", "`slow`: how many times slower", 1.0, low=1, high=10_000),
    Key("backlog_s", "number", "`ack_then_silent`: how long the provider then takes to work off what it had acknowledged", 60.0, high=86_400),
    Key("copies", "whole", "`ack_then_silent`: how often it reports each of them, out of order", 1, low=1, high=10),
    Key("queries_per_s", "number", "`status_query_storm`: status queries of ours that it bears; each beyond kills payments", 0.0, high=1e6),
    Key("refused", "share", "`restart_storm`: share of the requests hit that are not even accepted, so that nothing was sent", 0.0),
)  # fmt: skip

SECTIONS: Final[dict[str, tuple[Key, ...]]] = {
    "": DRILL,
    "traffic": TRAFFIC,
    "traffic.surges": SURGE,
    "payers": PAYERS,
    "rails": RAILS,
    "faults": FAULTS,
}
