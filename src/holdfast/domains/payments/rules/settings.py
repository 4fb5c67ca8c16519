"""What an operator sets about payments, and the rules of the protocol by name.

The rules are always on. They can be named one by one so that tests can take one away and show that the
invariants notice (a checker that has never seen a violation proves nothing).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rules:
    """The protocol's rules.

    Each is what keeps one invariant; `docs/explanation/payment-protocol.md` tells why each is needed.
    """

    r1_journal_before_send: bool = True
    """An attempt, its key and its deadline are durable before a byte leaves."""
    r1_sending_is_unknown_after_a_crash: bool = True
    """What was being sent when its driver died may have arrived."""
    r2_no_answer_is_unknown: bool = True
    """Only what provably sent nothing is `not_sent`; no answer is never a decline."""
    r3_capture_needs_the_token: bool = True
    """Whoever may make money leave for good holds the payment's one capture token."""
    r3_not_found_is_no_fence: bool = True
    """ "No such payment" proves nothing while the request may be under way."""
    r3_cancel_fences_only_what_is_known: bool = True
    """Cancelling what a rail has never seen fences only where the rail leaves a tombstone."""
    r4_key_per_attempt: bool = True
    """A key belongs to one attempt, operation and payload, and never goes to another rail."""
    r5_evidence_only_strengthens: bool = True
    """Weaker evidence never overwrites stronger, nor older news newer."""
    r5_amounts_must_agree: bool = True
    """A rail that names another amount than asked for is never taken at its word."""
    r6_cascade_only_with_a_free_token: bool = True
    """The next rail may charge only when no earlier one still can."""
    r7_late_money_goes_back: bool = True
    """What is charged but not kept is returned by itself."""
    r8_refunds_under_the_version: bool = True
    """What may be refunded is checked under the payment's version, so two at once never exceed it."""
    r9_release_what_is_held: bool = True
    """Holds that were not needed are released."""
    i11_announce_once: bool = True
    """A payment succeeds once, and is announced once."""


@dataclass(frozen=True, slots=True)
class PaySettings:
    """How long, how often, how much. Durations in seconds.

    `answer_within_s`: how long a caller waits for an answer before it is told "pending"; a single pause
    longer than `caller_patience_s` is not waited for. `deadline_s`: how long a payer is taken to wait
    where the merchant does not say. `lease_s`: how long a driver that says nothing keeps others away;
    longer than any call to a rail. `promise_s`: past it, something in doubt is a person's business.
    `hold_s`: how long a merchant may leave a hold uncaptured. `stand_in_limit_minor`: up to how much, per
    payer, the wallet pays ahead of funding (0: never). `call_s_min`: no call to a rail is given less.
    `again_after_decline`: how often the same way is tried again after a decline that does not lie with
    the payer. `pending_patience_s`: how long a rail that has taken a payment in may leave it unconfirmed
    before another way funds it (absorb) and routing counts it as in doubt. `live_pauses_s` between steps
    while the payer waits, `pauses_s` afterwards; the last repeats.
    """

    answer_within_s: float = 25.0
    caller_patience_s: float = 3.0
    deadline_s: float = 600.0
    lease_s: float = 75.0
    promise_s: float = 3600.0
    hold_s: float = 6 * 86400.0
    stand_in_limit_minor: int = 0
    call_s_min: float = 1.0
    again_after_decline: int = 1
    pending_patience_s: float = 6.0
    live_pauses_s: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0)
    pauses_s: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
    resolve_together_max: int = 32
    rules: Rules = field(default_factory=Rules)
