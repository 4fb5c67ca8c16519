"""`holdfast status`: the service that tells the truth while the wallet is down, and what operators say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TextIO

import click

from holdfast.cli.status_call import ask, tell_answer, url_option
from holdfast.cli.status_plan import maintenance

_STANDINGS: Final = (
    "operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance",
)  # fmt: skip
_STAGES: Final = ("investigating", "identified", "monitoring", "resolved", "postmortem")
_CAUSES: Final = ("technical", "security", "maintenance", "regulatory", "unknown")

_data = click.option(
    "--data", "data_dir", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
    help="Folder of the service's own data.",
)  # fmt: skip
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
@_data
@click.argument("name")
@click.option("--remove", is_flag=True, help="Remove it instead.")
def operator(data_dir: Path, name: str, remove: bool) -> None:
    """Add somebody who may use the console, or give a new password and secret. Asks for the password."""
    import pyotp  # noqa: PLC0415
    import segno  # noqa: PLC0415

    from holdfast.base.clock import SystemClock  # noqa: PLC0415
    from holdfast.status.operators import Operators  # noqa: PLC0415
    from holdfast.status.serve import open_store  # noqa: PLC0415

    store = open_store(data_dir)
    try:
        operators = Operators(store, SystemClock())
        if remove:
            click.echo("removed" if operators.remove(name) else "there was none")
            return
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        secret = operators.add(name, password)
    finally:
        store.close()
    address = pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name="Holdfast status")
    segno.make(address).terminal(compact=True)
    click.echo(f"Scan this with an authenticator, or type its secret: {secret}")


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
@url_option
def show_board(url: str) -> None:
    """Show how everything stands, measured and said."""
    tell_answer(ask("GET", url, "/v1/board"))


@command.command("open")
@url_option
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
    tell_answer(ask("POST", url, "/v1/incidents", asked))


@command.command()
@url_option
@click.argument("incident")
@click.argument("stage", type=click.Choice(_STAGES))
@click.option("--template", default="", help="A text in both languages: see GET /v1/templates.")
@click.option("--body", default="", help="What to tell people.")
@click.option("--body-zh", default="", help="The same in Chinese.")
@click.option("--component", "components", multiple=True, metavar="ID=STANDING", help="What changes.")
def tell(
    url: str, incident: str, stage: str, template: str, body: str, body_zh: str, components: tuple[str, ...]
) -> None:
    """Tell how an incident goes, or that it is over."""
    asked = {
        "stage": stage,
        "template": template,
        "body": {"en": body, "zh": body_zh},
        "components": _components(components),
    }
    tell_answer(ask("POST", url, f"/v1/incidents/{incident}/updates", asked))


@command.command()
@url_option
@click.argument("component")
@click.argument("standing", type=click.Choice(_STANDINGS))
def declare(url: str, component: str, standing: str) -> None:
    """Say how a component stands, whatever is measured."""
    tell_answer(ask("PUT", url, f"/v1/components/{component}/declared", {"standing": standing}))


def _components(given: tuple[str, ...]) -> dict[str, str]:
    components = {}
    for each in given:
        name, _, standing = each.partition("=")
        if not name or standing not in _STANDINGS:
            raise click.BadParameter(f"{each!r} is not ID=STANDING, with one of {', '.join(_STANDINGS)}")
        components[name] = standing
    return components


command.add_command(maintenance)
