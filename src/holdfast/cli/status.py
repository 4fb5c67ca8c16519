"""`holdfast status`: the service that tells the truth while the wallet is down, and what operators say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

import click

_TOKEN_VARIABLE: Final = "HOLDFAST_STATUS_TOKEN"  # noqa: S105 - the name of a variable
_STANDINGS: Final = (
    "operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance",
)  # fmt: skip
_STAGES: Final = ("investigating", "identified", "monitoring", "resolved", "postmortem")
_CAUSES: Final = ("technical", "security", "maintenance", "regulatory", "unknown")
_TIMEOUT_S: Final = 10.0

_data = click.option(
    "--data", "data_dir", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
    help="Folder of the service's own data.",
)  # fmt: skip
_url = click.option(
    "--url", default="http://127.0.0.1:8402", show_default=True, metavar="URL", help="Where the service is."
)
_role = click.option("--role", type=click.Choice(("facts", "operator")), required=True)


@click.group()
def command() -> None:
    """Tell people how the wallet stands, also while it is down.

    `serve` runs the service; the others speak to one that runs, with the token in HOLDFAST_STATUS_TOKEN.
    """


@command.command()
@_data
@click.option("--port", type=click.IntRange(0, 65_535), default=8402, show_default=True, help="0: any.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--settings", "settings_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="TOML: title, url, folders, the capability graph, probes.",
)  # fmt: skip
@click.option("--probe", "probes", multiple=True, metavar="COMPONENT=URL", help="Try an address, too.")
def serve(data_dir: Path, port: int, host: str, settings_file: Path | None, probes: tuple[str, ...]) -> None:
    """Run the service until Ctrl-C. It needs nothing of the wallet: no database, no network."""
    import asyncio  # noqa: PLC0415 - loaded when asked for

    from holdfast.platform import processes  # noqa: PLC0415
    from holdfast.status import settings  # noqa: PLC0415
    from holdfast.status.serve import Place, serve  # noqa: PLC0415

    def ready(bound: int, key: str) -> None:
        click.echo(json.dumps({"ready": f"http://{host}:{bound}", "port": bound, "key": key}))
        processes.notify("READY=1")

    read = settings.with_probes(settings.read(settings_file), probes)
    asyncio.run(serve(Place(data_dir, host, port), read, ready=ready))


@command.command()
@_data
@_role
@click.option("--name", required=True, help="Whose it is; one of the same name and role ends.")
@click.option("--revoke", is_flag=True, help="End it instead.")
def token(data_dir: Path, role: Any, name: str, revoke: bool) -> None:  # noqa: ANN401 - a role
    """Make a token, shown this once, or revoke one."""
    from holdfast.status.access import Doorman  # noqa: PLC0415
    from holdfast.status.serve import open_store  # noqa: PLC0415

    store = open_store(data_dir)
    try:
        if revoke:
            click.echo("revoked" if Doorman(store).revoke(role, name) else "there was none")
        else:
            click.echo(Doorman(store).issue(role, name))
    finally:
        store.close()


@command.command()
@click.argument("what", type=click.Path(path_type=Path, exists=True))
@click.option("--key", required=True, metavar="hfs1_…", help="The public key, known from elsewhere.")
def verify(what: Path, key: str) -> None:
    """Check a saved page, or a whole published folder, without a network."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from holdfast.status.seal import verify_folder, verify_page  # noqa: PLC0415

    now = datetime.now(UTC)
    found = verify_folder(what, key, now) if what.is_dir() else verify_page(what.read_bytes(), key, now)
    click.secho(
        f"genuine: {found.path}, to be believed until {found.valid_until:%Y-%m-%d %H:%M UTC}", fg="green"
    )


@command.command()
@click.argument("message", type=click.File("r"))
@click.option(
    "--site", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
    help="The published site, or a copy of it, to know links and numbers, too; its signature is checked.",
)  # fmt: skip
@click.option("--key", required=True, metavar="hfs1_…", help="The public key, known from elsewhere.")
def really(message: TextIO, site: Path | None, key: str) -> None:
    """Tell whether a MESSAGE (a file, or - ) is really from us, without a network."""
    import sys  # noqa: PLC0415
    from datetime import UTC, datetime  # noqa: PLC0415

    from holdfast.status.notices.genuine import (  # noqa: PLC0415
        TEXT_CHARS_MAX,
        by_signature,
        check,
        published,
    )

    text = message.read(TEXT_CHARS_MAX)
    found = by_signature(text, key, datetime.now(UTC)) if site is None else check(text, *published(site, key))
    good = found.verdict == "ours"
    click.secho(f"{found.words.en} {found.words.zh}", fg="green" if good else "red")
    for one in found.about:
        click.echo(f"  {one}")
    sys.exit(0 if good else 1)


@command.command("board")
@_url
def show_board(url: str) -> None:
    """Show how everything stands, measured and said."""
    _tell(_call("GET", url, "/v1/board"))


@command.command("open")
@_url
@click.argument("name")
@click.option("--zh", default="", help="The name in Chinese.")
@click.option("--body", required=True, help="What to tell people.")
@click.option("--body-zh", default="", help="The same in Chinese.")
@click.option(
    "--component", "components", multiple=True, required=True, metavar="ID=STANDING",
    help=f"What it touches, and how: {', '.join(_STANDINGS)}.",
)  # fmt: skip
@click.option("--cause", type=click.Choice(_CAUSES), default="unknown", show_default=True)
def open_incident(
    url: str, name: str, zh: str, body: str, body_zh: str, components: tuple[str, ...], cause: str
) -> None:
    """Open an incident."""
    asked = {
        "name": {"en": name, "zh": zh},
        "body": {"en": body, "zh": body_zh},
        "components": _components(components),
        "cause": cause,
    }
    _tell(_call("POST", url, "/v1/incidents", asked))


@command.command()
@_url
@click.argument("incident")
@click.argument("stage", type=click.Choice(_STAGES))
@click.option("--body", required=True, help="What to tell people.")
@click.option("--body-zh", default="", help="The same in Chinese.")
@click.option("--component", "components", multiple=True, metavar="ID=STANDING", help="What changes.")
def tell(url: str, incident: str, stage: str, body: str, body_zh: str, components: tuple[str, ...]) -> None:
    """Tell how an incident goes, or that it is over."""
    asked = {
        "stage": stage,
        "body": {"en": body, "zh": body_zh},
        "components": _components(components),
    }
    _tell(_call("POST", url, f"/v1/incidents/{incident}/updates", asked))


@command.command()
@_url
@click.argument("component")
@click.argument("standing", type=click.Choice(_STANDINGS))
def declare(url: str, component: str, standing: str) -> None:
    """Say how a component stands, whatever is measured."""
    _tell(_call("PUT", url, f"/v1/components/{component}/declared", {"standing": standing}))


def _components(given: tuple[str, ...]) -> dict[str, str]:
    components = {}
    for each in given:
        name, _, standing = each.partition("=")
        if not name or standing not in _STANDINGS:
            raise click.BadParameter(f"{each!r} is not ID=STANDING, with one of {', '.join(_STANDINGS)}")
        components[name] = standing
    return components


def _call(method: str, url: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """Ask a service that runs. Raises: `Refused` with what it says."""
    from urllib.error import HTTPError, URLError  # noqa: PLC0415
    from urllib.request import Request, urlopen  # noqa: PLC0415

    from holdfast.base.errors import Refused, Unavailable  # noqa: PLC0415

    if urlsplit(url).scheme not in ("http", "https"):
        raise Refused(f"{url!r} is not an address like http://127.0.0.1:8402.")
    headers = {"Authorization": f"Bearer {os.environ.get(_TOKEN_VARIABLE, '')}"}
    data = None if body is None else json.dumps(body).encode()
    request = Request(  # noqa: S310 - the scheme is checked above
        url.rstrip("/") + path, data, headers | {"Content-Type": "application/json"}, method=method
    )
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
            return json.load(answer)
    except HTTPError as error:
        try:
            said = json.load(error)["detail"]
        except (ValueError, KeyError):
            said = str(error)
        raise Refused(said) from None
    except (URLError, TimeoutError) as error:
        raise Unavailable(f"The status service at {url} does not answer: {error}.") from None


def _tell(answer: object) -> None:
    click.echo(json.dumps(answer, ensure_ascii=False, indent=1))
