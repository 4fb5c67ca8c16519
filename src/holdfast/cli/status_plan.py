"""`holdfast status maintenance`: plan windows, and say how they go."""

from __future__ import annotations

from typing import Any, Final

import click

from holdfast.cli.status_call import ask, tell_answer, url_option

_KINDS: Final = ("cut", "read_only", "slower")
_RETRIES: Final = ("same_order", "wait", "other_way")


@click.group()
def maintenance() -> None:
    """Plan maintenance. It starts, is checked and ends by itself."""


def _window(function: Any) -> Any:  # noqa: ANN401 - a command's function
    options = (
        click.argument("name"),
        click.option("--zh", default="", help="The name in Chinese."),
        click.option("--body", required=True, help="What to tell people."),
        click.option("--body-zh", default="", help="The same in Chinese."),
        click.option(
            "--effect", "effects", multiple=True, required=True, metavar="ID=KIND[,CUTS,LONGEST_S]",
            help=f"What it does to a component: {', '.join(_KINDS)}; how often, and for how long at most.",
        ),
        click.option(
            "--from", "starts_at", required=True, metavar="MOMENT", help="As 2026-12-01T02:00+08:00."
        ),
        click.option("--to", "ends_at", required=True, metavar="MOMENT"),
        click.option("--retry", type=click.Choice(_RETRIES), default="wait", show_default=True),
        click.option("--reason", default="", help="Why, although something speaks against it."),
        url_option,
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    effects = []
    for each in given["effects"]:
        component, _, how = each.partition("=")
        kind, *more = how.split(",")
        if kind not in _KINDS or len(more) not in (0, 2) or not all(part.isdecimal() for part in more):
            raise click.BadParameter(f"{each!r} is not ID=KIND or ID=KIND,CUTS,LONGEST_S")
        effect: dict[str, Any] = {"component": component, "kind": kind}
        if more:
            effect |= {"cuts": int(more[0]), "longest_s": int(more[1])}
        effects.append(effect)
    return {
        "name": {"en": given["name"], "zh": given["zh"]},
        "body": {"en": given["body"], "zh": given["body_zh"]},
        "effects": effects,
        "starts_at": given["starts_at"],
        "ends_at": given["ends_at"],
        "retry": given["retry"],
        "reason": given["reason"],
    }


@maintenance.command()
@_window
def check(url: str, **given: Any) -> None:  # noqa: ANN401 - options
    """Tell what speaks against a window, and what people could not do."""
    tell_answer(ask("POST", url, "/v1/maintenances/check", _asked(given)))


@maintenance.command()
@_window
def plan(url: str, **given: Any) -> None:  # noqa: ANN401 - options
    """Plan a window."""
    tell_answer(ask("POST", url, "/v1/maintenances", _asked(given)))


@maintenance.command()
@_window
@click.option("--rule", required=True, help="An RRULE (RFC 5545), as FREQ=WEEKLY;BYDAY=TU.")
@click.option("--zone", default="", help="Zone in which its hours are meant.")
def recur(url: str, rule: str, zone: str, **given: Any) -> None:  # noqa: ANN401 - options
    """Plan windows that recur. What speaks against one of them waits for a second person."""
    asked = _asked(given)
    del asked["reason"]
    tell_answer(ask("POST", url, "/v1/maintenance-series", asked | {"rule": rule, "zone": zone}))


@maintenance.command("end")
@url_option
@click.argument("series", metavar="SERIES")
@click.option("--reason", required=True, help="What to tell people.")
def end_series(url: str, series: str, reason: str) -> None:
    """End windows that recur."""
    tell_answer(ask("POST", url, f"/v1/maintenance-series/{series}/end", {"reason": reason}))


@maintenance.command()
@url_option
@click.argument("id_", metavar="ID")
def approve(url: str, id_: str) -> None:
    """Say, as a second person, that it may take place nevertheless."""
    tell_answer(ask("POST", url, f"/v1/maintenances/{id_}/approve", {}))


@maintenance.command()
@url_option
@click.argument("id_", metavar="ID")
def done(url: str, id_: str) -> None:
    """Say that the work is done: it is checked whether all works."""
    tell_answer(ask("POST", url, f"/v1/maintenances/{id_}/act", {"act": "done"}))


@maintenance.command()
@url_option
@click.argument("id_", metavar="ID")
def confirm(url: str, id_: str) -> None:
    """Say that all works again, where that cannot be measured."""
    tell_answer(ask("POST", url, f"/v1/maintenances/{id_}/act", {"act": "confirm"}))


@maintenance.command()
@url_option
@click.argument("id_", metavar="ID")
def cancel(url: str, id_: str) -> None:
    """Say that it does not take place."""
    tell_answer(ask("POST", url, f"/v1/maintenances/{id_}/act", {"act": "cancel"}))


@maintenance.command("list")
@url_option
def show(url: str) -> None:
    """Show what is planned and under way."""
    tell_answer(ask("GET", url, "/v1/maintenances"))
