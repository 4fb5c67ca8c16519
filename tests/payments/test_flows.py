"""What the flows promise, one scene each, on virtual time with rails that say what the scene needs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from holdfast.base.ids import PayerId, PaymentId, TransferId
from holdfast.base.money import Money
from holdfast.domains.payments.errors import (
    CaptureTooMuch,
    NoWayToPay,
    PaymentInvalid,
    PaymentNotFound,
    PaymentStateWrong,
    RefundNotFunded,
    RefundTooMuch,
    TransferRefused,
)
from holdfast.domains.payments.model import Payment, PaymentState
from holdfast.domains.payments.ports import (
    Answer,
    Evidence,
    FenceClass,
    Order,
    RailEvent,
    Said,
    SettlementRow,
)
from holdfast.domains.payments.rules.settings import PaySettings
from holdfast.flows import chart, pay, reconcile
from holdfast.flows.explain import explain
from holdfast.flows.refund import refund
from holdfast.flows.top_up import top_up
from holdfast.flows.transfer import transfer
from tests.payments.worlds import CNY, Scripted, Shop, play

SILENT = Answer(Said.UNKNOWN)
P = PaymentState


def one_step(name: str, *says: Answer, fence: FenceClass = FenceClass.F2) -> Scripted:
    return Scripted(name, *says, fence=fence, one_step=True)


async def states(shop: Shop, payment: Payment) -> list[str]:
    return [f"{a.rail} {a.state.value}" for a in await shop.book.attempts(payment.id)]


def test_a_card_is_held_then_captured_and_the_merchant_is_paid_once() -> None:
    north = Scripted("north")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert (paid.state, paid.captured_minor, north.ops) == (P.SUCCEEDED, 500, ["authorize", "capture"])
        assert shop.merchant_holds() == 500
        assert shop.announced() == ["payment.created", "payment.succeeded"]

    play(scene, north)


def test_a_silent_rail_that_only_holds_does_not_stop_the_next_one() -> None:
    north, south = Scripted("north", SILENT), one_step("south")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert paid.state is P.SUCCEEDED
        assert await states(shop, paid) == ["north unknown", "south captured"]
        await shop.rest()
        assert await states(shop, paid) == ["north canceled", "south captured"]
        assert north.ops == ["authorize", "authorize", "cancel"]
        assert shop.merchant_holds() == 500

    play(scene, north, south)


def test_a_silent_rail_that_may_have_charged_is_fenced_before_another_charges() -> None:
    north, south = one_step("north", SILENT, SILENT, SILENT), Scripted("south")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert paid.state is P.SUCCEEDED
        assert north.ops == ["authorize", "authorize", "cancel", "query", "cancel"]
        assert south.ops == ["authorize", "capture"]
        assert await states(shop, paid) == ["north canceled", "south captured"]

    play(scene, north, south)


def test_an_unknown_charge_is_pending_and_never_failed() -> None:
    north = one_step("north", *[SILENT] * 200, fence=FenceClass.F0)

    async def scene(shop: Shop) -> None:
        asked = shop.wants(500, deadline_at=shop.clock.now() + timedelta(seconds=20))
        paid = await pay.create(shop.desk, asked)
        assert paid.state is P.PENDING
        await shop.clock.sleep(5_000)
        await reconcile.resolve_due(shop.desk)
        assert (await shop.book.payment(paid.id)).state is P.PENDING  # type: ignore[union-attr]

    play(scene, north)


def test_not_found_frees_nothing_while_the_request_may_be_under_way() -> None:
    north, south = (
        one_step("north", SILENT, *[Answer(Said.NOT_FOUND)] * 99, fence=FenceClass.F0),
        one_step("south"),
    )
    north.traits = type(north.traits)(
        **{f: getattr(north.traits, f) for f in north.traits.__slots__} | {"replay_key_s": 0}
    )

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert paid.state is P.PENDING
        assert not south.asked

    play(scene, north, south)


def test_what_was_provably_not_sent_is_free_to_go_elsewhere() -> None:
    north, south = one_step("north", Answer(Said.NOT_SENT)), one_step("south")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert await states(shop, paid) == ["north not_sent", "south captured"]

    play(scene, north, south)


def test_the_only_rail_is_tried_again_while_it_cannot_be_reached() -> None:
    north = Scripted("north", Answer(Said.NOT_SENT), Answer(Said.NOT_SENT), Answer(Said.NOT_DONE))

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert paid.state is P.SUCCEEDED
        assert await states(shop, paid) == ["north captured"]

    play(scene, north)


def test_a_payers_own_decline_closes_that_method_on_every_rail() -> None:
    broke = Answer(Said.DECLINED, code="insufficient_funds", message="Not enough money.", payer_fault=True)
    north, south = Scripted("north", broke), Scripted("south")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert (paid.state, paid.failure_code) == (P.FAILED, "insufficient_funds")
        assert not south.asked
        assert shop.announced()[-1] == "payment.failed"

    play(scene, north, south)


def test_a_charge_of_another_amount_is_given_back_and_the_next_rail_is_asked() -> None:
    wrong = Answer(Said.CAPTURED, amount=Money(CNY, 499))
    north, south = one_step("north", wrong), one_step("south")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert paid.state is P.SUCCEEDED
        assert await states(shop, paid) == ["north returned", "south captured"]
        assert shop.merchant_holds() == 500
        assert shop.holds("in_doubt:CNY") == 0

    play(scene, north, south)


def test_late_money_goes_back_by_itself() -> None:
    north, south = one_step("north", SILENT), Scripted("south")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500, funding="absorb"))
        assert paid.state is P.SUCCEEDED
        assert shop.merchant_holds() == 500
        late = (await shop.book.attempts(paid.id))[0]
        event = RailEvent(
            "e1", "north", late.reference, None, Said.CAPTURED, Money(CNY, 500), shop.clock.now()
        )
        await reconcile.on_rail_event(shop.desk, "north", event)
        assert shop.payer_holds() == 100_500
        spendable = (
            (await shop.ledger.balances([chart.payer(shop.payer, "CNY").number])).popitem()[1].spendable_minor
        )
        assert spendable == 100_000
        await shop.rest()
        assert await states(shop, paid) == ["north returned", "south captured"]
        assert shop.payer_holds() == 100_000
        assert "credit.returned" in shop.announced()

    play(scene, north, south)


def test_late_money_whose_return_is_answered_by_an_error_for_ever_is_seen_to_be_back_by_asking() -> None:
    north, south = one_step("north", SILENT), Scripted("south")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500, funding="absorb"))
        late = (await shop.book.attempts(paid.id))[0]
        event = RailEvent(
            "e1", "north", late.reference, None, Said.CAPTURED, Money(CNY, 500), shop.clock.now()
        )
        await reconcile.on_rail_event(shop.desk, "north", event)
        back = Answer(Said.CAPTURED, Evidence.QUERY, amount=Money(CNY, 500), refunded_minor=500)
        north.says = [SILENT, SILENT, back, *[SILENT] * 50]
        await shop.rest()
        assert await states(shop, paid) == ["north returned", "south captured"]
        assert (shop.payer_holds(), north.ops[-3:]) == (100_000, ["refund", "refund", "query"])

    play(scene, north, south)


def test_the_wallet_stands_in_within_its_limit_and_is_funded_later() -> None:
    north = one_step("north", *[SILENT] * 3)

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500, funding="absorb"))
        assert (paid.state, shop.merchant_holds(), shop.holds("in_doubt:CNY")) == (P.SUCCEEDED, 500, -500)
        again = await pay.create(shop.desk, shop.wants(600, funding="absorb"))
        assert again.state is P.SUCCEEDED
        await shop.rest()
        assert shop.holds("in_doubt:CNY") == 0
        assert shop.announced().count("payment.succeeded") == 2

    play(scene, north, settings=PaySettings(stand_in_limit_minor=1_000))


def test_the_wallet_stands_in_no_further_than_its_limit() -> None:
    north = one_step("north", *[SILENT] * 500)

    async def scene(shop: Shop) -> None:
        first = await pay.create(shop.desk, shop.wants(600, funding="absorb"))
        second = await pay.create(shop.desk, shop.wants(600, funding="absorb"))
        assert (first.state, second.state) == (P.SUCCEEDED, P.PENDING)
        assert shop.merchant_holds() == 600

    play(scene, north, settings=PaySettings(stand_in_limit_minor=1_000))


def test_what_the_wallet_paid_for_nothing_is_owed_and_settled_by_the_next_top_up() -> None:
    declined = Answer(Said.DECLINED, payer_fault=True)
    north = one_step("north", SILENT, declined)

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500, funding="absorb"))
        await shop.rest()
        debt = chart.debt(shop.payer, "CNY").code
        assert (paid.state, shop.holds(debt), shop.holds("in_doubt:CNY")) == (P.SUCCEEDED, -500, 0)
        filled = await top_up(shop.desk, shop.payer, Money(CNY, 800), (shop.card,), merchant_id=shop.merchant)
        assert filled.state is P.SUCCEEDED
        assert (shop.holds(debt), shop.payer_holds()) == (0, 100_300)
        assert shop.announced()[-1] == "top_up.succeeded"

    play(scene, north, settings=PaySettings(stand_in_limit_minor=1_000))


def test_a_crash_between_sending_and_the_answer_leaves_unknown_which_a_worker_resolves() -> None:
    north = one_step("north")

    async def scene(shop: Shop) -> None:
        stuck = asyncio.Event()

        async def never(order: object) -> Answer:
            stuck.set()
            await asyncio.Event().wait()
            raise AssertionError

        honest, north.send = north.send, never  # type: ignore[method-assign]
        task = asyncio.ensure_future(pay.create(shop.desk, shop.wants(500)))
        await stuck.wait()
        task.cancel()
        north.send = honest  # type: ignore[method-assign]
        await shop.rest()
        payment = (await shop.book.listing(shop.merchant))[0]
        assert payment.state is P.SUCCEEDED
        assert "recovered" in [entry.event for entry in await shop.book.journal(payment.id)]

    play(scene, north)


def test_a_manual_payment_waits_held_and_is_captured_in_part() -> None:
    north = Scripted("north")

    async def scene(shop: Shop) -> None:
        held = await pay.create(shop.desk, shop.wants(500, capture="manual"))
        assert held.state is P.AUTHORIZED
        with pytest.raises(CaptureTooMuch):
            await pay.capture(shop.desk, held.id, 501)
        paid = await pay.capture(shop.desk, held.id, 200)
        assert (paid.state, paid.captured_minor, shop.merchant_holds()) == (P.SUCCEEDED, 200, 200)
        with pytest.raises(PaymentStateWrong):
            await pay.capture(shop.desk, held.id)

    play(scene, north)


def test_a_hold_that_nobody_captures_is_released_in_time() -> None:
    north = Scripted("north")

    async def scene(shop: Shop) -> None:
        held = await pay.create(shop.desk, shop.wants(500, capture="manual"))
        await shop.rest(for_s=8 * 86_400)
        after = await shop.book.payment(held.id)
        assert after is not None
        assert (after.state, after.failure_code, north.ops[-1]) == (P.CANCELED, "hold_expired", "cancel")

    play(scene, north)


def test_an_opened_payment_is_confirmed_later_or_lapses() -> None:
    async def scene(shop: Shop) -> None:
        first = await pay.create(shop.desk, shop.wants(500), confirm=False)
        assert first.state is P.REQUIRES_CONFIRMATION
        assert (await pay.confirm(shop.desk, first.id, methods=(shop.balance,))).state is P.SUCCEEDED
        with pytest.raises(PaymentStateWrong):
            await pay.confirm(shop.desk, first.id)
        second = await pay.create(shop.desk, shop.wants(500), confirm=False)
        await shop.rest()
        assert (await shop.book.payment(second.id)).state is P.CANCELED  # type: ignore[union-attr]

    play(scene, Scripted("north"))


def test_a_canceled_payment_in_doubt_gives_back_what_turns_up() -> None:
    north = one_step("north", *[SILENT] * 40, fence=FenceClass.F1)

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert (await pay.cancel(shop.desk, paid.id)).state is P.PENDING
        late = (await shop.book.attempts(paid.id))[0]
        event = RailEvent(
            "e1", "north", late.reference, None, Said.CAPTURED, Money(CNY, 500), shop.clock.now()
        )
        north.says.clear()
        await reconcile.on_rail_event(shop.desk, "north", event)
        await shop.rest()
        assert (await shop.book.payment(paid.id)).state is P.CANCELED  # type: ignore[union-attr]
        assert await states(shop, paid) == ["north returned"]
        assert (shop.merchant_holds(), shop.holds("in_doubt:CNY")) == (0, 0)

    play(scene, north)


def test_refunds_never_exceed_what_was_captured() -> None:
    north = Scripted("north")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert (await refund(shop.desk, paid.id, 300)).state == "succeeded"
        with pytest.raises(RefundTooMuch):
            await refund(shop.desk, paid.id, 201)
        assert (await refund(shop.desk, paid.id)).amount.amount_minor == 200
        with pytest.raises(RefundTooMuch):
            await refund(shop.desk, paid.id)
        assert (shop.merchant_holds(), shop.holds("rail:north:CNY")) == (0, 0)

    play(scene, north)


def test_two_refunds_at_once_over_the_captured_sum_leave_one_refused() -> None:
    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        both = await asyncio.gather(
            *(refund(shop.desk, paid.id, 300) for _ in range(2)), return_exceptions=True
        )
        assert sorted(type(one).__name__ for one in both) == ["Refund", "RefundTooMuch"]

    play(scene, Scripted("north"))


def test_a_refund_that_gets_no_answer_is_under_way_and_then_done_once() -> None:
    north = Scripted("north", Answer(Said.AUTHORIZED), Answer(Said.CAPTURED), SILENT)

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        back = await refund(shop.desk, paid.id, 200)
        if back.state != "succeeded":
            await shop.rest()
        assert (await shop.book.refunds(paid.id))[0].state == "succeeded"
        keys = {order.key for order in north.asked if order.op == "refund"}
        assert len(keys) == 1
        assert shop.announced().count("refund.succeeded") == 1

    play(scene, north)


def test_a_refund_that_the_rail_declines_gives_the_merchant_its_money_back() -> None:
    north = Scripted("north", Answer(Said.AUTHORIZED), Answer(Said.CAPTURED), Answer(Said.DECLINED))

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert (await refund(shop.desk, paid.id, 200)).state == "failed"
        assert (shop.merchant_holds(), (await shop.book.payment(paid.id)).refunded_minor) == (500, 0)  # type: ignore[union-attr]

    play(scene, north)


def test_a_refund_that_the_merchant_cannot_fund_is_refused() -> None:
    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        merchant, payer = chart.merchant(shop.merchant, "CNY").code, chart.payer(shop.payer, "CNY").code
        await transfer(shop.desk, merchant, payer, Money(CNY, 400))
        with pytest.raises(RefundNotFunded):
            await refund(shop.desk, paid.id)

    play(scene, Scripted("north"))


def test_the_settlement_file_is_the_strongest_evidence() -> None:
    north = one_step("north", Answer(Said.DECLINED, payer_fault=True))

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        assert paid.state is P.FAILED
        wrong = (await shop.book.attempts(paid.id))[0]
        now = shop.clock.now()
        rows = [
            SettlementRow("north", wrong.reference, "r1", "charge", Money(CNY, 500), now),
            SettlementRow("north", "att_nobody", "r2", "charge", Money(CNY, 70), now),
        ]
        north.says = [Answer(Said.CAPTURED)]
        found = await reconcile.settle_from_file(shop.desk, "north", rows)
        assert (found.corrected, [row.remote_id for row in found.strays]) == ((wrong.reference,), ["r2"])
        await shop.rest()
        assert await states(shop, paid) == ["north returned"]
        again = await reconcile.settle_from_file(shop.desk, "north", rows[:1])
        assert again.corrected == ()

    play(scene, north)


def test_a_message_that_is_repeated_or_old_changes_nothing() -> None:
    north = Scripted("north")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        attempt = (await shop.book.attempts(paid.id))[0]
        event = RailEvent(
            "e1", "north", attempt.reference, None, Said.AUTHORIZED, Money(CNY, 500), shop.clock.now()
        )
        for _ in range(3):
            await reconcile.on_rail_event(shop.desk, "north", event)
        assert await shop.book.payment(paid.id) == paid

    play(scene, north)


def test_a_rail_that_answers_again_is_asked_to_settle_its_doubts_at_once() -> None:
    north = Scripted("north", *[SILENT] * 10)

    async def scene(shop: Shop) -> None:
        asked = shop.wants(500, deadline_at=shop.clock.now() + timedelta(seconds=20))
        paid = await pay.create(shop.desk, asked)
        await shop.rest()
        lines = await shop.book.journal(paid.id)
        first = next(i for i, line in enumerate(lines) if line.facts.get("said") == "not_found")
        again = next(line for line in lines[first:] if line.event == "send")
        assert again.at - lines[first].at <= timedelta(seconds=1)
        assert await states(shop, paid) == ["north canceled"]

    play(scene, north)


def test_a_rail_that_knows_of_nothing_is_not_asked_in_haste_when_asking_is_all_there_is() -> None:
    north = one_step("north", SILENT, *[Answer(Said.NOT_FOUND)] * 500, fence=FenceClass.F0)

    async def scene(shop: Shop) -> None:
        await pay.create(shop.desk, shop.wants(500, deadline_at=shop.clock.now() + timedelta(seconds=20)))
        end = shop.clock.monotonic_s() + 3_600
        while shop.clock.monotonic_s() < end:
            await reconcile.resolve_due(shop.desk)
            await shop.clock.sleep(1)
        assert len(north.asked) < 40

    play(scene, north)


def test_a_charge_reported_while_its_payment_is_at_work_is_not_called_unwanted() -> None:
    north = one_step("north")

    async def scene(shop: Shop) -> None:
        arrived, go_on = asyncio.Event(), asyncio.Event()
        honest = north.send

        async def slowly(order: Order) -> Answer:
            arrived.set()
            await go_on.wait()
            return await honest(order)

        north.send = slowly  # type: ignore[method-assign]
        task = asyncio.ensure_future(pay.create(shop.desk, shop.wants(500)))
        await arrived.wait()
        payment = (await shop.book.listing(shop.merchant))[0]
        attempt = (await shop.book.attempts(payment.id))[0]
        event = RailEvent(
            "e1", "north", attempt.reference, None, Said.CAPTURED, Money(CNY, 500), shop.clock.now()
        )
        await reconcile.on_rail_event(shop.desk, "north", event)
        go_on.set()
        assert (await task).state is P.SUCCEEDED
        words = " ".join(line.words for line in await shop.book.journal(payment.id))
        assert "until it is clear whether it is kept" in words
        assert "not kept" not in words

    play(scene, north)


def test_a_payment_explains_itself_in_sentences() -> None:
    north, south = Scripted("north", SILENT), Scripted("south")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500))
        told = explain(paid, await shop.book.attempts(paid.id), await shop.book.journal(paid.id))
        assert any("North has not answered: it may have happened" in line for line in told)
        assert told[-1].startswith("It succeeded: 5.00 CNY asked, charged once.")
        assert all(line.endswith(".") for line in told)

    play(scene, north, south)


def test_the_merchants_rules_decide_which_methods_and_which_rail_first() -> None:
    north, south = Scripted("north"), Scripted("south")

    async def scene(shop: Shop) -> None:
        paid = await pay.create(shop.desk, shop.wants(500, shop.balance, shop.card, rail_order=("south",)))
        assert await states(shop, paid) == ["south captured"]
        with pytest.raises(NoWayToPay):
            await pay.create(shop.desk, shop.wants(500, shop.card, allowed_kinds=("bank",)))

    play(scene, north, south)


def test_what_makes_no_sense_is_refused_and_moves_nothing() -> None:
    async def scene(shop: Shop) -> None:
        now = shop.clock.now()
        for asked in (
            shop.wants(0),
            shop.wants(-5),
            shop.wants(5, shop.card, shop.card),
            shop.wants(5, deadline_at=now - timedelta(seconds=1)),
            shop.wants(5, funding="absorb", capture="manual"),
        ):
            with pytest.raises(PaymentInvalid):
                await pay.create(shop.desk, asked)
        with pytest.raises(PaymentNotFound):
            await pay.capture(shop.desk, PaymentId(shop.ids.new()))
        with pytest.raises(PaymentInvalid):
            await transfer(shop.desk, "a", "a", Money(CNY, 5))
        assert shop.merchant_holds() == 0
        assert not shop.announced()

    play(scene, Scripted("north"))


def test_users_can_pay_each_other_but_not_more_than_they_have() -> None:
    async def scene(shop: Shop) -> None:
        friend = chart.payer(PayerId(shop.ids.new()), "CNY")
        await shop.ledger.open_accounts([friend])
        own, id_ = chart.payer(shop.payer, "CNY").code, TransferId(shop.ids.new())
        for _ in range(2):
            assert (await transfer(shop.desk, own, friend.code, Money(CNY, 700), id=id_)).amount_minor == 700
        assert shop.holds(friend.code) == 700
        with pytest.raises(TransferRefused):
            await transfer(shop.desk, own, friend.code, Money(CNY, 100_000))

    play(scene)
