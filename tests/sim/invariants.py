"""The invariants I1 to I12, one function each, from the providers' own books and from our tables.

Some are checked at every instant (whenever a provider's book, or ours, changes), the others when everything
is at rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from holdfast.base.ids import AttemptId, MerchantId, PaymentId, public
from holdfast.domains.payments import store
from holdfast.domains.payments import store_rows as rows
from holdfast.domains.payments.model import Attempt, AttemptState, Case, Op, PaymentState
from holdfast.domains.payments.ports import Order
from holdfast.domains.payments.rules.lifecycle import FINAL, GONE, IN_DOUBT
from holdfast.domains.payments.rules.routing import RailOutcome, Router, Ticket
from holdfast.flows import chart
from tests.sim.rails import Provider

if TYPE_CHECKING:
    from tests.sim.world import World

Row = tuple[Any, ...]
_S = AttemptState


class Violation(AssertionError):
    """An invariant does not hold. `invariant` is its number."""

    def __init__(self, invariant: str, words: str) -> None:
        super().__init__(f"{invariant}: {words}")
        self.invariant = invariant


def hold(condition: object, invariant: str, words: str) -> None:
    if not condition:
        raise Violation(invariant, words)


@dataclass(frozen=True, slots=True)
class AtRest:
    """What is looked at when everything is at rest.

    `journal`: the events of each payment. `events`: subject and type of each announcement. `holds`: an
    account's balance by code, or (None) the sum over all accounts.
    """

    cases: list[Case]
    journal: Mapping[UUID, set[str]]
    events: Sequence[tuple[str, str]]
    holds: Callable[[str | None], int]
    providers: Mapping[str, Provider]
    merchant: MerchantId

    def check(self) -> None:
        for case in self.cases:
            self.i2_what_is_kept_is_what_was_asked(case)
            self.i4_succeeded_means_one_charge(case)
            self.i9_everything_ended_or_somebody_was_told(case)
            self.i11_success_is_announced_once(case)
        self.i10_the_books_balance()
        self.i10_rails_owe_what_they_took()
        self.i10_the_merchant_has_what_was_paid()

    def i2_what_is_kept_is_what_was_asked(self, case: Case) -> None:
        payment = case.payment
        net = sum(self._net(a) for a in case.attempts if a.rail != "book")
        refunded = sum(r.amount.amount_minor for r in case.refunds if r.state == "succeeded" and r.attempt_id)
        kept = case.attempt(payment.kept)
        through = kept is not None and kept.rail != "book"
        wanted = payment.captured_minor - refunded if through else 0
        hold(net == wanted, "I2", f"{payment.state.value}: the rails kept {net} and it should be {wanted}")

    def i4_succeeded_means_one_charge(self, case: Case) -> None:
        payment = case.payment
        kept = [a for a in case.attempts if a.state is _S.CAPTURED]
        if payment.state is PaymentState.SUCCEEDED:
            owed = "owed" in self.journal[payment.id]
            hold(len(kept) == 1 or owed, "I4", f"succeeded with {len(kept)} charges")
            hold(owed or kept[0].id == payment.kept, "I4", "succeeded, and another charge is the kept one")
        else:
            hold(not kept, "I4", f"{payment.state.value} with {len(kept)} charges")
            hold(payment.captured_minor == 0, "I4", "captured without success")

    def i9_everything_ended_or_somebody_was_told(self, case: Case) -> None:
        payment = case.payment
        told = "alert" in self.journal[payment.id]
        left = [a.state.value for a in case.attempts if a.state not in GONE and a.id != payment.kept]
        hold(
            payment.state in FINAL or told, "I9", f"it is {payment.state.value} for ever and nobody was told"
        )
        hold(not left or told, "I9", f"{left} for ever and nobody was told")
        refunds = [r.state for r in case.refunds if r.state in ("sending", "pending")]
        hold(not refunds or told, "I9", f"a refund is {refunds} for ever and nobody was told")

    def i10_the_books_balance(self) -> None:
        total = self.holds(None)
        hold(total == 0, "I10", f"the ledger sums to {total}")
        doubt = 0
        for case in self.cases:
            doubt -= case.payment.stood_in_minor
            if case.payment.asked.funding == "direct":
                doubt += sum(a.captured_minor for a in case.attempts if a.booked)
        hold(
            self.holds("in_doubt:CNY") == doubt,
            "I10",
            f"suspense is {self.holds('in_doubt:CNY')}, in doubt is {doubt}",
        )

    def i10_rails_owe_what_they_took(self) -> None:
        for name, provider in self.providers.items():
            took = sum(record.net_minor for record in provider.records.values())
            owes = -self.holds(f"rail:{name}:CNY")
            hold(owes == took, "I10", f"{name} took {took} and our books say {owes}")
        hold(self.holds("rail:book:CNY") == 0, "I10", "money is left in the balance rail's clearing account")

    def i10_the_merchant_has_what_was_paid(self) -> None:
        cases = self.cases
        paid = sum(c.payment.captured_minor for c in cases)
        back = sum(r.amount.amount_minor for c in cases for r in c.refunds if r.state == "succeeded")
        code = chart.merchant(self.merchant, "CNY").code
        hold(
            self.holds(code) == paid - back, "I10", f"the merchant has {self.holds(code)}, not {paid - back}"
        )

    def i11_success_is_announced_once(self, case: Case) -> None:
        subject = public("pay", case.payment.id)
        types = [type_ for about, type_ in self.events if about == subject and type_.startswith("payment.")]
        said = types.count("payment.succeeded")
        hold(
            said == (case.payment.state is PaymentState.SUCCEEDED),
            "I11",
            f"success was announced {said} times",
        )
        ends = [t for t in types if t in ("payment.succeeded", "payment.failed", "payment.canceled")]
        hold(len(ends) == (case.payment.state in FINAL), "I11", f"the end was announced as {ends}")

    def _net(self, attempt: Attempt) -> int:
        provider = self.providers.get(attempt.rail)
        record = None if provider is None else provider.records.get(attempt.reference)
        return 0 if record is None else record.net_minor


class Checker:
    """Watches one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[Row] = []
        self._keys: dict[str, tuple[AttemptId, Op, bytes]] = {}
        self._operations: dict[tuple[AttemptId, Op, bytes], str] = {}
        self._rail_of_key: dict[str, str] = {}
        self._evidence: dict[UUID, tuple[str, int]] = {}
        self._counted: Counter[tuple[int, int, str]] = Counter()
        self._routers = 0
        self._touched: set[UUID] = set()
        lane, book = world.lane, world.book
        lane.register("outbox.add", self.events.append)
        lane.register(store.ATTEMPT.name, self._then(book._attempt, self._attempt_changed))
        lane.register(store.SEND.name, self._then(book._send, self._send_recorded))
        lane.register(store.SAVE.name, self._then(book._save, self._payment_saved))
        lane.register(store.REFUND.name, self._then(book._refund, self._refund_saved))

    @staticmethod
    def _then(first: Any, second: Any) -> Any:
        def both(row: Row) -> None:
            first(row)
            second(row)

        return both

    # What is checked at every instant.

    def charged(self, rail: str, reference: str) -> None:
        """A provider's book has just changed."""
        try:
            self.i1_at_most_one_charge(rail, reference)
            self.i3_no_charge_without_the_token(rail, reference)
        except Violation as violation:
            self.world.failed(violation)

    def i1_at_most_one_charge(self, rail: str, reference: str) -> None:
        case = self._case_of(rail, reference)
        if case is None or case.payment.asked.funding == "absorb":
            return
        charges = [a for a in case.attempts if a.rail != "book" and self._net(a) > 0]
        hold(len(charges) <= 1, "I1", f"two charges stand for one payment: {[a.rail for a in charges]}")

    def i3_no_charge_without_the_token(self, rail: str, reference: str) -> None:
        case = self._case_of(rail, reference)
        if case is None or case.payment.asked.funding == "absorb":
            return
        attempt = next(a for a in case.attempts if a.reference == reference)
        if self._net(attempt) == attempt.captured_minor and self._net(attempt) == 0:
            return
        record = self.world.providers[rail].records[reference]
        if record.state == "captured" and record.refunded_minor == 0:
            hold(case.token.holder == attempt.id, "I3", f"{rail} charged without the capture token")

    def sending(self, rail: str, order: Order) -> None:
        """A request is about to leave."""
        try:
            self.i7_every_send_has_a_record(rail, order)
            self.i6_a_key_never_goes_to_two_rails(rail, order)
        except Violation as violation:
            self.world.failed(violation)

    def i7_every_send_has_a_record(self, rail: str, order: Order) -> None:
        case = self._case_of(rail, order.reference)
        hold(case is not None, "I7", f"a request left for {rail} and no attempt was recorded")
        assert case is not None
        attempt = next(a for a in case.attempts if a.reference == order.reference)
        recorded = [send.key for send in self.world.book._sends.get(attempt.id, [])]
        hold(order.key in recorded, "I7", f"a request left for {rail} and was not recorded before")

    def i6_a_key_never_goes_to_two_rails(self, rail: str, order: Order) -> None:
        hold(self._rail_of_key.setdefault(order.key, rail) == rail, "I6", "one key was used on two rails")

    def _send_recorded(self, row: Row) -> None:
        send = rows.send_of(row)
        operation = (send.attempt_id, send.op, send.payload_hash)
        hold(
            self._keys.setdefault(send.key, operation) == operation, "I6", "one key stands for two operations"
        )
        if send.op in (Op.AUTHORIZE, Op.CAPTURE):
            hold(
                self._operations.setdefault(operation, send.key) == send.key,
                "I6",
                "two keys for one operation",
            )

    def _attempt_changed(self, row: Row) -> None:
        attempt = rows.attempt_of(row)
        self.i5_evidence_only_strengthens(attempt)
        self._touched.add(attempt.payment_id)

    def i5_evidence_only_strengthens(self, attempt: Attempt) -> None:
        before, strength = self._evidence.get(attempt.id, (attempt.state.value, int(attempt.evidence)))
        now = attempt.state.value
        hold(
            attempt.evidence >= strength,
            "I5",
            f"what was known of an attempt became weaker ({before} to {now})",
        )
        if before in ("declined", "canceled") and now != before:
            hold(attempt.evidence > strength, "I5", f"{before} became {now} without stronger evidence")
        if before in ("captured", "returning") and now != before:
            hold(now in ("captured", "returning", "returned"), "I5", f"{before} became {now}")
        hold(before != "returned" or now == before, "I5", f"{before} became {now}")
        self._evidence[attempt.id] = (now, int(attempt.evidence))

    def _payment_saved(self, row: Row) -> None:
        self._touched.add(row[0])

    def _refund_saved(self, row: Row) -> None:
        self._touched.add(row[1])

    def after_commit(self) -> None:
        """Our own tables have just changed."""
        touched, self._touched = self._touched, set()
        for id_ in touched:
            if id_ in self.world.book._payments:
                case = self._read(id_)
                self.i4_failed_means_nothing_in_flight(case)
                self.i8_refunds_never_exceed_captures(case)
                self.i9_somebody_will_look_at_it(case)

    def i4_failed_means_nothing_in_flight(self, case: Case) -> None:
        if case.payment.state in (PaymentState.FAILED, PaymentState.CANCELED):
            flying = [
                a.state.value for a in case.attempts if a.state in IN_DOUBT and a.state is not _S.CANCELING
            ]
            hold(not flying, "I4", f"{case.payment.state.value} while {flying}")

    def i8_refunds_never_exceed_captures(self, case: Case) -> None:
        given = sum(r.amount.amount_minor for r in case.refunds if r.state != "failed")
        hold(given <= case.payment.captured_minor, "I8", f"{given} refunded of {case.payment.captured_minor}")

    def i9_somebody_will_look_at_it(self, case: Case) -> None:
        payment = case.payment
        open_ = payment.state not in FINAL
        owing = [a.state.value for a in case.attempts if a.state not in GONE and a.id != payment.kept]
        refunds = [r for r in case.refunds if r.state in ("sending", "pending")]
        if open_ or owing or refunds:
            hold(
                payment.next_step_at is not None,
                "I9",
                f"nobody will look at it: {payment.state.value}, {owing}",
            )

    def nothing_due(self) -> bool:
        return all(payment.next_step_at is None for payment in self.world.book.standing())

    def at_rest(self) -> None:
        """Everything has healed, and whatever could be done was done."""
        world = self.world
        journal = {id_: {line.event for line in lines} for id_, lines in world.book._journal.items()}
        told = [(row[3], row[1]) for row in self.events]
        AtRest(world.book.everything(), journal, told, self._holds, world.providers, world.merchant).check()

    def watch_router(self, router: Router) -> Router:
        """I12: each call is counted once, and corrected at most once."""
        self._routers += 1
        which, counted = self._routers, self._counted
        finished, corrected = router.finished, router.corrected
        world = self.world

        def count(kind: str, ticket: Ticket) -> None:
            counted[which, ticket.number, kind] += 1
            if counted[which, ticket.number, kind] > 1:
                world.failed(Violation("I12", f"one call was {kind} twice"))

        def on_finished(ticket: Ticket, outcome: RailOutcome, *, latency_s: float, now_s: float) -> None:
            count("counted", ticket)
            finished(ticket, outcome, latency_s=latency_s, now_s=now_s)

        def on_corrected(ticket: Ticket, outcome: RailOutcome, *, now_s: float) -> None:
            if outcome is not RailOutcome.UNKNOWN:
                count("corrected", ticket)
            corrected(ticket, outcome, now_s=now_s)

        router.finished = on_finished  # type: ignore[method-assign]
        router.corrected = on_corrected  # type: ignore[method-assign]
        return router

    def _holds(self, code: str | None) -> int:
        if code is None:
            every = self.world.ledger.book.accounts.values()
            return sum(each.credits_posted - each.debits_posted for each in every)
        books = self.world.ledger.book.accounts.get(chart.number(code))
        return 0 if books is None else books.credits_posted - books.debits_posted

    def _net(self, attempt: Attempt) -> int:
        provider = self.world.providers.get(attempt.rail)
        record = None if provider is None else provider.records.get(attempt.reference)
        return 0 if record is None else record.net_minor

    def _case_of(self, rail: str, reference: str) -> Case | None:
        found = self.world.book._by_remote.get((rail, reference))
        return None if found is None else self._read(found[0])

    def _read(self, id_: UUID) -> Case:
        book = self.world.book
        return book._case(book._payments[PaymentId(id_)])
