"""A sandbox process for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from holdfast.sandbox.engine import Engine
from holdfast.sandbox.model import DEFAULT_INSTANCES
from holdfast.sandbox.store import Store
from tests.support.sandbox import Sandbox, running_sandbox


@pytest.fixture(scope="session")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), "--settle-ms", "150") as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(sandbox_process: Sandbox) -> Sandbox:
    """A sandbox that remembers nothing of other tests."""
    for name in ("north", "south", "harbour"):
        sandbox_process.hooks(name)
    sandbox_process.reset(seed=7)
    return sandbox_process


@dataclass
class Receiver:
    """A server that takes webhooks. `refuse` counts how many of the next ones it answers with 500."""

    url: str = ""
    refuse: int = 0
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    state = Receiver()

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if state.refuse:
            state.refuse -= 1
            return web.Response(status=500)
        state.taken.append((dict(request.headers), body))
        return web.Response()

    app = web.Application()
    app.router.add_post("/hooks", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    state.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    yield state
    await runner.cleanup()


@dataclass
class Now:
    """A clock that stands still until it is moved."""

    ms: int = 1_767_225_600_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def make_engine(tmp_path: Path, now: Now) -> Iterator[Callable[..., Engine]]:
    """Make engines without a process, each with a file of its own."""
    stores: list[Store] = []

    def make(seed: int = 7) -> Engine:
        store = Store(tmp_path / f"{len(stores)}.sqlite3")
        stores.append(store)
        return Engine(store, DEFAULT_INSTANCES, seed=seed, now_ms=now)

    yield make
    for store in stores:
        store.close()
