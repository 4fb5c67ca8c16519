"""The first page: the demonstration shop with its panel, or a plain page where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar import Response, get

from holdfast.base.ids import public
from holdfast.base.money import Money
from holdfast.boot import App
from holdfast.domains.instruments import Instrument, Kind, PayerNotFound
from holdfast.flows import chart, demo
from holdfast.web import render, shop, trouble
from holdfast.web.context import Call, app_of, language_of, remember
from holdfast.web.locale import N_, Language
from holdfast.web.words import METHOD_KINDS


@dataclass(frozen=True, slots=True)
class Way:
    """A way of paying that the form offers."""

    id: str
    label: str
    detail: str


@get("/")
async def home(request: Call) -> Response[Any]:
    """Show the shop."""
    app, language = app_of(request), language_of(request)
    try:
        ways = await _ways(app, language)
    except PayerNotFound:
        return remember(
            _bare(language, N_("There is no demonstration data here. `holdfast demo` loads it.")),
            request,
            language,
        )
    async with trouble.sandbox(app.config.sandbox_base_url) as control:
        panel = await trouble.panel(control, "/", language)
    answer = render.page(
        "home.html",
        language,
        shop_name=demo.SHOP_NAME,
        order=public("ord", app.ids.new()),
        products=list(shop.PRODUCTS.values()),
        methods=ways,
        panel=panel,
    )
    return remember(answer, request, language)


async def _ways(app: App, language: Language) -> list[Way]:
    wallet = await app.instruments.wallet(demo.PAYER)
    number = chart.payer(demo.PAYER, shop.ASSET.code).number
    balance = (await app.ledger.balances([number])).get(number)
    has = Money(shop.ASSET, 0 if balance is None else balance.spendable_minor)
    return [Way(public("ins", one.id), one.label, _detail(one, has, language)) for one in wallet.instruments]


def _detail(instrument: Instrument, has: Money, language: Language) -> str:
    return (
        language.money(has)
        if instrument.kind is Kind.BALANCE
        else language.say(METHOD_KINDS[instrument.kind.value])
    )


@get("/")
async def landing(request: Call) -> Response[Any]:
    """Say what this is, where there is no shop: in production."""
    language = language_of(request)
    return remember(
        _bare(language, N_("A wallet that goes on paying when things break. Merchants use the API.")),
        request,
        language,
    )


def _bare(language: Language, line: str) -> Response[str]:
    links = [
        ("/docs", language.say(N_("Description of the API"))),
        ("/healthz", language.say(N_("Health of this server"))),
    ]
    return render.page("plain.html", language, title="Holdfast", lines=[language.say(line)], links=links)
