"""Rule 9: the provider's own file is compared with what is known here, and has the last word."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner

from holdfast.adapters.rails.wire import SettlementFileInvalid
from holdfast.base.clock import SystemClock
from holdfast.base.ids import InstrumentId, MerchantId
from holdfast.base.money import Money, asset
from holdfast.boot import App, open_app
from holdfast.cli import root
from holdfast.domains.payments.model import Method, NewPayment, Payment, PaymentState
from holdfast.domains.payments.ports import Op, Order
from holdfast.flows import pay, settlement_files
from holdfast.platform import config
from tests.support.sandbox import Sandbox, running_sandbox

CNY = asset("CNY")
CARD = Method(InstrumentId(UUID(int=7)), "card", "Visa", "pm_card_visa")


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path / "sandbox") as running:
        yield running


@pytest.fixture
async def app(dsn: str, sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[App]:
    environment = {
        "HOLDFAST_DSN": dsn,
        "HOLDFAST_DATA_DIR": str(tmp_path),
        "HOLDFAST_SANDBOX_PORT": str(sandbox.port),
    }
    opened = await open_app(config.load(environment))
    yield opened
    await opened.close()


async def paid(app: App) -> Payment:
    return await pay.create(app.desk, NewPayment(MerchantId(UUID(int=5)), None, Money(CNY, 26_800), (CARD,)))


async def test_a_file_that_says_what_we_know_changes_nothing(app: App) -> None:
    payment = await paid(app)
    assert payment.state is PaymentState.SUCCEEDED
    rail = (await app.book.attempts(payment.id))[-1].rail
    found = await settlement_files.settle_rail(app.desk, rail)
    assert (found.agreed, found.corrected, found.strays, found.missing) == (1, (), (), ())


async def test_a_charge_that_nobody_here_knows_is_a_stray(app: App) -> None:
    order = Order(
        Op.AUTHORIZE,
        "att_nobody_knows",
        "key-1",
        Money(CNY, 990),
        "pm_card_visa",
        SystemClock().now().replace(year=2100),
    )
    north = app.rails["north"]
    held = await north.send(order)
    await north.send(
        Order(
            Op.CAPTURE, order.reference, "key-2", order.amount, order.token, order.deadline_at, held.remote_id
        )
    )
    found = await settlement_files.settle_rail(app.desk, "north")
    assert [(s.reference, s.kind, s.amount.amount_minor) for s in found.strays] == [
        ("att_nobody_knows", "charge", 990)
    ]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("", "HOLDFAST_SANDBOX_PORT or HOLDFAST_SANDBOX_URL"),
        (
            '[[rails]]\nname = "north"\nkind = "stripe"\nbase_url = "http://127.0.0.1:1/north"\n'
            'secret_key = "sk_test_north"\nwebhook_secret = "whsec_sandbox_north"\n',
            "change base_url in its [[rails]] table",
        ),
    ],
)
def test_a_rail_that_cannot_be_reached_is_told_with_the_setting_that_says_where_it_is(
    dsn: str, tmp_path: Path, table: str, says: str
) -> None:
    file = tmp_path / "holdfast.toml"
    file.write_text(table)
    environment = {"HOLDFAST_DSN": dsn, "HOLDFAST_CONFIG": str(file), "HOLDFAST_SANDBOX_PORT": "1"}
    result = CliRunner(env=environment).invoke(root, ["settle", "north"])
    assert isinstance(result.exception, SettlementFileInvalid), result.exception
    assert says in result.exception.message


async def test_every_rail_with_a_file_is_compared_each_day(app: App) -> None:
    assert set(settlement_files.sources(app.desk)) == {"north", "south", "harbour"}
