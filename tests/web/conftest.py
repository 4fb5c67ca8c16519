"""The whole shop as it really runs: PostgreSQL, sandbox, server, worker, each a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, ViewportSize

from holdfast.platform.postgres import EmbeddedPostgres
from tests.support.browser import running_browser
from tests.support.running import Program, free_port, running
from tests.support.sandbox import Sandbox, running_sandbox
from tests.support.waiting import until

PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}


@dataclass
class Shop:
    """A running shop."""

    url: str
    sandbox: Sandbox
    environment: dict[str, str]
    folder: Path
    server: Program


def load_demo(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `holdfast demo`."""
    return subprocess.run(
        [sys.executable, "-c", "from holdfast.cli import main; main()", "demo"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def form_of(client: httpx.Client) -> dict[str, str]:
    """Return what the form on the first page would send."""
    page = client.get("/").text
    order = re.search(r'name="order" value="([^"]+)"', page)
    method = re.search(r'name="method" value="([^"]+)"', page)
    assert order
    assert method
    return {"order": order[1], "product": "tea", "method": method[1], "fallback": "yes"}


def settled(client: httpx.Client, path: str) -> str:
    """Reload the page of a payment, as its refresh would, until it is settled; return it."""

    def done() -> str | None:
        page = client.get(path).text
        return page if "data-settled" in page else None

    return str(until(done, f"{path} is settled"))


@pytest.fixture(scope="session")
def shop(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A shop with demonstration data."""
    folder = tmp_path_factory.mktemp("shop")
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"create database shop template {template}")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running_sandbox(folder / "sandbox", webhooks=f"{url}/v1/rails/{{instance}}/webhook") as sandbox:
        environment = {
            "HOLDFAST_DSN": postgres.dsn("shop"),
            "HOLDFAST_DATA_DIR": str(folder),
            "HOLDFAST_PORT": str(port),
            "HOLDFAST_SANDBOX_PORT": str(sandbox.port),
        }
        loaded = load_demo(environment)
        assert loaded.returncode == 0, loaded.stderr
        with (
            running("serve", folder, environment, ready=f"{url}/readyz") as server,
            running("worker", folder, environment),
        ):
            yield Shop(url, sandbox, environment, folder, server)


@pytest.fixture
def mended(shop: Shop) -> Iterator[Shop]:
    """The shop with every provider healthy, before and after."""
    shop.sandbox.mend()
    yield shop
    shop.sandbox.mend()


@pytest.fixture
def trusting(mended: Shop) -> Shop:
    """The shop with every provider healthy and North trusted again, whatever earlier tests did to it.

    Its breaker may be open; payments go on until North keeps two in a row, so that its calls without an
    answer are the fewer.
    """
    kept = 0
    with httpx.Client(base_url=mended.url, timeout=10, headers={"accept-language": "en"}) as client:

        def north_keeps_two() -> bool:
            nonlocal kept
            path = client.post("/checkout", data=form_of(client)).headers["location"]
            kept = kept + 1 if "One charge is kept, at North" in settled(client, path) else 0
            return kept == 2

        until(north_keeps_two, "North is tried first again", within_s=60, every_s=0.5)
    return mended


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file: while it runs, no asynchronous test can."""
    with running_browser() as opened:
        yield opened


@pytest.fixture
def phone(browser: Browser) -> Iterator[BrowserContext]:
    """A phone that speaks English."""
    context = browser.new_context(viewport=PHONE, locale="en-US")
    context.set_default_timeout(10_000)
    yield context
    context.close()
