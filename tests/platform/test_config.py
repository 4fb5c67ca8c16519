"""Configuration: what is wrong is refused by name, place and remedy; what is right arrives the same."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from holdfast.base.secret import Secret
from holdfast.platform import config
from holdfast.platform.config import Config
from holdfast.platform.setting import ConfigInvalid

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
RAIL = """
[[rails]]
name = "acme"
kind = "stripe"
base_url = "https://api.acme.example"
secret_key = "sk_live_0123456789"
webhook_secret = "whsec_0123456789"
"""


@pytest.mark.parametrize(
    ("environment", "file", "says"),
    [
        ({"HOLDFAST_PROT": "80"}, "", "HOLDFAST_PROT (environment): there is no such setting; did you mean HOLDFAST_PORT?"),  # noqa: E501
        ({"HOLDFAST_PORT": "http"}, "", "HOLDFAST_PORT (environment): 'http' is not a whole number from 1 to 65535."),  # noqa: E501
        ({"HOLDFAST_PORT": "0"}, "", "HOLDFAST_PORT (environment): '0' is not a whole number from 1 to 65535."),  # noqa: E501
        ({"HOLDFAST_MODE": "prod"}, "", "'prod' is not one of development, production."),
        ({"HOLDFAST_MODE": "production"}, "", "production needs a PostgreSQL of its own. Set HOLDFAST_DSN"),
        ({"HOLDFAST_DSN": "mysql://x"}, "", "write a PostgreSQL connection string"),
        ({"HOLDFAST_WEBHOOKS_ALLOW_PRIVATE": "maybe"}, "", "'maybe' is not true or false."),
        ({"HOLDFAST_RAIL_ACME_SECRET_KEY": "sk_live_1"}, "", "there is no [[rails]] named 'acme' in the file."),  # noqa: E501
        ({}, "\n\nporrt = 80\n", "holdfast.toml:3): there is no such setting; did you mean port?"),
        ({}, "host = 'a'\nport = '80x'\n", "port ({file}:2): '80x' is not a whole number"),
        ({}, "port = 80.5\n", "80.5 is not a whole number"),
        ({}, "port = true\n", "True is not a whole number"),
        ({}, "port = \n", "is not TOML"),
        ({}, "[rails]\nname = 'a'\n", "write each rail as a table of its own, [[rails]]."),
        ({}, "[[rails]]\nkind = 'stripe'\n", "holdfast.toml:1): this rail has no name."),
        ({}, RAIL + RAIL, "another rail has this name"),
        ({}, RAIL + '\n[[rails]]\nname = "b"\nkynd = "stripe"\n', "holdfast.toml:11): there is no such setting; did you mean kind?"),  # noqa: E501
        ({}, RAIL.replace("stripe", "strip"), "holdfast.toml:4): 'strip' is not one of stripe, bank."),
        ({}, RAIL.replace("acme.example", "u:p@acme.example"), "is not an address like https://host:port/path."),
        ({}, RAIL.replace('secret_key = "sk_live_0123456789"\n', ""), "set it in its table or as HOLDFAST_RAIL_ACME_SECRET_KEY"),  # noqa: E501
        ({}, RAIL.replace("0123456789", "1"), "a secret has at least 8 characters."),
        ({"HOLDFAST_PORT": "8401"}, "", "it is the server's port too (8401)"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_with_its_name_its_place_and_what_to_do(
    tmp_path: Path, environment: dict[str, str], file: str, says: str
) -> None:
    path = None
    if file:
        path = tmp_path / "holdfast.toml"
        path.write_text(file)
    with pytest.raises(ConfigInvalid) as refused:
        config.load(environment, file=path)
    assert says.replace("{file}", str(path)) in refused.value.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"none\.toml: No such file"):
        config.load({"HOLDFAST_CONFIG": str(tmp_path / "none.toml")})


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.toml"
    path.write_text("port = 1001\nsandbox_port = 1002\nevents_keep_days = 3\n")
    read = config.load(
        {"HOLDFAST_PORT": "2001", "HOLDFAST_SANDBOX_PORT": "2002"}, file=path, port=3001, sandbox_port=None
    )
    assert (read.port, read.sandbox_port, read.events_keep_days) == (3001, 2002, 3)


def test_a_child_process_reads_the_very_same_configuration(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.toml"
    path.write_text("port = 1001\n" + RAIL)
    secret = {
        "HOLDFAST_RAIL_ACME_SECRET_KEY": "sk_live_from_elsewhere",
        "HOLDFAST_DSN": "postgresql://u:pw@h/d",
    }
    parent = config.load(secret, file=path, data_dir=tmp_path / "data", port=1003)
    child = config.load(parent.environment())

    def seen(read: Config) -> list[object]:
        values = [getattr(read, each.name) for each in fields(read)]
        rails = [
            tuple(v.reveal() if isinstance(v, Secret) else v for v in (getattr(r, f.name) for f in fields(r)))
            for r in read.rails
        ]
        return [
            v.reveal() if isinstance(v, Secret) else v for v in values if not isinstance(v, tuple)
        ] + rails

    assert seen(child) == seen(parent)
    assert child.rails[0].secret_key.reveal() == "sk_live_from_elsewhere"


@pytest.mark.parametrize(
    ("environment", "root", "folder"),
    [
        ({"HOME": "/home/ann"}, False, "/home/ann/.local/share/holdfast"),
        ({"HOME": "/home/ann", "XDG_DATA_HOME": "/data/ann"}, False, "/data/ann/holdfast"),
        ({"HOME": "/home/ann", "XDG_DATA_HOME": "relative"}, False, "/home/ann/.local/share/holdfast"),
        ({"HOME": "/root"}, True, "/var/lib/holdfast/data"),
        ({"HOME": "/root", "XDG_DATA_HOME": "/srv"}, True, "/srv/holdfast"),
    ],
)
def test_data_lives_in_the_xdg_folder_and_roots_where_its_database_user_can_reach_it(
    environment: dict[str, str], root: bool, folder: str
) -> None:
    assert str(config.load(environment, root=root).data_dir) == folder


def test_development_pays_by_the_sandbox_and_production_only_by_what_is_configured() -> None:
    development = config.load({"HOLDFAST_SANDBOX_PORT": "9001"})
    assert [(r.name, r.kind) for r in development.rail_list()] == [
        ("north", "stripe"), ("south", "stripe"), ("harbour", "bank"),
    ]  # fmt: skip
    assert development.rail_list()[1].base_url == "http://127.0.0.1:9001/south"
    production = config.load({"HOLDFAST_MODE": "production", "HOLDFAST_DSN": "postgresql://h/d"})
    assert production.rail_list() == ()
    assert development.private_webhooks
    assert not production.private_webhooks


def test_no_secret_shows_when_the_configuration_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.toml"
    path.write_text(RAIL)
    read = config.load({"HOLDFAST_DSN": "postgresql://u:hunter22@h/d"}, file=path)
    assert "hunter22" not in repr(read)
    assert "0123456789" not in repr(read)


def test_the_reference_lists_every_setting_with_its_variable_and_default() -> None:
    text = REFERENCE.read_text()
    for each in fields(Config):
        if each.name in ("rails", "file"):
            continue
        row = next((line for line in text.splitlines() if line.startswith(f"| `{each.name}` |")), "")
        assert f"`HOLDFAST_{each.name.upper()}`" in row, f"{each.name} is not in {REFERENCE.name}"
        assert str(each.metadata["words"]) in row, f"{each.name} is described otherwise in {REFERENCE.name}"
    for each in fields(config.RailConfig):
        assert f"| `{each.name}` |" in text, f"the rail's {each.name} is not in {REFERENCE.name}"
    documented = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    known = {each.name for each in fields(Config)} | {each.name for each in fields(config.RailConfig)}
    assert documented <= known, f"no such settings: {documented - known}"


def test_a_rail_with_a_test_key_moves_test_money_in_production_too(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.toml"
    path.write_text(RAIL + RAIL.replace("acme", "probe").replace("sk_live", "sk_test"))
    production = {"HOLDFAST_MODE": "production", "HOLDFAST_DSN": "postgresql://h/d"}
    read = config.load(production, file=path)
    assert {rail.name: rail.live for rail in read.rail_list()} == {"acme": True, "probe": False}
