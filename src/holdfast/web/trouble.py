"""The panel that breaks and mends the sandbox's providers, and the look into their books. Development only.

The panel never talks to the sandbox from the browser: its forms come to this server, which passes them on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from holdfast.base.errors import HoldfastError, Refused, Unavailable
from holdfast.base.limits import SANDBOX_CONTROL_TIMEOUT_S
from holdfast.domains.payments.model import Attempt
from holdfast.platform.http import HttpClient
from holdfast.web.locale import N_, Language
from holdfast.web.view import rail_name

OK_MAX: Final = 299


class SandboxAway(Unavailable):
    """The sandbox does not answer."""

    code = "sandbox_away"


class TroubleUnknown(Refused):
    """There is no such provider, or no such trouble."""

    code = "trouble_unknown"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One way to break a provider. `faults` is what is asked of the sandbox; empty: nothing is broken."""

    label: str
    now: str
    faults: tuple[Mapping[str, object], ...] = ()


TROUBLES: Final[dict[str, Trouble]] = {
    "healthy": Trouble(N_("Healthy"), N_("Answers normally")),
    "slow": Trouble(N_("Slow"), N_("Answers three seconds late"), ({"fault": "slow", "latency_ms": 3000},)),
    "dark": Trouble(N_("Dark"), N_("Takes connections and never answers"), ({"fault": "dark"},)),
    "refuse": Trouble(N_("Refuses"), N_("Turns every connection away"), ({"fault": "refuse"},)),
    "mute": Trouble(
        N_("Mute"),
        N_("Acts, but its answer never comes"),
        ({"fault": "mute", "operations": ["confirm", "capture", "initiate"]}, {"fault": "webhook_drop"}),
    ),
    "decline": Trouble(N_("Declines"), N_("Says no to every payment"), ({"fault": "decline"},)),
}
"""What the panel offers, in its order."""

_OTHER: Final = N_("Something else, set in the sandbox itself")
_KINDS: Final = {"stripe": N_("card provider"), "harbour": N_("bank transfer")}


@dataclass(frozen=True, slots=True)
class Choice:
    """A button of the panel."""

    id: str
    label: str
    on: bool


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the panel shows it."""

    id: str
    name: str
    kind: str
    tone: str
    now: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """The whole panel. `back`: the page to return to when there is no script."""

    reachable: bool
    broken: bool
    back: str
    providers: tuple[Provider, ...] = ()


@dataclass(frozen=True, slots=True)
class BookLine:
    """What one provider's own book says of a payment, in numbers of charges."""

    name: str
    known: bool
    charged: int = 0
    returned: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Books:
    """What all providers' books say of a payment."""

    verdict: str
    lines: tuple[BookLine, ...]


class Sandbox:
    """The sandbox's control API."""

    def __init__(self, client: HttpClient, base_url: str) -> None:
        self._client = client
        self._base_url = base_url

    async def state(self) -> dict[str, Any]:
        """Return which instances there are and what is broken. Raises: `SandboxAway`."""
        return await self._call("GET", "/_control/state")

    async def set(self, instance: str, trouble: str) -> None:
        """Break `instance` in one way, in place of any other. Raises: `SandboxAway`, `TroubleUnknown`."""
        if trouble not in TROUBLES or instance not in {
            one["name"] for one in (await self.state())["instances"]
        }:
            raise TroubleUnknown
        await self._call("DELETE", f"/_control/faults?instance={quote(instance)}")
        for fault in TROUBLES[trouble].faults:
            await self._call("POST", "/_control/faults", {"instance": instance, **fault})

    async def mend(self) -> None:
        """Mend everything. Raises: `SandboxAway`."""
        await self._call("DELETE", "/_control/faults")

    async def book(self, instance: str, reference: str) -> list[dict[str, Any]]:
        """Return the charges that a provider's own book has under `reference`. Raises: `SandboxAway`."""
        doc = await self._call("GET", f"/_control/ledger/{quote(instance)}?reference={quote(reference)}")
        return list(doc["charges"])

    async def _call(self, method: str, path: str, doc: object = None) -> dict[str, Any]:
        body = None if doc is None else json.dumps(doc).encode()
        try:
            reply = await self._client.call(
                method,
                self._base_url + path,
                timeout_s=SANDBOX_CONTROL_TIMEOUT_S,
                headers={"content-type": "application/json"} if body else None,
                body=body,
            )
            read = json.loads(reply.body)
        except (HoldfastError, ValueError) as error:
            raise SandboxAway from error
        if reply.status > OK_MAX or not isinstance(read, dict):
            raise SandboxAway(f"The sandbox answered {reply.status} to {method} {path}.")
        return read


@asynccontextmanager
async def sandbox(base_url: str) -> AsyncIterator[Sandbox]:
    """Open the control API for a few calls."""
    client = HttpClient(allow_private=True, connections_max=4)
    try:
        yield Sandbox(client, base_url)
    finally:
        await client.close()


async def panel(control: Sandbox, back: str, language: Language) -> Panel:
    """Return the panel as things stand; one that says so when the sandbox does not answer."""
    try:
        state = await control.state()
    except SandboxAway:
        return Panel(reachable=False, broken=False, back=back)
    faults: list[dict[str, Any]] = state["faults"]
    providers = tuple(_provider(one, faults, language) for one in state["instances"])
    return Panel(reachable=True, broken=bool(faults), back=back, providers=providers)


def _provider(
    instance: Mapping[str, Any], faults: Sequence[Mapping[str, Any]], language: Language
) -> Provider:
    name, protocol = instance["name"], instance["protocol"]
    mine = [one for one in faults if one["instance"] in ("*", name)]
    here = _named(mine)
    now = TROUBLES[here].now if here else _OTHER
    return Provider(
        id=name,
        name=rail_name(name, language),
        kind=language.say(_KINDS.get(protocol, protocol)),
        tone="trouble" if mine else "well",
        now=language.say(now),
        choices=tuple(Choice(id_, language.say(one.label), id_ == here) for id_, one in TROUBLES.items()),
    )


def _named(faults: Sequence[Mapping[str, Any]]) -> str | None:
    """Return which of the panel's troubles these faults are, or None when they are something else."""
    kinds = Counter(str(fault["fault"]) for fault in faults)
    return next(
        (id_ for id_, one in TROUBLES.items() if Counter(str(f["fault"]) for f in one.faults) == kinds), None
    )


async def books(control: Sandbox, attempts: Sequence[Attempt], language: Language) -> Books | None:
    """Return what the providers' own books say of these attempts; None when no provider was tried."""
    rails: dict[str, list[str]] = {}
    for attempt in attempts:
        if attempt.method.kind != "balance":
            rails.setdefault(attempt.rail, []).append(attempt.reference)
    if not rails:
        return None
    lines = [await _book_line(control, rail, references, language) for rail, references in rails.items()]
    return Books(_verdict(lines, language), tuple(lines))


async def _book_line(control: Sandbox, rail: str, references: Sequence[str], language: Language) -> BookLine:
    name = rail_name(rail, language)
    try:
        rows = [row for reference in references for row in await control.book(rail, reference)]
    except SandboxAway:
        return BookLine(name, known=False)
    charged = sum(1 for row in rows if row["captured_minor"] > 0)
    kept = sum(1 for row in rows if row["kept_minor"] > 0)
    return BookLine(name, known=True, charged=charged, returned=charged - kept, kept=kept)


def _verdict(lines: Sequence[BookLine], language: Language) -> str:
    kept = sum(line.kept for line in lines)
    if not all(line.known for line in lines):
        return language.say(N_("Some books cannot be read right now"))
    if kept == 0:
        return language.say(N_("No charge is kept"))
    if kept == 1:
        return language.say(
            N_("One charge is kept, at %(rail)s"), rail=next(line.name for line in lines if line.kept)
        )
    return language.say(
        N_("%(count)s charges are kept. This must never happen: please report it."), count=kept
    )
