"""Sealed texts: what is personal in something that can never be changed, under a key that can be destroyed.

sealed:<id of the key>:<base64url of nonce, ciphertext and tag>
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PREFIX: Final = "sealed:"
ERASED: Final = "(erased)"
"""What is shown of a sealed text whose key is gone."""


def is_sealed(text: str) -> bool:
    """Tell whether a text is sealed."""
    return text.startswith(PREFIX)


def any_sealed(texts: Mapping[str, str]) -> bool:
    """Tell whether one of some texts is sealed."""
    return any(is_sealed(text) for text in texts.values())
