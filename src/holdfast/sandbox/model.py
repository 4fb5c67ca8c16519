"""The words that the parts of the sandbox share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from holdfast.sandbox.faults import Verdict
from holdfast.sandbox.magic import Outage
from holdfast.sandbox.store import Timer


@dataclass(frozen=True, slots=True)
class Instance:
    """One provider.

    `settle_ms`: how long a transfer takes to confirm (harbour). `search_lag_ms`: how long a new object
    stays out of search results, as real ones do (stripe).
    """

    name: str
    protocol: Literal["stripe", "harbour"]
    api_key: str
    webhook_secret: str
    settle_ms: int = 1500
    search_lag_ms: int = 500


def instance(name: str, protocol: Literal["stripe", "harbour"]) -> Instance:
    """Return an instance with the key and the secret that go with its name."""
    return Instance(name, protocol, f"sk_test_{name}", f"whsec_sandbox_{name}")


DEFAULT_INSTANCES: Final = (
    instance("north", "stripe"),
    instance("south", "stripe"),
    instance("harbour", "harbour"),
)
"""What a sandbox serves unless told otherwise.

Keys and secrets are public on purpose: they open nothing real.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a provider, its path without the instance. Header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    now_ms: int


@dataclass(frozen=True, slots=True)
class Response:
    """What a provider answers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


def as_json(status: int, doc: object, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a JSON document."""
    return Response(status, json.dumps(doc).encode(), headers or {})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A webhook that an instance wants delivered: its id and its body.

    `outages`: what the card and the amount of its payment ask for.
    """

    event_id: str
    body: str
    outages: tuple[Outage, ...] = ()


class Provider(Protocol):
    """One protocol, spoken for one instance.

    Synchronous: each call happens inside one transaction of the store.
    """

    def operation(self, method: str, path: str) -> str:
        """Name the operation that a request asks for, from its first line alone."""
        ...

    def makes(self, method: str, path: str) -> bool:
        """Tell whether each such request without a key makes a new object: its path names none yet."""
        ...

    def refined(self, call: Call, operation: str) -> str:
        """Name it again with the body at hand (a create that also confirms moves money: `confirm`)."""
        ...

    def magic(self, call: Call, operation: str) -> tuple[Outage, ...]:
        """Return the failures that the card and the amount of the request ask for."""
        ...

    def perform(self, call: Call, verdict: Verdict) -> Response:
        """Carry it out and answer. Also records what `error_after` will make of the answer."""
        ...

    def refusal(self, verdict: Verdict) -> Response:
        """Answer without doing anything: rate limited, bad key, or an error before."""
        ...

    def busy(self) -> Response:
        """Answer that a request with the same key is being carried out."""
        ...

    def failure(self, status: int) -> Response:
        """Answer with a server error of this protocol."""
        ...

    def fire(self, timer: Timer, now_ms: int) -> None:
        """Do what was to be done later."""
        ...

    def sign(self, body: str, event_id: str, now_ms: int, *, spoilt: bool) -> Mapping[str, str]:
        """Return the headers that a webhook carries, signed; with another secret when `spoilt`."""
        ...
