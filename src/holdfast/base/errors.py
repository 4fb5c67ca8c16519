"""The four families of error, and `ensure`.

    HoldfastError
    x Refused            will be refused again as long as nothing changes; nothing has moved
    x Unavailable        cannot be done now; nothing has moved; try again after `retry_after_s`
    x OutcomeUnknown     it may have happened: never try again, reconcile
    x Broken             an invariant does not hold: stop, and tell a person

A class docstring is the default message. `code` is stable and public; it is what clients match on.
"""

from __future__ import annotations

import inspect
from typing import ClassVar


class HoldfastError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None, **facts: object) -> None:
        self.message = message or inspect.getdoc(type(self)) or self.code
        self.facts = facts
        super().__init__(self.message)


class Refused(HoldfastError):
    """The request was refused and nothing has moved."""

    code = "refused"


class Unavailable(HoldfastError):
    """It cannot be done right now. Nothing has moved; try again shortly."""

    code = "unavailable"

    def __init__(self, message: str | None = None, *, retry_after_s: float = 1.0, **facts: object) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message, **facts)


class OutcomeUnknown(HoldfastError):
    """The outcome is not known yet. Do not try again: ask for the state of what you sent."""

    code = "outcome_unknown"


class Broken(HoldfastError):
    """An invariant does not hold."""

    code = "broken"


def ensure(condition: object, invariant: str) -> None:
    """Raise `Broken` unless `condition` holds; `python -O` keeps it.

    `invariant` is a sentence that should be true.
    """
    if not condition:
        raise Broken(invariant)
