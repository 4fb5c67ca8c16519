"""Fixtures of the API's tests: one server process per module, over a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from holdfast.platform.postgres import EmbeddedPostgres
from tests.api.world import Api, Server, Shop, running_server, shop_now

_numbers = count(1)


@pytest.fixture(scope="module")
def module_dsn(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """A database for the tests of one module."""
    name = f"api_{next(_numbers)}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}")
    yield postgres.dsn(name)
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def server(module_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server process."""
    folder: Path = tmp_path_factory.mktemp("server")
    with running_server(module_dsn, folder) as running:
        yield running


@pytest.fixture
def shop(server: Server) -> Shop:
    """A merchant with a key and a payer with 10,000 yuan."""
    return shop_now(server.dsn)


@pytest.fixture
def api(server: Server, shop: Shop) -> Iterator[Api]:
    """A client that speaks as the shop."""
    client = Api(server.url, shop.key)
    yield client
    client.close()
