"""Rules of webhooks, pure: signing, the retry ladder, what a status means, which addresses may be registered.

Format, ladder and the meaning of 410 are those of the Standard Webhooks specification 1.0.0.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

from standardwebhooks import Webhook

from holdfast.base.limits import WEBHOOK_URL_CHARS_MAX
from holdfast.base.secret import Secret
from holdfast.domains.webhooks.errors import EndpointUrlInvalid
from holdfast.domains.webhooks.model import Result

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - a prefix, not a secret
SECRET_BYTES: Final = 32
"""Within the 24 to 64 bytes that the specification allows."""

LADDER_S: Final = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Pause before each try, seconds: at once, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""

JITTER: Final = 0.2
"""A pause is lengthened by up to this share, so that what failed together does not come back together."""

RETRY_AFTER_S_MAX: Final = 86_400.0
FAILING_DISABLES: Final = timedelta(days=5)
"""An endpoint that has taken nothing for so long is switched off when another delivery is given up."""

_GONE: Final = 410


def new_secret(entropy: bytes) -> Secret:
    """Return a signing secret made of `entropy` (`SECRET_BYTES` random bytes)."""
    return Secret(SECRET_PREFIX + base64.b64encode(entropy).decode())


def signed_headers(secrets: Sequence[Secret], message_id: str, body: str, *, now: datetime) -> dict[str, str]:
    """Return the headers of one try.

    A signature for each secret in force, so that a rotation breaks nobody.
    """
    signatures = [Webhook(secret.reveal()).sign(message_id, now, body) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
    }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a try: `next_at` for `again`.

    `disable` names why the endpoint is switched off, if it is.
    """

    outcome: Literal["delivered", "again", "given_up"]
    next_at: datetime | None = None
    disable: str = ""


def judge(
    result: Result, *, rung: int, now: datetime, failing_since: datetime | None, chance: float
) -> Verdict:
    """Decide what follows from the try on step `rung` (from 1) of the ladder.

    `chance` is a random number in [0, 1) that spreads the pause.
    """
    if result.status is not None and 200 <= result.status < 300:
        return Verdict("delivered")
    if result.status == _GONE:
        return Verdict("given_up", disable="the endpoint answered 410 Gone")
    if rung >= len(LADDER_S):
        long_ago = failing_since is not None and now - failing_since >= FAILING_DISABLES
        return Verdict(
            "given_up", disable=f"nothing was taken for {FAILING_DISABLES.days} days" if long_ago else ""
        )
    pause_s = LADDER_S[rung] * (1 + JITTER * chance)
    if result.retry_after_s is not None:
        pause_s = max(pause_s, min(result.retry_after_s, RETRY_AFTER_S_MAX))
    return Verdict("again", next_at=now + timedelta(seconds=pause_s))


def check_url(url: str, *, allow_private: bool) -> str:
    """Return `url` when webhooks may be sent there. Raises: `EndpointUrlInvalid`.

    This only answers early and clearly: what a name resolves to is checked again for every connection.
    """
    try:
        split = urlsplit(url)
        port, host = split.port, split.hostname
    except ValueError:
        raise EndpointUrlInvalid from None
    allowed = ("https", "http") if allow_private else ("https",)
    if split.scheme not in allowed or not host or split.username is not None or split.fragment or port == 0:
        raise EndpointUrlInvalid
    if len(url) > WEBHOOK_URL_CHARS_MAX or not url.isprintable() or " " in url:
        raise EndpointUrlInvalid
    if not allow_private and _plainly_private(host):
        raise EndpointUrlInvalid("This address is private: webhooks are sent to public addresses only.")
    return url


def _plainly_private(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")) or "." not in host + ":":
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False
