"""The shop's checkout: a form that opens a payment, and the page that follows it to its end.

The form is answered at once: the payment is opened durably, then carried out beside the request, and its
page follows it. When this process dies in between, a payment that was under way is finished by a worker;
one that was only opened has charged nothing, and its page offers to go on. The form carries the number of
its order, which is the idempotency key: sent twice, it pays once. While a payment is in doubt, its page
offers the payer's other ways (`instead.py`). Only payments of the demonstration shop are shown here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from litestar import Response, get, post
from litestar.response import Redirect, ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from holdfast.base.errors import HoldfastError, Refused, Unavailable
from holdfast.base.ids import PaymentId, parse, public
from holdfast.base.limits import CHECKOUTS_UNDER_WAY_MAX, PAGE_STREAMS_MAX
from holdfast.boot import App
from holdfast.domains.instruments import Instrument
from holdfast.domains.payments.errors import KeyClaimed, PaymentNotFound
from holdfast.domains.payments.model import Attempt, JournalEntry, Method, NewPayment, Payment, PaymentState
from holdfast.flows import demo, pay
from holdfast.platform import idempotency
from holdfast.platform.log import logger
from holdfast.web import instead, live, render, shop, trouble, view
from holdfast.web.context import Call, app_of, language_of, own_form, remember
from holdfast.web.explained import Line, explained
from holdfast.web.locale import Language

REFRESH_S: Final = 2
"""How often the page of an unsettled payment reloads itself where there is no script."""

CALLED_OFF_WITHIN_S: Final = 5.0
"""How long a form waits until a payment is durably marked as cancelled."""

CALLED_OFF_POLL_S: Final = 0.05

_log: Final = logger(__name__)


class FormInvalid(Refused):
    """The checkout form is not complete."""

    code = "form_invalid"


class TooManyCheckouts(Unavailable):
    """The shop is busy. Nothing has been charged; try again in a moment."""

    code = "too_many_checkouts"


class TooManyStreams(Unavailable):
    """Too many pages are following payments right now; this one asks every few seconds instead."""

    code = "too_many_streams"


@dataclass(slots=True)
class UnderWay:
    """What this process carries out beside requests."""

    payments: dict[PaymentId, asyncio.Task[None]] = field(default_factory=dict)
    undoing: dict[PaymentId, asyncio.Task[None]] = field(default_factory=dict)
    streams: int = 0

    def carry_out(self, app: App, payment: PaymentId) -> None:
        """Begin to carry out a payment unless that is under way here already. Raises: `TooManyCheckouts`."""
        self._begin(self.payments, payment, lambda: pay.confirm(app.desk, payment))

    def call_off(self, app: App, payment: PaymentId) -> None:
        """Begin to cancel a payment unless that is under way here already. Raises: `TooManyCheckouts`."""
        self._begin(self.undoing, payment, lambda: pay.cancel(app.desk, payment))

    def _begin(
        self,
        tasks: dict[PaymentId, asyncio.Task[None]],
        payment: PaymentId,
        act: Callable[[], Awaitable[Payment]],
    ) -> None:
        if payment in tasks:
            return
        if len(tasks) >= CHECKOUTS_UNDER_WAY_MAX:
            raise TooManyCheckouts
        task = asyncio.create_task(_carry_out(payment, act), name=f"checkout {payment}")
        tasks[payment] = task
        task.add_done_callback(lambda _: tasks.pop(payment, None))


def under_way(request: Call) -> UnderWay:
    """Return what this process carries out beside requests."""
    state = request.app.state
    if "under_way" not in state:
        state["under_way"] = UnderWay()
    kept: UnderWay = state["under_way"]
    return kept


async def _carry_out(payment: PaymentId, act: Callable[[], Awaitable[Payment]]) -> None:
    try:
        await act()
    except HoldfastError as error:
        # The page shows how the payment stands, and a worker goes on with it: there is nobody to tell here.
        _log.info("checkout not carried out", payment=public("pay", payment), code=error.code)


@post("/checkout", guards=[own_form])
async def begin(request: Call) -> Redirect:
    """Open the payment that the form asks for, begin to carry it out, and show its page.

    Raises: `FormInvalid`, `TooManyCheckouts`, and what opening a payment raises.
    """
    app = app_of(request)
    payment = await _open(app, dict(await request.form()))
    under_way(request).carry_out(app, payment)
    return Redirect(f"/checkout/{public('pay', payment)}", status_code=303)


async def _open(app: App, form: dict[str, Any]) -> PaymentId:
    order, product = str(form.get("order", "")), shop.PRODUCTS.get(str(form.get("product", "")))
    wallet = await app.instruments.wallet(demo.PAYER)
    chosen = next((one for one in wallet.instruments if public("ins", one.id) == form.get("method")), None)
    if product is None or chosen is None:
        raise FormInvalid
    key = public("ord", parse("ord", order))
    others = [one for one in wallet.instruments if one is not chosen] if form.get("fallback") == "yes" else []
    asked = NewPayment(
        merchant_id=demo.MERCHANT,
        payer_id=demo.PAYER,
        amount=product.price,
        methods=tuple(_method(one) for one in (chosen, *others)),
        reference=key,
        description=product.name,
        rail_order=_rail_order(app, chosen),
        live=False,
    )
    content = f"{product.id} {chosen.id} {len(others)}".encode()
    fingerprint = idempotency.fingerprint("checkout", content)
    id_ = PaymentId(app.ids.new())
    claim = idempotency.claim(demo.CHECKOUT_CALLER, key, fingerprint, public("pay", id_), app.clock.now())
    try:
        opened = await pay.create(app.desk, asked, confirm=False, claim=claim, id=id_)
    except KeyClaimed:
        return await _earlier(app, key)
    return opened.id


async def _earlier(app: App, key: str) -> PaymentId:
    """Return the payment that this order opened before. Raises: `Unavailable`."""
    found = await idempotency.find(app.database, demo.CHECKOUT_CALLER, key)
    if found is None:
        raise TooManyCheckouts
    return PaymentId(parse("pay", found.subject))


def _rail_order(app: App, chosen: Instrument) -> tuple[str, ...]:
    """Return the shop's order of rails, those before all others that serve what the payer chose."""
    serving = {name for name, traits in app.desk.traits.items() if chosen.kind.value in traits.methods}
    return tuple(sorted(demo.RAIL_ORDER, key=lambda rail: rail not in serving))


def _method(instrument: Instrument) -> Method:
    return Method(instrument.id, instrument.kind.value, instrument.label, instrument.token)


@post("/checkout/{payment_id:str}/confirm", guards=[own_form])
async def go_on(request: Call, payment_id: str) -> Redirect:
    """Carry out a payment that was opened and then left. Raises: `PaymentNotFound`, `TooManyCheckouts`."""
    app = app_of(request)
    payment = await _find(app, payment_id)
    if payment.state is PaymentState.REQUIRES_CONFIRMATION:
        under_way(request).carry_out(app, payment.id)
    return Redirect(f"/checkout/{payment_id}", status_code=303)


@post("/checkout/{payment_id:str}/instead", guards=[own_form])
async def pay_otherwise(request: Call, payment_id: str) -> Redirect:
    """Cancel a payment in doubt and open one with another method, once; show that one.

    A payment that is over is left as it is and shown. Raises: `PaymentNotFound`, `FormInvalid`,
    `TooManyCheckouts` (nothing was opened).
    """
    app = app_of(request)
    first = await _find(app, payment_id)
    opened = await instead.successor(app, first.id)
    if opened is None:
        wanted = (await request.form()).get("method")
        others = await app.untried(first, await app.book.attempts(first.id))
        chosen = next((one for one in others if public("ins", one.id) == wanted), None)
        if chosen is None:
            raise FormInvalid
        if not await _called_off(app, under_way(request), first.id):
            return Redirect(f"/checkout/{payment_id}", status_code=303)
        opened = await instead.open_successor(app, first, chosen)
    under_way(request).carry_out(app, opened)
    return Redirect(f"/checkout/{public('pay', opened)}", status_code=303)


async def _called_off(app: App, tasks: UnderWay, id_: PaymentId) -> bool:
    """Return True once a payment is durably marked as cancelled; False when it ended another way.

    What it takes to undo it goes on beside. Raises: `TooManyCheckouts`, `PaymentNotFound`.
    """
    until_s = app.clock.monotonic_s() + CALLED_OFF_WITHIN_S
    while app.clock.monotonic_s() < until_s:
        payment = await app.book.payment(id_)
        if payment is None:
            raise PaymentNotFound
        if payment.state is PaymentState.CANCELED or (payment.cancel_asked and not payment.final):
            return True
        if payment.final:
            return False
        tasks.call_off(app, id_)
        await app.clock.sleep(CALLED_OFF_POLL_S)
    raise TooManyCheckouts


async def _find(app: App, payment_id: str) -> Payment:
    payment = await app.book.payment(PaymentId(parse("pay", payment_id)))
    if payment is None or payment.asked.merchant_id != demo.MERCHANT:
        raise PaymentNotFound
    return payment


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that the page of a payment shows."""

    payment: Payment
    story: view.Story
    books: trouble.Books | None
    explained: tuple[Line, ...]
    needs_confirmation: bool
    around: instead.Around

    def values(self) -> dict[str, Any]:
        """Return what the templates are filled with."""
        return {
            "story": self.story,
            "books": self.books,
            "explained": self.explained,
            "needs_confirmation": self.needs_confirmation,
            "around": self.around,
            "begun_at": self.payment.created_at,
            "amount": self.payment.asked.amount,
            "description": self.payment.asked.description,
            "shop_name": demo.SHOP_NAME,
        }


@dataclass(frozen=True, slots=True)
class Read:
    """What the database and the providers' books say of a payment, at one version of it."""

    payment: Payment
    attempts: list[Attempt]
    journal: tuple[JournalEntry, ...]
    books: trouble.Books | None


class Teller:
    """Tells one payment's story again and again; reads it anew only when its version has risen."""

    def __init__(
        self, app: App, payment: PaymentId, language: Language, tasks: UnderWay, control: trouble.Sandbox
    ) -> None:
        self._app = app
        self._payment = payment
        self._language = language
        self._tasks = tasks
        self._control = control
        self._version = -1
        self._last: Read | None = None

    async def version(self) -> int:
        """Return the payment's version. Raises: `PaymentNotFound`."""
        payment = await self._app.book.payment(self._payment)
        if payment is None:
            raise PaymentNotFound
        self._version = payment.version
        return payment.version

    async def _read(self) -> Read:
        last = self._last
        if last is not None and last.payment.version >= self._version:
            return last
        case = await self._app.book.case(self._payment)
        if case is None:
            raise PaymentNotFound
        journal = await self._app.book.journal(self._payment)
        books = (
            await trouble.books(self._control, case.attempts, self._language) if case.payment.final else None
        )
        self._last = Read(case.payment, case.attempts, journal, books)
        return self._last

    async def show(self) -> Shown:
        """Return everything that there is to show. Raises: `PaymentNotFound`."""
        read = await self._read()
        payment, language = read.payment, self._language
        return Shown(
            payment,
            view.story(
                public("pay", payment.id),
                payment,
                read.attempts,
                read.journal,
                now=self._app.clock.now(),
                language=language,
            ),
            read.books,
            explained(payment, read.attempts, read.journal, language),
            payment.state is PaymentState.REQUIRES_CONFIRMATION and payment.id not in self._tasks.payments,
            await instead.around(self._app, payment, read.attempts, language),
        )

    async def told(self) -> live.Told:
        """Return the story as a message to send."""
        shown = await self.show()
        html = render.text("story.html", self._language, **shown.values())
        return live.Told(shown.story.position, html, shown.story.settled)


@asynccontextmanager
async def teller(request: Call, payment: PaymentId) -> AsyncIterator[Teller]:
    """Open what telling a payment's story takes."""
    app = app_of(request)
    async with trouble.sandbox(app.config.sandbox_base_url) as control:
        yield Teller(app, payment, language_of(request), under_way(request), control)


@get("/checkout/{payment_id:str}")
async def page(request: Call, payment_id: str) -> Response[Any]:
    """Show a payment as it stands. Raises: `PaymentNotFound`."""
    language = language_of(request)
    payment = await _find(app_of(request), payment_id)
    async with (
        teller(request, payment.id) as tells,
        trouble.sandbox(app_of(request).config.sandbox_base_url) as control,
    ):
        shown = await tells.show()
        panel = await trouble.panel(control, request.url.path, language)
    answer = render.page("payment.html", language, panel=panel, refresh_s=REFRESH_S, **shown.values())
    return remember(answer, request, language)


@get("/checkout/{payment_id:str}/story")
async def story(request: Call, payment_id: str) -> Response[Any]:
    """Return the story alone, for pages that ask every few seconds. Raises: `PaymentNotFound`."""
    payment = await _find(app_of(request), payment_id)
    async with teller(request, payment.id) as tells:
        shown = await tells.show()
    answer = render.page("story.html", language_of(request), **shown.values())
    answer.headers["X-Settled"] = "yes" if shown.story.settled else "no"
    return answer


@get("/checkout/{payment_id:str}/events")
async def events(request: Call, payment_id: str) -> ServerSentEvent:
    """Follow a payment by server-sent events. Raises: `PaymentNotFound`, `TooManyStreams`."""
    payment = await _find(app_of(request), payment_id)
    tasks = under_way(request)
    if tasks.streams >= PAGE_STREAMS_MAX:
        raise TooManyStreams

    async def stream() -> AsyncIterator[ServerSentEventMessage]:
        tasks.streams += 1
        try:
            async with teller(request, payment.id) as tells:
                seen = request.headers.get("last-event-id")
                async for message in live.follow(
                    tells.version, tells.told, clock=app_of(request).clock, last_seen=seen
                ):
                    yield message
        finally:
            tasks.streams -= 1

    return ServerSentEvent(stream(), headers={"Cache-Control": "no-store"})
