"""What an operator chooses.

Read once, at the start, from the environment and an optional TOML file; frozen after that.

Every field of `Config` is `HOLDFAST_<FIELD>` in the environment and `<field>` in the file; the environment
wins. Rails are tables `[[rails]]` of the file; their secrets may come as `HOLDFAST_RAIL_<NAME>_SECRET_KEY`
and `…_WEBHOOK_SECRET`. A key or a value that is wrong is refused with its name, its line and what to do: a
misspelt setting never passes silently.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, Literal

from holdfast.base.secret import Secret
from holdfast.platform import setting
from holdfast.platform.setting import ConfigInvalid, Given, Parser

Mode = Literal["development", "production"]
LogFormat = Literal["auto", "text", "json"]
PREFIX: Final = "HOLDFAST_"
SYSTEM_DATA: Final = Path("/var/lib/holdfast")
_RAIL_VARIABLE: Final = re.compile(r"HOLDFAST_RAIL_([A-Z0-9_]+)_(SECRET_KEY|WEBHOOK_SECRET)")


@dataclass(frozen=True, slots=True)
class RailConfig:
    """One rail: `kind` chooses the adapter (`stripe`, `bank`).

    The rest says where it is and how to prove who we are.

    `backup_url` answers the same keys when `base_url` does not. `cost_bp` is what a payment costs there, in
    hundredths of a percent.
    """

    name: str
    kind: str
    base_url: str
    secret_key: Secret
    webhook_secret: Secret
    backup_url: str | None = None
    cost_bp: int = 0
    timeout_ms: int = 10_000
    concurrency_max: int = 64

    @property
    def live(self) -> bool:
        """Whether it moves real money. With a key that begins with `sk_test_` it serves test merchants."""
        return not self.secret_key.reveal().startswith("sk_test_")


def default_data_dir(environment: Mapping[str, str], *, root: bool) -> Path:
    """Return where data lives unless told otherwise: the XDG data folder.

    For root, whose home is closed to the unprivileged database user, `/var/lib/holdfast`.
    """
    chosen = environment.get("XDG_DATA_HOME", "")
    if chosen.startswith("/"):
        return Path(chosen) / "holdfast"
    if root:
        return SYSTEM_DATA / "data"
    return Path(environment.get("HOME") or "~").expanduser() / ".local" / "share" / "holdfast"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an operator may set.

    `docs/reference/configuration.md` is checked against this class by a test.
    """

    mode: Mode = field(
        default="development",
        metadata={
            "words": "`development` starts a sandbox and demo data; `production` has neither and needs `dsn`."
        },
    )
    data_dir: Path = field(
        default=SYSTEM_DATA / "data", metadata={"words": "Folder of the embedded database and the lock file."}
    )
    dsn: Secret | None = field(
        default=None,
        metadata={
            "words": "Connection string of a PostgreSQL (15 or later) to use instead of the embedded one."
        },
    )
    host: str = field(default="127.0.0.1", metadata={"words": "Address that the server listens on."})
    port: int = field(default=8400, metadata={"words": "Port that the server listens on."})
    public_url: str = field(
        default="",
        metadata={"words": "Address under which people reach the server; `http://<host>:<port>` when empty."},
    )
    sandbox_port: int = field(
        default=8401, metadata={"words": "Port of the sandbox providers (development)."}
    )
    sandbox_url: str = field(
        default="",
        metadata={"words": "Address of the sandbox; `http://127.0.0.1:<sandbox_port>` when empty."},
    )
    status_port: int = field(
        default=0,
        metadata={"words": "Port on 127.0.0.1 where the worker answers `/healthz` and `/metrics`; 0: none."},
    )
    database_connections_max: int = field(
        default=16, metadata={"words": "Connections to PostgreSQL per process."}
    )
    ledger_listen: str = field(
        default="",
        metadata={
            "words": "Where a process answers the others while it writes the ledger: `tcp:<address>:<port>` "
            "for several machines on a private network, else a socket in the data folder."
        },
    )
    status_page_port: int = field(
        default=8402,
        metadata={
            "words": "Port of the status service that `holdfast up` starts beside the wallet; 0: none."
        },
    )
    status_url: str = field(
        default="",
        metadata={
            "words": "Address of the status service that is told the outcomes of payments; empty: none."
        },
    )
    status_token: Secret | None = field(
        default=None, metadata={"words": "Token of role `facts` of that service (`holdfast status token`)."}
    )
    webhooks_allow_private: bool = field(
        default=False,
        metadata={
            "words": "Deliver webhooks to private and loopback addresses too. Always on in development."
        },
    )
    events_keep_days: int = field(
        default=30, metadata={"words": "Days that events and finished webhook deliveries can be listed."}
    )
    log_level: Literal["debug", "info", "warning", "error"] = field(
        default="info", metadata={"words": "Least important log line that is written."}
    )
    log_format: LogFormat = field(
        default="auto",
        metadata={"words": "`text`, `json`, or `auto`: text on a terminal and in development, else JSON."},
    )
    stop_timeout_ms: int = field(
        default=5_000,
        metadata={"words": "How long processes may take to finish what they are doing when told to stop."},
    )
    rails: tuple[RailConfig, ...] = field(
        default=(),
        metadata={"words": "Rails to pay by, as `[[rails]]` tables; the sandbox's in development."},
    )
    file: Path | None = field(
        default=None,
        metadata={"words": "The TOML file that was read; `HOLDFAST_CONFIG` or `--config` names it."},
    )

    @property
    def local_url(self) -> str:
        """Where this machine reaches the server."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def server_url(self) -> str:
        """The address to open."""
        return self.public_url or self.local_url

    @property
    def sandbox_base_url(self) -> str:
        """Where the sandbox answers."""
        return self.sandbox_url or f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def private_webhooks(self) -> bool:
        """Whether webhooks may go to private addresses."""
        return self.webhooks_allow_private or self.mode == "development"

    def rail_list(self) -> tuple[RailConfig, ...]:
        """Return the rails to use: those configured, or the sandbox's providers in development."""
        if self.rails or self.mode == "production":
            return self.rails
        return sandbox_rails(self.sandbox_base_url)

    def environment(self) -> dict[str, str]:
        """Return the variables that make a child process read this very configuration."""
        said = {"HOLDFAST_CONFIG": str(self.file)} if self.file else {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in ("rails", "file") or value is None:
                continue
            text = value.reveal() if isinstance(value, Secret) else str(value)
            said[PREFIX + each.name.upper()] = text
        for rail in self.rails:
            name = f"{PREFIX}RAIL_{rail.name.upper()}_"
            said[name + "SECRET_KEY"] = rail.secret_key.reveal()
            said[name + "WEBHOOK_SECRET"] = rail.webhook_secret.reveal()
        return said


SANDBOX_TIMEOUT_MS: Final = 4_000
"""Longest call to a sandbox provider: it is on this machine, and whoever breaks it watches."""


def sandbox_rails(base_url: str) -> tuple[RailConfig, ...]:
    """Return the sandbox's default instances as rails: two card providers and a bank.

    Their keys are public on purpose.
    """

    def one(name: str, kind: str, cost_bp: int) -> RailConfig:
        return RailConfig(
            name,
            kind,
            f"{base_url}/{name}",
            Secret(f"sk_test_{name}"),
            Secret(f"whsec_sandbox_{name}"),
            cost_bp=cost_bp,
            timeout_ms=SANDBOX_TIMEOUT_MS,
        )

    return (one("north", "stripe", 140), one("south", "stripe", 170), one("harbour", "bank", 20))


def load(
    environment: Mapping[str, str] | None = None,
    *,
    file: Path | None = None,
    root: bool | None = None,
    **chosen: object,
) -> Config:
    """Read the configuration: `chosen` (command-line options.

    None counts as not given) over the environment over the file.

    Raises: `ConfigInvalid`.
    """
    environment = os.environ if environment is None else environment
    at_root = os.geteuid() == 0 if root is None else root
    path = file or (Path(environment["HOLDFAST_CONFIG"]) if environment.get("HOLDFAST_CONFIG") else None)
    given, tables = _from_file(path) if path else ({}, [])
    given |= _from_environment(environment, rails={_rail_variable(t) for t in tables})
    given |= {name: Given(name, value, "command line") for name, value in chosen.items() if value is not None}
    values = {name: _PARSERS[name](one) for name, one in given.items()}
    values.setdefault("data_dir", default_data_dir(environment, root=at_root))
    config = Config(**values, rails=_rails(tables, environment), file=path)
    return _consistent(config)


def _consistent(config: Config) -> Config:
    if config.mode == "production" and config.dsn is None:
        raise ConfigInvalid(
            "dsn: production needs a PostgreSQL of its own. Set HOLDFAST_DSN=postgresql://…, "
            "or mode to development."
        )
    if config.port == config.sandbox_port:
        raise ConfigInvalid(
            f"sandbox_port: it is the server's port too ({config.port}). Choose another with --sandbox-port."
        )
    return config


def _from_environment(environment: Mapping[str, str], *, rails: set[str]) -> dict[str, Given]:
    given = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable == "HOLDFAST_CONFIG":
            continue
        rail = _RAIL_VARIABLE.fullmatch(variable)
        if rail is not None:
            if rail[1] not in rails:
                raise ConfigInvalid(
                    f"{variable} (environment): there is no [[rails]] named {rail[1].lower()!r} in the file."
                )
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in _PARSERS:
            raise _unknown(variable, "environment", [PREFIX + known.upper() for known in _PARSERS])
        given[name] = Given(variable, text, "environment")
    return given


def _unknown(name: str, place: str, known: list[str]) -> ConfigInvalid:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}."
    return ConfigInvalid(f"{name} ({place}): there is no such setting; {hint}", setting=name)


def _from_file(path: Path) -> tuple[dict[str, Given], list[dict[str, Given]]]:
    try:
        text = path.read_text()
        read = tomllib.loads(text)
    except OSError as error:
        raise ConfigInvalid(
            f"{path}: {error.strerror or error}. Name a file that can be read, or none."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} is not TOML: {error}.") from error
    given = {}
    for name, value in read.items():
        if name == "rails":
            continue
        place = f"{path}:{line_of(text, name)}"
        if name not in _PARSERS:
            raise _unknown(name, place, [*_PARSERS, "rails"])
        given[name] = Given(name, value, place)
    return given, _rail_tables(path, text, read.get("rails", []))


def _rail_tables(path: Path, text: str, rails: object) -> list[dict[str, Given]]:
    if not isinstance(rails, list) or not all(isinstance(each, dict) for each in rails):
        raise ConfigInvalid(
            f"rails ({path}:{line_of(text, 'rails')}): write each rail as a table of its own, [[rails]]."
        )
    known = [each.name for each in fields(RailConfig)]
    tables = []
    for index, table in enumerate(rails):
        read = {}
        for name, value in table.items():
            place = f"{path}:{line_of(text, name, table='rails', index=index)}"
            if name not in known:
                raise _unknown(name, place, known)
            read[name] = Given(name, value, place)
        start = f"{path}:{line_of(text, '', table='rails', index=index)}"
        if "name" not in read:
            raise ConfigInvalid(f'rails ({start}): this rail has no name. Add name = "…".')
        tables.append(read)
    return tables


def line_of(text: str, key: str, *, table: str = "", index: int = 0) -> int:
    """Return the line, from 1, of `key` in the `index`-th table `table` ("": the top) of a TOML text."""
    here, count, header = "", {"": 0}, 1
    wanted = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""") if key else None
    for number, line in enumerate(text.splitlines(), 1):
        opened = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?", line)
        if opened:
            here = opened[1].strip("\"'")
            count[here] = count.get(here, -1) + 1
        if here == table and count.get(here) == index:
            if opened:
                header = number
            elif wanted is not None and wanted.match(line):
                return number
        if not table and opened and key and here.split(".")[0] == key:
            return number
    return header


def _rail_variable(table: Mapping[str, Given]) -> str:
    return str(table["name"].value).upper()


def _rails(tables: list[dict[str, Given]], environment: Mapping[str, str]) -> tuple[RailConfig, ...]:
    rails: list[RailConfig] = []
    for table in tables:
        name = table["name"]
        for secret in ("secret_key", "webhook_secret"):
            variable = f"{PREFIX}RAIL_{_rail_variable(table)}_{secret.upper()}"
            if variable in environment:
                table[secret] = Given(variable, environment[variable], "environment")
            elif secret not in table:
                raise name.refuse(f"the rail needs {secret}: set it in its table or as {variable}.")
        missing = {"kind", "base_url"} - table.keys()
        if missing:
            raise name.refuse(f"the rail needs {' and '.join(sorted(missing))}.")
        rail = RailConfig(**{key: _RAIL_PARSERS[key](one) for key, one in table.items()})
        if any(rail.name == other.name for other in rails):
            raise name.refuse("another rail has this name; give each its own.")
        rails.append(rail)
    return tuple(rails)


_PORT: Final = setting.whole(1, 65_535)
_PARSERS: Final[dict[str, Parser]] = {
    "mode": setting.one_of("development", "production"),
    "data_dir": setting.path,
    "dsn": setting.dsn,
    "host": setting.text,
    "port": _PORT,
    "public_url": setting.url,
    "sandbox_port": _PORT,
    "sandbox_url": setting.url,
    "status_port": setting.whole(0, 65_535),
    "database_connections_max": setting.whole(2, 500),
    "ledger_listen": setting.matching(
        r"|unix:/.+|tcp:.+:\d{1,5}", "an address: tcp:<address>:<port> or unix:/path"
    ),
    "status_page_port": setting.whole(0, 65_535),
    "status_url": setting.url,
    "status_token": setting.secret,
    "webhooks_allow_private": setting.flag,
    "events_keep_days": setting.whole(1, 3_650),
    "log_level": setting.one_of("debug", "info", "warning", "error"),
    "log_format": setting.one_of("auto", "text", "json"),
    "stop_timeout_ms": setting.whole(100, 600_000),
}
_RAIL_PARSERS: Final[dict[str, Parser]] = {
    "name": setting.matching(
        r"[a-z][a-z0-9_]{0,31}", "a rail's name: small letters, digits and _, at most 32"
    ),
    "kind": setting.one_of("stripe", "bank"),
    "base_url": setting.url,
    "backup_url": setting.url,
    "secret_key": setting.secret,
    "webhook_secret": setting.secret,
    "cost_bp": setting.whole(0, 10_000),
    "timeout_ms": setting.whole(100, 60_000),
    "concurrency_max": setting.whole(1, 10_000),
}
