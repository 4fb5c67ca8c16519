"""A text that must not be seen: it prints masked, everywhere."""

from __future__ import annotations

import hmac


class Secret:
    """Holds a secret text. `reveal()` is the only way out, so that each use can be found by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._text

    def equals(self, text: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self._text.encode(), text.encode())

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__
