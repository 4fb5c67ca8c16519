"""What an operator chooses for the status service: one TOML file, every key checked.

title = "Wallet"
url = "https://status.example.org"      where readers find the site
folders = ["/srv/status"]               further places for the site
[official]                              where we can be reached, and from where we write
domains = ["example.org"]
emails = ["help@example.org"]
phones = ["+86 400 123 4567"]
[[component]] …                         replaces the graph that is shipped
[[probe]]                               what is tried from outside
component = "pay-balance"
url = "https://wallet.example.org/v1/payments"
payment = { payer = "pyr_…", asset = "CNY", amount_minor = 1 }
key_variable = "PROBE_KEY"              the environment's variable that holds the API key
[maintenance]                           how windows are planned: zone, leads, reminders, busy days
zone = "Asia/Shanghai"
[[target]]                              further places: s3, sftp, git (holdfast.status.targets)
kind = "s3"
[firm]                                  who reports to regulators: name, lei, kinds, country, contacts
name = "Wallet AG"
[mail]                                  the server that takes our letters; without it nobody gets any
host = "smtp.example.org"
sender = "status@example.org"
user = "status"
password_variable = "SMTP_PASSWORD"     the environment's variable that holds the password
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from holdfast.base.errors import Refused
from holdfast.base.secret import Secret
from holdfast.status.graph import Graph, default
from holdfast.status.maintenance.lead import Policy
from holdfast.status.model import Component
from holdfast.status.notices.genuine import Official
from holdfast.status.rules.firm import Firm
from holdfast.status.subscriptions.channels import MailSettings
from holdfast.status.targets.settings import TargetSettings


class SettingsInvalid(Refused):
    """The status service's settings are wrong: the message names the key and what to do."""

    code = "status_settings_invalid"


class Payment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A small payment that a probe makes, by a payer of a test merchant."""

    payer: str
    asset: str = "CNY"
    amount_minor: Annotated[int, msgspec.Meta(gt=0, le=1_000)] = 1


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is tried from outside, for one component.

    Without `payment` the address is read; an answer of 200 to 299 is good.
    """

    component: str
    url: str
    payment: Payment | None = None
    key_variable: str = ""
    every_s: Annotated[float, msgspec.Meta(ge=1, le=3_600)] = 5.0
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 4.0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=60)] = "Holdfast"
    url: str = ""
    folders: tuple[str, ...] = ()
    official: Official = Official()
    component: Annotated[tuple[Component, ...], msgspec.Meta(max_length=2_000)] = ()
    probe: Annotated[tuple[Probe, ...], msgspec.Meta(max_length=500)] = ()
    maintenance: Policy = Policy()
    firm: Firm = Firm()
    mail: MailSettings | None = None
    target: Annotated[tuple[TargetSettings, ...], msgspec.Meta(max_length=20)] = ()
    webhooks_private: bool = False
    """Whether webhooks may be sent to addresses inside the house."""

    def password(self) -> Secret | None:
        """Return the mail server's password from the environment. Raises: `SettingsInvalid`."""
        if self.mail is None or not self.mail.password_variable:
            return None
        found = os.environ.get(self.mail.password_variable, "")
        if not found:
            raise SettingsInvalid(f"mail: the variable {self.mail.password_variable} is not set.")
        return Secret(found)

    def graph(self) -> Graph:
        """Return the capability graph. Raises: `GraphInvalid`, `SettingsInvalid`."""
        graph = Graph(self.component) if self.component else default()
        for probe in self.probe:
            if probe.component not in graph.components:
                raise SettingsInvalid(f"probe: {probe.component!r} is not a component of the graph.")
        return graph

    def official_for(self, url: str) -> Official:
        """Return where we can be reached; the site's own host is always ours."""
        host = urlsplit(url).hostname or ""
        ours = (self.mail.sender,) if self.mail else ()
        return msgspec.structs.replace(
            self.official, domains=(*self.official.domains, host), emails=(*self.official.emails, *ours)
        )


def read(path: Path | None) -> Settings:
    """Read the settings from a file; without one, those of a first start. Raises: `SettingsInvalid`."""
    if path is None:
        return Settings()
    try:
        settings = msgspec.toml.decode(path.read_bytes(), type=Settings)
    except OSError as error:
        raise SettingsInvalid(f"{path}: {error.strerror}.") from None
    except msgspec.DecodeError as error:
        raise SettingsInvalid(f"{path}: {error}.") from None
    _check(settings, str(path))
    return settings


def with_probes(settings: Settings, said: tuple[str, ...]) -> Settings:
    """Return the settings with further probes, each written as COMPONENT=URL. Raises: `SettingsInvalid`."""
    probes = []
    for each in said:
        component, _, url = each.partition("=")
        probes.append(Probe(component, url))
    more = msgspec.structs.replace(settings, probe=(*settings.probe, *probes))
    _check(more, "--probe")
    return more


def _check(settings: Settings, place: str) -> None:
    try:
        settings.maintenance.check()
    except ValueError as error:
        raise SettingsInvalid(f"{place}: maintenance: {error}") from None
    addresses = [settings.url] if settings.url else []
    for address in (*addresses, *(probe.url for probe in settings.probe)):
        split = urlsplit(address)
        if split.scheme not in ("http", "https") or not split.hostname or split.username:
            raise SettingsInvalid(f"{place}: {address!r} is not an address like https://host/path.")
