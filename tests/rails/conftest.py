"""Rails against a real sandbox process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop

from holdfast.adapters.rails.bank import BankRail
from holdfast.adapters.rails.stripe import StripeRail
from holdfast.adapters.rails.wire import RailSettings
from holdfast.base.clock import SystemClock
from holdfast.base.money import Money, asset
from holdfast.base.secret import Secret
from holdfast.domains.payments.ports import Op, Order
from holdfast.platform.http import HttpClient
from tests.support.sandbox import Sandbox, running_sandbox


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What the outbound client promises holds on both loops that processes run on."""
    plain: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    return plain | {"uvloop": uvloop.new_event_loop} if item.path.name == "test_http.py" else plain


@pytest.fixture(scope="session")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(
        tmp_path_factory.mktemp("sandbox"), "--settle-ms", "150", "--door", "north=0", "--door", "harbour=0"
    ) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(sandbox_process: Sandbox) -> Sandbox:
    """A sandbox that remembers nothing of other tests."""
    sandbox_process.reset(seed=7)
    return sandbox_process


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient(allow_private=True)
    yield client
    await client.close()


def settings(name: str, base_url: str, **more: Any) -> RailSettings:
    return RailSettings(name, base_url, Secret(f"sk_test_{name}"), Secret(f"whsec_sandbox_{name}"), **more)


@pytest.fixture
def north(sandbox: Sandbox, http: HttpClient) -> StripeRail:
    return StripeRail(settings("north", sandbox.at("north"), timeout_s=10.0), http, SystemClock())


@pytest.fixture
def harbour(sandbox: Sandbox, http: HttpClient) -> BankRail:
    return BankRail(settings("harbour", sandbox.at("harbour"), timeout_s=10.0), http, SystemClock())


def order(
    op: Op, reference: str, *, amount: int = 1_000, token: str = "", timeout_s: float = 5.0, **more: Any
) -> Order:
    """An order as flows make them: one key for each operation and payload."""
    return Order(
        op,
        reference,
        more.pop("key", f"{reference}-{op}-{amount}"),
        Money(asset(more.pop("currency", "USD")), amount),
        token or "pm_card_visa",
        datetime.now(UTC) + timedelta(seconds=timeout_s),
        **more,
    )
