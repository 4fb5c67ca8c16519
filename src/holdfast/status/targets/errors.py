"""What a place away from this machine can answer.

Refused
x TargetInvalid       the settings, a secret or the place itself is wrong; a person has to change it
Unavailable
x TargetUnavailable   it did not work this time; the next publish begins anew
"""

from __future__ import annotations

from typing import Final

from holdfast.base.errors import Refused, Unavailable

_REASON_CHARS_MAX: Final = 300
"""Servers answer with whole pages; the first line says what it is."""


class TargetInvalid(Refused):
    """A place for the status page is set up wrong: the message names the key and what to do."""

    code = "status_target_invalid"


class TargetUnavailable(Unavailable):
    """A place for the status page cannot be written now; the next publish tries again from the start."""

    code = "status_target_unavailable"


def unavailable(place: str, error: BaseException, *secrets: str) -> TargetUnavailable:
    """Return the error that says why `place` failed, on one line and without `secrets`."""
    said = " ".join(str(error).split())
    for secret in filter(None, secrets):
        said = said.replace(secret, "…")
    reason = said[:_REASON_CHARS_MAX] or ("it took too long" if isinstance(error, TimeoutError) else "")
    return TargetUnavailable(f"{place}: {reason or type(error).__name__}")
