"""`holdfast merchant`: from no merchant at all to a key that works, and back to one that does not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from holdfast.base.limits import API_KEY_KEEP_S
from holdfast.cli.merchant import ROLES
from holdfast.domains.merchants import Role
from holdfast.platform import migrate
from holdfast.platform.postgres import EmbeddedPostgres
from tests.api.world import Api, running_server
from tests.support.waiting import until

KEY = re.compile(r"[srp]k_(test|live)_[A-Za-z0-9_-]{43}")
NOBODY = "0" * 26


class Cli:
    """`holdfast merchant` as a process over one database."""

    def __init__(self, dsn: str) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
        self.environment = clean | {"HOLDFAST_DSN": dsn, "HOME": "/nonexistent"}

    def run(self, *arguments: str | bytes, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "holdfast", "merchant", *arguments],
            env=self.environment | settings, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def says(self, *arguments: str, **settings: str) -> str:
        """Return what it printed; it must have worked."""
        done = self.run(*arguments, **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.says(*arguments, "--json"))

    def refuses(self, *arguments: str | bytes) -> str:
        """Return the one line by which it refused."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
        return done.stderr


@pytest.fixture
def cli(dsn: str) -> Cli:
    return Cli(dsn)


def everything(dsn: str) -> list[Any]:
    """Return every row of the domain."""
    with psycopg.connect(dsn) as connection:
        merchants = connection.execute("select m::text from merchants.merchants m order by id").fetchall()
        return [
            merchants,
            connection.execute("select k::text from merchants.keys k order by digest").fetchall(),
        ]


def test_from_nobody_to_a_key_that_works_to_a_revoked_one(dsn: str, cli: Cli, tmp_path: Path) -> None:
    made = cli.json("add", "Harbour Café")
    assert (made["name"], made["live"]) == ("Harbour Café", False)
    assert made["rules"] == {"rails": [], "kinds": [], "capture": "automatic"}

    issued = cli.run("key", made["id"])
    key = issued.stdout.strip()
    assert issued.stdout == key + "\n", "standard output holds the key alone"
    assert KEY.fullmatch(key)
    assert key.startswith("sk_test_")
    assert "shown this once" in issued.stderr
    assert key not in issued.stderr

    listed, shown = cli.json("keys", made["id"])["data"], cli.says("keys", made["id"])
    assert [(one["role"], one["revoked_at"]) for one in listed] == [("full", None)]
    assert "in force" in shown
    for told in (shown, json.dumps(listed), cli.says("list"), str(everything(dsn))):
        assert key[8:-4] not in told

    with running_server(dsn, tmp_path) as server:
        api = Api(server.url, key)
        payer = api.post("/v1/payers", {"name": "Pei"})
        assert (payer.status_code, payer.json()["live"]) == (201, False)
        amount = {"asset": "CNY", "amount_minor": 100}
        wanted = {"payer": payer.json()["id"], "amount": amount}
        assert api.post("/v1/payments", wanted).json()["code"] == "payment_failed", "an empty balance"

        cli.says("rules", made["id"], "--kinds", "card")
        until(
            lambda: api.post("/v1/payments", wanted).json()["code"] == "no_way_to_pay",
            "the running server follows the new rules", within_s=API_KEY_KEEP_S + 2.0, every_s=0.2,
        )  # fmt: skip

        assert "opens nothing after 5 s" in cli.says("revoke", listed[0]["id"])
        revoked = time.monotonic()
        until(lambda: api.get("/v1/payers").status_code == 401, "401", within_s=API_KEY_KEEP_S + 1.0)
        assert time.monotonic() - revoked < API_KEY_KEEP_S + 1.0
        api.close()
        assert key[8:] not in server.log.read_text()
    assert " revoked 20" in cli.says("keys", made["id"])


def test_v5_0_0_8_2_1_each_role_is_issued_with_its_own_rights(dsn: str, cli: Cli, tmp_path: Path) -> None:
    merchant = cli.json("add", "Shop")["id"]
    keys = {role: cli.json("key", merchant, "--role", role) for role in ROLES}
    assert {role: made["key"][:8] for role, made in keys.items()} == {
        "full": "sk_test_", "read_only": "rk_test_", "publishable": "pk_test_",
    }  # fmt: skip
    with running_server(dsn, tmp_path) as server:
        found = {}
        for role, made in keys.items():
            api = Api(server.url, made["key"])
            answers = api.post("/v1/payers", {"name": "Pei"}), api.get("/v1/payers"), api.get("/v1/rails")
            found[role] = tuple(answer.status_code for answer in answers)
            api.close()
    assert found == {"full": (201, 200, 200), "read_only": (403, 200, 200), "publishable": (403, 403, 200)}


def test_the_roles_that_can_be_asked_for_are_those_that_there_are() -> None:
    assert list(ROLES) == [role.value for role in Role]


def test_a_business_has_one_merchant_in_each_mode_and_no_second(dsn: str, cli: Cli) -> None:
    said = cli.says("add", "Quay & Sons")
    business = re.findall(r"biz_\w{26}", said)[0]
    assert f"holdfast merchant add 'Quay & Sons' --live --business {business}" in said
    live = cli.json("add", "Quay & Sons", "--live", "--business", business)
    assert (live["live"], live["business"]) == (True, business)
    assert cli.json("key", live["id"])["key"].startswith("sk_live_")
    before = everything(dsn)
    assert f"live merchant already, {live['id']}" in cli.refuses("add", "Q", "--live", "--business", business)
    assert "test merchant already" in cli.refuses("add", "Q", "--business", business)
    assert everything(dsn) == before


def test_a_merchant_is_told_of_rails_of_its_own_mode_only(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "holdfast.toml"
    config.write_text(
        '[[rails]]\nname = "acme"\nkind = "stripe"\nbase_url = "https://api.example.com"\n'
        'secret_key = "sk_live_0123456789"\nwebhook_secret = "whsec_0123456789"\n'
    )
    real = {"HOLDFAST_MODE": "production", "HOLDFAST_CONFIG": str(config)}
    live, test = cli.run("add", "Shop", "--live", **real), cli.run("add", "Shop", **real)
    assert (test.returncode, live.returncode, live.stderr) == (0, 0, "")
    assert "No provider in this configuration serves test merchants" in test.stderr
    live_id, test_id = (re.findall(r"mer_\w{26}", one.stdout)[0] for one in (live, test))
    cli.says("rules", live_id, "--rails", "acme", **real)
    for merchant, rail, says in (
        (live_id, "north", "There is no rail 'north' for live merchants"),
        (test_id, "acme", "Rail acme does not serve test merchants"),
    ):
        refused = cli.run("rules", merchant, "--rails", rail, **real)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert says in refused.stderr
    assert "acme (does not serve it here)" in cli.says("rules", live_id)


def test_merchants_are_listed_newest_first_a_page_at_a_time(cli: Cli) -> None:
    assert "holdfast merchant add NAME" in cli.run("list").stderr
    made = [cli.json("add", name)["id"] for name in ("One", "Two", "Three")]
    first = cli.json("list", "--limit", "2")
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (made[:0:-1], True)
    assert cli.says("list", "--limit", "2").splitlines()[-1] == f"More: --after {made[1]}"
    rest = cli.json("list", "--after", made[1])
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (made[:1], False)


def test_rules_that_are_given_change_and_the_others_stay(cli: Cli) -> None:
    merchant = cli.json("add", "Shop")["id"]
    assert "rails    as routing ranks them" in cli.says("rules", merchant)
    cli.says("rules", merchant, "--rails", "south, north", "--kinds", "card,bank", "--capture", "manual")
    cli.says("rules", merchant, "--kinds", "")
    said = cli.says("rules", merchant)
    assert "rails    south, north, then as routing ranks them" in said
    assert "kinds    all (balance, card, bank)" in said
    assert "capture  manual" in said
    cli.says("rules", merchant, "--rails", "")
    assert cli.json("rules", merchant)["rules"] == {"rails": [], "kinds": [], "capture": "manual"}


def test_a_key_that_was_revoked_already_stays_as_it_is(dsn: str, cli: Cli) -> None:
    key = cli.json("key", cli.json("add", "Shop")["id"])["id"]
    assert cli.json("revoke", key)["revoked_now"] is True
    before = everything(dsn)
    assert "was revoked already" in cli.says("revoke", key)
    assert everything(dsn) == before


REFUSALS: list[tuple[str, tuple[str | bytes, ...], str]] = [
    ("an empty name", ("add", " "), "has 1 to 120 characters"),
    ("a name that is too long", ("add", "x" * 121), "has 1 to 120 characters"),
    ("a name with a line break", ("add", "a\nb"), "no line breaks"),
    ("a name that is no text", ("add", b"a\xff"), "no control characters"),
    ("a business that nobody belongs to", ("add", "X", "--business", f"biz_{NOBODY}"), "No merchant here"),
    ("a business that is none", ("add", "X", "--business", "b"), "begins with biz_"),
    ("rules of an unknown merchant", ("rules", f"mer_{NOBODY}", "--capture", "manual"), "merchant list"),
    ("a key for an unknown merchant", ("key", f"mer_{NOBODY}"), "merchant list"),
    ("keys of an unknown merchant", ("keys", f"mer_{NOBODY}"), "merchant list"),
    ("a merchant by its name", ("keys", "Shop"), "begins with mer_"),
    ("an unknown rail", ("rules", "MERCHANT", "--rails", "north,est"), "do: north, south, harbour, book"),
    ("a rail that is named twice", ("rules", "MERCHANT", "--rails", "north,north"), "north is named twice"),
    ("an unknown kind", ("rules", "MERCHANT", "--kinds", "cash"), "there are balance, card, bank"),
    ("an unknown key", ("revoke", f"key_{NOBODY}"), "merchant keys MERCHANT"),
    ("a list behind an unknown merchant", ("list", "--after", f"mer_{NOBODY}"), "merchant list"),
]  # fmt: skip


@pytest.fixture(scope="module")
def settled(postgres: EmbeddedPostgres, template: str) -> Iterator[tuple[str, str]]:
    """One database with one merchant that has a key, for all refusals: none of them changes it."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"create database merchants_refused template {template}")
    dsn = postgres.dsn("merchants_refused")
    merchant = Cli(dsn).json("add", "Shop")["id"]
    Cli(dsn).json("key", merchant)
    yield dsn, merchant
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("drop database merchants_refused with (force)")


@pytest.mark.parametrize(
    ("arguments", "says"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_what_is_wrong_is_refused_with_the_remedy_and_nothing_changes(
    settled: tuple[str, str], arguments: tuple[str | bytes, ...], says: str
) -> None:
    dsn, merchant = settled
    before = everything(dsn)
    asked = [merchant if one == "MERCHANT" else one for one in arguments]
    assert says in Cli(dsn).refuses(*asked)
    assert everything(dsn) == before


def test_a_key_that_is_given_where_its_id_belongs_is_not_told_back(settled: tuple[str, str]) -> None:
    dsn, merchant = settled
    key = Cli(dsn).json("key", merchant)["key"]
    said = Cli(dsn).refuses("revoke", key)
    assert "Never write a key itself on a command line" in said
    assert key[8:] not in said


def test_an_unknown_role_is_wrong_usage(settled: tuple[str, str]) -> None:
    dsn, merchant = settled
    done = Cli(dsn).run("key", merchant, "--role", "boss")
    assert done.returncode == 2
    assert "'full', 'read_only', 'publishable'" in done.stderr


def test_a_schema_that_is_too_old_is_refused_with_the_remedy(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("create database merchants_bare")
    try:
        bare = Cli(postgres.dsn("merchants_bare"))
        for arguments in (("list",), ("add", "Shop"), ("key", f"mer_{NOBODY}")):
            assert "Run `holdfast migrate` first" in bare.refuses(*arguments)
    finally:
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute("drop database merchants_bare with (force)")


def test_the_embedded_database_of_a_data_folder_is_found() -> None:
    folder = Path(tempfile.mkdtemp(prefix="holdfast-merchants-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "postgres")
    cli = Cli("")
    try:
        assert f"none runs in {folder}" in cli.refuses("list", "--data", str(folder))
        server.start()
        migrate.apply(server.create_database(), migrate.shipped())
        made = cli.json("add", "Shop", "--data", str(folder))
        assert [one["id"] for one in cli.json("list", "--data", str(folder))["data"]] == [made["id"]]
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
